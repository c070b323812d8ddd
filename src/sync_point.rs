//! A parked task in the loop's hands, and what `task_status` answers.

use crate::cell::{Body, HasHead};
use crate::id::{ConnId, TaskId};
use crate::port::{Port, TaskCell};
use crate::status::StopReason;
use crate::task::Task;
use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// How a task stands, and the task itself where the loop may have it: what
/// [`Service::task_status`](crate::Service::task_status) answers.
#[doc(alias = "lws_threadpool_task_status")]
pub enum TaskStatus<'a, T: Task> {
    /// Accepted; no step has run yet.
    Queued,
    /// On a worker, or in line for its next turn there.
    Running,
    /// Parked until answered. Dereferences to the task.
    Syncing(SyncPoint<'a, T>),
    /// Asked to stop; its end will be announced.
    Stopping,
    /// Reaped: it ended with `TaskDone`. Here it is.
    Finished(T),
    /// Reaped: it stopped, or never ran. Here it is.
    Stopped(StopReason, T),
    /// Reaped: its step panicked, with this payload. The task was dropped on the worker.
    Panicked(Box<dyn Any + Send>),
}

impl<T: Task> fmt::Debug for TaskStatus<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued => f.write_str("Queued"),
            Self::Running => f.write_str("Running"),
            Self::Syncing(_) => f.write_str("Syncing(..)"),
            Self::Stopping => f.write_str("Stopping"),
            Self::Finished(_) => f.write_str("Finished(..)"),
            Self::Stopped(why, _) => write!(f, "Stopped({why:?}, ..)"),
            Self::Panicked(_) => f.write_str("Panicked(..)"),
        }
    }
}

/// A parked task, lent to the loop: nobody runs it meanwhile.
///
/// It dereferences to the task. Answer with [`resume`](Self::resume) or [`stop`](Self::stop). Without an answer the task
/// stays parked, to be answered later by [`Service::task_sync`](crate::Service::task_sync).
///
/// (That the service keeps what is lent, and this is but a reference without a destructor, is what lets the arms of a `match`
/// on [`TaskStatus`] use the service.)
pub struct SyncPoint<'a, T: Task> {
    port: &'a Port<T>,
    /// Always `Some` until it is answered.
    lent: &'a mut Option<Box<TaskCell<T>>>,
}

impl<'a, T: Task> SyncPoint<'a, T> {
    /// `lent` is a task whose state is `Held`.
    pub(crate) fn new(port: &'a Port<T>, lent: &'a mut Option<Box<TaskCell<T>>>) -> Self {
        Self { port, lent }
    }

    fn lent(&self) -> &TaskCell<T> {
        self.lent.as_ref().expect("not answered yet")
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.lent().id()
    }

    /// The task's connection; `None` if that has closed.
    pub fn connection(&self) -> Option<ConnId> {
        let task = self.lent();
        (!task.head().state.asked().is_detached()).then(|| task.connection())
    }

    /// Lets the task go on: it is put in line for its next step. O(1), about 50 ns.
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn resume(self) {
        if let Some(cell) = self.lent.take() {
            self.port.resume(cell);
        }
    }

    /// Asks the task to stop: its step is called with `is_stopping`, and its end announced. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn stop(self) {
        if let Some(cell) = self.lent.take() {
            cell.head().state.ask_to_stop(StopReason::Dequeued);
            self.port.resume(cell);
        }
    }
}

impl<T: Task> Deref for SyncPoint<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.lent().body {
            Body::Task(task) => task,
            _ => unreachable!("a parked task has its body"),
        }
    }
}

impl<T: Task> DerefMut for SyncPoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.lent.as_mut().expect("not answered yet").body {
            Body::Task(task) => task,
            _ => unreachable!("a parked task has its body"),
        }
    }
}

impl<T: Task + fmt::Debug> fmt::Debug for SyncPoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncPoint").field(&**self).finish()
    }
}
