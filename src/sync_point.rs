//! A parked task in the loop's hands, and what `task_status` answers.

use crate::cell::Body;
use crate::id::{ConnId, TaskId};
use crate::port::{Port, TaskCell};
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
/// It dereferences to the task. Answer with [`resume`](Self::resume) or [`stop`](Self::stop). Without an answer the task
/// stays parked, to be answered later by [`Service::task_sync`](crate::Service::task_sync).
///
/// The task is moved out of the pool and back, so keep what is large behind a `Box` or a `Vec`.
/// (That the service keeps it, and this is but a reference without a destructor, is what lets the arms of a `match` on
/// [`TaskStatus`] use the service.)
pub struct SyncPoint<'a, T: Task> {
    port: &'a Arc<Port<T>>,
    /// Always `Some` until it is answered.
    lent: &'a mut Option<Lent<T>>,
}

/// A task that the service has taken out of its cell, whose state is `Held`.
pub(crate) struct Lent<T: Task> {
    cell: Arc<TaskCell<T>>,
    task: T,
}

impl<T: Task> Lent<T> {
    /// Takes a task that is parked; `None` if it is not, or not any more.
    pub(crate) fn take(cell: &Arc<TaskCell<T>>) -> Option<Self> {
        if !cell.head.state.hold() {
            return None;
        }
        match cell.body.lock().take() {
            Body::Task(task) => Some(Self {
                cell: Arc::clone(cell),
                task,
            }),
            _ => unreachable!("a parked task has its body"),
        }
    }

    fn put_back(self) -> Arc<TaskCell<T>> {
        *self.cell.body.lock() = Body::Task(self.task);
        self.cell
    }

    /// Gives the task back unanswered.
    pub(crate) fn let_go(self, port: &Port<T>) {
        let cell = self.put_back();
        if cell.head.state.let_go() {
            put_in_line(port, cell);
        }
    }
}

/// The loop's answer: the task goes on.
pub(crate) fn put_in_line<T: Task>(port: &Port<T>, cell: Arc<TaskCell<T>>) {
    port.put_in_line(cell, port.shared.clock.now(), &port.stats);
}

impl<'a, T: Task> SyncPoint<'a, T> {
    pub(crate) fn new(port: &'a Arc<Port<T>>, lent: &'a mut Option<Lent<T>>) -> Self {
        Self { port, lent }
    }

    fn lent(&self) -> &Lent<T> {
        self.lent.as_ref().expect("not answered yet")
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.lent().cell.head.id
    }

    /// The task's connection; `None` if that has closed.
    pub fn connection(&self) -> Option<ConnId> {
        let head = &self.lent().cell.head;
        (!head.state.load().is_detached()).then(|| head.connection())
    }

    /// Lets the task go on: it is put in line for its next step. O(1), about 100 ns.
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn resume(self) {
        if let Some(lent) = self.lent.take() {
            let cell = lent.put_back();
            cell.head.state.resume();
            put_in_line(self.port, cell);
        }
    }

    /// Asks the task to stop: its step is called with `is_stopping`, and its end announced.
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn stop(self) {
        if let Some(lent) = self.lent.take() {
            let cell = lent.put_back();
            cell.head.state.resume_stopping(StopReason::Dequeued);
            put_in_line(self.port, cell);
        }
    }
}

impl<T: Task> Deref for SyncPoint<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.lent().task
    }
}

impl<T: Task> DerefMut for SyncPoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.lent.as_mut().expect("not answered yet").task
    }
}

impl<T: Task + fmt::Debug> fmt::Debug for SyncPoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncPoint").field(&**self).finish()
    }
}
