//! The scheduler: the part of a pool that workers and services share. `scheduler/README.md`
//! describes the rules and the protocols.

pub(crate) mod admission;
pub(crate) mod codel;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod exits;
pub(crate) mod idle;
pub(crate) mod reentrancy;
pub(crate) mod registry;
pub(crate) mod room;
pub(crate) mod slow_step;
mod wait;
pub(crate) mod worker;

use crate::clock::Clock;
use crate::dump::end::AbnormalEnds;
use crate::dump::task::TaskDump;
use crate::mailbox::dump::MailboxDump;
use crate::panic::Locations;
use crate::pool::overload::Overload;
use crate::queue::delayed::{LOOP, Moment};
use crate::queue::fair::{Debt, VIRTUAL_QUANTUM};
use crate::queue::lanes::Lanes;
use crate::queue::{Batch, Order, RefusedFlow, RunQueue, Source};
use crate::sync::{ArcFence, AtomicUsize, Mutex, Ordering, fence};
use crate::task::header::NEVER;
use crate::task::id::{ConnId, TaskId};
use crate::task::status::StopReason;
use admission::{Admission, Progress, Refused};
use codel::Codel;
use context::WorkerContext;
use counters::{Counters, Sums};
use crossbeam_utils::CachePadded;
use exits::Exits;
use idle::{Gate, Idle};
use reentrancy::ReentrancyGuard;
use registry::Registry;
use room::Room;
use slow_step::{PresentStep, SlowSteps};
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool as Flag, AtomicU64 as Figure, AtomicUsize as Length, Ordering::Relaxed};

/// The intended time of a batch, and the longest deferral of a notification, in nanoseconds. It is
/// about the cost of waking a thread. (Rows: `told-1024`, `work-1k`, `fair`.)
pub(crate) const QUANTUM: u64 = 20_000;
/// A batch that has taken longer than this is late: its remaining tasks return to the queue.
pub(crate) const LATE: u64 = 2 * QUANTUM;
/// The largest batch, and the largest number of unpublished submissions of a loop. (Rows:
/// `told-1024`, `stream-256`.)
pub(crate) const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 32 };
/// The number of searches that a worker skips after a search that found nothing. (Rows: `latency`,
/// `work-64k` beside a foreign thread.)
pub(crate) const SKIPPED_SEARCHES: u32 = 16;
/// The length of a pause between two looks of a search, in spins. (Rows: `latency`, `told-16`.)
pub(crate) const SPINS: u32 = 32;

/// The id, the name and the connection of a task.
pub(crate) type Description = (TaskId, Option<Cow<'static, str>>, Option<ConnId>);

/// A service as its pool sees it.
pub(crate) trait AnyService: Source {
    /// Runs the batch of this context. Returns the number of turns.
    fn run_batch(&self, cx: &WorkerContext<'_>) -> usize;
    /// Notifies the loop because the pool is shutting down, or because a timeout has run out.
    /// Returns whether the call has woken the loop.
    fn wake_loop(&self) -> bool;
    /// Notifies the loop because a task of this service was shed. The caller has released the lock
    /// of the queue.
    fn notify_shed(&self, cx: &WorkerContext<'_>);
    /// Copies some tasks, from a slot on. Returns the slot to continue with.
    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize>;
    /// The id, the name and the connection of a task that was not reaped.
    fn describe(&self, slot: u32, serial: u64) -> Option<Description>;
    fn dump_mailboxes(&self) -> Vec<MailboxDump>;
    /// Every thread calls `pass` on it before it drops a reference to the service.
    fn arc_fence(&self) -> &ArcFence;
}

/// A reference to a service.
#[derive(Clone)]
pub(crate) struct ServiceRef(Arc<dyn AnyService>);

impl ServiceRef {
    pub(crate) fn new(service: Arc<dyn AnyService>) -> Self {
        Self(service)
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

impl Deref for ServiceRef {
    type Target = dyn AnyService;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for ServiceRef {
    fn drop(&mut self) {
        self.0.arc_fence().pass();
    }
}

/// The part of a worker's context that other threads read. One more exists for all external
/// threads.
pub(crate) struct SharedContext {
    /// On cache lines of their own, since the worker writes them for every task.
    counters: CachePadded<Counters>,
    /// Whether the worker is inside a step, or about to be.
    is_busy: Flag,
    /// The number of tasks in its batch. Grows under the lock of the queue only.
    batch_len: Length,
    /// On its own cache line, since other workers read it for each batch.
    batch_times: CachePadded<BatchTimes>,
    /// The service of its batch.
    service: Mutex<Option<ServiceRef>>,
    present_step: PresentStep,
}

#[derive(Default)]
struct BatchTimes {
    /// When the worker took its batch.
    begun: Figure,
    /// An estimate of the time when the worker will be free, if tasks wait. [`UNKNOWN`] from the
    /// sleep of the worker until its next batch begins.
    due: Figure,
}

/// In place of the time at which a worker will be free.
const UNKNOWN: u64 = 0;

impl SharedContext {
    fn new() -> CachePadded<Self> {
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
    fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Release);
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
    fn hold(&self, service: &ServiceRef) -> Option<ServiceRef> {
        let mut held = self.service.lock();
        if held.as_ref().is_some_and(|held| held.is_same(service)) {
            return None;
        }
        held.replace(service.clone())
    }

    #[inline]
    fn has_batch(&self) -> bool {
        self.batch_len() > 0
    }
}

/// Flags that tell workers when to look at the queue. They affect speed only, never correctness:
/// they make a busy worker look, and they make a task that continues give way.
pub(crate) struct Hints {
    /// A submission was published to busy workers.
    published: Flag,
    /// A task was submitted, published or not.
    submitted: Flag,
    /// The earliest time for which a task waits. Written under the lock of the queue.
    next_moment: Figure,
}

/// The largest number of delayed tasks that become runnable under one lock.
const DUE_MAX: usize = 256;

impl Hints {
    #[inline]
    pub(crate) fn has_published(&self) -> bool {
        self.published.load(Relaxed)
    }

    #[inline]
    pub(crate) fn has_submitted(&self) -> bool {
        self.submitted.load(Relaxed)
    }

    /// Written only if the value changes, since every worker reads it.
    #[inline]
    pub(crate) fn note_submitted(&self) {
        if !self.has_submitted() {
            self.submitted.store(true, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn note_published(&self) {
        if !self.has_published() {
            self.published.store(true, Relaxed);
        }
    }

    /// The earliest time for which a task waits.
    #[inline]
    pub(crate) fn next_moment(&self) -> Option<u64> {
        Some(self.next_moment.load(Relaxed)).filter(|&at| at != NEVER)
    }

    pub(crate) fn set_next_moment(&self, at: Option<u64>) {
        self.next_moment.store(at.unwrap_or(NEVER), Relaxed);
    }

    /// Whether the time has come for which a task waits.
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next_moment.load(Relaxed) <= now
    }

    /// The caller is about to look at the queue, under its lock.
    fn clear(&self) {
        self.published.store(false, Relaxed);
        self.submitted.store(false, Relaxed);
        fence(Ordering::SeqCst);
    }
}

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

/// The progress of the shutdown of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    /// The pool accepts no more tasks.
    Draining,
    /// Every task is asked to stop.
    Cancelled,
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
            hints: CachePadded::new(Hints {
                published: Flag::new(false),
                submitted: Flag::new(false),
                next_moment: Figure::new(NEVER),
            }),
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
    pub(crate) fn external_context<'a>(&'a self, counters: &'a Counters) -> WorkerContext<'a> {
        WorkerContext::of_external_thread(self, counters)
    }

    /// Wakes a worker for tasks that are visible, if one should be woken.
    #[inline]
    pub(crate) fn wake_worker(&self, counters: &Counters) {
        if self.idle.should_wake() && self.idle.wake_one() {
            counters.worker_wakes.add(1);
        }
    }

    /// Wakes a worker if there is anything to run.
    pub(crate) fn wake_for_rest(&self, counters: &Counters) {
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
        let now = lanes.virtual_time();
        if now > self.virtual_time().saturating_add(VIRTUAL_QUANTUM / 2) {
            self.virtual_time.store(now, Relaxed);
        }
    }

    /// Takes up to `max` tasks from the queue into the batch of this context.
    fn take(&self, cx: &WorkerContext<'_>, max: usize, debt: Debt) -> Option<Batch<ServiceRef>> {
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
    fn time_before_debt(&self, cx: &WorkerContext<'_>) -> u64 {
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
            for service in self.end_delays(cx.now(), DUE_MAX) {
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

    /// The service is set in the shared context first, so that other workers find it before they
    /// see the batch.
    fn hold_service(&self, index: usize, taken: Option<&Batch<ServiceRef>>) -> Option<ServiceRef> {
        let worker = self.workers().get(index)?;
        worker.hold(&taken?.service)
    }

    /// Steals up to `max` tasks, and at most half, from the batch of another worker into the batch
    /// of this context. The caller holds the lock of the queue, so that a search for a task finds
    /// it in every case.
    fn steal_from(&self, victim: usize, index: usize, max: usize) -> Option<Batch<ServiceRef>> {
        let victim_context = &self.contexts[victim];
        if !victim_context.has_batch() {
            return None;
        }
        let service = victim_context.service.lock().clone()?;
        let queue = self.queue.lock();
        let count = service.steal(victim, index, max);
        let taken = Batch {
            service,
            count,
            time: None,
        };
        let before = self.hold_service(index, Some(&taken));
        drop(queue);
        drop(before);
        (count > 0).then_some(taken)
    }

    /// Returns the remaining tasks of another worker's batch, which is late, to the queue.
    #[cold]
    fn return_batch_of(&self, victim: usize) {
        let Some(service) = self.contexts[victim].service.lock().clone() else {
            return;
        };
        {
            let mut queue = self.queue.lock();
            service.return_batch(&mut queue.lanes, victim);
            self.hints.note_submitted();
            self.hints.note_published();
        }
        // Not under the lock, because the drop of the last reference runs user code.
        drop(service);
    }

    /// Steals tasks from the batch of any other worker.
    fn steal(&self, index: usize, max: usize) -> Option<Batch<ServiceRef>> {
        let workers = self.workers().len();
        let others = (1..=workers).map(|step| (index + step) % workers);
        others
            .filter(|&victim| victim != index)
            .find_map(|victim| self.steal_from(victim, index, max))
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

    fn steal_any_one(&self, cx: &WorkerContext<'_>) -> Option<Batch<ServiceRef>> {
        (0..self.workers().len()).find_map(|victim| self.steal_from(victim, cx.index, 1))
    }

    /// After the tasks that are in the queue now, the owner of a pool without workers runs no more
    /// tasks.
    pub(crate) fn owner_goes(&self) {
        self.queue.lock().takers = 0;
    }

    /// Whether the pool has ended, so that no other thread runs submissions.
    #[inline]
    pub(crate) fn takers_are_gone(&self) -> bool {
        !self.is_open() && self.queue.lock().takers == 0
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
    pub(crate) fn note_room(&self, counters: &Counters) {
        if self.room.is_waited() {
            self.announce_room(counters);
        }
    }

    /// Notifies the services that wait for room, if the count of a loop has made some.
    #[inline]
    pub(crate) fn note_room_after_count(&self, counters: &Counters) {
        if self.room.is_waited_after_count() {
            self.announce_room(counters);
        }
    }

    /// Notifies the services that wait for room, if there is room. The caller holds no lock.
    #[cold]
    fn announce_room(&self, counters: &Counters) {
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
