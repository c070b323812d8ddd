//! The public statuses of a task, and the reasons why it stops.

use std::fmt;

/// The status of a task, without the task itself: see [`Service::peek`](crate::Service::peek) and
/// [`TaskDump`](crate::TaskDump).
///
/// The statuses are those of lws, and `Panicked`.
#[doc(alias = "lws_threadpool_task_status")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Status {
    /// Accepted; no step has run yet.
    #[doc(alias = "LWS_TP_STATUS_QUEUED")]
    Queued,
    /// Has started and is neither parked nor asked to stop: on a worker, or waiting for its next
    /// turn, or for a time (`TaskReturn::Delay`).
    #[doc(alias = "LWS_TP_STATUS_RUNNING")]
    Running,
    /// Parked by `TaskReturn::Sync` until its loop answers. It holds no thread.
    #[doc(alias = "LWS_TP_STATUS_SYNCING")]
    Syncing,
    /// Has started and was asked to stop; its step is being, or will be, called with `is_stopping`.
    #[doc(alias = "LWS_TP_STATUS_STOPPING")]
    Stopping,
    /// Ended with `TaskReturn::TaskDone`; not reaped yet.
    #[doc(alias = "LWS_TP_STATUS_FINISHED")]
    Finished,
    /// Ended without finishing; not reaped yet.
    #[doc(alias = "LWS_TP_STATUS_STOPPED")]
    Stopped,
    /// Its step panicked; not reaped yet.
    Panicked,
}

impl Status {
    /// Whether the task has ended and waits to be reaped.
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

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Syncing => "syncing",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a task stopped, or is asked to. The first reason stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The step returned `Stopped` of its own accord.
    Returned,
    /// [`Service::dequeue`](crate::Service::dequeue), `task_sync(.., Resume::Stop)` or
    /// `SyncPoint::stop`.
    Dequeued,
    /// [`Service::connection_closed`](crate::Service::connection_closed).
    ConnectionClosed,
    /// One of the task's timeouts.
    TimedOut(Timeout),
    /// [`ThreadPool::shutdown`](crate::ThreadPool::shutdown), or the pool was dropped.
    PoolShutdown,
    /// The task's [`Service`](crate::Service) was dropped. Only the step sees this one.
    ServiceDropped,
}

/// Which of a task's timeouts ran out. See [`TaskOptions`](crate::TaskOptions).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Timeout {
    /// It waited too long for its first step.
    Queue,
    /// It was parked too long.
    Sync,
    /// It did not end in time.
    Deadline,
}

impl StopReason {
    /// Every reason, in the order of [`StopReason::index`].
    pub(crate) const ALL: [Self; 8] = [
        Self::Returned,
        Self::Dequeued,
        Self::ConnectionClosed,
        Self::TimedOut(Timeout::Queue),
        Self::TimedOut(Timeout::Sync),
        Self::TimedOut(Timeout::Deadline),
        Self::PoolShutdown,
        Self::ServiceDropped,
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
        })
    }
}

/// The loop's answer to a parked task. See [`Service::task_sync`](crate::Service::task_sync).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Resume {
    /// Go on with the next step.
    Continue,
    /// Stop: the step is called once more, with `is_stopping`.
    #[doc(alias = "cancel")]
    Stop,
}

/// What [`Service::dequeue`](crate::Service::dequeue) found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Dequeued {
    /// It had not started and never will; it has ended as `Stopped`, is announced, and waits to be
    /// reaped.
    Removed,
    /// It has started and was asked to stop (now, or earlier); its end will be announced.
    Stopping,
    /// It had ended before; reap it with `task_status`.
    AlreadyDone,
    /// No task of this service has this id, or it was reaped.
    Unknown,
}
