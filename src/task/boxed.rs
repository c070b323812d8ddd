//! Tasks of different types on one service.

use crate::task::{Context, Task, TaskReturn};
use std::any::Any;
use std::fmt;

/// A task that can be downcast.
trait AnyTask: Task + Any {}

impl<T: Task> AnyTask for T {}

/// A box for a task of any type, so that a `Service<BoxTask>` can run tasks of several types.
///
/// The loop can access the task in the box while it is parked, and take it out when it has ended:
///
/// ```
/// use moored::{BoxTask, Call, Context, Task, TaskReturn, TaskStatus, ThreadPool, call};
/// use std::time::Duration;
///
/// struct Rows(u32);
///
/// impl Task for Rows {
///     fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
///         if cx.is_stopping() {
///             return TaskReturn::Stopped;
///         }
///         self.0 += 1;
///         TaskReturn::Sync
///     }
/// }
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let rows = service.enqueue(1, BoxTask::new(Rows(0)))?;
/// let sum = service.enqueue(2, BoxTask::new(call(|_| 3 + 4)))?;
/// service.run_pending(Duration::MAX);
///
/// if let Some(TaskStatus::Syncing(mut task)) = service.task_status(rows) {
///     let rows = task.downcast_mut::<Rows>().expect("it was enqueued as rows");
///     assert_eq!(rows.0, 1);
///     task.resume();
/// }
/// if let Some(TaskStatus::Finished(task)) = service.task_status(sum) {
///     let sum = task.downcast::<Call<i32>>().expect("it was enqueued as a call");
///     assert_eq!(sum.into_value(), Some(7));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Compared with a service of one concrete type, it costs one more allocation and an indirect call.
pub struct BoxTask(Box<dyn AnyTask>);

impl BoxTask {
    /// Boxes a task.
    pub fn new(task: impl Task) -> Self {
        Self(Box::new(task))
    }

    fn as_any(&self) -> &dyn Any {
        &*self.0
    }

    /// Whether the task in the box is a `T`.
    #[must_use]
    pub fn is<T: Task>(&self) -> bool {
        self.as_any().is::<T>()
    }

    /// Borrows the task in the box if it is a `T`.
    #[must_use]
    pub fn downcast_ref<T: Task>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    /// Mutably borrows the task in the box if it is a `T`.
    #[must_use]
    pub fn downcast_mut<T: Task>(&mut self) -> Option<&mut T> {
        let task: &mut dyn Any = &mut *self.0;
        task.downcast_mut()
    }

    /// Takes the task out of the box.
    ///
    /// # Errors
    ///
    /// The box itself, if the task is not a `T`.
    pub fn downcast<T: Task>(self) -> Result<T, Self> {
        if !self.is::<T>() {
            return Err(self);
        }
        let task: Box<dyn Any> = self.0;
        match task.downcast() {
            Ok(task) => Ok(*task),
            Err(_) => unreachable!("its type was just compared"),
        }
    }
}

impl Task for BoxTask {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        self.0.step(cx)
    }
}

/// With this implementation a `Box<dyn Task>` is a task.
///
/// ```
/// use moored::{Task, ThreadPool, call};
///
/// let pool = ThreadPool::builder().threads(1).build()?;
/// let mut service = pool.service::<Box<dyn Task>>(|| {});
/// service.enqueue(7, Box::new(call(|_| 3 + 4)))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: Task + ?Sized> Task for Box<T> {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        (**self).step(cx)
    }
}

impl fmt::Debug for BoxTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxTask")
    }
}

/// Makes a task whose step is a closure. For a closure that runs once and returns a value, see
/// [`call`](crate::call).
///
/// ```
/// use moored::{task_fn, BoxTask, TaskReturn, TaskStatus, ThreadPool};
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let mut left = 3;
/// let id = service.enqueue(1, task_fn(move |_cx| {
///     left -= 1;
///     if left == 0 { TaskReturn::TaskDone } else { TaskReturn::Continue }
/// }))?;
/// service.run_pending(Duration::from_secs(1));
/// assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn task_fn<F>(step: F) -> BoxTask
where
    F: FnMut(&mut Context<'_>) -> TaskReturn + Send + 'static,
{
    struct Closure<F>(F);

    impl<F: FnMut(&mut Context<'_>) -> TaskReturn + Send + 'static> Task for Closure<F> {
        fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
            (self.0)(cx)
        }
    }

    BoxTask::new(Closure(step))
}
