//! Tasks of different kinds on one service.

use crate::task::{Context, Task, TaskReturn};
use std::fmt;

/// Any task in a box, for a `Service<BoxTask>` that runs several kinds.
///
/// Costs one more allocation and an indirect call than a service of one concrete type.
pub struct BoxTask(Box<dyn Task>);

impl BoxTask {
    /// Boxes a task.
    pub fn new(task: impl Task) -> Self {
        Self(Box::new(task))
    }
}

impl Task for BoxTask {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        self.0.step(cx)
    }
}

impl fmt::Debug for BoxTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxTask")
    }
}

/// A task whose step is a closure.
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
