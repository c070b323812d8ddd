//! Tasks: the trait that users implement, and the context of a step.

pub(crate) mod boxed;
pub(crate) mod call;
pub(crate) mod header;
pub(crate) mod id;
pub(crate) mod options;
pub(crate) mod panicked;
pub(crate) mod phase;
pub(crate) mod status;

use crate::scheduler::Scheduler;
use header::{Page, WorkHeader};
use id::{ConnId, TaskId};
use phase::Requests;
use status::StopReason;
use std::fmt;

/// Work for a connection that the pool runs step by step.
///
/// The value moves into the pool with [`enqueue`](crate::Service::enqueue). The loop borrows it
/// while it is parked, and gets it back by value when it has ended. Its `Drop` is the clean-up.
///
/// The value itself moves from the loop to a worker and back, without an allocation. Put a value of
/// more than a few hundred bytes into a `Box`, which is a task, too: then only a pointer moves.
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
    /// A task that was asked to stop, or that is detached, is not parked, since no loop would
    /// answer. Its step is called again.
    #[doc(alias = "LWS_TP_RETURN_SYNC")]
    #[doc(alias = "backpressure")]
    #[doc(alias = "progress")]
    #[doc(alias = "wait")]
    Sync,
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
    worker: Option<u16>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(page: &'a Page, scheduler: &'a Scheduler, id: TaskId, worker: Option<u16>) -> Self {
        Self {
            page,
            scheduler,
            id,
            worker,
        }
    }

    fn header(&self) -> &WorkHeader {
        self.page.work(self.id.slot)
    }

    fn requests(&self) -> Requests {
        self.header().requests(self.id.serial)
    }

    /// Whether the task was asked to stop. If so, its step is called until it returns `Stopped` or
    /// `TaskDone`. A long step can check several times, since the answer can become true at any
    /// time.
    #[doc(alias = "cancel")]
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Why the task was asked to stop. `None` if it was not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        // In this order: a request that was set before the shutdown is visible to a thread that
        // sees the shutdown.
        let is_shutting_down = self.scheduler.is_shutting_down();
        let by_shutdown = || is_shutting_down.then_some(StopReason::PoolShutdown);
        self.requests().stop().or_else(by_shutdown)
    }

    /// The connection of the task. `None` once it has closed.
    pub fn connection(&self) -> Option<ConnId> {
        let id = self.page.owner(self.id.slot).connection_id();
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
        self.worker.map(usize::from)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task_id", &self.id)
            .field("stop_reason", &self.stop_reason())
            .field("connection", &self.connection())
            .field("worker", &self.worker)
            .finish()
    }
}
