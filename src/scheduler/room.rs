//! The services whose tasks were refused and that wait for room.
//!
//! # The steps
//!
//! A service whose task is refused: 1. adds itself to the list and sets the flag; 2. executes a
//! fence; 3. checks for room once more, and removes itself from the list if there is room.
//!
//! A thread that starts, cancels or reaps a task: 1. counts the task; 2. executes a fence; 3. if
//! the flag is set and there is room, clears the flag and the list, and notifies each service that
//! was on the list.
//!
//! The two fences have an order. If the fence of the service is first, the other thread sees the
//! flag. Otherwise the service sees the room.
//!
//! All services on the list are notified, even if there is room for one task only: a service that
//! does not need the room any more does not block the others. A service whose task is refused again
//! is added to the list again.

use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence};
use crate::wake::notifier::Notifier;
use slab::Slab;
use std::sync::Arc;

pub(crate) struct Room {
    is_waited: AtomicBool,
    /// How many times the list was cleared. Written while the list is locked.
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

    /// The same as [`is_waited`](Self::is_waited), after a sequentially consistent
    /// read-modify-write instead of a fence.
    #[inline]
    pub(crate) fn is_waited_after_count(&self) -> bool {
        // loom treats a sequentially consistent load as an acquire load.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        self.is_waited.load(Ordering::SeqCst)
    }

    /// Adds a service to the list. The caller checks for room once more.
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

    /// Removes a service from the list.
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

    /// Whether the list was cleared since a service was added. Then that service is notified soon
    /// or was notified.
    pub(crate) fn has_come(&self, place: Place) -> bool {
        self.round.load(Ordering::Acquire) != place.round
    }

    /// Clears the list because there is room. Returns the services that were on it; the caller
    /// notifies them.
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
