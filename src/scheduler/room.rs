//! The services that were refused, and wait for room.
//!
//! # The steps
//!
//! A service that is refused: 1. joins the list, and sets the flag; 2. a fence; 3. asks for room
//! once more, and leaves the list if there is some.
//!
//! A thread that starts, cancels or reaps a task: 1. counts it; 2. a fence; 3. if the flag is set
//! and there is room, clears the flag and the list, and notifies each service that was on it.
//!
//! The two fences have an order. If the service's is first, the other thread sees the flag.
//! Otherwise the service sees the room.
//!
//! All services on the list are notified, also for one place: one that does not need the place any
//! more cannot keep it from the others. Those that are refused again join the list again.

use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence};
use crate::wake::notifier::Notifier;
use slab::Slab;
use std::sync::Arc;

pub(crate) struct Room {
    is_waited: AtomicBool,
    /// How often the list was taken. Written under its lock.
    round: AtomicU64,
    waiting: Mutex<Slab<Arc<Notifier>>>,
}

/// The place of a service on the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    key: usize,
    round: u64,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            is_waited: AtomicBool::new(false),
            round: AtomicU64::new(0),
            waiting: Mutex::new(Slab::new()),
        }
    }

    /// Whether any service waits. Call it after a fence.
    #[inline]
    pub(crate) fn is_waited(&self) -> bool {
        self.is_waited.load(Ordering::Relaxed)
    }

    /// The same, after a sequentially consistent read-modify-write instead of a fence.
    #[inline]
    pub(crate) fn is_waited_after_count(&self) -> bool {
        // The loads of the model are not sequentially consistent.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        self.is_waited.load(Ordering::SeqCst)
    }

    /// A service waits from now on. The caller asks for room once more.
    pub(crate) fn join(&self, notifier: &Arc<Notifier>) -> Place {
        let mut waiting = self.waiting.lock();
        let place = Place {
            key: waiting.insert(Arc::clone(notifier)),
            round: self.round.load(Ordering::Relaxed),
        };
        self.is_waited.store(true, Ordering::Relaxed);
        drop(waiting);
        fence(Ordering::SeqCst);
        place
    }

    /// A service does not wait any more.
    pub(crate) fn leave(&self, place: Place) {
        let mut waiting = self.waiting.lock();
        if self.round.load(Ordering::Relaxed) != place.round {
            return;
        }
        let notifier = waiting.remove(place.key);
        if waiting.is_empty() {
            self.is_waited.store(false, Ordering::Relaxed);
        }
        drop(waiting);
        notifier.arc_fence.pass();
    }

    /// Whether the list was taken since a service joined it: that is notified, or about to be.
    pub(crate) fn has_come(&self, place: Place) -> bool {
        self.round.load(Ordering::Acquire) != place.round
    }

    /// There is room: gives those that wait. The caller notifies them.
    pub(crate) fn take(&self) -> Slab<Arc<Notifier>> {
        let mut waiting = self.waiting.lock();
        let taken = std::mem::take(&mut *waiting);
        let round = self.round.load(Ordering::Relaxed);
        self.round.store(round + 1, Ordering::Release);
        self.is_waited.store(false, Ordering::Relaxed);
        drop(waiting);
        fence(Ordering::SeqCst);
        taken
    }
}
