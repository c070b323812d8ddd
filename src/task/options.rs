//! The options of one task.

use std::borrow::Cow;
use std::time::Duration;

/// Options of one task, for [`Service::enqueue_with`](crate::Service::enqueue_with).
///
/// The loop checks the timeouts in [`take_ready`](crate::Service::take_ready);
/// [`poll_timeout`](crate::Service::poll_timeout) returns how long it may block. A task with a name
/// or a timeout costs one more small allocation.
#[derive(Clone, Default, Debug)]
#[must_use]
pub struct TaskOptions {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) sync_timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) outlives: bool,
    pub(crate) stays_parked: bool,
}

impl TaskOptions {
    /// No name, no timeouts, stops with its connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// What dumps call the task.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The longest it may wait for its first step. Ends it as `Stopped(TimedOut(Timeout::Queue))`.
    #[doc(alias = "timeout")]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// The longest it may wait for its loop in one `Sync`. It is then asked to stop, with
    /// `TimedOut(Timeout::Sync)`. The time counts from the moment when `take_ready` has announced
    /// the `Sync`, for each anew: a loop that comes late does not give up on clients that it has
    /// not served.
    #[doc(alias = "timeout")]
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = Some(timeout);
        self
    }

    /// The longest that it may live, from now on. It is then asked to stop, with
    /// `TimedOut(Timeout::Deadline)`, whatever it does: a step that runs is not interrupted, but
    /// can see it.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lets it continue, detached, when its connection closes. Its end is announced like any other
    /// and its result can be fetched by its id. While detached it does not park, unless
    /// [`stay_parked_when_detached`](Self::stay_parked_when_detached) is set: after a `Sync` its
    /// step is called again.
    #[doc(alias = "LWS_TP_RETURN_FLAG_OUTLIVE")]
    pub fn outlive_connection(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// Lets it stay parked when its connection closes, until its client comes back: a detached
    /// `Sync` parks it too, is not announced, and waits for
    /// [`reattach`](crate::Service::reattach), which announces it to the new connection. Until its
    /// first `Sync` it runs on. It implies [`outlive_connection`](Self::outlive_connection).
    ///
    /// ```
    /// use moored::{BoxTask, TaskOptions, TaskReturn, TaskStatus, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(0).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let chunks = task_fn(|cx| if cx.is_stopping() { TaskReturn::Stopped } else { TaskReturn::Sync });
    /// let options = TaskOptions::new()
    ///     .stay_parked_when_detached()
    ///     .sync_timeout(Duration::from_secs(60)); // for the client to come back
    /// let id = service.enqueue_with(7, chunks, options)?;
    /// service.run_pending(Duration::MAX);
    /// service.connection_closed(7);
    /// assert!(service.take_ready().is_empty());
    /// assert!(service.reattach(id, 8)); // the client came back with the id
    /// let ready = service.take_ready().next().expect("it is announced");
    /// assert_eq!((ready.id, ready.connection), (id, Some(8.into())));
    /// assert!(matches!(service.task_status(id), Some(TaskStatus::Syncing(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Give it a [`sync_timeout`](Self::sync_timeout), which counts anew from the moment when the
    /// connection closes, and again from the announcement after `reattach`; or a
    /// [`deadline`](Self::deadline). Otherwise a task whose client never comes back stays until it
    /// is dequeued, its service is dropped, or the pool is cancelled. Costs nothing else.
    #[doc(alias = "resume")]
    #[doc(alias = "reconnect")]
    pub fn stay_parked_when_detached(mut self) -> Self {
        self.outlives = true;
        self.stays_parked = true;
        self
    }
}
