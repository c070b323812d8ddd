//! The pool without its owner: what workers and services share. The rules and the protocols are in
//! `scheduler/README.md`.

pub(crate) mod admission;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod idle;
pub(crate) mod reentrancy;
pub(crate) mod registry;
pub(crate) mod slow_step;
pub(crate) mod worker;

use crate::clock::Clock;
use crate::dump::end::AbnormalEnds;
use crate::dump::task::TaskDump;
use crate::mailbox::dump::MailboxDump;
use crate::queue::delayed::{LOOP, Moment};
use crate::queue::{RunQueue, Source, Taken};
use crate::sync::{ArcFence, AtomicBool, Mutex, Ordering, fence};
use crate::task::header::NEVER;
use crate::task::id::{ConnId, TaskId};
use admission::{Admission, Progress};
use context::WorkerContext;
use counters::{Counters, Sums};
use crossbeam_utils::CachePadded;
use idle::{Gate, Idle};
use reentrancy::ReentrancyGuard;
use registry::Registry;
use slow_step::{PresentStep, SlowSteps};
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool as Flag, AtomicU64 as Figure, AtomicUsize as Length, Ordering::Relaxed};

/// In nanoseconds: how long a batch should take, and how long a notification may be deferred. It is
/// about what it costs to wake a thread. (Rows: `told-1024`, `work-1k`, `fair`.)
pub(crate) const QUANTUM: u64 = 20_000;
/// A batch that has taken longer than this is late: the rest of it goes back to the queue.
pub(crate) const LATE: u64 = 2 * QUANTUM;
/// The largest batch, and the most submissions that a loop keeps unpublished. (Rows: `told-1024`,
/// `stream-256`.)
pub(crate) const BATCH_MAX: usize = if cfg!(loom) { 2 } else { 32 };
/// After a search that found nothing, so many searches are skipped. (Rows: `latency`, `work-64k`
/// beside a foreign thread.)
pub(crate) const SKIPPED_SEARCHES: u32 = 16;
/// The length of a pause between two looks of a search, in spins. (Rows: `latency`, `told-16`.)
pub(crate) const SPINS: u32 = 32;

/// The id, the name and the connection of a task.
pub(crate) type Description = (TaskId, Option<Cow<'static, str>>, Option<ConnId>);

/// A service as its pool sees it.
pub(crate) trait AnyService: Source {
    /// Runs the tasks of the batch of this context. Returns the number of turns.
    fn run_batch(&self, cx: &WorkerContext<'_>) -> usize;
    /// The loop must come and see: the pool is shutting down, or a timeout has run out.
    fn notify_loop_of(&self, counters: &Counters);
    /// Copies some tasks, from a slot on. Returns the slot to continue with.
    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize>;
    /// A task that was not reaped: its id, name and connection.
    fn describe(&self, slot: u32, serial: u64) -> Option<Description>;
    fn dump_mailboxes(&self) -> Vec<MailboxDump>;
    /// Passed before a reference to the service is dropped.
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

/// The part of a worker's context that other threads see. There is one more, for external threads.
pub(crate) struct SharedContext {
    counters: Counters,
    /// Whether the worker is inside a step, or about to be.
    is_busy: Flag,
    /// The number of tasks in its batch. Grows under the lock of the queue only.
    batch_len: Length,
    /// When it took its batch. On a line of its own, since other workers read it for each batch.
    batch_begun: CachePadded<Figure>,
    /// The service of its batch.
    service: Mutex<Option<ServiceRef>>,
    present_step: PresentStep,
}

impl SharedContext {
    fn new() -> CachePadded<Self> {
        CachePadded::new(Self {
            counters: Counters::default(),
            is_busy: Flag::new(false),
            batch_len: Length::new(0),
            batch_begun: CachePadded::new(Figure::new(0)),
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

    /// The next batch is of this service, where other workers find it. It stays until there is
    /// another, since most batches are of the same service as the one before. The caller drops what
    /// this returns after its locks: the last reference to a service is user code.
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

/// Flags that tell workers whether to look at the queue. Nothing is lost without them: they make a
/// busy worker look, and a task that continues give way.
pub(crate) struct Hints {
    /// Something was published for busy workers.
    published: Flag,
    /// Something was submitted, published or not.
    submitted: Flag,
    /// The earliest moment for which a task waits. Written under the lock of the queue.
    next_moment: Figure,
}

/// So many tasks at most go on under one lock, when the moments for which they wait have come.
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

    /// Written only if that changes it, since every worker reads it.
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

    /// The earliest moment for which a task waits.
    #[inline]
    pub(crate) fn next_moment(&self) -> Option<u64> {
        Some(self.next_moment.load(Relaxed)).filter(|&at| at != NEVER)
    }

    pub(crate) fn set_next_moment(&self, at: Option<u64>) {
        self.next_moment.store(at.unwrap_or(NEVER), Relaxed);
    }

    /// Whether a task waits for a moment that has come.
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
    time_slice: u64,
    pub(crate) limit: Option<u32>,
    slow_steps: Option<SlowSteps>,
    /// Written for every task, so on a line of its own.
    pub(crate) admission: CachePadded<Admission>,
    pub(crate) registry: Registry,
    pub(crate) idle: CachePadded<Idle>,
    /// Those of the workers, and one for external threads.
    pub(crate) contexts: Box<[CachePadded<SharedContext>]>,
    /// Lock order: this one, a service's submissions, a batch.
    pub(crate) queue: CachePadded<Mutex<RunQueue<ServiceRef>>>,
    pub(crate) hints: CachePadded<Hints>,
    /// The recent time of a step, in nanoseconds; unknown counts as long.
    pace: CachePadded<Figure>,
    pub(crate) abnormal_ends: AbnormalEnds,
    is_shutting_down: AtomicBool,
}

pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) threads: usize,
    pub(crate) time_slice: u64,
    pub(crate) limit: Option<u32>,
    pub(crate) slow_steps: Option<SlowSteps>,
    pub(crate) admission: Admission,
}

/// What a worker found in its last look before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastLook {
    Work,
    Nothing,
    /// Nothing, and the pool is closed: the worker does not take tasks any more.
    End,
}

impl Scheduler {
    pub(crate) fn new(setup: Setup) -> Self {
        let takers = setup.threads.max(1);
        Self {
            name: setup.name,
            born: setup.clock.now(),
            clock: setup.clock,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            time_slice: setup.time_slice,
            limit: setup.limit,
            slow_steps: setup.slow_steps,
            admission: CachePadded::new(setup.admission),
            registry: Registry::new(),
            idle: CachePadded::new(Idle::new()),
            contexts: (0..=setup.threads).map(|_| SharedContext::new()).collect(),
            queue: CachePadded::new(Mutex::new(RunQueue::new(setup.limit, takers))),
            hints: CachePadded::new(Hints {
                published: Flag::new(false),
                submitted: Flag::new(false),
                next_moment: Figure::new(NEVER),
            }),
            pace: CachePadded::new(Figure::new(u64::MAX)),
            abnormal_ends: AbnormalEnds::default(),
            is_shutting_down: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_workers(&self) -> bool {
        self.contexts.len() > 1
    }

    fn workers(&self) -> &[CachePadded<SharedContext>] {
        &self.contexts[..self.contexts.len() - 1]
    }

    /// For a thread that is no worker. It counts into `counters`, which no other thread may do
    /// meanwhile.
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

    /// Whether there is anything to run: in the queue, or taken and not begun.
    pub(crate) fn has_tasks(&self) -> bool {
        self.queue.lock().has_tasks() || self.workers().iter().any(|worker| worker.has_batch())
    }

    /// Takes up to `max` tasks out of the queue, into the batch of this context.
    fn take(&self, index: usize, max: usize) -> Option<Taken<ServiceRef>> {
        let mut queue = self.queue.lock();
        self.hints.clear();
        let taken = queue.take(index, max);
        let before = self.hold_service(index, taken.as_ref());
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

    /// Tasks that wait for a moment before `now` are in the queue from now on; at least some.
    #[cold]
    pub(crate) fn end_delays(&self, now: u64, max: usize, counters: &Counters) {
        let mut queue = self.queue.lock();
        let services = queue.end_delays(now, max);
        self.hints.set_next_moment(queue.delayed.next());
        self.hints.note_submitted();
        self.hints.note_published();
        drop(queue);
        for service in services {
            service.notify_loop_of(counters);
        }
    }

    /// The loop of a service is notified at `next`, and not at `before` any more.
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

    /// As [`end_delays`](Self::end_delays), if there are such tasks.
    #[inline]
    fn end_due_delays(&self, now: u64, counters: &Counters) -> bool {
        let is_due = self.hints.is_due(now);
        if is_due {
            self.end_delays(now, DUE_MAX, counters);
        }
        is_due
    }

    /// Other workers find the service of a worker's batch in its shared context, before they see the
    /// batch.
    fn hold_service(&self, index: usize, taken: Option<&Taken<ServiceRef>>) -> Option<ServiceRef> {
        let worker = self.workers().get(index)?;
        worker.hold(&taken?.service)
    }

    /// Takes tasks out of the batch of another worker, into the batch of this context; a half of
    /// those, or `max`. Under the lock of the queue, so that whoever looks for a task finds it.
    fn steal_from(&self, victim: usize, index: usize, max: usize) -> Option<Taken<ServiceRef>> {
        let victim_context = &self.contexts[victim];
        if !victim_context.has_batch() {
            return None;
        }
        let service = victim_context.service.lock().clone()?;
        let queue = self.queue.lock();
        let count = service.steal(victim, index, max);
        let taken = Taken { service, count };
        let before = self.hold_service(index, Some(&taken));
        drop(queue);
        drop(before);
        (count > 0).then_some(taken)
    }

    /// Gives back what is left of the batch of another worker, which is late.
    #[cold]
    fn return_batch_of(&self, victim: usize) {
        let Some(service) = self.contexts[victim].service.lock().clone() else {
            return;
        };
        {
            let mut queue = self.queue.lock();
            service.return_batch(&mut queue.turns, victim);
            self.hints.note_submitted();
            self.hints.note_published();
        }
        // Not under the lock: with the last reference goes user code.
        drop(service);
    }

    /// Takes tasks out of the batch of any other worker.
    fn steal(&self, index: usize, max: usize) -> Option<Taken<ServiceRef>> {
        let workers = self.workers().len();
        let others = (1..=workers).map(|step| (index + step) % workers);
        others
            .filter(|&victim| victim != index)
            .find_map(|victim| self.steal_from(victim, index, max))
    }

    /// A worker counts as sleeping from now on, and looks once more. If it should end, it takes
    /// nothing any more.
    fn enter_sleep(&self) -> LastLook {
        let gate = self.idle.start_sleep();
        let mut queue = self.queue.lock();
        if queue.has_tasks() || self.workers().iter().any(|worker| worker.has_batch()) {
            LastLook::Work
        } else if gate == Gate::Closed {
            queue.takers -= 1;
            LastLook::End
        } else {
            LastLook::Nothing
        }
    }

    /// Runs tasks on a thread that is no worker, until nothing waits or the context's time is up;
    /// at least one turn. Tasks that a worker has taken and not begun are first. Returns the number
    /// of turns.
    pub(crate) fn run_pending(&self, cx: &WorkerContext<'_>) -> usize {
        let _guard = ReentrancyGuard::new(self);
        let mut turns = 0;
        loop {
            self.end_due_delays(cx.now(), cx.counters);
            let Some(taken) = self.steal_any_one(cx).or_else(|| self.take(cx.index, 1)) else {
                break;
            };
            turns += taken.service.run_batch(cx);
            // What is left is for the workers, if there are any.
            if cx.is_time_up() && !(self.takers_are_gone() && self.has_tasks()) {
                break;
            }
        }
        cx.flush();
        cx.see_to_timer();
        self.wake_for_rest(cx.counters);
        turns
    }

    fn steal_any_one(&self, cx: &WorkerContext<'_>) -> Option<Taken<ServiceRef>> {
        (0..self.workers().len()).find_map(|victim| self.steal_from(victim, cx.index, 1))
    }

    /// The owner of a pool without workers runs no tasks after those that are in the queue now.
    pub(crate) fn owner_goes(&self) {
        self.queue.lock().takers = 0;
    }

    /// Whether no other thread would run what was submitted, because the pool has ended.
    #[inline]
    pub(crate) fn takers_are_gone(&self) -> bool {
        self.is_shutting_down() && self.queue.lock().takers == 0
    }

    /// The tasks of a service are gone.
    pub(crate) fn remove_service(&self, service: u32) {
        // Not under the lock: with the last reference goes user code.
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

    /// The number of workers that are inside a step, or about to be.
    pub(crate) fn busy_workers(&self) -> usize {
        let is_busy = |worker: &&CachePadded<SharedContext>| worker.is_busy.load(Ordering::Acquire);
        self.workers().iter().filter(is_busy).count()
    }

    /// How far the pool has come.
    pub(crate) fn progress(&self) -> Progress {
        // In this order: a worker that is not idle any more has counted its task as started.
        let idle = (self.workers().len() - self.busy_workers()) as u64;
        let Sums { started, reaped, .. } = self.sums();
        Progress {
            started,
            reaped,
            idle,
        }
    }

    /// Whether tasks wait beside the one that runs in this context.
    #[inline]
    pub(crate) fn others_wait(&self, index: usize) -> bool {
        self.contexts[index].has_batch() || self.hints.has_submitted()
    }

    /// How long until the earliest moment for which a task waits.
    pub(crate) fn time_to_next_moment(&self) -> Option<u64> {
        let at = self.hints.next_moment()?;
        Some(at.saturating_sub(self.clock.now()))
    }

    /// Whether steps are so short that a notification costs more.
    #[inline]
    pub(crate) fn has_short_steps(&self) -> bool {
        self.pace.load(Relaxed) < QUANTUM
    }

    /// Whether a whole batch is through in the time of one quantum.
    pub(crate) fn has_very_short_steps(&self) -> bool {
        self.pace.load(Relaxed) <= QUANTUM / BATCH_MAX as u64
    }

    /// A batch took so long for each of its tasks. Written only if it is news, since every worker
    /// reads it.
    fn set_pace(&self, nanos: u64) {
        let pace = self.pace.load(Relaxed);
        if nanos > pace.saturating_mul(2) || nanos < pace / 2 {
            self.pace.store(nanos, Relaxed);
        }
    }

    /// True for the first call.
    pub(crate) fn start_shutdown(&self) -> bool {
        let is_first = !self.is_shutting_down.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        is_first
    }

    #[inline]
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down.load(Ordering::Acquire)
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
