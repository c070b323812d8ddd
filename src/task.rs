//! What a task is, and what its step is told.

use crate::cell::Chunk;
use crate::id::{ConnId, TaskId};
use crate::state::State;
use crate::status::StopReason;
use std::fmt;

/// A piece of work for a connection, run step by step on the pool.
///
/// The value moves into the pool with [`enqueue`](crate::Service::enqueue), is lent to the loop while it is parked, and comes
/// back by value when it has ended. Its `Drop` is the clean-up.
pub trait Task: Send + 'static {
    /// Does a bounded piece of work (aim at 100 ms or less) and says what next.
    ///
    /// Runs on a worker, never on two at once. Between steps the task may be asked to stop, so look at
    /// [`Context::is_stopping`] first. A panic ends the task as `Panicked`.
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn;
}

/// What a step wants next.
///
/// Do not import its variants by glob: `Sync` would hide the marker trait.
#[doc(alias = "lws_threadpool_task_return")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum TaskReturn {
    /// Call me again. The worker goes on with this task until its time slice is used up and others wait.
    #[doc(alias = "LWS_TP_RETURN_CHECKING_IN")]
    Continue,
    /// Park me, without a thread, until the loop has looked and answers with `resume` or `task_sync`.
    ///
    /// Does not park a task that is stopping or detached, since nobody would answer: it is called again.
    #[doc(alias = "LWS_TP_RETURN_SYNC")]
    Sync,
    /// I have finished.
    #[doc(alias = "LWS_TP_RETURN_FINISHED")]
    TaskDone,
    /// I stop here, because I was asked to or for a reason of my own.
    #[doc(alias = "LWS_TP_RETURN_STOPPED")]
    Stopped,
}

/// What a step may ask about its task. Each call is a few nanoseconds.
pub struct Context<'a> {
    chunk: &'a Chunk,
    id: TaskId,
    worker: Option<u16>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(chunk: &'a Chunk, id: TaskId, worker: Option<u16>) -> Self {
        Self { chunk, id, worker }
    }

    fn state(&self) -> &State {
        &self.chunk.head(self.id.slot).state
    }

    /// Whether somebody asked the task to stop. It is then called until it returns
    /// `Stopped` or `TaskDone`. A long step may look more than once: the answer can change at any time.
    pub fn is_stopping(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Why it is asked to stop; `None` when it is not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.state().asked().stop()
    }

    /// The connection it works for; `None` once that has closed.
    pub fn connection(&self) -> Option<ConnId> {
        (!self.is_detached()).then(|| self.chunk.connection(self.id.slot))
    }

    /// Whether its connection has closed.
    pub fn is_detached(&self) -> bool {
        self.state().asked().is_detached()
    }

    /// The task's own id.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// Lets the task outlive its connection from now on, as
    /// [`TaskOptions::outlive_connection`](crate::TaskOptions::outlive_connection) does from the start.
    #[doc(alias = "LWS_TP_RETURN_FLAG_OUTLIVE")]
    pub fn outlive_connection(&mut self) {
        self.state().set_outlives();
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
