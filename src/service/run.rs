//! Running the tasks of a batch, each until it parks, ends or gives way.

use super::completions::{Completion, Outcome};
use super::inner::ServiceInner;
use crate::clock::nanos;
use crate::panic::{Caught, contain_step, drop_quietly};
use crate::queue::fair::weighted;
use crate::queue::lanes::Prepaid;
use crate::queue::ring::Producer;
use crate::queue::{Entry, FlowState, Taken};
use crate::scheduler::codel::Codel;
use crate::scheduler::context::WorkerContext;
use crate::sync::{Ordering, fence};
use crate::task::header::{NEVER, NO_WORKER, Page};
use crate::task::phase::{IGNORED_MAX, Phase, Requests};
use crate::task::status::StopReason;
use crate::task::{Context, Task, TaskReturn};

/// The end of a turn on a worker.
enum Turn {
    /// The task returned `Continue`, and other tasks run first.
    GiveWay,
    /// The next step is at this time.
    Delay(u64),
    Park,
    Finish,
    Stop,
    Panic(Box<Caught>),
}

/// A task that this thread runs.
struct Running<'a, T: Task> {
    service: &'a ServiceInner<T>,
    page: &'a Page,
    cx: &'a WorkerContext<'a>,
    /// The producer for completions. `None`: the shared completion ring is used.
    producer: Option<&'a mut Producer<Completion<T>>>,
    /// The account that the estimate of its turn was charged to.
    prepaid: Option<Prepaid>,
    slot: u32,
    flow: u32,
    serial: u64,
    /// The state and the weight of its connection when the task was submitted.
    state: FlowState,
    weight: u16,
    syncs: u8,
    has_new_deadline: bool,
    /// The worker time of this turn, in nanoseconds.
    cost: u64,
}

impl<T: Task> ServiceInner<T> {
    /// Runs the batch of this context. Returns the number of turns.
    pub(crate) fn run_tasks(&self, cx: &WorkerContext<'_>) -> usize {
        let shared = &self.scheduler.contexts[cx.index];
        // The producer is taken out, since no lock may be held while a step runs.
        let mut producer = match self.scheduler.limit {
            None => self.completions.take_producer(cx.index),
            Some(_) => None,
        };
        let mut turns = 0;
        while let Some(taken) = self.submissions.next_in_batch(cx.index, shared) {
            self.run_task(taken, producer.as_mut(), cx);
            turns += 1;
            if cx.is_batch_late() {
                cx.return_batch(self);
                break;
            }
        }
        self.completions.give_back(cx.index, producer);
        turns
    }

    fn run_task(
        &self,
        Taken { entry, prepaid }: Taken<T>,
        producer: Option<&mut Producer<Completion<T>>>,
        cx: &WorkerContext<'_>,
    ) {
        let page = self.pages.of(entry.slot);
        let running = Running {
            service: self,
            page,
            cx,
            producer,
            prepaid,
            slot: entry.slot,
            flow: entry.flow,
            serial: entry.serial,
            state: entry.state,
            weight: entry.weight,
            syncs: entry.syncs,
            has_new_deadline: entry.has_new_deadline,
            cost: 0,
        };
        let started = cx.now();
        let waited = started.saturating_sub(entry.since);
        let header = page.work(entry.slot);
        let requests = self.requests_at(page, entry.slot, entry.serial, started);
        if entry.has_started {
            header.add_queued(waited);
        } else {
            header.renew(waited);
            let codel = self.scheduler.codel.as_ref();
            // The last waiting task is not shed, because no other task would begin earlier.
            let sheds = |codel: &Codel| {
                codel.sheds(entry.state, waited, started) && self.scheduler.others_wait(cx.index)
            };
            let reason = match requests.stop() {
                None if codel.is_some_and(sheds) => Some(StopReason::Shed),
                stop => stop,
            };
            if let Some(reason) = reason {
                // The task was cancelled after it had been taken out of the queue, its time has run
                // out, or it is shed.
                self.scheduler.admission.count_never_ran();
                cx.cancel_turn(prepaid);
                return running.end(Outcome::Stopped(reason, entry.task));
            }
            if requests.is_timed() {
                page.limits(entry.slot).note_start();
            }
            cx.count_started();
        }
        running.run(entry.task, started, requests);
    }
}

impl<T: Task> Running<'_, T> {
    fn set_phase(&self, phase: Phase) {
        let worker = if phase == Phase::Running {
            self.cx.worker_number()
        } else {
            NO_WORKER
        };
        let header = self.page.work(self.slot);
        header.set(self.serial, self.syncs, worker, phase);
    }

    /// Runs steps until the task rests, and puts it where it belongs then.
    fn run(mut self, mut task: T, started: u64, requests: Requests) {
        let cx = self.cx;
        cx.note_busy();
        // The place of the task in the queue is free. There is no fence here, because the
        // completion checks again.
        cx.note_room();
        self.set_phase(Phase::Running);
        let turn = self.turn(&mut task, started, requests);
        self.cost = cx.now().saturating_sub(started);
        self.page.work(self.slot).add_run(self.cost);
        match self.prepaid {
            Some(prepaid) => cx.charge(prepaid, self.cost),
            None => cx.note_finish(self.finish()),
        }
        cx.note_free();
        match turn {
            Turn::GiveWay => {
                self.set_phase(Phase::Waiting);
                self.service.push_back(self.entry(task), cx);
                cx.flush_old();
                fence(Ordering::SeqCst);
                cx.note_room();
            }
            Turn::Delay(at) => {
                self.set_phase(Phase::Waiting);
                self.service.delay(self.entry(task), at, cx);
                cx.note_timer();
                cx.flush_old();
                fence(Ordering::SeqCst);
                cx.note_room();
            }
            Turn::Park => {
                cx.counters.parked.add(1);
                self.syncs = self.syncs.wrapping_add(1);
                self.complete(Outcome::Parked(task));
            }
            Turn::Finish => self.end(Outcome::Finished(task)),
            Turn::Stop => {
                let reason = self.requests().stop().unwrap_or(StopReason::Returned);
                self.end(Outcome::Stopped(reason, task));
            }
            Turn::Panic(caught) => {
                drop_quietly(task);
                self.end(Outcome::Panicked(caught));
            }
        }
    }

    /// The finish tag of its connection after a turn without an account. The connection has no
    /// group.
    fn finish(&self) -> u64 {
        let start = self
            .state
            .tag()
            .unwrap_or(0)
            .max(self.cx.scheduler.virtual_time());
        start.saturating_add(weighted(self.cost, self.weight))
    }

    /// The task for its next turn. If this turn has no account, the tag of the task includes it.
    fn entry(&self, task: T) -> Entry<T> {
        let state = match self.prepaid {
            Some(_) => self.state,
            None => FlowState::Busy { tag: self.finish() },
        };
        Entry {
            task,
            serial: self.serial,
            since: self.cx.now(),
            slot: self.slot,
            flow: self.flow,
            state,
            weight: self.weight,
            syncs: self.syncs,
            has_started: true,
            has_new_deadline: self.has_new_deadline,
        }
    }

    /// The current requests to the task.
    fn requests(&self) -> Requests {
        self.service
            .requests_at(self.page, self.slot, self.serial, self.cx.now())
    }

    /// Counts a step that returned `Continue` although it could see that the task was asked to
    /// stop.
    #[cold]
    fn note_ignored_stop(&self) {
        let header = self.page.work(self.slot);
        let requests = header.request(self.serial, Requests::with_ignored);
        let is_over = requests.ignored() == IGNORED_MAX + 1;
        self.cx.counters.ignored_stops.add(u64::from(is_over));
    }

    /// `requests`: the requests to the task before its turn.
    fn turn(&mut self, task: &mut T, started: u64, requests: Requests) -> Turn {
        let cx = self.cx;
        // Whether the step can see from its beginning that the task is asked to stop.
        let mut is_told = requests.stop().is_some();
        let id = self.service.task_id(self.slot, self.serial);
        loop {
            let mut context = Context::new(self.page, id, cx, started);
            let step_begun = cx.now();
            cx.begin_step(self.slot, self.serial);
            let returned = contain_step(cx.scheduler.panic_locations, || task.step(&mut context));
            cx.end_step();
            self.has_new_deadline |= context.has_new_deadline();
            cx.tick();
            cx.counters.steps.add(1);
            match returned {
                Ok(TaskReturn::Sync) => {
                    let requests = self.requests();
                    // If it must continue, no loop would resume it.
                    if !requests.must_continue() {
                        return Turn::Park;
                    }
                    if is_told {
                        return Turn::Stop;
                    }
                    is_told = requests.stop().is_some();
                }
                Ok(TaskReturn::Delay(time)) => {
                    let requests = self.requests();
                    let is_stopping = requests.stop().is_some();
                    if is_stopping && is_told {
                        return Turn::Stop;
                    }
                    is_told = is_stopping;
                    if !is_stopping && !time.is_zero() {
                        let at = cx.now().saturating_add(nanos(time)).min(NEVER - 1);
                        let deadline = requests
                            .is_timed()
                            .then(|| self.page.limits(self.slot).deadline());
                        return Turn::Delay(deadline.flatten().map_or(at, |deadline| at.min(deadline)));
                    }
                }
                Ok(TaskReturn::Continue) if is_told => self.note_ignored_stop(),
                Ok(TaskReturn::Continue) => is_told = self.requests().stop().is_some(),
                Ok(TaskReturn::TaskDone) => return Turn::Finish,
                Ok(TaskReturn::Stopped) => return Turn::Stop,
                Err(caught) => return Turn::Panic(caught),
            }
            cx.flush_old();
            if cx.must_yield(started) {
                return Turn::GiveWay;
            }
            cx.note_continue(started, step_begun);
        }
    }

    /// Ends the task. The end is counted before the loop can see it.
    fn end(self, outcome: Outcome<T>) {
        let counters = self.cx.counters;
        match &outcome {
            Outcome::Stopped(reason, _) => counters.stopped[reason.index()].add(1),
            Outcome::Panicked(_) => counters.panicked.add(1),
            _ => counters.finished.add(1),
        }
        if self.service.scheduler.limit.is_some() {
            let (service, cx) = (self.service, self.cx);
            let slot = self.slot;
            let completion = self.completion(outcome);
            service.release(slot, cx, || service.completions.push_shared(completion));
            service.notify_loop(cx);
            service.scheduler.wake_for_rest(cx.counters);
        } else {
            self.complete(outcome);
        }
    }

    fn completion(&self, outcome: Outcome<T>) -> Completion<T> {
        self.set_phase(outcome.phase());
        self.service.note_end(self.slot, self.serial, &outcome);
        Completion {
            outcome,
            at: self.cx.now(),
            cost: self.cost as f32,
            syncs: self.syncs,
            slot: self.slot,
            flow: self.flow,
            has_new_deadline: self.has_new_deadline,
        }
    }

    /// Returns the task to its loop, or drops it if the service was dropped.
    fn complete(mut self, outcome: Outcome<T>) {
        let completion = self.completion(outcome);
        match &mut self.producer {
            Some(producer) => producer.push(completion),
            None => self.service.completions.push_shared(completion),
        }
        self.service.notify_loop(self.cx);
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
