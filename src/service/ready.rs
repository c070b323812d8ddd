//! What `take_ready` returns.

use crate::task::id::{ConnId, TaskId};

/// A task that has parked or ended, as [`Service::take_ready`](crate::Service::take_ready) announces it.
///
/// ```
/// use moored::{BoxTask, TaskReturn, ThreadPool, task_fn};
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let id = service.enqueue(7, task_fn(|_| TaskReturn::TaskDone))?;
/// service.run_pending(Duration::MAX);
/// for ready in service.take_ready() {
///     assert_eq!((ready.id, ready.connection), (id, Some(7.into())));
///     drop(service.task_status(ready.id)); // reaps it
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// Look at it with [`Service::task_status`](crate::Service::task_status).
    pub id: TaskId,
    /// The connection of the task; `None` if that has closed.
    pub connection: Option<ConnId>,
}

/// The tasks that have parked or ended: the iterator that
/// [`Service::take_ready`](crate::Service::take_ready) returns.
///
/// It owns its items, so that the loop can use its service meanwhile.
#[derive(Default, Debug)]
#[must_use = "a task is announced once: look at each with `task_status`"]
pub struct ReadyTasks(std::vec::IntoIter<Ready>);

impl ReadyTasks {
    pub(crate) fn new(tasks: Vec<Ready>) -> Self {
        Self(tasks.into_iter())
    }

    /// Whether none is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl Iterator for ReadyTasks {
    type Item = Ready;

    #[inline]
    fn next(&mut self) -> Option<Ready> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for ReadyTasks {}
impl std::iter::FusedIterator for ReadyTasks {}
