//! Running the tasks of a batch, each from its place in the queue to its next rest.

use super::completions::{Completion, Outcome};
use super::inner::ServiceInner;
use crate::clock::nanos;
use crate::panic::{contain, drop_quietly};
use crate::queue::Entry;
use crate::queue::ring::Producer;
use crate::scheduler::context::WorkerContext;
use crate::sync::{Ordering, fence};
use crate::task::header::{NEVER, NO_WORKER, Page};
use crate::task::phase::Phase;
use crate::task::status::StopReason;
use crate::task::{Context, Task, TaskReturn};
use std::any::Any;

/// How a turn on a worker ended.
enum Turn {
    /// The task wants to continue, but others may be first.
    GiveWay,
    /// The next step is at this moment.
    Delay(u64),
    Park,
    Finish,
    Stop,
    Panic(Box<dyn Any + Send>),
}

/// A task on this thread.
struct Running<'a, T: Task> {
    service: &'a ServiceInner<T>,
    page: &'a Page,
    cx: &'a WorkerContext<'a>,
    /// Where completions go; `None`: to the ring that is shared.
    producer: Option<&'a mut Producer<Completion<T>>>,
    slot: u32,
    flow: u32,
    serial: u64,
    syncs: u64,
    has_new_deadline: bool,
}

impl<T: Task> ServiceInner<T> {
    /// Runs the tasks of the batch of this context. Returns the number of turns.
    pub(crate) fn run_tasks(&self, cx: &WorkerContext<'_>) -> usize {
        let shared = &self.scheduler.contexts[cx.index];
        // Taken out, since no lock may be held while a step runs.
        let mut producer = match self.scheduler.limit {
            None => self.completions.take_producer(cx.index),
            Some(_) => None,
        };
        let mut turns = 0;
        while let Some(entry) = self.submissions.next_in_batch(cx.index, shared) {
            self.run_task(entry, producer.as_mut(), cx);
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
        entry: Entry<T>,
        producer: Option<&mut Producer<Completion<T>>>,
        cx: &WorkerContext<'_>,
    ) {
        let page = self.pages.of(entry.slot);
        let running = Running {
            service: self,
            page,
            cx,
            producer,
            slot: entry.slot,
            flow: entry.flow,
            serial: entry.serial,
            syncs: entry.syncs,
            has_new_deadline: entry.has_new_deadline,
        };
        let started = cx.now();
        let waited = started.saturating_sub(entry.since);
        let header = page.work(entry.slot);
        if entry.has_started {
            header.add_queued(waited);
        } else {
            header.renew(waited);
            let requests = self.requests_at(page, entry.slot, entry.serial, started);
            if let Some(reason) = requests.stop() {
                // Cancelled after it was taken out of the queue, or too late.
                self.scheduler.admission.count_never_ran();
                return running.end(Outcome::Stopped(reason, entry.task));
            }
            if requests.is_timed() {
                page.limits(entry.slot).note_start();
            }
            cx.counters.started.add(1);
        }
        running.run(entry.task, started);
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
    fn run(mut self, mut task: T, started: u64) {
        let cx = self.cx;
        cx.note_busy();
        self.set_phase(Phase::Running);
        let turn = self.turn(&mut task, started);
        self.page
            .work(self.slot)
            .add_run(cx.now().saturating_sub(started));
        cx.note_free();
        match turn {
            Turn::GiveWay => {
                self.set_phase(Phase::Waiting);
                self.service.push_back(self.entry(task));
                cx.flush_old();
            }
            Turn::Delay(at) => {
                self.set_phase(Phase::Waiting);
                self.service.delay(self.entry(task), at);
                cx.note_timer();
                cx.flush_old();
            }
            Turn::Park => {
                cx.counters.parked.add(1);
                self.syncs += 1;
                self.complete(Outcome::Parked(task));
            }
            Turn::Finish => self.end(Outcome::Finished(task)),
            Turn::Stop => {
                let requests = self.service.requests(self.page, self.slot, self.serial);
                let reason = requests.stop().unwrap_or(StopReason::Returned);
                self.end(Outcome::Stopped(reason, task));
            }
            Turn::Panic(payload) => {
                drop_quietly(task);
                self.end(Outcome::Panicked(payload));
            }
        }
    }

    /// The task, on its way to its next turn.
    fn entry(&self, task: T) -> Entry<T> {
        Entry {
            task,
            serial: self.serial,
            since: self.cx.now(),
            syncs: self.syncs,
            slot: self.slot,
            flow: self.flow,
            has_started: true,
            has_siblings: false,
            has_new_deadline: self.has_new_deadline,
        }
    }

    fn turn(&mut self, task: &mut T, started: u64) -> Turn {
        let cx = self.cx;
        let mut was_told = false;
        let id = self.service.task_id(self.slot, self.serial);
        loop {
            let mut context = Context::new(self.page, id, cx, started);
            cx.begin_step(self.slot, self.serial);
            let returned = contain(|| task.step(&mut context));
            cx.end_step();
            self.has_new_deadline |= context.has_new_deadline();
            cx.tick();
            cx.counters.steps.add(1);
            match returned {
                Ok(TaskReturn::Sync) => {
                    let requests = self
                        .service
                        .requests_at(self.page, self.slot, self.serial, cx.now());
                    // If it must continue, no loop would resume it.
                    if !requests.must_continue() {
                        return Turn::Park;
                    }
                }
                Ok(TaskReturn::Delay(time)) => {
                    let requests = self
                        .service
                        .requests_at(self.page, self.slot, self.serial, cx.now());
                    let is_stopping = requests.stop().is_some();
                    if is_stopping && was_told {
                        return Turn::Stop;
                    }
                    was_told = is_stopping;
                    if !is_stopping && !time.is_zero() {
                        let at = cx.now().saturating_add(nanos(time)).min(NEVER - 1);
                        let deadline = requests
                            .is_timed()
                            .then(|| self.page.limits(self.slot).deadline());
                        return Turn::Delay(deadline.flatten().map_or(at, |deadline| at.min(deadline)));
                    }
                }
                Ok(TaskReturn::Continue) => {}
                Ok(TaskReturn::TaskDone) => return Turn::Finish,
                Ok(TaskReturn::Stopped) => return Turn::Stop,
                Err(payload) => return Turn::Panic(payload),
            }
            cx.flush_old();
            if cx.must_yield(started) {
                return Turn::GiveWay;
            }
        }
    }

    /// The task ends. It is counted before its loop can see it.
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
            service.release(slot, || service.completions.push_shared(completion));
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
            syncs: (self.syncs % 16) as u8,
            slot: self.slot,
            flow: self.flow,
            has_new_deadline: self.has_new_deadline,
        }
    }

    /// Returns the task to its loop; drops it if that is gone.
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
    /// A completion was added: notifies the loop, or does its work if it is gone.
    #[inline]
    fn notify_loop(&self, cx: &WorkerContext<'_>) {
        fence(Ordering::SeqCst);
        if self.completions.is_abandoned() {
            self.reap_orphans(cx);
        } else {
            cx.notify(&self.notifier);
        }
        cx.flush_old();
    }
}
