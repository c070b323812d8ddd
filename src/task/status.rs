//! The public statuses of a task, and the reasons why it stops.

use std::fmt;

/// The status of a task, without access to the task: see [`Service::peek`](crate::Service::peek)
/// and [`TaskDump`](crate::TaskDump).
///
/// The statuses are those of `lws_threadpool`, with `Panicked` added.
#[doc(alias = "lws_threadpool_task_status")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Status {
    /// Accepted. No step has run yet.
    #[doc(alias = "LWS_TP_STATUS_QUEUED")]
    Queued,
    /// Started, and neither parked nor asked to stop. It runs on a worker, or waits for its next
    /// turn.
    #[doc(alias = "LWS_TP_STATUS_RUNNING")]
    Running,
    /// Parked by `TaskReturn::Sync` until its loop answers. It holds no thread.
    #[doc(alias = "LWS_TP_STATUS_SYNCING")]
    Syncing,
    /// Started, and asked to stop. Its step is called with `is_stopping` until it ends.
    #[doc(alias = "LWS_TP_STATUS_STOPPING")]
    Stopping,
    /// Ended with `TaskReturn::TaskDone`, and not reaped yet.
    #[doc(alias = "LWS_TP_STATUS_FINISHED")]
    Finished,
    /// Stopped, or never ran, and not reaped yet.
    #[doc(alias = "LWS_TP_STATUS_STOPPED")]
    Stopped,
    /// A step of the task panicked, and the task was not reaped yet.
    Panicked,
}

impl Status {
    /// Whether the task has ended and was not reaped yet.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Panicked)
    }

    pub(crate) const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Syncing,
        Self::Stopping,
        Self::Finished,
        Self::Stopped,
        Self::Panicked,
    ];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Syncing => "syncing",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
        })
    }
}

/// Why a task stopped, or was asked to stop. Only the first reason is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The step returned `Stopped` and was not asked to stop.
    Returned,
    /// [`Service::dequeue`](crate::Service::dequeue), `task_sync(.., Resume::Stop)` or
    /// `SyncPoint::stop`.
    Dequeued,
    /// [`Service::connection_closed`](crate::Service::connection_closed).
    ConnectionClosed,
    /// A timeout of the task has run out.
    TimedOut(Timeout),
    /// [`ThreadPool::shutdown`](crate::ThreadPool::shutdown) was called, or the pool was dropped.
    PoolShutdown,
    /// The task's [`Service`](crate::Service) was dropped. Only the step can see this reason.
    ServiceDropped,
    /// The pool has too many tasks: see [`Overload`](crate::Overload). The task had not started.
    /// Answer its client with "busy" (HTTP 503), and with
    /// [`estimated_wait`](crate::Service::estimated_wait) as the time to try again.
    Shed,
}

/// The timeout of a task that has run out. See [`TaskOptions`](crate::TaskOptions).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Timeout {
    /// The task waited too long for its first step.
    Queue,
    /// The task was parked too long in one `Sync`.
    Sync,
    /// The task did not end in time.
    Deadline,
}

impl StopReason {
    /// Every reason, in the order of [`StopReason::index`].
    pub(crate) const ALL: [Self; 9] = [
        Self::Returned,
        Self::Dequeued,
        Self::ConnectionClosed,
        Self::TimedOut(Timeout::Queue),
        Self::TimedOut(Timeout::Sync),
        Self::TimedOut(Timeout::Deadline),
        Self::PoolShutdown,
        Self::ServiceDropped,
        Self::Shed,
    ];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Returned => 0,
            Self::Dequeued => 1,
            Self::ConnectionClosed => 2,
            Self::TimedOut(Timeout::Queue) => 3,
            Self::TimedOut(Timeout::Sync) => 4,
            Self::TimedOut(Timeout::Deadline) => 5,
            Self::PoolShutdown => 6,
            Self::ServiceDropped => 7,
            Self::Shed => 8,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Returned => "stopped by itself",
            Self::Dequeued => "dequeued",
            Self::ConnectionClosed => "connection closed",
            Self::TimedOut(Timeout::Queue) => "queue timeout",
            Self::TimedOut(Timeout::Sync) => "sync timeout",
            Self::TimedOut(Timeout::Deadline) => "deadline",
            Self::PoolShutdown => "pool shutdown",
            Self::ServiceDropped => "service dropped",
            Self::Shed => "shed",
        })
    }
}

/// The loop's answer to a parked task. See [`Service::task_sync`](crate::Service::task_sync).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Resume {
    /// Run the next step.
    Continue,
    /// Ask the task to stop: its step is called again, and `is_stopping` is true.
    #[doc(alias = "cancel")]
    Stop,
}

/// The result of [`Service::dequeue`](crate::Service::dequeue).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Dequeued {
    /// The task had not started and never will. It has ended as `Stopped`; the end will be
    /// announced, and the task can be reaped.
    Removed,
    /// The task has started, and was asked to stop by this call or before. Its end will be
    /// announced.
    Stopping,
    /// The task had already ended. Reap it with `task_status`.
    AlreadyDone,
    /// No task of this service has this id, or the task was reaped.
    Unknown,
}
