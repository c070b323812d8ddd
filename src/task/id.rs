//! The ids of connections and of tasks.

use std::fmt;

/// The id of a connection: what the service loop calls a client.
///
/// The caller chooses it and must not use it again for another client as long as tasks of the first one
/// may be alive; with a [`Mailbox`](crate::Mailbox), never, since messages for a connection that has closed are dropped. A
/// counter does, a socket's file descriptor does not. From a `usize`, such as a `mio::Token`'s: `token.0 as u64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct ConnId(pub u64);

impl From<u64> for ConnId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one task of one [`Service`](crate::Service), for ever.
///
/// It is a slot in that service's table, a serial number that the service never gives out again, and the number of the
/// service itself. An id whose task has been reaped, or one shown to another service, answers `None`
/// or `Unknown` and never another task.
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

/// `<service>.<serial>`: short, and unique within the process.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.service, self.serial))
    }
}
