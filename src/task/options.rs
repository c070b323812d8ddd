//! The options of a task.

use std::borrow::Cow;
use std::time::Duration;

/// Options of one task, for [`Service::enqueue_with`](crate::Service::enqueue_with).
///
/// Workers act on queue timeouts and deadlines: they do not begin a task whose time is up, and a
/// step sees a passed deadline. [`take_ready`](crate::Service::take_ready) acts on all timeouts, on
/// the loop's thread, and [`poll_timeout`](crate::Service::poll_timeout) returns the time until the
/// next one. A name or a timeout costs one more small allocation for the task.
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
    /// No name, no timeouts, and the task stops when its connection closes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the task in dumps.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The longest time that the task may wait for its first step. Then it ends as
    /// `Stopped(TimedOut(Timeout::Queue))`.
    #[doc(alias = "timeout")]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// The longest time that the task may wait for its loop in one `Sync`. Then it is asked to
    /// stop, with `TimedOut(Timeout::Sync)`. The time begins again for each `Sync`, when
    /// `take_ready` announces it. So a loop that is late does not stop tasks whose clients it has
    /// not served.
    ///
    /// Only the loop stops the task, in `take_ready`. If a loop does not call `poll_timeout`, an
    /// idle worker notifies it when the time is over.
    #[doc(alias = "timeout")]
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = Some(timeout);
        self
    }

    /// The longest time between `enqueue` and the end of the task. Then it is asked to stop, with
    /// `TimedOut(Timeout::Deadline)`, in every state. A running step is not interrupted, but
    /// `is_stopping` is true.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lets the task continue, *detached*, when its connection closes. Its end is announced as
    /// usual, and the loop can take the result by its id. A detached task never parks.
    #[doc(alias = "LWS_TP_RETURN_FLAG_OUTLIVE")]
    pub fn outlive_connection(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// Keeps the task parked when its connection closes, until its client connects again. A `Sync`
    /// of the detached task parks it without an announcement;
    /// [`reattach`](crate::Service::reattach) announces it to the new connection. Before its first
    /// `Sync` the task continues to run. It implies
    /// [`outlive_connection`](Self::outlive_connection).
    ///
    /// ```
    /// use moored::{BoxTask, TaskOptions, TaskReturn, TaskStatus, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(0).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let chunks = task_fn(|cx| match cx.is_stopping() {
    ///     true => TaskReturn::Stopped,
    ///     false => TaskReturn::Sync,
    /// });
    /// let options = TaskOptions::new()
    ///     .stay_parked_when_detached()
    ///     .sync_timeout(Duration::from_secs(60)); // the client has a minute
    /// let id = service.enqueue_with(7, chunks, options)?;
    /// service.run_pending(Duration::MAX);
    /// service.connection_closed(7);
    /// assert!(service.take_ready().is_empty());
    /// assert!(service.reattach(id, 8)); // the client has sent the id
    /// let ready = service.take_ready().next().expect("it is announced");
    /// assert_eq!((ready.id, ready.connection), (id, Some(8.into())));
    /// assert!(matches!(service.task_status(id), Some(TaskStatus::Syncing(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Give the task a [`sync_timeout`](Self::sync_timeout) or a [`deadline`](Self::deadline).
    /// Otherwise, if its client never connects again, it stays until it is dequeued, its service is
    /// dropped, or the pool is cancelled. The `sync_timeout` begins again when the connection
    /// closes, and at the announcement after `reattach`.
    #[doc(alias = "resume")]
    #[doc(alias = "reconnect")]
    pub fn stay_parked_when_detached(mut self) -> Self {
        self.outlives = true;
        self.stays_parked = true;
        self
    }
}
