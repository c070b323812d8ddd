//! The last abnormal ends of a pool: the data that a dump shows of ended tasks.

use crate::panic::Caught;
use crate::task::header::Snapshot;
use crate::task::id::{ConnId, TaskId};
use crate::task::panicked::message_of;
use crate::task::status::{StopReason, Timeout};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// The largest number of ends in a dump.
const KEPT: usize = 32;
/// The largest length of a kept message, in characters.
const MESSAGE_MAX: usize = 1000;

/// Why a task has ended abnormally.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// Its step panicked.
    Panicked,
    /// One of its timeouts ran out, and the task ended as `Stopped`.
    TimedOut(Timeout),
    /// The queue was full, and the task ended as `Stopped` without a step.
    Shed,
}

/// `panicked`, `queue timeout`, `sync timeout`, `deadline` or `shed`.
impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Panicked => f.pad("panicked"),
            Self::TimedOut(timeout) => StopReason::TimedOut(timeout).fmt(f),
            Self::Shed => StopReason::Shed.fmt(f),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for EndReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The end of a task that has panicked, has timed out, or was shed. Times are in microseconds.
///
/// A [`PoolDump`](crate::PoolDump) has the last 32 of them. They include tasks that were reaped and
/// tasks of services that were dropped.
///
/// ```
/// use moored::{BoxTask, EndReason, TaskOptions, ThreadPool, task_fn};
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let task = task_fn(|_| panic!("no such row: {}", 17));
/// service.enqueue_with(7, task, TaskOptions::new().name("query"))?;
/// service.run_pending(Duration::MAX);
/// drop(service);
/// let end = &pool.dump().abnormal_ends[0];
/// assert_eq!((end.reason, end.connection.0), (EndReason::Panicked, 7));
/// assert_eq!(end.name.as_deref(), Some("query"));
/// assert_eq!(end.message.as_deref(), Some("no such row: 17"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndDump {
    /// The task's id; as text in JSON.
    pub id: TaskId,
    /// The task's name, if it has one.
    pub name: Option<Cow<'static, str>>,
    /// The task's connection, even if it had closed.
    pub connection: ConnId,
    /// The number of the service that owned the task.
    pub service: u32,
    /// Why the task ended; as text in JSON.
    pub reason: EndReason,
    /// The first 1,000 characters of the message of the panic. `None` if the task has not panicked,
    /// or if the payload of the panic is not text.
    pub message: Option<String>,
    /// Where the task panicked: file, line and column. `None` if the task has not panicked, or if
    /// the pool does not [record locations](crate::ThreadPoolBuilder::record_panic_locations).
    pub location: Option<String>,
    /// When the task ended: the time since the pool was built.
    pub at_us: u64,
    /// The time from its submission to its end.
    pub alive_us: u64,
    /// The total time that the task waited for a worker.
    pub queued_us: u64,
    /// The total time that the task was on a worker.
    pub run_us: u64,
}

impl EndDump {
    /// `at` is the time since the pool was built, in nanoseconds.
    pub(crate) fn new(
        id: TaskId,
        name: Option<Cow<'static, str>>,
        connection: ConnId,
        reason: EndReason,
        panic: Option<&Caught>,
        snapshot: &Snapshot,
        at: u64,
    ) -> Self {
        let Snapshot {
            queued, run, parked, ..
        } = *snapshot;
        Self {
            id,
            name,
            connection,
            service: id.service(),
            reason,
            message: panic
                .and_then(|panic| message_of(&*panic.payload))
                .map(|text| text.chars().take(MESSAGE_MAX).collect()),
            location: panic.and_then(|panic| panic.location.clone()),
            at_us: at / 1000,
            alive_us: (queued + run + parked) / 1000,
            queued_us: queued / 1000,
            run_us: run / 1000,
        }
    }
}

/// The last abnormal ends. The lock is only held to add an end, or to copy references to the ends.
#[derive(Default)]
pub(crate) struct AbnormalEnds(Mutex<VecDeque<Arc<EndDump>>>);

impl AbnormalEnds {
    pub(crate) fn add(&self, end: EndDump) {
        let end = Arc::new(end);
        let mut ends = self.0.lock();
        let oldest = if ends.len() == KEPT {
            ends.pop_front()
        } else {
            None
        };
        ends.push_back(end);
        drop(ends);
        drop(oldest);
    }

    /// The ends, the oldest first.
    pub(crate) fn copy(&self) -> Vec<EndDump> {
        let mut ends = Vec::with_capacity(KEPT);
        ends.extend(self.0.lock().iter().cloned());
        // No `unwrap_or_clone`: its fence is unknown to the thread sanitizer.
        ends.iter().map(|end| EndDump::clone(end)).collect()
    }
}
