//! Running the tasks of a batch, each until it parks, ends or gives way.

use super::completions::{Completion, Outcome};
use super::inner::ServiceInner;
use crate::panic::{Caught, contain_step, drop_quietly};
use crate::queue::fair::weighted;
use crate::queue::member::Prepaid;
use crate::queue::ring::Producer;
use crate::queue::{Entry, FlowState, Taken};
use crate::scheduler::codel::Codel;
use crate::scheduler::context::WorkerContext;
use crate::sync::{Ordering, fence};
use crate::task::header::{NO_WORKER, Page};
use crate::task::phase::{IGNORED_MAX, Phase, Requests};
use crate::task::status::StopReason;
use crate::task::{Context, Task, TaskReturn, requests_at};

/// A task that this thread runs.
struct Running<'a, T: Task> {
    service: &'a ServiceInner<T>,
    page: &'a Page,
    cx: &'a WorkerContext<'a>,
    /// The producer for completions. `None`: the shared completion ring is used.
    producer: Option<&'a mut Producer<Completion<T>>>,
    /// The record that the estimate of its turn was charged to.
    prepaid: Option<Prepaid>,
    entry: Entry<T>,
    /// The worker time of this turn, in nanoseconds.
    cost: u64,
}

impl<T: Task> ServiceInner<T> {
    /// Runs the batch of this context. Returns the number of turns.
    pub(crate) fn run_tasks(&self, cx: &WorkerContext<'_>) -> usize {
        // The producer is taken out, since no lock may be held while a step runs.
        let mut producer = match self.scheduler.limit {
            None => self.completions.take_producer(cx.index),
            Some(_) => None,
        };
        let mut turns = 0;
        while let Some(Taken { entry, prepaid }) = self.next_in_batch(cx.index) {
            let running = Running {
                service: self,
                page: self.pages.of(entry.slot),
                cx,
                producer: producer.as_mut(),
                prepaid,
                entry,
                cost: 0,
            };
            running.run();
            turns += 1;
            if cx.is_batch_late() {
                cx.return_batch(self);
                break;
            }
        }
        self.completions.give_back(cx.index, producer);
        turns
    }
}

impl<T: Task> Running<'_, T> {
    fn set_phase(&self, phase: Phase) {
        let Entry {
            slot, serial, syncs, ..
        } = self.entry;
        let header = self.page.work(slot);
        header.set(serial, syncs, self.cx.worker_number(), phase);
    }

    /// Runs steps until the task rests, and puts it where it belongs then.
    fn run(mut self) {
        let cx = self.cx;
        let started = cx.now();
        let requests = match self.begin(started) {
            Ok(requests) => requests,
            Err(reason) => return self.complete(|task| Outcome::Stopped(reason, task)),
        };
        cx.note_busy();
        // The place of the task in the queue is free. There is no fence here, because the
        // completion checks again.
        cx.note_room();
        self.set_phase(Phase::Running);
        let returned = self.turn(started, requests);
        self.cost = cx.now().saturating_sub(started);
        self.page.work(self.entry.slot).add_run(self.cost);
        match self.prepaid {
            Some(prepaid) => cx.charge(prepaid, self.cost),
            None => cx.note_finish(self.finish()),
        }
        cx.note_free();
        match returned {
            Ok(returned @ (TaskReturn::Continue | TaskReturn::Delay(_))) => {
                self.set_phase(Phase::Waiting);
                // If this turn has no record, the tag of the task includes it.
                if self.prepaid.is_none() {
                    self.entry.state = FlowState::Busy { tag: self.finish() };
                }
                self.entry.since = cx.now();
                self.entry.has_started = true;
                if let TaskReturn::Delay(time) = returned {
                    self.service.delay(self.entry, time, cx);
                } else {
                    self.service.push_back(self.entry, cx);
                }
                cx.flush_old();
                fence(Ordering::SeqCst);
                cx.note_room();
            }
            Ok(TaskReturn::Sync) => self.complete(Outcome::Parked),
            Ok(TaskReturn::TaskDone) => self.complete(Outcome::Finished),
            Ok(TaskReturn::Stopped) => {
                let reason = self.requests().stop().unwrap_or(StopReason::Returned);
                self.complete(|task| Outcome::Stopped(reason, task));
            }
            Err(caught) => self.complete(|task| {
                drop_quietly(task);
                Outcome::Panicked(caught)
            }),
        }
    }

    /// Counts the wait of the task that ends now, and its start. Returns the requests to the task.
    /// If the task has not started and must not start, returns the reason.
    fn begin(&self, started: u64) -> Result<Requests, StopReason> {
        let (cx, entry) = (self.cx, &self.entry);
        let waited = started.saturating_sub(entry.since);
        let header = self.page.work(entry.slot);
        let requests = self.requests();
        if entry.has_started {
            header.add_queued(waited);
            return Ok(requests);
        }
        header.renew(waited);
        let codel = cx.scheduler.codel.as_ref();
        let others_wait = || cx.scheduler.others_wait(cx.index);
        let sheds = |codel: &Codel| codel.sheds(entry.state, waited, started, others_wait);
        let reason = match requests.stop() {
            None if codel.is_some_and(sheds) => Some(StopReason::Shed),
            stop => stop,
        };
        if let Some(reason) = reason {
            // The task was cancelled after it had been taken out of the queue, its time has run
            // out, or it is shed.
            cx.scheduler.admission.count_never_ran();
            cx.cancel_turn(self.prepaid);
            return Err(reason);
        }
        if requests.is_timed() {
            self.page.limits(entry.slot).note_start();
        }
        cx.count_started();
        Ok(requests)
    }

    /// The finish tag of its connection after a turn without a record. The connection has no
    /// group.
    fn finish(&self) -> u64 {
        let virtual_time = self.cx.scheduler.virtual_time();
        let start = self.entry.state.tag().unwrap_or(0).max(virtual_time);
        start.saturating_add(weighted(self.cost, self.entry.weight))
    }

    /// The current requests to the task.
    fn requests(&self) -> Requests {
        let Entry { slot, serial, .. } = self.entry;
        requests_at(self.cx.scheduler, self.page, slot, serial, || self.cx.now())
    }

    /// Counts a step that returned `Continue` although it could see that the task was asked to
    /// stop.
    #[cold]
    fn note_ignored_stop(&self) {
        let header = self.page.work(self.entry.slot);
        let requests = header.request(self.entry.serial, Requests::with_ignored);
        let is_over = requests.ignored() == IGNORED_MAX + 1;
        self.cx.counters.ignored_stops.add(u64::from(is_over));
    }

    /// Runs steps until the task cannot continue or gives way. Returns what the pool does with the
    /// task. `requests`: the requests to the task before its turn.
    fn turn(&mut self, started: u64, requests: Requests) -> Result<TaskReturn, Box<Caught>> {
        let cx = self.cx;
        // Whether the step can see from its beginning that the task is asked to stop.
        let mut is_told = requests.stop().is_some();
        let id = self.service.task_id(self.entry.slot, self.entry.serial);
        loop {
            let mut context = Context::new(self.page, id, cx, started);
            let step_begun = cx.now();
            cx.begin_step(id.slot, id.serial);
            let task = &mut self.entry.task;
            let returned = contain_step(cx.scheduler.panic_locations, || task.step(&mut context));
            cx.end_step();
            self.entry.has_new_deadline |= context.has_new_deadline();
            cx.tick();
            cx.counters.steps.add(1);
            match returned? {
                TaskReturn::Sync => {
                    let requests = self.requests();
                    // If it must continue, no loop would resume it.
                    if !requests.must_continue() {
                        return Ok(TaskReturn::Sync);
                    }
                    if is_told {
                        return Ok(TaskReturn::Stopped);
                    }
                    is_told = requests.stop().is_some();
                }
                TaskReturn::Delay(time) => {
                    let is_stopping = self.requests().stop().is_some();
                    if is_stopping && is_told {
                        return Ok(TaskReturn::Stopped);
                    }
                    is_told = is_stopping;
                    if !is_stopping && !time.is_zero() {
                        return Ok(TaskReturn::Delay(time));
                    }
                }
                TaskReturn::Continue if is_told => self.note_ignored_stop(),
                TaskReturn::Continue => is_told = self.requests().stop().is_some(),
                end @ (TaskReturn::TaskDone | TaskReturn::Stopped) => return Ok(end),
            }
            cx.flush_old();
            if cx.must_yield(started) {
                return Ok(TaskReturn::Continue);
            }
            cx.note_continue(started, step_begun);
        }
    }

    /// Returns the task to its loop, or drops it if the service was dropped. An end is counted
    /// before the loop can see it.
    fn complete(self, outcome: impl FnOnce(T) -> Outcome<T>) {
        let Self {
            service, page, cx, ..
        } = self;
        let Entry {
            serial,
            slot,
            flow,
            mut syncs,
            has_new_deadline,
            task,
            ..
        } = self.entry;
        let outcome = outcome(task);
        match &outcome {
            Outcome::Parked(_) => {
                cx.counters.parked.add(1);
                syncs = syncs.wrapping_add(1);
            }
            Outcome::Finished(_) => cx.counters.finished.add(1),
            Outcome::Stopped(reason, _) => cx.counters.stopped[reason.index()].add(1),
            Outcome::Panicked(_) => cx.counters.panicked.add(1),
        }
        let frees_place = service.scheduler.limit.is_some() && !outcome.is_parked();
        let header = page.work(slot);
        header.set(serial, syncs, NO_WORKER, outcome.phase());
        service.note_end(slot, serial, &outcome);
        let completion = Completion {
            outcome,
            at: cx.now(),
            cost: self.cost as f32,
            syncs,
            slot,
            flow,
            has_new_deadline,
        };
        match self.producer {
            Some(producer) => producer.push(completion),
            None if frees_place => service.release(slot, cx, || service.completions.push_shared(completion)),
            None => service.completions.push_shared(completion),
        }
        if frees_place {
            // The next task of the connection must not wait for the wake-up of the loop. The lock
            // of the queue replaces a fence.
            service.scheduler.wake_for_rest(cx.counters);
        }
        service.notify_loop(cx);
    }
}

impl<T: Task> ServiceInner<T> {
    /// Returns a task that will never start to its loop. The caller notifies the loop.
    pub(crate) fn return_shed(&self, entry: Entry<T>, cx: &WorkerContext<'_>) {
        let header = self.pages.of(entry.slot).work(entry.slot);
        header.renew(cx.now().saturating_sub(entry.since));
        header.set(entry.serial, entry.syncs, NO_WORKER, Phase::Stopped);
        let outcome = Outcome::Stopped(StopReason::Shed, entry.task);
        self.note_end(entry.slot, entry.serial, &outcome);
        self.completions.push_shared(Completion {
            outcome,
            at: cx.now(),
            cost: 0.0,
            syncs: entry.syncs,
            slot: entry.slot,
            flow: entry.flow,
            has_new_deadline: false,
        });
    }

    /// Called after a completion was added. Notifies the loop, or reaps the task if the service was
    /// dropped.
    #[inline]
    pub(crate) fn notify_loop(&self, cx: &WorkerContext<'_>) {
        fence(Ordering::SeqCst);
        if self.completions.is_abandoned() {
            self.reap_orphans(cx);
        } else {
            cx.notify(&self.notifier);
        }
        cx.note_room();
        cx.flush_old();
    }
}
