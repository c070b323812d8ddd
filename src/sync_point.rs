//! A parked task in the loop's hands, and what `task_status` answers.

use crate::cell::Body;
use crate::desk::Desk;
use crate::id::TaskId;
use crate::port::{Port, TaskCell};
use crate::primitive::MutexGuard;
use crate::status::StopReason;
use crate::task::Task;
use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

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
/// It dereferences to the task. Answer with [`resume`](Self::resume) or [`stop`](Self::stop). Dropped
/// without an answer the task stays parked, to be answered later by
/// [`Service::task_sync`](crate::Service::task_sync).
pub struct SyncPoint<'a, T: Task> {
    port: &'a Arc<Port<T>>,
    cell: &'a Arc<TaskCell<T>>,
    /// `None` only while it is being answered.
    body: Option<MutexGuard<'a, Body<T>>>,
}

impl<'a, T: Task> SyncPoint<'a, T> {
    /// The cell's state must be held by the caller.
    pub(crate) fn new(port: &'a Arc<Port<T>>, cell: &'a Arc<TaskCell<T>>) -> Self {
        Self {
            port,
            cell,
            body: Some(cell.body.lock()),
        }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.cell.head.id
    }

    /// Lets the task go on: it is put in line for its next step. O(1), a few tens of nanoseconds.
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn resume(mut self) {
        self.body = None;
        self.cell.head.state.resume();
        self.put_in_line();
    }

    /// Asks the task to stop: its step is called with `is_stopping`, and its end announced.
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn stop(mut self) {
        self.body = None;
        self.cell.head.state.resume_stopping(StopReason::Dequeued);
        self.put_in_line();
    }

    fn put_in_line(&self) {
        let desk = Desk::of_guest(&self.port.shared, &self.port.stats);
        self.port.put_in_line(self.cell, &desk);
    }
}

impl<T: Task> Deref for SyncPoint<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self.body.as_deref() {
            Some(Body::Task(task)) => task,
            _ => unreachable!("a parked task has its body"),
        }
    }
}

impl<T: Task> DerefMut for SyncPoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self.body.as_deref_mut() {
            Some(Body::Task(task)) => task,
            _ => unreachable!("a parked task has its body"),
        }
    }
}

impl<T: Task> Drop for SyncPoint<'_, T> {
    fn drop(&mut self) {
        if self.body.take().is_some() && self.cell.head.state.let_go() {
            self.put_in_line();
        }
    }
}

impl<T: Task + fmt::Debug> fmt::Debug for SyncPoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncPoint").field(&**self).finish()
    }
}
