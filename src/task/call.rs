//! A closure that runs once and returns a value.

use super::boxed::BoxTask;
use crate::task::{Context, Task, TaskReturn};
use std::fmt;

type CallFn<R> = Box<dyn FnOnce(&mut Context<'_>) -> R + Send>;

/// A task that calls a closure once and keeps the value that it returns. Made by [`call`].
pub struct Call<R>(State<R>);

enum State<R> {
    Waiting(CallFn<R>),
    /// The closure is running, has panicked, or was never called because the task was asked to
    /// stop.
    Empty,
    Returned(R),
}

/// Makes a task of one step. The step calls the closure on a worker, and the task finishes with the
/// value that the closure returns.
///
/// ```
/// use moored::{TaskStatus, ThreadPool, call};
///
/// let pool = ThreadPool::builder().threads(1).build()?;
/// let this = std::thread::current();
/// let mut service = pool.service(move || this.unpark());
/// service.enqueue(7, call(|_| (1..=10).product::<u64>()))?;
/// while !service.is_empty() {
///     std::thread::park();
///     for ready in service.take_ready() {
///         if let Some(TaskStatus::Finished(call)) = service.task_status(ready.id) {
///             assert_eq!(call.into_value(), Some(3_628_800));
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A closure that may fail can return a `Result`. A long closure should check
/// [`Context::is_stopping`] from time to time and return early; the task then still ends as
/// `Finished`, with the value of the closure. If the task is asked to stop before its step, the
/// closure is dropped and not called. It costs one allocation.
#[doc(alias = "spawn")]
#[doc(alias = "closure")]
pub fn call<R: Send + 'static>(closure: impl FnOnce(&mut Context<'_>) -> R + Send + 'static) -> Call<R> {
    Call(State::Waiting(Box::new(closure)))
}

impl<R> Call<R> {
    /// The value that the closure has returned. `None` if the closure was not called or has not
    /// returned.
    #[must_use]
    pub fn value(&self) -> Option<&R> {
        match &self.0 {
            State::Returned(value) => Some(value),
            _ => None,
        }
    }

    /// Takes the value that the closure has returned. `None` if the closure was not called or has
    /// not returned.
    #[must_use]
    pub fn into_value(self) -> Option<R> {
        match self.0 {
            State::Returned(value) => Some(value),
            _ => None,
        }
    }
}

impl<R: Send + 'static> Task for Call<R> {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        let State::Waiting(closure) = std::mem::replace(&mut self.0, State::Empty) else {
            return TaskReturn::TaskDone;
        };
        if cx.is_stopping() {
            return TaskReturn::Stopped;
        }
        self.0 = State::Returned(closure(cx));
        TaskReturn::TaskDone
    }
}

impl<R: Send + 'static> From<Call<R>> for BoxTask {
    fn from(call: Call<R>) -> Self {
        Self::new(call)
    }
}

impl<R: fmt::Debug> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("value", &self.value()).finish()
    }
}
