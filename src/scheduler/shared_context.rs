//! The part of a worker's context that other threads read.

use super::any_service::ServiceRef;
use super::counters::ThreadCounters;
use super::slow_step::PresentStep;
use crate::sync::{Mutex, Ordering};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool as Flag, AtomicU64 as Figure, AtomicUsize as Length, Ordering::Relaxed};

/// The part of a worker's context that other threads read. One more exists for all external
/// threads.
pub(crate) struct SharedContext {
    /// On cache lines of their own, since the worker writes them for every task.
    pub(super) counters: CachePadded<ThreadCounters>,
    /// Whether the worker is inside a step, or about to be.
    pub(super) is_busy: Flag,
    /// The number of tasks in its batch. Grows under the lock of the queue only.
    batch_len: Length,
    /// On its own cache line, since other workers read it for each batch.
    pub(super) batch_times: CachePadded<BatchTimes>,
    /// The service of its batch.
    pub(super) service: Mutex<Option<ServiceRef>>,
    pub(super) present_step: PresentStep,
}

#[derive(Default)]
pub(super) struct BatchTimes {
    /// When the worker took its batch.
    pub(super) begun: Figure,
    /// An estimate of the time when the worker will be free, if tasks wait. [`UNKNOWN`] from the
    /// sleep of the worker until its next batch begins.
    pub(super) due: Figure,
}

/// In place of the time at which a worker will be free.
pub(super) const UNKNOWN: u64 = 0;

impl SharedContext {
    pub(super) fn new() -> CachePadded<Self> {
        CachePadded::new(Self {
            counters: CachePadded::default(),
            is_busy: Flag::new(false),
            batch_len: Length::new(0),
            batch_times: CachePadded::default(),
            service: Mutex::new(None),
            present_step: PresentStep::new(),
        })
    }

    #[inline]
    pub(super) fn note_busy(&self) {
        self.is_busy.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn note_free(&self) {
        self.is_busy.store(false, Ordering::Release);
    }

    #[inline]
    pub(crate) fn set_batch_len(&self, len: usize) {
        self.batch_len.store(len, Relaxed);
    }

    fn batch_len(&self) -> usize {
        self.batch_len.load(Relaxed)
    }

    /// Sets the service of the next batch, so that other workers find it. It stays set until the
    /// next call, since most batches are of the same service as the batch before. The caller drops
    /// the result after it releases its locks: dropping the last reference to a service runs user
    /// code.
    #[must_use]
    pub(super) fn hold(&self, service: &ServiceRef) -> Option<ServiceRef> {
        let mut held = self.service.lock();
        if held.as_ref().is_some_and(|held| held.is_same(service)) {
            return None;
        }
        held.replace(service.clone())
    }

    #[inline]
    pub(super) fn has_batch(&self) -> bool {
        self.batch_len() > 0
    }
}
