//! The scheduler: the part of a pool that workers and services share. `scheduler/README.md`
//! describes the rules and the protocols.

pub(crate) mod admission;
pub(crate) mod any_service;
pub(crate) mod codel;
pub(crate) mod context;
pub(crate) mod counters;
mod estimate;
pub(crate) mod exits;
pub(crate) mod hints;
pub(crate) mod idle;
pub(crate) mod reentrancy;
pub(crate) mod registry;
pub(crate) mod room;
pub(crate) mod search;
pub(crate) mod shared_context;
mod shutdown;
pub(crate) mod slow_step;
mod take;
pub(crate) mod worker;

use crate::clock::Clock;
use crate::dump::end::AbnormalEnds;
use crate::panic::Locations;
use crate::pool::overload::Overload;
use crate::queue::delayed::{LOOP, Moment};
use crate::queue::fair::{Debt, VIRTUAL_QUANTUM};
use crate::queue::lanes::Lanes;
use crate::queue::{RefusedFlow, RunQueue};
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::task::status::StopReason;
use admission::{Admission, Progress};
use any_service::ServiceRef;
use codel::Codel;
use context::WorkerContext;
use counters::{Sums, ThreadCounters};
use crossbeam_utils::CachePadded;
use exits::Exits;
use hints::Hints;
use idle::{Gate, Idle};
use reentrancy::ReentrancyGuard;
use registry::Registry;
use room::Room;
use shared_context::SharedContext;
use shutdown::Stage;
use slow_step::SlowSteps;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Figure, Ordering::Relaxed};

/// The intended time of a batch, and the longest deferral of a notification, in nanoseconds. It is
/// about the cost of waking a thread. (Rows: `told-1024`, `work-1k`, `fair`.)
pub(crate) const QUANTUM: u64 = 20_000;
/// A batch that has taken longer than this is late: its remaining tasks return to the queue.
pub(crate) const LATE: u64 = 2 * QUANTUM;
/// The largest batch, and the largest number of unpublished submissions of a loop. (Rows:
/// `told-1024`, `stream-256`.)
pub(crate) const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 32 };

/// The largest number of delayed tasks that become runnable under one lock.
const DUE_MAX: usize = 256;

pub(crate) struct Scheduler {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    /// When the pool was built, on its clock.
    pub(crate) born: u64,
    pub(crate) cores: usize,
    /// The process of the threads.
    process: u32,
    time_slice: u64,
    pub(crate) limit: Option<u32>,
    /// The largest number of tasks of a connection that have not started.
    pub(crate) max_queued: Option<u32>,
    pub(crate) overload: Overload,
    pub(crate) panic_locations: Locations,
    pub(crate) codel: Option<Codel>,
    slow_steps: Option<SlowSteps>,
    /// Written for every task, so on a line of its own.
    pub(crate) admission: CachePadded<Admission>,
    /// Read for every task, and rarely written.
    pub(crate) room: CachePadded<Room>,
    pub(crate) registry: Registry,
    pub(crate) idle: CachePadded<Idle>,
    /// The shared contexts of the workers, and one for external threads.
    pub(crate) contexts: Box<[CachePadded<SharedContext>]>,
    /// Lock order: `queue`, the submissions of a service, a batch.
    pub(crate) queue: CachePadded<Mutex<RunQueue<ServiceRef>>>,
    pub(crate) hints: CachePadded<Hints>,
    /// The virtual time of the queue, a fraction of a quantum ago.
    virtual_time: CachePadded<Figure>,
    /// The recent time of a step in nanoseconds. Unknown counts as long.
    pace: CachePadded<Figure>,
    pub(crate) abnormal_ends: AbnormalEnds,
    /// A [`Stage`].
    stage: AtomicUsize,
    pub(crate) exits: Arc<Exits>,
}

pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) threads: usize,
    pub(crate) time_slice: u64,
    pub(crate) limit: Option<u32>,
    pub(crate) max_queued: Option<u32>,
    pub(crate) overload: Overload,
    pub(crate) panic_locations: Locations,
    pub(crate) slow_steps: Option<SlowSteps>,
    pub(crate) admission: Admission,
}

/// The result of a worker's last look before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastLook {
    Work,
    Nothing,
    /// No work, and the pool is closed: the worker takes no more tasks.
    End,
}

impl Scheduler {
    pub(crate) fn new(setup: Setup) -> Self {
        let takers = setup.threads.max(1);
        Self {
            name: setup.name,
            born: setup.clock.now(),
            clock: setup.clock,
            process: std::process::id(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            time_slice: setup.time_slice,
            limit: setup.limit,
            max_queued: setup.max_queued,
            overload: setup.overload,
            panic_locations: setup.panic_locations,
            codel: Codel::new(setup.overload),
            slow_steps: setup.slow_steps,
            admission: CachePadded::new(setup.admission),
            room: CachePadded::new(Room::new()),
            registry: Registry::new(),
            idle: CachePadded::new(Idle::new()),
            contexts: (0..=setup.threads).map(|_| SharedContext::new()).collect(),
            queue: CachePadded::new(Mutex::new(RunQueue::new(setup.limit, takers))),
            hints: CachePadded::new(Hints::new()),
            virtual_time: CachePadded::new(Figure::new(VIRTUAL_QUANTUM)),
            pace: CachePadded::new(Figure::new(u64::MAX)),
            stage: AtomicUsize::new(Stage::Open as usize),
            exits: Arc::new(Exits::new(setup.threads)),
            abnormal_ends: AbnormalEnds::default(),
        }
    }

    /// Whether this process was forked after the pool was built. If so, it has no workers, and a
    /// lock may be held for ever. Costs a system call.
    #[cold]
    pub(crate) fn is_forked(&self) -> bool {
        self.has_workers() && std::process::id() != self.process
    }

    pub(crate) fn has_workers(&self) -> bool {
        self.contexts.len() > 1
    }

    pub(crate) fn workers(&self) -> &[CachePadded<SharedContext>] {
        &self.contexts[..self.contexts.len() - 1]
    }

    /// A context for an external thread. It adds to `counters`, so no other thread may do so at the
    /// same time.
    pub(crate) fn external_context<'a>(&'a self, counters: &'a ThreadCounters) -> WorkerContext<'a> {
        WorkerContext::of_external_thread(self, counters)
    }

    /// Wakes a worker for tasks that are visible, if one should be woken.
    #[inline]
    pub(crate) fn wake_worker(&self, counters: &ThreadCounters) {
        if self.idle.should_wake() && self.idle.wake_one() {
            counters.worker_wakes.add(1);
        }
    }

    /// Wakes a worker if there is anything to run.
    pub(crate) fn wake_for_rest(&self, counters: &ThreadCounters) {
        if self.idle.should_wake() && self.has_tasks() {
            self.wake_worker(counters);
        }
    }

    /// Whether the queue has a task that may run now. With `max_running_per_connection`, a task may
    /// have to wait.
    pub(crate) fn has_runnable(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.sort();
        !queue.lanes.is_empty()
    }

    /// Whether a task can run, from the queue or from a batch.
    pub(crate) fn has_tasks(&self) -> bool {
        self.queue.lock().has_tasks() || self.workers().iter().any(|worker| worker.has_batch())
    }

    /// The virtual time, for a loop that submits a task.
    #[inline]
    pub(crate) fn virtual_time(&self) -> u64 {
        self.virtual_time.load(Relaxed)
    }

    /// Publishes the virtual time if it has changed by much. A small change is not written, since
    /// every loop reads the value.
    fn publish_virtual_time(&self, lanes: &Lanes) {
        let now = lanes.root.virtual_time();
        if now > self.virtual_time().saturating_add(VIRTUAL_QUANTUM / 2) {
            self.virtual_time.store(now, Relaxed);
        }
    }

    /// Moves up to `max` tasks that wait for a time before `now` into the queue. Returns the
    /// services whose loops the caller must notify.
    #[cold]
    #[must_use]
    pub(crate) fn end_delays(&self, now: u64, max: usize) -> Vec<ServiceRef> {
        let mut queue = self.queue.lock();
        let services = queue.end_delays(now, max);
        self.hints.set_next_moment(queue.delayed.next());
        self.hints.note_submitted();
        self.hints.note_published();
        services
    }

    /// Notifies the loop of a service at `next` instead of at `before`.
    #[cold]
    pub(crate) fn set_alarm(&self, service: u32, before: Option<u64>, next: Option<u64>) {
        let mut queue = self.queue.lock();
        let moment = |at| Moment {
            at,
            service,
            slot: LOOP,
        };
        if let Some(before) = before {
            queue.delayed.remove(moment(before));
        }
        if let Some(next) = next {
            queue.delayed.insert(moment(next));
        }
        self.hints.set_next_moment(queue.delayed.next());
        drop(queue);
        self.idle.watch(self.hints.next_moment());
    }

    /// Moves the tasks whose time has come into the queue, and notifies the loops with a timeout
    /// that has run out.
    #[inline]
    fn end_due_delays(&self, cx: &WorkerContext<'_>) -> bool {
        let is_due = self.hints.is_due(cx.now());
        if is_due {
            let services = self.end_delays(cx.now(), DUE_MAX);
            if !services.is_empty() {
                // This worker may have taken the token of a wake-up, and looks only after the
                // calls.
                self.wake_for_rest(cx.counters);
            }
            for service in services {
                cx.wake(|| service.wake_loop());
            }
        }
        is_due
    }

    /// Ends the newest waiting task of the flow with the most waiting tasks, if that flow has at
    /// least two more than the flow of the refused task. A group counts as one flow. Returns true
    /// if it has ended a task.
    #[cold]
    pub(crate) fn shed(&self, refused: RefusedFlow, cx: &WorkerContext<'_>) -> bool {
        let mut queue = self.queue.lock();
        let shed = queue.shed(refused, cx);
        drop(queue);
        let Some(service) = shed else { return false };
        self.admission.count_never_ran();
        cx.counters.stopped[StopReason::Shed.index()].add(1);
        service.notify_shed(cx);
        self.check_drain();
        true
    }

    /// Counts a worker as sleeping, and looks once more for work. If the result tells the worker to
    /// end, it takes no more tasks.
    fn enter_sleep(&self, cx: &WorkerContext<'_>) -> LastLook {
        let gate = self.idle.start_sleep();
        let mut queue = self.queue.lock();
        cx.settle(&mut queue.lanes);
        if queue.has_tasks() || self.workers().iter().any(|worker| worker.has_batch()) {
            LastLook::Work
        } else if gate == Gate::Closed {
            queue.takers -= 1;
            LastLook::End
        } else {
            if self.busy_workers() == 0 {
                self.forgive(&mut queue.lanes);
            }
            LastLook::Nothing
        }
    }

    /// Runs tasks on an external thread, until no task waits or the context's time is over, and at
    /// least one turn. Tasks that a worker has taken and not begun come first. Returns the number
    /// of turns.
    pub(crate) fn run_pending(&self, cx: &WorkerContext<'_>) -> usize {
        let _guard = ReentrancyGuard::new(self);
        let mut turns = 0;
        loop {
            self.end_due_delays(cx);
            let Some(taken) = self.steal_any_one(cx).or_else(|| self.take(cx, 1, Debt::Take)) else {
                break;
            };
            turns += taken.service.run_batch(cx);
            // The workers, if there are any, run the remaining tasks.
            if cx.is_time_up() && !(self.takers_are_gone() && self.has_tasks()) {
                break;
            }
        }
        cx.flush();
        cx.set_timer();
        let mut queue = self.queue.lock();
        cx.settle(&mut queue.lanes);
        if !self.has_workers() && !queue.has_tasks() {
            self.forgive(&mut queue.lanes);
        }
        drop(queue);
        self.wake_for_rest(cx.counters);
        self.check_drain();
        turns
    }

    /// Whether no task runs and no task waits.
    fn forgive(&self, lanes: &mut Lanes) {
        lanes.forgive();
        self.publish_virtual_time(lanes);
    }

    /// Removes a service whose tasks have ended.
    pub(crate) fn remove_service(&self, service: u32) {
        // Not under the lock, because the drop of the last reference runs user code.
        let removed = self.queue.lock().remove(service);
        drop(removed);
    }

    /// All counters, summed up.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = self.registry.sums();
        self.contexts
            .iter()
            .for_each(|context| sums.add(&context.counters));
        sums
    }

    /// The number of workers that are inside a step, or about to begin one.
    pub(crate) fn busy_workers(&self) -> usize {
        let is_busy = |worker: &&CachePadded<SharedContext>| worker.is_busy.load(Ordering::Acquire);
        self.workers().iter().filter(is_busy).count()
    }

    /// The progress of the pool, for admission.
    pub(crate) fn progress(&self) -> Progress {
        // In this order: a worker that is no longer idle has counted its task as started.
        let idle = (self.workers().len() - self.busy_workers()) as u64;
        let started = |worker: &CachePadded<SharedContext>| worker.counters.started.get();
        Progress {
            started: self.workers().iter().map(started).sum(),
            idle,
        }
    }

    /// Notifies the services that wait for room, if a loop has made some. The caller has executed a
    /// fence, so that no service is missed.
    #[inline]
    pub(crate) fn note_room(&self, counters: &ThreadCounters) {
        if self.room.is_waited() {
            self.announce_room(counters);
        }
    }

    /// Notifies the services that wait for room, if the count of a loop has made some.
    #[inline]
    pub(crate) fn note_room_after_count(&self, counters: &ThreadCounters) {
        if self.room.is_waited_after_count() {
            self.announce_room(counters);
        }
    }

    /// Notifies the services that wait for room, if there is room. The caller holds no lock.
    #[cold]
    fn announce_room(&self, counters: &ThreadCounters) {
        if self.admission.has_room(self.progress()) {
            for (_, notifier) in self.room.take() {
                counters.wakes.add(u64::from(notifier.notify()));
                notifier.arc_fence.pass();
            }
        }
    }

    /// Whether other tasks wait while this context runs one.
    #[inline]
    pub(crate) fn others_wait(&self, index: usize) -> bool {
        self.contexts[index].has_batch() || self.hints.has_submitted()
    }

    /// The time from now until the earliest time for which a task waits.
    pub(crate) fn time_to_next_moment(&self) -> Option<u64> {
        let at = self.hints.next_moment()?;
        Some(at.saturating_sub(self.clock.now()))
    }

    /// Whether steps are so short that a notification costs more.
    #[inline]
    pub(crate) fn has_short_steps(&self) -> bool {
        self.pace.load(Relaxed) < QUANTUM
    }

    /// Whether a batch of the largest size takes less than a quantum.
    pub(crate) fn has_very_short_steps(&self) -> bool {
        self.pace.load(Relaxed) <= QUANTUM / BATCH_MAX as u64
    }

    /// Records the average time of a task of a batch. Written only if the value changes much, since
    /// every worker reads it.
    fn set_pace(&self, nanos: u64) {
        let pace = self.pace.load(Relaxed);
        if nanos > pace.saturating_mul(2) || nanos < pace / 2 {
            self.pace.store(nanos, Relaxed);
        }
    }

    /// The workers that have not ended.
    pub(crate) fn live_workers(&self) -> usize {
        if self.has_workers() {
            self.queue.lock().takers
        } else {
            0
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Shutdown, TaskReturn, ThreadPool, task_fn};

    /// The other task of the connection ends while this one is shed. Without the look after the
    /// shed task was counted, no thread would see that the last task has ended.
    #[test]
    fn a_pool_that_drains_ends_with_a_shed_task() {
        let pool = ThreadPool::builder().threads(0).build().expect("no thread");
        let mut service = pool.service(|| {});
        for _ in 0..2 {
            let task = task_fn(|_| TaskReturn::TaskDone);
            service.enqueue(1, task).expect("room");
        }
        pool.shutdown(Shutdown::Drain);
        let scheduler = &service.inner.scheduler;
        scheduler.contexts[0].counters.finished.add(1);
        let applicant = RefusedFlow {
            service: service.inner.queue_number,
            flow: None,
            group: None,
        };
        let cx = scheduler.external_context(&service.inner.counters);
        assert!(scheduler.shed(applicant, &cx));
        assert!(scheduler.exits.is_shut_down());
    }
}
