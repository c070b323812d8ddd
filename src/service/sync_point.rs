//! The result of `task_status`, and the borrow of a parked task.

use super::Service;
use super::completions::Outcome;
use crate::task::Task;
use crate::task::panicked::Panic;
use crate::task::status::{Resume, StopReason};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// The status of a task, returned by [`Service::task_status`](crate::Service::task_status). A
/// parked task can be accessed through it, and an ended task is inside it.
///
/// Loops usually match every variant, so no variant will be added in a minor version.
#[doc(alias = "lws_threadpool_task_status")]
#[must_use = "an ended task was reaped, and is dropped with the status"]
pub enum TaskStatus<'a, T: Task> {
    /// Accepted; no step has run yet.
    Queued,
    /// Runs on a worker, or waits for its next turn.
    Running,
    /// Parked until the loop answers. Dereferences to the task.
    Syncing(SyncPoint<'a, T>),
    /// The task was asked to stop. Its end will be announced.
    Stopping,
    /// The task ended with `TaskDone`, and was reaped by this call.
    Finished(T),
    /// The task stopped, or never ran, and was reaped by this call.
    Stopped(StopReason, T),
    /// A step of the task panicked, and the task was reaped by this call. Its value was dropped on
    /// the worker.
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

/// A borrow of a parked task. No worker runs the task while it is borrowed.
///
/// It dereferences to the task. Its only own methods are the two answers, [`resume`](Self::resume)
/// and [`stop`](Self::stop). If it is dropped without an answer, the task stays parked, and the
/// loop answers it later with [`Service::task_sync`](crate::Service::task_sync).
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
///     count.0 = 9; // no worker runs the task now
///     count.resume();
/// }
/// service.run_pending(Duration::MAX);
/// assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(Count(10)))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It borrows the service. To call a method of a struct that contains the service, first move the
/// output out of the task (for example with `std::mem::take`), and answer with `task_sync` after
/// the call. Other arms of a `match` on [`TaskStatus`] can use the service.
pub struct SyncPoint<'a, T: Task> {
    service: &'a mut Service<T>,
    /// The slot of a parked task that is in the table.
    slot: u32,
}

impl<'a, T: Task> SyncPoint<'a, T> {
    pub(super) fn new(service: &'a mut Service<T>, slot: u32) -> Self {
        Self { service, slot }
    }

    /// Lets the task continue. Its next step runs when a worker is free. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    #[doc(alias = "continue")]
    pub fn resume(self) {
        self.service.answer(self.slot, Resume::Continue);
    }

    /// Asks the task to stop. Its step is called again, and `is_stopping` is true. O(1).
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
            _ => unreachable!("a borrowed task is parked"),
        }
    }
}

impl<T: Task> DerefMut for SyncPoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self.service.table.outcome_mut(self.slot) {
            Some(Outcome::Parked(task)) => task,
            _ => unreachable!("a borrowed task is parked"),
        }
    }
}

impl<T: Task + fmt::Debug> fmt::Debug for SyncPoint<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncPoint").field(&**self).finish()
    }
}
