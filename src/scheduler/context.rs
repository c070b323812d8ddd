//! The worker context: the state of one thread while it runs tasks. The thread is a worker, or a
//! loop inside `run_pending`.

use super::counters::ThreadCounters;
use super::exits::Activity;
use super::shared_context::{SharedContext, UNKNOWN};
use super::{LATE, QUANTUM, Scheduler};
use crate::queue::Source;
use crate::queue::lanes::Lanes;
use crate::queue::member::Prepaid;
use crate::task::header::NO_WORKER;
use crate::wake::notifier::Notifier;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) struct WorkerContext<'a> {
    pub(crate) scheduler: &'a Scheduler,
    /// Its index among the shared contexts. All external threads use the last one.
    pub(crate) index: usize,
    shared: &'a SharedContext,
    /// Written by this thread only.
    pub(crate) counters: &'a ThreadCounters,
    /// `None` for an external thread.
    worker: Option<u16>,
    /// When every task must give way: the end of an external thread's budget.
    until: u64,
    /// The clock as it was last read.
    now: Cell<u64>,
    /// When the batch began, and when it will probably end.
    batch_begun: Cell<u64>,
    batch_due: Cell<u64>,
    /// From this time on, a task that continues updates the time at which this worker will be free.
    next_due: Cell<u64>,
    /// The turns that were not charged yet, each with its worker time in nanoseconds. `None`: the
    /// turn did not begin.
    charges: RefCell<Vec<(Prepaid, Option<u64>)>>,
    /// The last turn that was charged to a record.
    last_turn: Cell<Option<Prepaid>>,
    /// The largest finish tag of the turns without a record.
    finish_max: Cell<u64>,
    /// A deferred notification, and the time at which it is flushed.
    deferred: RefCell<Option<Arc<Notifier>>>,
    flush_at: Cell<u64>,
    /// Whether a task waits for a time and this thread has not yet checked that a worker sleeps
    /// until then.
    timer_is_unset: Cell<bool>,
}

impl<'a> WorkerContext<'a> {
    pub(super) fn of_worker(scheduler: &'a Scheduler, index: usize) -> Self {
        Self {
            index,
            shared: &scheduler.contexts[index],
            worker: Some(index as u16),
            ..Self::of_external_thread(scheduler, &scheduler.contexts[index].counters)
        }
    }

    pub(super) fn of_external_thread(scheduler: &'a Scheduler, counters: &'a ThreadCounters) -> Self {
        let index = scheduler.contexts.len() - 1;
        Self {
            scheduler,
            index,
            shared: &scheduler.contexts[index],
            counters,
            worker: None,
            until: u64::MAX,
            now: Cell::new(scheduler.clock.now()),
            batch_begun: Cell::new(u64::MAX),
            batch_due: Cell::new(u64::MAX),
            next_due: Cell::new(u64::MAX),
            charges: RefCell::new(Vec::new()),
            last_turn: Cell::new(None),
            finish_max: Cell::new(0),
            deferred: RefCell::new(None),
            flush_at: Cell::new(u64::MAX),
            timer_is_unset: Cell::new(false),
        }
    }

    /// For an external thread. Tasks give way when `budget` is over.
    pub(crate) fn with_budget(mut self, nanos: u64) -> Self {
        self.until = self.now().saturating_add(nanos);
        self
    }

    pub(crate) fn worker(&self) -> Option<u16> {
        self.worker
    }

    pub(crate) fn worker_number(&self) -> u16 {
        self.worker.unwrap_or(NO_WORKER)
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        self.now.set(self.scheduler.clock.now());
        self.now.get()
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// A worker's batch begins, which will probably take `time` nanoseconds.
    pub(super) fn begin_batch(&self, time: u64) -> u64 {
        let begun = self.tick();
        self.batch_begun.set(begun);
        let times = &self.shared.batch_times;
        times.begun.store(begun, Relaxed);
        let due = begun.saturating_add(time);
        self.batch_due.set(due);
        self.next_due.set(begun);
        times.due.store(due, Relaxed);
        begun
    }

    /// This worker is about to sleep, so its last batch says nothing about the time at which it
    /// will be free.
    pub(super) fn forget_batch(&self) {
        self.shared.batch_times.due.store(UNKNOWN, Relaxed);
    }

    /// A task whose turn began at `started` continues, after a step that began at `step_begun`.
    #[inline]
    pub(crate) fn note_continue(&self, started: u64, step_begun: u64) {
        if self.now() >= self.next_due.get() {
            self.update_due(started, step_begun);
        }
    }

    /// If other tasks wait, the task gives way at the end of its time slice, but not before the end
    /// of its next step. Or it ends before that.
    #[cold]
    fn update_due(&self, started: u64, step_begun: u64) {
        let (now, due) = (self.now(), self.batch_due.get());
        let step_end = now.saturating_add(now.saturating_sub(step_begun));
        let gives_way = self.slice_end(started).max(step_end);
        let is_first = gives_way - now < due.abs_diff(now);
        let due = if is_first { gives_way } else { due };
        self.shared.batch_times.due.store(due, Relaxed);
        self.next_due.set(due.max(now.saturating_add(QUANTUM)));
    }

    /// Whether the batch is late and has more tasks. Then the remaining tasks must not wait for
    /// this worker.
    #[inline]
    pub(crate) fn is_batch_late(&self) -> bool {
        self.now().saturating_sub(self.batch_begun.get()) > LATE && self.shared.has_batch()
    }

    /// Sets the number of tasks in the batch, which other workers read.
    #[inline]
    pub(crate) fn set_batch_len(&self, len: usize) {
        self.shared.set_batch_len(len);
    }

    /// Puts the remaining tasks of the batch back into the queue. All are of this service.
    #[cold]
    pub(crate) fn return_batch(&self, service: &impl Source) {
        let mut queue = self.scheduler.queue.lock();
        self.settle(&mut queue.lanes);
        service.return_batch(&mut queue.lanes, self.index);
        self.scheduler.hints.note_submitted();
        self.scheduler.hints.note_published();
    }

    pub(crate) fn is_time_up(&self) -> bool {
        self.now() >= self.until
    }

    /// Records the worker time of a turn, in nanoseconds. The record is charged by
    /// [`settle`](Self::settle).
    #[inline]
    pub(crate) fn charge(&self, prepaid: Prepaid, nanos: u64) {
        self.charges.borrow_mut().push((prepaid, Some(nanos)));
    }

    /// Records the finish tag of a flow after a turn without a record. The loop of the task
    /// counts the turn.
    #[inline]
    pub(crate) fn note_finish(&self, finish: u64) {
        self.finish_max.set(self.finish_max.get().max(finish));
    }

    /// Records that a taken task has ended without a turn.
    pub(crate) fn cancel_turn(&self, prepaid: Option<Prepaid>) {
        if let Some(prepaid) = prepaid {
            self.charges.borrow_mut().push((prepaid, None));
        }
    }

    /// Charges the turns that have ended here. The caller has locked the queue.
    pub(crate) fn settle(&self, lanes: &mut Lanes) {
        let mut charges = self.charges.borrow_mut();
        if let Some(&(last, _)) = charges.last() {
            self.last_turn.set(Some(last));
        }
        for (prepaid, nanos) in charges.drain(..) {
            match nanos {
                Some(nanos) => lanes.charge(prepaid, nanos),
                None => lanes.cancel_turn(prepaid),
            }
        }
        lanes.root.note_finish(self.finish_max.get());
    }

    pub(super) fn last_turn(&self) -> Option<Prepaid> {
        self.last_turn.get()
    }

    /// Counts a task whose first step begins.
    #[inline]
    pub(crate) fn count_started(&self) {
        self.counters.started.add(1);
        if self.worker.is_none() {
            self.scheduler.admission.count_started_outside();
        }
    }

    /// Records that a task waits for a time. `set_timer` checks later that a worker sleeps until
    /// then.
    pub(crate) fn note_timer(&self) {
        self.timer_is_unset.set(true);
    }

    /// Makes sure that one of the sleeping workers sleeps until the earliest time for which a task
    /// waits. Called before each step and before other code of the user, because it can block.
    #[inline]
    pub(crate) fn set_timer(&self) {
        if self.timer_is_unset.get() {
            self.timer_is_unset.set(false);
            self.scheduler.idle.watch(self.scheduler.hints.next_moment());
        }
    }

    /// A step begins.
    #[inline]
    pub(crate) fn note_busy(&self) {
        self.set_timer();
        if self.worker.is_some() {
            self.shared.note_busy();
        }
    }

    /// Publishes the task whose step this worker begins.
    #[inline]
    pub(crate) fn begin_step(&self, slot: u32, serial: u64) {
        if self.worker.is_some() && self.scheduler.slow_steps.is_some() {
            self.shared.present_step.begin(slot, serial, self.now());
        }
    }

    #[inline]
    pub(crate) fn end_step(&self) {
        if self.worker.is_some() && self.scheduler.slow_steps.is_some() {
            self.shared.present_step.end();
        }
    }

    /// The task of the last step is about to leave this thread.
    #[inline]
    pub(crate) fn note_free(&self) {
        if self.worker.is_some() {
            self.shared.note_free();
        }
    }

    /// Notifies the services that wait for room, if this thread has made some. The caller has
    /// executed a fence, so that no service is missed.
    #[inline]
    pub(crate) fn note_room(&self) {
        if self.scheduler.room.is_waited() {
            self.set_timer();
            self.scheduler.announce_room(self.counters);
        }
    }

    /// Whether a task whose turn began at `started` must give way to others.
    #[inline]
    pub(crate) fn must_yield(&self, started: u64) -> bool {
        let is_slice_over = self.now() >= self.slice_end(started);
        let others_wait =
            || self.scheduler.others_wait(self.index) || self.scheduler.hints.is_due(self.now());
        self.is_time_up() || is_slice_over && others_wait()
    }

    /// The end of the time slice of a turn that began at `started`.
    pub(crate) fn slice_end(&self, started: u64) -> u64 {
        started.saturating_add(self.scheduler.time_slice)
    }

    /// The time at which every task must give way.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether this worker has more tasks to run after the current one.
    #[inline]
    fn has_more(&self) -> bool {
        self.worker.is_some() && (self.shared.has_batch() || self.scheduler.hints.has_published())
    }

    /// Notifies a loop of an event that is visible. The notification is deferred if the loop polls
    /// and this worker has more short steps to run.
    #[inline]
    pub(crate) fn notify(&self, notifier: &Arc<Notifier>) {
        if notifier.is_notified() {
            return;
        }
        if notifier.is_polling() && self.has_more() && self.scheduler.has_short_steps() {
            self.defer(notifier);
        } else {
            self.wake(|| notifier.notify());
        }
    }

    /// Notifies a loop. During the call, `exits` shows that this worker is in a wake-up.
    pub(super) fn wake(&self, notify: impl FnOnce() -> bool) {
        self.set_timer();
        let set_activity = |activity| {
            let worker = self.worker?;
            Some(self.scheduler.exits.set_activity(worker.into(), activity))
        };
        let before = set_activity(Activity::Wake);
        let notifies = notify();
        before.map(set_activity);
        self.counters.wakes.add(u64::from(notifies));
    }

    fn defer(&self, notifier: &Arc<Notifier>) {
        let before = {
            let mut deferred = self.deferred.borrow_mut();
            match &*deferred {
                Some(other) if Arc::ptr_eq(other, notifier) => None,
                _ => {
                    self.flush_at.set(self.now().saturating_add(QUANTUM));
                    deferred.replace(Arc::clone(notifier))
                }
            }
        };
        if let Some(other) = before {
            self.wake(|| other.flush());
        }
    }

    /// Flushes the deferred notification if it is older than a quantum. Call it after each step.
    #[inline]
    pub(crate) fn flush_old(&self) {
        if self.now() >= self.flush_at.get() {
            self.flush();
        }
    }

    /// Flushes the deferred notification. Call it before the thread runs out of tasks.
    pub(crate) fn flush(&self) {
        self.flush_at.set(u64::MAX);
        let deferred = self.deferred.take();
        if let Some(notifier) = deferred {
            self.wake(|| notifier.flush());
        }
    }
}
