//! The options of one task.

use std::borrow::Cow;
use std::time::Duration;

/// Options of one task, for [`Service::enqueue_with`](crate::Service::enqueue_with).
///
/// The loop checks the timeouts in [`take_ready`](crate::Service::take_ready);
/// [`poll_timeout`](crate::Service::poll_timeout) returns how long it may block. Workers check the
/// queue timeout and the deadline too: a task whose time is up is not begun, whatever its loop
/// does. If the loop does not call `poll_timeout` before it blocks, an idle worker notifies it when
/// a timeout runs out, so that `take_ready` stops the task then. A task with a name or a timeout
/// costs one more small allocation.
#[derive(Clone, Default, Debug)]
#[must_use]
pub struct TaskOptions {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) sync_timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) outlives: bool,
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
    /// sees it by [`Context::is_stopping`](crate::Context::is_stopping).
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lets it continue, detached, when its connection closes. Its end is announced like any other
    /// and its result can be fetched by its id. While detached it never parks.
    #[doc(alias = "LWS_TP_RETURN_FLAG_OUTLIVE")]
    pub fn outlive_connection(mut self) -> Self {
        self.outlives = true;
        self
    }
}
