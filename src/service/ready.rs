//! The items that `take_ready` returns.

use crate::sync::{AtomicBool, Mutex, Ordering, fence};
use crate::task::id::{ConnId, TaskId};
use crate::wake::notifier::Notifier;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Counter, Ordering::Relaxed};

/// A task that has parked or ended: an item of [`Service::take_ready`](crate::Service::take_ready).
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
    /// The id of the task, for [`Service::task_status`](crate::Service::task_status).
    pub id: TaskId,
    /// The connection of the task. `None` if it has closed. Call `task_status` in this case, too:
    /// it reaps the task.
    pub connection: Option<ConnId>,
}

/// An iterator over the tasks that have parked or ended, made by
/// [`Service::take_ready`](crate::Service::take_ready).
///
/// It owns its items, so the loop can use its service inside the `for` loop. If it is dropped
/// before its end, the remaining tasks are announced again: the loop is notified, and the next
/// `take_ready` begins with those of them that are still parked or not reaped. `len` and `is_empty`
/// take no task out of the iterator; to count the tasks and take them, call `count`.
#[must_use = "look at each task with `task_status`"]
pub struct ReadyTasks {
    tasks: std::vec::IntoIter<Ready>,
    /// Receives the remaining tasks when the iterator is dropped. `None` if it never had a task.
    unseen: Option<Arc<Unseen>>,
}

/// The tasks that were announced, and that the loop has not taken out of the iterator.
pub(crate) struct Unseen {
    tasks: Mutex<Vec<TaskId>>,
    /// Whether `tasks` is not empty.
    has_some: AtomicBool,
    notifier: Arc<Notifier>,
    /// The number of notifications that were sent for them.
    wakes: Counter,
}

impl Unseen {
    pub(crate) fn new(notifier: Arc<Notifier>) -> Arc<Self> {
        Arc::new(Self {
            tasks: Mutex::new(Vec::new()),
            has_some: AtomicBool::new(false),
            notifier,
            wakes: Counter::new(0),
        })
    }

    fn add(&self, tasks: impl Iterator<Item = TaskId>) {
        self.tasks.lock().extend(tasks);
        self.has_some.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let notifies = self.notifier.notify();
        self.wakes.fetch_add(u64::from(notifies), Relaxed);
    }

    /// Takes the tasks, and the number of notifications that were sent for them.
    pub(crate) fn take(&self) -> Option<(Vec<TaskId>, u64)> {
        if !self.has_some.load(Ordering::Acquire) {
            return None;
        }
        self.has_some.store(false, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        Some((tasks, self.wakes.swap(0, Relaxed)))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        self.notifier.arc_fence.pass();
    }
}

impl ReadyTasks {
    pub(crate) fn new(tasks: Vec<Ready>, unseen: Option<Arc<Unseen>>) -> Self {
        Self {
            tasks: tasks.into_iter(),
            unseen,
        }
    }

    /// Whether no task remains.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tasks.len() == 0
    }
}

impl Iterator for ReadyTasks {
    type Item = Ready;

    #[inline]
    fn next(&mut self) -> Option<Ready> {
        self.tasks.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.tasks.size_hint()
    }
}

impl Drop for ReadyTasks {
    fn drop(&mut self) {
        if let Some(unseen) = self.unseen.take().filter(|_| self.tasks.len() > 0) {
            unseen.add(self.tasks.by_ref().map(|ready| ready.id));
        }
    }
}

impl fmt::Debug for ReadyTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tasks.as_slice()).finish()
    }
}

impl ExactSizeIterator for ReadyTasks {}
impl std::iter::FusedIterator for ReadyTasks {}
