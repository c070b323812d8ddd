//! The panic that ended a task.

use crate::panic::Caught;
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;

/// The panic that ended a task, in [`TaskStatus::Panicked`](crate::TaskStatus::Panicked). The task
/// itself was dropped on the worker.
///
/// Its location is known if the pool
/// [records locations](crate::ThreadPoolBuilder::record_panic_locations).
/// The last panics are also in [`PoolDump::abnormal_ends`](crate::PoolDump::abnormal_ends), with
/// the names of their tasks.
///
/// ```
/// use moored::{BoxTask, TaskStatus, ThreadPool, task_fn};
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let id = service.enqueue(7, task_fn(|_| panic!("no such row: {}", 17)))?;
/// service.run_pending(Duration::MAX);
/// let Some(TaskStatus::Panicked(panic)) = service.task_status(id) else { unreachable!() };
/// assert_eq!(panic.message(), Some("no such row: 17"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Panic {
    message: Option<String>,
    location: Option<String>,
    /// Never locked. The lock makes `Panic` implement `Sync` although a payload need not.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(caught: Caught) -> Self {
        Self {
            message: message_of(&*caught.payload).map(str::to_owned),
            location: caught.location,
            payload: Mutex::new(caught.payload),
        }
    }

    /// The message of the panic. `None` if the payload is not a text, as with
    /// `std::panic::panic_any`.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The place of the panic: file, line and column, as in `src/query.rs:17:9`. `None` if the pool
    /// does not [record locations](crate::ThreadPoolBuilder::record_panic_locations), or if the
    /// panic came from `std::panic::resume_unwind`, which calls no panic hook.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The payload of the panic, for `std::panic::resume_unwind` or for a downcast.
    #[must_use = "the payload is lost if it is dropped"]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }
}

/// The message of a panic, if its payload is text.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    match payload.downcast_ref::<&'static str>() {
        Some(message) => Some(message),
        None => payload.downcast_ref::<String>().map(String::as_str),
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "Panic({message:?})"),
            None => f.write_str("Panic(..)"),
        }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task has panicked")?;
        if let Some(location) = self.location() {
            write!(f, " at {location}")?;
        }
        match self.message() {
            Some(message) => write!(f, ": {message}"),
            None => f.write_str(", with a payload that is not text"),
        }
    }
}

impl std::error::Error for Panic {}
