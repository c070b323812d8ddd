//! The shutdown of a pool: its stages, and the admission of tasks in each stage.

use super::Scheduler;
use super::admission::Refused;
use crate::sync::{Ordering, fence};

/// The progress of the shutdown of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Open,
    /// The pool accepts no more tasks.
    Draining,
    /// Every task is asked to stop.
    Cancelled,
}

impl Scheduler {
    /// Accepts one task, unless a limit is reached or the pool is shutting down.
    #[inline]
    pub(crate) fn admit(&self) -> Result<(), Refused> {
        let admitted = self.admission.admit(|| self.progress());
        // This check comes after the count, so that a pool that drains cannot end in between.
        if self.is_open_after_count() {
            return admitted;
        }
        self.take_back(admitted);
        Err(Refused::ShuttingDown)
    }

    #[cold]
    fn take_back(&self, admitted: Result<(), Refused>) {
        if admitted.is_ok() {
            self.admission.withdraw();
            self.check_drain();
        }
    }

    /// True for the first call.
    pub(crate) fn start_cancel(&self) -> bool {
        let cancelled = Stage::Cancelled as usize;
        let is_first = self.stage.swap(cancelled, Ordering::AcqRel) != cancelled;
        fence(Ordering::SeqCst);
        is_first
    }

    /// Makes the pool accept no more tasks.
    pub(crate) fn start_drain(&self) {
        let (open, draining) = (Stage::Open as usize, Stage::Draining as usize);
        let _ = self
            .stage
            .compare_exchange(open, draining, Ordering::SeqCst, Ordering::Relaxed);
        self.check_drain();
    }

    /// Ends the workers if the pool drains and every task has ended. Called after each event that
    /// may be the end of the last task.
    pub(crate) fn check_drain(&self) {
        fence(Ordering::SeqCst);
        if self.is_draining() {
            // A loop that has not seen the drain has counted its task before this fence.
            fence(Ordering::SeqCst);
            if self.sums().ended() == self.admission.accepted() {
                self.idle.close();
                self.exits.note_shutdown();
            }
        }
    }

    /// Whether the pool accepts tasks.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.stage.load(Ordering::Acquire) == Stage::Open as usize
    }

    /// The same as [`is_open`](Self::is_open), after a sequentially consistent read-modify-write
    /// instead of a fence.
    #[inline]
    fn is_open_after_count(&self) -> bool {
        // loom treats a sequentially consistent load as an acquire load.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        self.stage.load(Ordering::SeqCst) == Stage::Open as usize
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.stage.load(Ordering::Acquire) == Stage::Draining as usize
    }

    /// Whether every task is asked to stop.
    #[inline]
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.stage.load(Ordering::Acquire) == Stage::Cancelled as usize
    }

    /// Whether the pool has ended, so that no other thread runs submissions.
    #[inline]
    pub(crate) fn takers_are_gone(&self) -> bool {
        !self.is_open() && self.queue.lock().takers == 0
    }

    /// After the tasks that are in the queue now, the owner of a pool without workers runs no more
    /// tasks.
    pub(crate) fn owner_goes(&self) {
        self.queue.lock().takers = 0;
    }
}
