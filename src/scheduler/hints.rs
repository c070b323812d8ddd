//! Flags that tell workers when to look at the queue.

use crate::sync::{Ordering, fence};
use crate::task::header::NEVER;
use std::sync::atomic::{AtomicBool as Flag, AtomicU64 as Figure, Ordering::Relaxed};

/// Flags that tell workers when to look at the queue. They affect speed only, never correctness:
/// they make a busy worker look, and they make a task that continues give way.
pub(crate) struct Hints {
    /// A submission was published to busy workers.
    published: Flag,
    /// A task was submitted, published or not.
    submitted: Flag,
    /// The earliest time for which a task waits. Written under the lock of the queue.
    next_moment: Figure,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self {
            published: Flag::new(false),
            submitted: Flag::new(false),
            next_moment: Figure::new(NEVER),
        }
    }

    #[inline]
    pub(crate) fn has_published(&self) -> bool {
        self.published.load(Relaxed)
    }

    #[inline]
    pub(crate) fn has_submitted(&self) -> bool {
        self.submitted.load(Relaxed)
    }

    /// Written only if the value changes, since every worker reads it.
    #[inline]
    pub(crate) fn note_submitted(&self) {
        if !self.has_submitted() {
            self.submitted.store(true, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn note_published(&self) {
        if !self.has_published() {
            self.published.store(true, Relaxed);
        }
    }

    /// The earliest time for which a task waits.
    #[inline]
    pub(crate) fn next_moment(&self) -> Option<u64> {
        Some(self.next_moment.load(Relaxed)).filter(|&at| at != NEVER)
    }

    pub(crate) fn set_next_moment(&self, at: Option<u64>) {
        self.next_moment.store(at.unwrap_or(NEVER), Relaxed);
    }

    /// Whether the time has come for which a task waits.
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next_moment.load(Relaxed) <= now
    }

    /// The caller is about to look at the queue, under its lock.
    pub(super) fn clear(&self) {
        self.published.store(false, Relaxed);
        self.submitted.store(false, Relaxed);
        fence(Ordering::SeqCst);
    }
}
