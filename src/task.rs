//! Tasks: the trait that users implement, and the context of a step.

pub(crate) mod boxed;
pub(crate) mod call;
pub(crate) mod header;
pub(crate) mod id;
pub(crate) mod options;
pub(crate) mod panicked;
pub(crate) mod phase;
pub(crate) mod status;

use crate::clock::nanos;
use crate::scheduler::Scheduler;
use crate::scheduler::context::WorkerContext;
use header::{Page, WorkHeader};
use id::{ConnId, TaskId};
use phase::Requests;
use status::StopReason;
use std::fmt;
use std::time::Duration;

/// Work for a connection that the pool runs step by step.
///
/// The value moves into the pool with [`enqueue`](crate::Service::enqueue). The loop borrows it
/// while it is parked, and gets it back by value when it has ended. Its `Drop` is the clean-up.
///
/// The value itself moves from the loop to a worker and back, without an allocation. Put a value of
/// more than a few hundred bytes into a `Box`, which is a task, too: then only a pointer moves.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "does not implement `Task`",
    note = "implement `moored::Task`, or call `moored::call` or `moored::task_fn` with a closure"
)]
pub trait Task: Send + 'static {
    /// Does a bounded piece of work (aim at 100 ms or less) and returns what comes next.
    ///
    /// It is called on a worker, or inside `run_pending`, and never on two threads at once. The
    /// task can be asked to stop at any time, so check [`Context::is_stopping`] first. A panic ends
    /// the task as `Panicked`; the panic hook prints it as usual.
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn;
}

/// What the pool does with a task after a step.
///
/// Do not import the variants with `use TaskReturn::*`: `Sync` would hide the marker trait.
#[doc(alias = "lws_threadpool_task_return")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "return it from the step"]
#[non_exhaustive]
pub enum TaskReturn {
    /// Call the next step. The worker continues with this task until its time slice is over and
    /// other tasks wait.
    #[doc(alias = "LWS_TP_RETURN_CHECKING_IN")]
    #[doc(alias = "yield")]
    Continue,
    /// Park the task, without a thread, until the loop answers with `resume` or `task_sync`.
    ///
    /// A detached task is not parked, since no loop would answer: its step is called again. A task
    /// that was asked to stop is not parked either. If the request came during this step, the step
    /// is called once more; if it came before, the task ends as `Stopped`.
    #[doc(alias = "LWS_TP_RETURN_SYNC")]
    #[doc(alias = "backpressure")]
    #[doc(alias = "progress")]
    #[doc(alias = "wait")]
    Sync,
    /// Run the next step after this time. The task waits without a thread, and its loop is not
    /// involved.
    ///
    /// The step runs within about 2 ms of its time if a worker is idle: one idle worker sleeps
    /// until the earliest time. Busy workers check the time between batches. Without threads
    /// (`threads(0)`) the loop runs the step: [`poll_timeout`](crate::Service::poll_timeout)
    /// returns when to call [`run_pending`](crate::Service::run_pending). The wait ends at once if
    /// the task is asked to stop, and at its deadline. A task that is stopping is not delayed: its
    /// step is called again at once. If that step returns `Delay` again, the task ends as
    /// `Stopped`. `Duration::ZERO` means `Continue`.
    ///
    /// A periodic producer:
    ///
    /// ```
    /// use moored::{BoxTask, Resume, TaskReturn, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let (send, ticks) = std::sync::mpsc::sync_channel(2);
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// service.enqueue(7, task_fn(move |cx| match send.try_send("tick") {
    ///     _ if cx.is_stopping() => TaskReturn::Stopped,
    ///     _ => TaskReturn::Delay(Duration::from_millis(1)),
    /// }))?;
    /// assert_eq!(ticks.iter().take(3).count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A dump shows a delayed task as running, with `delay_left_us`. [`Counts`](crate::Counts)
    /// count it as waiting. O(log n) for n delayed tasks, under the lock of the run queue.
    #[doc(alias = "sleep")]
    #[doc(alias = "timer")]
    #[doc(alias = "interval")]
    Delay(Duration),
    /// The task has finished.
    #[doc(alias = "LWS_TP_RETURN_FINISHED")]
    TaskDone,
    /// The task stops: it was asked to, or it has another reason.
    #[doc(alias = "LWS_TP_RETURN_STOPPED")]
    Stopped,
}

/// The information that a step has about its task. Each call takes a few nanoseconds.
pub struct Context<'a> {
    page: &'a Page,
    scheduler: &'a Scheduler,
    id: TaskId,
    /// The number of the worker, or of the shared context of external threads.
    index: usize,
    /// The end of the time slice of the turn.
    slice_end: u64,
    /// The time at which the task must give way, even if no other task waits.
    until: u64,
    has_new_deadline: bool,
}

impl<'a> Context<'a> {
    /// Creates the context for a step of a turn that began at `started`.
    pub(crate) fn new(page: &'a Page, id: TaskId, cx: &WorkerContext<'a>, started: u64) -> Self {
        Self {
            page,
            scheduler: cx.scheduler,
            id,
            index: cx.index,
            slice_end: cx.slice_end(started),
            until: cx.until(),
            has_new_deadline: false,
        }
    }

    /// Whether the step has set the task's deadline.
    pub(crate) fn has_new_deadline(&self) -> bool {
        self.has_new_deadline
    }

    #[inline]
    fn header(&self) -> &WorkHeader {
        self.page.work(self.id.slot())
    }

    #[inline]
    fn requests(&self) -> Requests {
        self.header().requests(self.id.serial)
    }

    /// Whether the task was asked to stop. If so, its step is called until it returns `Stopped` or
    /// `TaskDone`. A long step can check several times, since the answer can become true at any
    /// time.
    #[doc(alias = "cancel")]
    #[must_use]
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Why the task was asked to stop. `None` if it was not.
    #[inline]
    pub fn stop_reason(&self) -> Option<StopReason> {
        let Self {
            page, scheduler, id, ..
        } = self;
        requests_at(scheduler, page, id.slot(), id.serial, || scheduler.clock.now()).stop()
    }

    /// Whether a long step should return soon: the task is stopping
    /// ([`is_stopping`](Self::is_stopping)), or its time slice is used up and other tasks wait.
    ///
    /// If the step has a loop, call this in each iteration, and return `Continue` when it is true.
    /// The step is called again after the other tasks.
    ///
    /// ```
    /// use moored::{BoxTask, TaskReturn, TaskStatus, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(0).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let mut left = 1_000_000;
    /// let id = service.enqueue(7, task_fn(move |cx| {
    ///     while left > 0 && !cx.should_yield() {
    ///         left -= 1;
    ///     }
    ///     match left {
    ///         0 => TaskReturn::TaskDone,
    ///         _ if cx.is_stopping() => TaskReturn::Stopped,
    ///         _ => TaskReturn::Continue,
    ///     }
    /// }))?;
    /// service.run_pending(Duration::MAX);
    /// assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Costs a few nanoseconds while no other task waits or is delayed. Otherwise, and for a task
    /// with a deadline, and inside [`run_pending`](crate::Service::run_pending) with a budget, it
    /// costs 10 to 20 ns more, because it reads the clock.
    #[doc(alias = "yield")]
    #[doc(alias = "checkpoint")]
    #[must_use]
    #[inline]
    pub fn should_yield(&self) -> bool {
        let hints = &self.scheduler.hints;
        let others_wait = self.scheduler.others_wait(self.index);
        let may_be_over = others_wait || self.until != u64::MAX || hints.next_moment().is_some();
        let is_over = || {
            let now = self.scheduler.clock.now();
            now >= self.until || now >= self.slice_end && (others_wait || hints.is_due(now))
        };
        self.is_stopping() || may_be_over && is_over()
    }

    /// Returns the remaining time of the time slice of this turn; zero when the slice is used up. A
    /// task that returns `Continue` keeps its worker longer than that if no other task waits. Reads
    /// the clock, about 10 ns.
    ///
    /// The slice is that of
    /// [`ThreadPoolBuilder::time_slice`](crate::ThreadPoolBuilder::time_slice); inside
    /// [`run_pending`](crate::Service::run_pending) it is not longer than the remaining budget.
    pub fn time_slice_left(&self) -> Duration {
        let end = self.slice_end.min(self.until);
        Duration::from_nanos(end.saturating_sub(self.scheduler.clock.now()))
    }

    /// Moves the task's deadline. If the task has not ended within this time from now, it is asked
    /// to stop with `TimedOut(Timeout::Deadline)`. `None` removes the deadline.
    ///
    /// Use it for a task that should be stopped only when it makes no more progress. The task does
    /// not need a [`TaskOptions::deadline`](crate::TaskOptions::deadline). The loop's
    /// [`poll_timeout`](crate::Service::poll_timeout) respects the new deadline. A request to stop
    /// stays in force: after a deadline has passed and the task was asked to stop, the deadline
    /// cannot be moved.
    ///
    /// ```
    /// use moored::{BoxTask, TaskReturn, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(0).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// service.enqueue(7, task_fn(|cx| {
    ///     if cx.is_stopping() {
    ///         return TaskReturn::Stopped;
    ///     }
    ///     cx.set_deadline(Some(Duration::from_secs(10))); // for the next step
    ///     TaskReturn::Sync
    /// }))?;
    /// service.run_pending(Duration::MAX);
    /// assert_eq!(service.take_ready().count(), 1);
    /// assert!(service.poll_timeout().is_some_and(|left| left <= Duration::from_secs(10)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Reads the clock, about 10 ns. The first call for a task without timeouts may allocate.
    #[doc(alias = "timeout")]
    #[doc(alias = "progress")]
    pub fn set_deadline(&mut self, deadline: Option<Duration>) {
        let now = self.scheduler.clock.now();
        let at = deadline.map(|left| now.saturating_add(nanos(left)));
        if self.requests().is_timed() {
            self.page.limits(self.id.slot()).set_deadline(at);
        } else {
            self.page.set_limits(self.id.slot(), self.id.serial, None, at);
        }
        self.has_new_deadline = true;
    }

    /// The connection of the task. `None` once it has closed.
    pub fn connection(&self) -> Option<ConnId> {
        let id = self.page.owner(self.id.slot()).connection_id();
        (!self.is_detached()).then_some(ConnId(id))
    }

    /// Whether the connection of the task has closed.
    pub fn is_detached(&self) -> bool {
        self.requests().is_detached()
    }

    /// The id of the task.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// Lets the task outlive its connection from now on, as
    /// [`TaskOptions::outlive_connection`](crate::TaskOptions::outlive_connection) does from the
    /// start.
    #[doc(alias = "LWS_TP_RETURN_FLAG_OUTLIVE")]
    pub fn outlive_connection(&mut self) {
        self.header().request(self.id.serial, Requests::outliving);
    }

    /// The number of the worker that runs this step. `None` inside
    /// [`run_pending`](crate::Service::run_pending), where the thread is not a worker of the pool.
    pub fn worker(&self) -> Option<usize> {
        Some(self.index).filter(|&index| index < self.scheduler.workers().len())
    }
}

/// The requests to a task. A shutdown of the pool is a request to every task.
#[inline]
pub(crate) fn requests(scheduler: &Scheduler, page: &Page, slot: u32, serial: u64) -> Requests {
    // In this order: a request that was set before the shutdown is visible to a thread that sees
    // the shutdown.
    let is_shutting_down = scheduler.is_shutting_down();
    let requests = page.work(slot).requests(serial);
    if is_shutting_down {
        requests.with_stop(StopReason::PoolShutdown)
    } else {
        requests
    }
}

/// The requests to a task. If its deadline has passed, or if it has not started and its queue
/// timeout has passed, the task is asked to stop.
#[inline]
pub(crate) fn requests_at(
    scheduler: &Scheduler,
    page: &Page,
    slot: u32,
    serial: u64,
    now: impl FnOnce() -> u64,
) -> Requests {
    let requests = requests(scheduler, page, slot, serial);
    if requests.is_timed() && requests.stop().is_none() {
        page.time_out(slot, serial, now())
    } else {
        requests
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task_id", &self.id)
            .field("stop_reason", &self.stop_reason())
            .field("connection", &self.connection())
            .field("worker", &self.worker())
            .finish()
    }
}
