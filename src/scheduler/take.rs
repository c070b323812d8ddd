//! How a thread gets its next batch: from the queue, or from another worker.

use super::any_service::ServiceRef;
use super::context::WorkerContext;
use super::{BATCH_MAX, Scheduler};
use crate::queue::fair::Debt;
use crate::queue::{Batch, Order};

impl Scheduler {
    /// Takes up to `max` tasks from the queue into the batch of this context.
    pub(super) fn take(&self, cx: &WorkerContext<'_>, max: usize, debt: Debt) -> Option<Batch<ServiceRef>> {
        let order = if self.has_very_short_steps() {
            Order::Submission
        } else {
            Order::Fair
        };
        // In the fair order, the estimates of the flows limit the batch.
        let max = if order == Order::Fair && cx.worker().is_some() {
            BATCH_MAX
        } else {
            max
        };
        let mut queue = self.queue.lock();
        cx.settle(&mut queue.lanes);
        self.hints.clear();
        let taken = queue.take(cx.index, max, order, debt);
        self.publish_virtual_time(&queue.lanes);
        let before = self.hold_service(cx.index, taken.as_ref());
        if queue.is_worth_taking() {
            self.hints.note_published();
            self.hints.note_submitted();
        } else if queue.has_tasks() {
            self.hints.note_submitted();
        }
        drop(queue);
        drop(before);
        taken
    }

    /// How long this worker may wait before it takes a flow in debt, in nanoseconds. If it may
    /// wait, the rings are empty and the hints are clear, so that the hints show the next
    /// submission.
    pub(super) fn time_before_debt(&self, cx: &WorkerContext<'_>) -> u64 {
        let Some(last) = cx.last_turn() else { return 0 };
        let mut queue = self.queue.lock();
        let time = queue.lanes.time_before_debt(last);
        if time == 0 {
            return 0;
        }
        self.hints.clear();
        // The caller takes from the queue now.
        if queue.has_submitted() { 0 } else { time }
    }

    /// The service is set in the shared context first, so that other workers find it before they
    /// see the batch.
    fn hold_service(&self, index: usize, taken: Option<&Batch<ServiceRef>>) -> Option<ServiceRef> {
        let worker = self.workers().get(index)?;
        worker.hold(&taken?.service)
    }

    /// Steals up to `max` tasks, and at most half, from the batch of another worker into the batch
    /// of this context. The caller holds the lock of the queue, so that a search for a task finds
    /// it in every case.
    fn steal_from(&self, victim: usize, cx: &WorkerContext<'_>, max: usize) -> Option<Batch<ServiceRef>> {
        let victim_context = &self.contexts[victim];
        if !victim_context.has_batch() {
            return None;
        }
        let service = victim_context.service.lock().clone()?;
        let queue = self.queue.lock();
        let count = service.steal(victim, cx.index, max);
        if count == 0 {
            drop(queue);
            self.drop_service(service, cx);
            return None;
        }
        let taken = Batch {
            service,
            count,
            time: None,
        };
        let before = self.hold_service(cx.index, Some(&taken));
        drop(queue);
        drop(before);
        Some(taken)
    }

    /// Returns the remaining tasks of another worker's batch, which is late, to the queue.
    #[cold]
    pub(super) fn return_batch_of(&self, victim: usize, cx: &WorkerContext<'_>) {
        let Some(service) = self.contexts[victim].service.lock().clone() else {
            return;
        };
        {
            let mut queue = self.queue.lock();
            service.return_batch(&mut queue.lanes, victim);
            self.hints.note_submitted();
            self.hints.note_published();
        }
        self.drop_service(service, cx);
    }

    /// Drops a reference to a service. The drop of the last reference runs user code, so the caller
    /// holds no lock. This worker may have taken the token of a wake-up, and looks only after the
    /// drop. So it wakes another worker first.
    #[cold]
    fn drop_service(&self, service: ServiceRef, cx: &WorkerContext<'_>) {
        cx.set_timer();
        self.wake_for_rest(cx.counters);
        drop(service);
    }

    /// Steals tasks from the batch of any other worker.
    pub(super) fn steal(&self, cx: &WorkerContext<'_>, max: usize) -> Option<Batch<ServiceRef>> {
        let workers = self.workers().len();
        let others = (1..=workers).map(|step| (cx.index + step) % workers);
        others
            .filter(|&victim| victim != cx.index)
            .find_map(|victim| self.steal_from(victim, cx, max))
    }

    pub(super) fn steal_any_one(&self, cx: &WorkerContext<'_>) -> Option<Batch<ServiceRef>> {
        (0..self.workers().len()).find_map(|victim| self.steal_from(victim, cx, 1))
    }
}
