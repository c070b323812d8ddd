//! The ids of connections and of tasks.

use std::fmt;
use std::str::FromStr;

/// The id of a connection: what the service loop calls a client.
///
/// The caller chooses it and must not use it again for another client as long as tasks of the first
/// one may be alive; with a [`Mailbox`](crate::Mailbox), never, since messages for a connection
/// that has closed are dropped. A counter is suitable, a socket's file descriptor is not.
///
/// ```
/// use moored::ConnId;
///
/// assert_eq!(ConnId::from(7), ConnId(7));
/// assert_eq!(ConnId::from(7_u64), ConnId(7));
/// assert_eq!(ConnId::from(7_u32), ConnId(7));
/// assert_eq!(ConnId::from(7_usize), ConnId(7));
/// # #[cfg(feature = "mio")]
/// assert_eq!(ConnId::from(mio::Token(7)), ConnId(7));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct ConnId(pub u64);

impl From<u64> for ConnId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl From<u32> for ConnId {
    fn from(id: u32) -> Self {
        Self(id.into())
    }
}

impl From<usize> for ConnId {
    fn from(id: usize) -> Self {
        // No target has pointers of more than 64 bits.
        Self(id as u64)
    }
}

/// For literals, whose type is `i32` where nothing says otherwise. A negative number becomes one
/// above `u64::MAX / 2`, so that different numbers are different ids.
impl From<i32> for ConnId {
    fn from(id: i32) -> Self {
        Self(i64::from(id) as u64)
    }
}

/// A token is unique among the sockets that are registered, and may be used again later.
#[cfg(feature = "mio")]
impl From<mio::Token> for ConnId {
    fn from(token: mio::Token) -> Self {
        token.0.into()
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one task of one [`Service`](crate::Service), for ever.
///
/// It is a slot in that service's table, a serial number that the service never gives out again,
/// and the number of the service itself. An id whose task has been reaped, or one shown to another
/// service, answers `None` or `Unknown` and never another task.
///
/// Its text is `<service>.<serial>.<slot>`, and is parsed by `FromStr`: so an id can be given to a
/// client or an operator and come back.
///
/// ```
/// use moored::{BoxTask, Dequeued, TaskId, TaskReturn, ThreadPool, task_fn};
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// let text = service.enqueue(7, task_fn(|_| TaskReturn::TaskDone))?.to_string();
/// let id: TaskId = text.parse()?;
/// assert_eq!(service.dequeue(id), Dequeued::Removed);
/// assert!("17".parse::<TaskId>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "lws_threadpool_task")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TaskId {
    pub(crate) serial: u64,
    pub(crate) service: u32,
    pub(crate) slot: u32,
}

/// As its text.
#[cfg(feature = "serde")]
impl serde::Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `<service>.<serial>.<slot>`, unique within the process.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.service, self.serial, self.slot))
    }
}

impl FromStr for TaskId {
    type Err = ParseTaskIdError;

    fn from_str(text: &str) -> Result<Self, ParseTaskIdError> {
        let mut parts = text.split('.');
        let mut part = || {
            parts
                .next()
                .filter(|part| is_canonical(part))
                .ok_or(ParseTaskIdError(()))
        };
        let number = |_| ParseTaskIdError(());
        let id = Self {
            service: part()?.parse().map_err(number)?,
            serial: part()?.parse().map_err(number)?,
            slot: part()?.parse().map_err(number)?,
        };
        parts.next().is_none().then_some(id).ok_or(ParseTaskIdError(()))
    }
}

/// Whether a number is written as `Display` writes it, so that an id has one text only.
fn is_canonical(number: &str) -> bool {
    number == "0" || number.starts_with(|first: char| matches!(first, '1'..='9'))
}

/// The text is not that of a [`TaskId`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseTaskIdError(());

impl fmt::Display for ParseTaskIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task id is three numbers such as `0.17.3`, as `TaskId` prints them")
    }
}

impl std::error::Error for ParseTaskIdError {}
