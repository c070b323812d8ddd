//! The answer of `task_status`, and a parked task that is lent to the loop.

use super::Service;
use super::completions::Outcome;
use crate::task::Task;
use crate::task::panicked::Panic;
use crate::task::status::{Resume, StopReason};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// The status of a task, with the task itself where the loop may have it: the answer of
/// [`Service::task_status`](crate::Service::task_status).
///
/// A loop usually handles each of these, so no variant will be added in a minor version.
#[doc(alias = "lws_threadpool_task_status")]
#[must_use = "an ended task was reaped, and is dropped with this"]
pub enum TaskStatus<'a, T: Task> {
    /// Accepted; no step has run yet.
    Queued,
    /// On a worker, or waiting for its next turn there.
    Running,
    /// Parked until answered. Dereferences to the task.
    Syncing(SyncPoint<'a, T>),
    /// Asked to stop; its end will be announced.
    Stopping,
    /// Reaped: it ended with `TaskDone`.
    Finished(T),
    /// Reaped: it stopped, or never ran.
    Stopped(StopReason, T),
    /// Reaped: its step panicked. The task was dropped on the worker.
    Panicked(Panic),
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
            Self::Panicked(panic) => match panic.message() {
                Some(message) => write!(f, "Panicked({message:?})"),
                None => f.write_str("Panicked(..)"),
            },
        }
    }
}

/// A parked task, lent to the loop: no worker runs it meanwhile.
///
/// It dereferences to the task, and has no methods of its own but [`resume`](Self::resume) and
/// [`stop`](Self::stop), which answer. Without an answer the task stays parked, to be answered
/// later by [`Service::task_sync`](crate::Service::task_sync).
///
/// ```
/// use moored::{Context, Task, TaskReturn, TaskStatus, ThreadPool};
/// use std::time::Duration;
///
/// struct Count(u32);
///
/// impl Task for Count {
///     fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
///         self.0 += 1;
///         if self.0 < 10 { TaskReturn::Sync } else { TaskReturn::TaskDone }
///     }
/// }
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service(|| {});
/// let id = service.enqueue(7, Count(0))?;
/// service.run_pending(Duration::MAX);
/// if let Some(TaskStatus::Syncing(mut count)) = service.task_status(id) {
///     assert_eq!(count.0, 1);
///     count.0 = 9; // no worker has the task
///     count.resume();
/// }
/// service.run_pending(Duration::MAX);
/// assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(Count(10)))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has no destructor, so the other arms of a `match` on [`TaskStatus`] can use the service.
pub struct SyncPoint<'a, T: Task> {
    service: &'a mut Service<T>,
    /// A slot whose task is parked, and is in the table.
    slot: u32,
}

impl<'a, T: Task> SyncPoint<'a, T> {
    pub(super) fn new(service: &'a mut Service<T>, slot: u32) -> Self {
        Self { service, slot }
    }

    /// Lets the task continue: its next step runs when a worker is free. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    #[doc(alias = "continue")]
    pub fn resume(self) {
        self.service.answer(self.slot, Resume::Continue);
    }

    /// Asks the task to stop: its step is called with `is_stopping`, and the task ends when that
    /// returns anything but `Continue`. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    #[doc(alias = "cancel")]
    pub fn stop(self) {
        self.service.answer(self.slot, Resume::Stop);
    }
}

impl<T: Task> Deref for SyncPoint<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self.service.table.outcome(self.slot) {
            Some(Outcome::Parked(task)) => task,
            _ => unreachable!("a task that is lent is parked"),
        }
    }
}

impl<T: Task> DerefMut for SyncPoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self.service.table.outcome_mut(self.slot) {
            Some(Outcome::Parked(task)) => task,
            _ => unreachable!("a task that is lent is parked"),
        }
    }
}

impl<T: Task + fmt::Debug> fmt::Debug for SyncPoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncPoint").field(&**self).finish()
    }
}
