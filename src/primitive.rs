//! Every lock, condition variable, thread and atomic of the core.
//!
//! Under `cfg(loom)` they are loom's, so that the code which is model-checked is the code that
//! ships. Plain statistics ([`crate::stats`], [`crate::times`]) stay std atomics on purpose: no decision
//! about who may touch a task is taken from them, and each would multiply the schedules to explore.

#[cfg(not(loom))]
mod real {
    pub(crate) use crossbeam_deque::{Steal, Stealer, Worker as Deque};
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::{thread, thread_local};

    /// Whether workers may watch for work before they sleep.
    pub(crate) const fn may_watch() -> bool {
        true
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
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use loom::thread;
    use std::collections::VecDeque;
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::sync::{Arc, PoisonError};

    std::thread_local! {
        static MAY_WATCH: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    /// Whether workers watch in the models that run on this thread of the system: most models would have too many
    /// schedules, and nobody may rely on it.
    pub(crate) fn let_workers_watch(may: bool) {
        MAY_WATCH.set(may);
    }

    pub(crate) fn may_watch() -> bool {
        MAY_WATCH.get()
    }

    /// A thread of loom's is none of the system's. Its macro does not know `const` initial values.
    macro_rules! per_thread {
        ($(#[$doc:meta])* static $name:ident: $type:ty = const $init:block;) => {
            loom::thread_local! { $(#[$doc])* static $name: $type = $init; }
        };
    }
    pub(crate) use per_thread as thread_local;

    /// `parking_lot`'s face (no poisoning) over loom's mutex.
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

    /// The guard sits in an `Option` so that a condition variable can borrow it and put it back.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("guard is only empty inside wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("guard is only empty inside wait")
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
        let inner = guard.0.take().expect("guard is only empty inside wait");
        guard.0 = Some(condvar.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    /// loom has no time: a timed wait never times out.
    pub(crate) fn wait_until<T>(
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        _deadline: std::time::Instant,
    ) {
        wait(condvar, guard);
    }

    pub(crate) enum Steal<T> {
        Empty,
        Success(T),
        #[allow(dead_code, reason = "the locked stand-in never asks for a retry")]
        Retry,
    }

    /// A locked stand-in for crossbeam-deque, which knows no loom.
    pub(crate) struct Deque<T>(Arc<Mutex<VecDeque<T>>>);
    pub(crate) struct Stealer<T>(Arc<Mutex<VecDeque<T>>>);

    impl<T> Deque<T> {
        pub(crate) fn new_fifo() -> Self {
            Self(Arc::new(Mutex::new(VecDeque::new())))
        }

        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(Arc::clone(&self.0))
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().len()
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn steal(&self) -> Steal<T> {
            self.0.lock().pop_front().map_or(Steal::Empty, Steal::Success)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().len()
        }
    }
}

#[cfg(loom)]
pub(crate) use model::*;
