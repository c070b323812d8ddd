//! The locks, condition variables, threads, atomics and rings of the core.
//!
//! Under `cfg(loom)` they are those of loom, so that loom checks the code that ships. Counters and
//! times are atomics of `std` in both cases: no decision about a task depends on them, and loom
//! would have to explore more schedules.

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use rtrb::{Consumer as RingConsumer, Producer as RingProducer};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::{thread, thread_local};

    /// Whether workers and loops may spin before they sleep.
    pub(crate) const fn may_search() -> bool {
        true
    }

    /// Does nothing, because the `Arc` of `std` synchronizes. See the version for loom.
    pub(crate) struct ArcFence;

    impl ArcFence {
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline]
        #[allow(clippy::unused_self, reason = "the version for loom uses it")]
        pub(crate) fn pass(&self) {}
    }

    /// A bounded queue for one producer and one consumer.
    pub(crate) fn ring<T>(capacity: usize) -> (RingProducer<T>, RingConsumer<T>) {
        rtrb::RingBuffer::new(capacity)
    }

    /// Adds a value, or returns it if the ring is full.
    #[inline]
    pub(crate) fn push<T>(ring: &mut RingProducer<T>, value: T) -> Result<(), T> {
        ring.push(value).map_err(|rtrb::PushError::Full(value)| value)
    }

    /// Takes up to `max` values. Returns how many it took.
    #[inline]
    pub(crate) fn pop_each<T>(ring: &mut RingConsumer<T>, max: usize, sink: impl FnMut(T)) -> usize {
        let count = ring.slots().min(max);
        let chunk = ring.read_chunk(count).expect("the ring holds that many");
        chunk.into_iter().for_each(sink);
        count
    }

    thread_local! {
        static KEPT: std::cell::RefCell<Option<Box<dyn std::any::Any>>> =
            const { std::cell::RefCell::new(None) };
    }

    /// Drops the value when this thread ends. If it is called before other thread-locals are used,
    /// the value is dropped after these, since the standard library drops the values of a thread in
    /// reverse order.
    pub(crate) fn keep_until_thread_end(value: impl Sized + 'static) -> impl Sized {
        KEPT.set(Some(Box::new(value)));
    }

    pub(crate) fn wait(condvar: &Condvar, guard: &mut MutexGuard<'_, impl Sized>) {
        condvar.wait(guard);
    }

    /// Waits until notified or until `deadline`.
    pub(crate) fn wait_until(
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, impl Sized>,
        deadline: std::time::Instant,
    ) {
        condvar.wait_until(guard, deadline);
    }
}

#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::thread;
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::sync::{Arc, PoisonError};

    std::thread_local! {
        static SEARCH: std::cell::Cell<Search> = const { std::cell::Cell::new(Search::Off) };
    }

    /// Whether workers search in the models that this thread runs. With searching workers most
    /// models have too many schedules.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Search {
        On,
        Off,
    }

    pub(crate) fn set_search(search: Search) {
        SEARCH.set(search);
    }

    pub(crate) fn may_search() -> bool {
        SEARCH.get() == Search::On
    }

    /// A thread of loom is not a thread of the system. The macro of loom does not accept `const`
    /// initial values.
    macro_rules! per_thread {
        ($(#[$doc:meta])* static $name:ident: $type:ty = const $init:block;) => {
            loom::thread_local! { $(#[$doc])* static $name: $type = $init; }
        };
    }
    pub(crate) use per_thread as thread_local;

    /// In a model the caller drops the value at the end of the thread's closure.
    pub(crate) fn keep_until_thread_end<V>(value: V) -> V {
        value
    }

    /// loom's mutex with the interface of `parking_lot` (no poisoning).
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }

    /// An `Option`, so that a condition variable can take the guard out and put it back.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("the guard is empty inside `wait` only")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("the guard is empty inside `wait` only")
        }
    }

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) fn wait<T>(condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("the guard is empty inside `wait` only");
        guard.0 = Some(condvar.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    /// loom has no time, so a wait with a timeout never times out.
    pub(crate) fn wait_until<T>(
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        _deadline: std::time::Instant,
    ) {
        wait(condvar, guard);
    }

    /// Replaces the synchronization of the `Arc` of `std`, which loom does not see. Every owner of
    /// a reference passes it before it drops the reference, and the destructor of the value passes
    /// it, too.
    pub(crate) struct ArcFence(loom::sync::Mutex<()>);

    impl ArcFence {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Mutex::new(()))
        }

        pub(crate) fn pass(&self) {
            drop(self.0.lock());
        }
    }

    /// A ring that synchronizes like `rtrb`: through its two indices only. The lock around a value
    /// is never contended; it represents the memory of a slot.
    struct Ring<T> {
        slots: Box<[Mutex<Option<T>>]>,
        /// The number of values that were taken, and the number that were added.
        head: AtomicUsize,
        tail: AtomicUsize,
        is_abandoned: AtomicBool,
    }

    pub(crate) struct RingProducer<T>(Arc<Ring<T>>);
    pub(crate) struct RingConsumer<T>(Arc<Ring<T>>);

    pub(crate) fn ring<T>(capacity: usize) -> (RingProducer<T>, RingConsumer<T>) {
        let ring = Arc::new(Ring {
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            is_abandoned: AtomicBool::new(false),
        });
        (RingProducer(Arc::clone(&ring)), RingConsumer(ring))
    }

    pub(crate) fn push<T>(ring: &mut RingProducer<T>, value: T) -> Result<(), T> {
        let ring = &ring.0;
        let tail = ring.tail.load(Ordering::Relaxed);
        if tail - ring.head.load(Ordering::Acquire) == ring.slots.len() {
            return Err(value);
        }
        *ring.slots[tail % ring.slots.len()].lock() = Some(value);
        ring.tail.store(tail + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn pop_each<T>(ring: &mut RingConsumer<T>, max: usize, sink: impl FnMut(T)) -> usize {
        let count = ring.slots().min(max);
        let ring = &ring.0;
        let head = ring.head.load(Ordering::Relaxed);
        let values: Vec<T> = (head..head + count)
            .map(|index| {
                ring.slots[index % ring.slots.len()]
                    .lock()
                    .take()
                    .expect("a value")
            })
            .collect();
        ring.head.store(head + count, Ordering::Release);
        values.into_iter().for_each(sink);
        count
    }

    impl<T> RingConsumer<T> {
        pub(crate) fn slots(&self) -> usize {
            self.0.tail.load(Ordering::Acquire) - self.0.head.load(Ordering::Relaxed)
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            self.0.is_abandoned.load(Ordering::Relaxed)
        }
    }

    impl<T> Drop for RingProducer<T> {
        fn drop(&mut self) {
            self.0.is_abandoned.store(true, Ordering::Release);
        }
    }
}

#[cfg(loom)]
pub(crate) use model::*;
