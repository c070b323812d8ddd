//! Running the tasks of a batch, each until it parks, ends or gives way.

use super::completions::{Completion, Outcome};
use super::inner::ServiceInner;
use crate::panic::{Caught, contain_step, drop_quietly};
use crate::queue::fair::weighted;
use crate::queue::ring::Producer;
use crate::queue::{Entry, FlowState, Taken};
use crate::scheduler::codel::Codel;
use crate::scheduler::context::WorkerContext;
use crate::sync::{Ordering, fence};
use crate::task::header::{NO_WORKER, Page};
use crate::task::phase::{IGNORED_MAX, Phase, Requests};
use crate::task::status::StopReason;
use crate::task::{Context, Task, TaskReturn, requests_at};

/// Runs the tasks of a batch.
struct Runner<'a, T: Task> {
    service: &'a ServiceInner<T>,
    cx: &'a WorkerContext<'a>,
    /// The producer for completions. `None`: the shared completion ring is used.
    producer: Option<Producer<Completion<T>>>,
}

impl<T: Task> ServiceInner<T> {
    /// Runs the batch of this context. Returns the number of turns.
    pub(crate) fn run_tasks(&self, cx: &WorkerContext<'_>) -> usize {
        // The producer is taken out, since no lock may be held while a step runs.
        let producer = match self.scheduler.limit {
            None => self.completions.take_producer(cx.index),
            Some(_) => None,
        };
        let service = self;
        let mut runner = Runner {
            service,
            cx,
            producer,
        };
        let mut turns = 0;
        while let Some(taken) = self.next_in_batch(cx) {
            runner.run(taken);
            turns += 1;
            if cx.is_batch_late() {
                cx.return_batch(self);
                break;
            }
        }
        self.completions.give_back(cx.index, runner.producer);
        turns
    }
}

impl<T: Task> Runner<'_, T> {
    fn set_phase(&self, page: &Page, entry: &Entry<T>, phase: Phase) {
        let &Entry {
            slot, serial, syncs, ..
        } = entry;
        page.work(slot).set(serial, syncs, self.cx.worker_number(), phase);
    }

    /// Runs steps of a task until it rests, and puts it where it belongs then. The task stays at
    /// its address until then; a copy on the stack would cost more than a short step.
    #[inline(never)]
    fn run(&mut self, mut taken: Taken<T>) {
        let Self { service, cx, .. } = *self;
        let Taken { entry, prepaid } = &mut taken;
        let page = service.pages.of(entry.slot);
        let started = cx.now();
        let requests = match self.begin(page, entry, started) {
            Ok(requests) => requests,
            Err(reason) => {
                cx.cancel_turn(*prepaid);
                return self.complete(page, taken.entry, 0, |task| Outcome::Stopped(reason, task));
            }
        };
        cx.note_busy();
        // The place of the task in the queue is free. There is no fence here, because the
        // completion checks again.
        cx.note_room();
        self.set_phase(page, entry, Phase::Running);
        let returned = self.turn(page, entry, started, requests);
        let cost = cx.now().saturating_sub(started);
        page.work(entry.slot).add_run(cost);
        match *prepaid {
            Some(prepaid) => cx.charge(prepaid, cost),
            None => cx.note_finish(self.finish(entry, cost)),
        }
        cx.note_free();
        match returned {
            Ok(returned @ (TaskReturn::Continue | TaskReturn::Delay(_))) => {
                self.set_phase(page, entry, Phase::Waiting);
                // If this turn has no record, the tag of the task includes it.
                if prepaid.is_none() {
                    let tag = self.finish(entry, cost);
                    entry.state = FlowState::Busy { tag };
                }
                entry.since = cx.now();
                entry.has_started = true;
                if let TaskReturn::Delay(time) = returned {
                    service.delay(taken.entry, time, cx);
                } else {
                    service.push_back(taken.entry, cx);
                }
                cx.flush_old();
                fence(Ordering::SeqCst);
                cx.note_room();
            }
            Ok(TaskReturn::Sync) => self.complete(page, taken.entry, cost, Outcome::Parked),
            Ok(TaskReturn::TaskDone) => self.complete(page, taken.entry, cost, Outcome::Finished),
            Ok(TaskReturn::Stopped) => {
                let stop = self.requests(page, entry).stop();
                let reason = stop.unwrap_or(StopReason::Returned);
                self.complete(page, taken.entry, cost, |task| Outcome::Stopped(reason, task));
            }
            Err(caught) => self.complete(page, taken.entry, cost, |task| {
                drop_quietly(task);
                Outcome::Panicked(caught)
            }),
        }
    }

    /// Counts the wait of the task that ends now, and its start. Returns the requests to the task.
    /// If the task has not started and must not start, returns the reason.
    fn begin(&self, page: &Page, entry: &Entry<T>, started: u64) -> Result<Requests, StopReason> {
        let cx = self.cx;
        let waited = started.saturating_sub(entry.since);
        let header = page.work(entry.slot);
        let requests = self.requests(page, entry);
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
            return Err(reason);
        }
        if requests.is_timed() {
            page.limits(entry.slot).note_start();
        }
        cx.count_started();
        Ok(requests)
    }

    /// The finish tag of its connection after a turn without a record. The connection has no
    /// group.
    fn finish(&self, entry: &Entry<T>, cost: u64) -> u64 {
        let virtual_time = self.cx.scheduler.virtual_time();
        let start = entry.state.tag().unwrap_or(0).max(virtual_time);
        start.saturating_add(weighted(cost, entry.weight))
    }

    /// The current requests to the task.
    fn requests(&self, page: &Page, entry: &Entry<T>) -> Requests {
        let &Entry { slot, serial, .. } = entry;
        requests_at(self.cx.scheduler, page, slot, serial, || self.cx.now())
    }

    /// Counts a step that returned `Continue` although it could see that the task was asked to
    /// stop.
    #[cold]
    fn note_ignored_stop(&self, page: &Page, entry: &Entry<T>) {
        let header = page.work(entry.slot);
        let requests = header.request(entry.serial, Requests::with_ignored);
        let is_over = requests.ignored() == IGNORED_MAX + 1;
        self.cx.counters.ignored_stops.add(u64::from(is_over));
    }

    /// Runs steps until the task cannot continue or gives way. Returns what the pool does with the
    /// task. `requests`: the requests to the task before its turn.
    fn turn(
        &self,
        page: &Page,
        entry: &mut Entry<T>,
        started: u64,
        requests: Requests,
    ) -> Result<TaskReturn, Box<Caught>> {
        let cx = self.cx;
        // Whether the step can see from its beginning that the task is asked to stop.
        let mut is_told = requests.stop().is_some();
        let id = self.service.task_id(entry.slot, entry.serial);
        loop {
            let mut context = Context::new(page, id, cx, started);
            let step_begun = cx.now();
            cx.begin_step(id.slot(), id.serial);
            let task = &mut entry.task;
            let returned = contain_step(cx.scheduler.panic_locations, || task.step(&mut context));
            cx.end_step();
            entry.has_new_deadline |= context.has_new_deadline();
            cx.tick();
            cx.counters.steps.add(1);
            match returned? {
                TaskReturn::Sync => {
                    let requests = self.requests(page, entry);
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
                    let is_stopping = self.requests(page, entry).stop().is_some();
                    if is_stopping && is_told {
                        return Ok(TaskReturn::Stopped);
                    }
                    is_told = is_stopping;
                    if !is_stopping && !time.is_zero() {
                        return Ok(TaskReturn::Delay(time));
                    }
                }
                TaskReturn::Continue if is_told => self.note_ignored_stop(page, entry),
                TaskReturn::Continue => is_told = self.requests(page, entry).stop().is_some(),
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
    fn complete(&mut self, page: &Page, entry: Entry<T>, cost: u64, outcome: impl FnOnce(T) -> Outcome<T>) {
        let Self { service, cx, .. } = *self;
        let Entry {
            serial,
            slot,
            flow,
            mut syncs,
            has_new_deadline,
            task,
            ..
        } = entry;
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
        let (at, cost) = (cx.now(), cost as f32);
        // Made where it is added, so that it is not copied.
        let completion = || Completion {
            outcome,
            at,
            cost,
            syncs,
            slot,
            flow,
            has_new_deadline,
        };
        let completions = &service.completions;
        match &mut self.producer {
            Some(producer) => producer.push(completion()),
            None if frees_place => service.release(slot, cx, || completions.push_shared(completion())),
            None => completions.push_shared(completion()),
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
