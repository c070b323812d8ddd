//! Tasks: what users implement, and what a step can ask.

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

/// A piece of work for a connection, run step by step on the pool.
///
/// The value moves into the pool with [`enqueue`](crate::Service::enqueue), is lent to the loop
/// while it is parked, and comes back by value when it has ended. Its `Drop` is the clean-up.
///
/// The value itself is moved from the loop to a worker and back, without an allocation. Enqueue a
/// large one, of more than a few hundred bytes, as a `Box`, which is a task too: then only a
/// pointer is moved.
pub trait Task: Send + 'static {
    /// Does a bounded piece of work (aim at 100 ms or less) and returns what comes next.
    ///
    /// Runs on a worker, never on two at once. Between steps the task may be asked to stop, so look
    /// at [`Context::is_stopping`] first. A panic ends the task as `Panicked`.
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn;
}

/// What comes after a step.
///
/// Do not import its variants by glob: `Sync` would hide the marker trait.
#[doc(alias = "lws_threadpool_task_return")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "a step returns it"]
#[non_exhaustive]
pub enum TaskReturn {
    /// Run the next step. The worker continues with this task until its time slice is used up and
    /// others wait.
    #[doc(alias = "LWS_TP_RETURN_CHECKING_IN")]
    #[doc(alias = "yield")]
    Continue,
    /// Park the task, without a thread, until the loop answers with `resume` or `task_sync`.
    ///
    /// It does not park a task that is stopping or detached, since no loop would answer: its step
    /// is called again.
    #[doc(alias = "LWS_TP_RETURN_SYNC")]
    #[doc(alias = "backpressure")]
    #[doc(alias = "progress")]
    #[doc(alias = "wait")]
    Sync,
    /// The task has finished.
    #[doc(alias = "LWS_TP_RETURN_FINISHED")]
    TaskDone,
    /// The task stops, because it was asked to or for a reason of its own.
    #[doc(alias = "LWS_TP_RETURN_STOPPED")]
    Stopped,
}

/// What a step can ask about its task. Each call takes a few nanoseconds.
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

    /// Whether the task was asked to stop, or its deadline has passed. It is then called until it
    /// returns `Stopped` or `TaskDone`. A long step may look more than once: the answer can change
    /// at any time.
    ///
    /// About a nanosecond; for a task with a deadline about 10 ns, since it reads the clock: neither
    /// the loop nor a timer thread need see that the deadline has passed.
    #[doc(alias = "cancel")]
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Why it is asked to stop; `None` when it is not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        // In this order: what was asked before the shutdown is visible after it.
        let is_shutting_down = self.scheduler.is_shutting_down();
        let requests = self.requests();
        if let Some(reason) = requests.stop() {
            return Some(reason);
        }
        if is_shutting_down {
            return Some(StopReason::PoolShutdown);
        }
        if !requests.is_timed() {
            return None;
        }
        let now = self.scheduler.clock.now();
        self.page.time_out(self.id.slot, self.id.serial, now).stop()
    }

    /// The connection that it works for; `None` once that has closed.
    pub fn connection(&self) -> Option<ConnId> {
        let id = self.page.owner(self.id.slot).connection_id();
        (!self.is_detached()).then_some(ConnId(id))
    }

    /// Whether its connection has closed.
    pub fn is_detached(&self) -> bool {
        self.requests().is_detached()
    }

    /// The task's own id.
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

    /// The number of the worker that runs this step; `None` on a thread that is none, inside
    /// [`run_pending`](crate::Service::run_pending).
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
