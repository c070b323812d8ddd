//! One thread's view of the pool while it runs tasks: a worker, or a loop inside `run_pending`.

use super::counters::Counters;
use super::{LATE, QUANTUM, Scheduler, SharedContext};
use crate::queue::Source;
use crate::task::header::NO_WORKER;
use crate::wake::notifier::Notifier;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) struct WorkerContext<'a> {
    pub(crate) scheduler: &'a Scheduler,
    /// Its index among the shared contexts; external threads use the last.
    pub(crate) index: usize,
    /// Written by this thread only.
    pub(crate) counters: &'a Counters,
    /// `None` for an external thread.
    worker: Option<u16>,
    /// When every task must give way: the budget of an external thread.
    until: u64,
    /// The clock as it was last read.
    now: Cell<u64>,
    /// When the batch began.
    batch_begun: Cell<u64>,
    /// A notification that was deferred, and since when.
    deferred: RefCell<Option<(Arc<Notifier>, u64)>>,
    /// Whether it may need another worker that sleeps until the earliest moment.
    owes_timer: Cell<bool>,
}

impl<'a> WorkerContext<'a> {
    pub(super) fn of_worker(scheduler: &'a Scheduler, index: usize) -> Self {
        Self {
            index,
            worker: Some(index as u16),
            ..Self::of_external_thread(scheduler, &scheduler.contexts[index].counters)
        }
    }

    pub(super) fn of_external_thread(scheduler: &'a Scheduler, counters: &'a Counters) -> Self {
        Self {
            scheduler,
            index: scheduler.contexts.len() - 1,
            counters,
            worker: None,
            until: u64::MAX,
            now: Cell::new(scheduler.clock.now()),
            batch_begun: Cell::new(u64::MAX),
            deferred: RefCell::new(None),
            owes_timer: Cell::new(false),
        }
    }

    /// For an external thread: tasks give way when `budget` is used up.
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

    /// A worker's batch begins.
    pub(super) fn begin_batch(&self) -> u64 {
        let begun = self.tick();
        self.batch_begun.set(begun);
        self.own_shared().batch_begun.store(begun, Relaxed);
        begun
    }

    /// Whether the batch has taken much longer than it should, and there is more of it: then no
    /// task may wait behind it.
    #[inline]
    pub(crate) fn is_batch_late(&self) -> bool {
        self.now().saturating_sub(self.batch_begun.get()) > LATE && self.own_shared().has_batch()
    }

    /// Gives back what is left of the batch, which is of this service.
    #[cold]
    pub(crate) fn return_batch(&self, service: &impl Source) {
        let mut queue = self.scheduler.queue.lock();
        service.return_batch(&mut queue.turns, self.index);
        self.scheduler.hints.note_submitted();
        self.scheduler.hints.note_published();
    }

    pub(crate) fn is_time_up(&self) -> bool {
        self.now() >= self.until
    }

    fn own_shared(&self) -> &SharedContext {
        &self.scheduler.contexts[self.index]
    }

    /// A task waits for a moment, and this thread has not yet seen to it that a worker sleeps until
    /// then.
    pub(crate) fn note_timer(&self) {
        self.owes_timer.set(true);
    }

    /// Before a step, which can be long: if a task waits for a moment and a worker sleeps, one must
    /// sleep until then.
    #[inline]
    pub(crate) fn see_to_timer(&self) {
        if self.owes_timer.get() {
            self.owes_timer.set(false);
            self.scheduler.idle.watch(self.scheduler.hints.next_moment());
        }
    }

    /// A step begins.
    #[inline]
    pub(crate) fn note_busy(&self) {
        self.see_to_timer();
        if self.worker.is_some() {
            self.own_shared().set_busy(true);
        }
    }

    /// This worker is inside a step of this task from now on.
    #[inline]
    pub(crate) fn begin_step(&self, slot: u32, serial: u64) {
        if self.worker.is_some() && self.scheduler.slow_steps.is_some() {
            self.own_shared().present_step.begin(slot, serial, self.now());
        }
    }

    #[inline]
    pub(crate) fn end_step(&self) {
        if self.worker.is_some() && self.scheduler.slow_steps.is_some() {
            self.own_shared().present_step.end();
        }
    }

    /// The task of the last step is about to leave this thread.
    #[inline]
    pub(crate) fn note_free(&self) {
        if self.worker.is_some() {
            self.own_shared().set_busy(false);
        }
    }

    /// Whether a task whose turn began at `started` must let others run.
    #[inline]
    pub(crate) fn must_yield(&self, started: u64) -> bool {
        let is_slice_over = self.now() >= self.slice_end(started);
        let others_wait =
            || self.scheduler.others_wait(self.index) || self.scheduler.hints.is_due(self.now());
        self.is_time_up() || is_slice_over && others_wait()
    }

    /// When the time slice of a turn ends that began at `started`.
    pub(crate) fn slice_end(&self, started: u64) -> u64 {
        started.saturating_add(self.scheduler.time_slice)
    }

    /// When every task must give way.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether this worker has more to do after the present task.
    #[inline]
    fn has_more(&self) -> bool {
        self.worker.is_some() && (self.own_shared().has_batch() || self.scheduler.hints.has_published())
    }

    /// Notifies a loop of an event that is visible: now, or later if it polls and this worker has
    /// more to do in short steps.
    #[inline]
    pub(crate) fn notify(&self, notifier: &Arc<Notifier>) {
        if notifier.is_notified() {
            return;
        }
        if notifier.is_polling() && self.has_more() && self.scheduler.has_short_steps() {
            self.defer(notifier);
        } else {
            self.counters.wakes.add(u64::from(notifier.notify()));
        }
    }

    fn defer(&self, notifier: &Arc<Notifier>) {
        let before = {
            let mut deferred = self.deferred.borrow_mut();
            match &*deferred {
                Some((other, _)) if Arc::ptr_eq(other, notifier) => None,
                _ => deferred.replace((Arc::clone(notifier), self.now())),
            }
        };
        if let Some((other, _)) = before {
            self.counters.wakes.add(u64::from(other.flush()));
        }
    }

    /// Sends a deferred notification that is as old as a batch may be. Call it after each step.
    #[inline]
    pub(crate) fn flush_old(&self) {
        let is_old = |since: u64| self.now().saturating_sub(since) >= QUANTUM;
        if self
            .deferred
            .borrow()
            .as_ref()
            .is_some_and(|&(_, since)| is_old(since))
        {
            self.flush();
        }
    }

    /// Sends a deferred notification. Call it before the thread has nothing more to do.
    pub(crate) fn flush(&self) {
        let deferred = self.deferred.take();
        if let Some((notifier, _)) = deferred {
            self.counters.wakes.add(u64::from(notifier.flush()));
        }
    }
}
