//! The ids of connections, of groups and of tasks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The id of a connection: the number by which the service loop knows a client.
///
/// The program chooses it. It must not use an id for a second client while tasks of the first
/// client may exist. If the service has a [`Mailbox`](crate::Mailbox), it must never use an id
/// again, since messages for closed connections are dropped. A counter is suitable; a file
/// descriptor, or a `mio::Token` that is used again, is not.
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
        // No supported target has pointers of more than 64 bits.
        Self(id as u64)
    }
}

/// For literals, whose type is `i32` by default. A negative number becomes an id above `u64::MAX /
/// 2`, so that different numbers are different ids.
impl From<i32> for ConnId {
    fn from(id: i32) -> Self {
        Self(i64::from(id) as u64)
    }
}

/// A token is unique among the registered sockets only. Do not use a token again as an id while
/// tasks of the earlier connection may exist.
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

/// The id of a group of connections, such as the connections of one client or of one tenant. It is
/// the same group in every service of a pool.
///
/// [`Service::set_group`](crate::Service::set_group) adds a connection to a group. The program
/// chooses the number. The address of a client can be converted to a `GroupId`. Each IPv4 address
/// is a group. Each IPv6 network of 64 bits is one group, because a client usually has all
/// addresses of such a network.
///
/// ```
/// use moored::GroupId;
/// use std::net::IpAddr;
///
/// let group = |address: &str| address.parse::<IpAddr>().map(GroupId::from);
/// assert_eq!(group("2001:db8:0:1::5")?, group("2001:db8:0:1::6")?);
/// assert_ne!(group("2001:db8:0:1::5")?, group("2001:db8:0:2::5")?);
/// assert_eq!(group("192.0.2.7")?, group("::ffff:192.0.2.7")?);
/// assert_ne!(group("192.0.2.7")?, group("192.0.2.8")?);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[doc(alias = "tenant")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupId(pub u64);

impl From<IpAddr> for GroupId {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            // No IPv6 network that is in use has a number in this range.
            IpAddr::V4(address) => 0xffff_0000_0000 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one task of one [`Service`](crate::Service). It is never used for another task.
///
/// It consists of a slot in the table of the service, a serial number that the service uses once,
/// and the number of the service. For an id whose task was reaped, or that belongs to another
/// service, calls return `None` or `Unknown`.
///
/// Its text is `<service>.<serial>.<slot>`, and `FromStr` parses that text. So a client or an
/// operator can be given an id and send it back.
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(crate) serial: u64,
    /// `service: 32 | slot: 32`. An id of two equal parts is passed in registers. One of three parts
    /// is copied through memory, and a read of such a copy waits for all earlier writes.
    place: u64,
}

impl TaskId {
    #[inline]
    pub(crate) fn new(service: u32, serial: u64, slot: u32) -> Self {
        let place = u64::from(service) << 32 | u64::from(slot);
        Self { serial, place }
    }

    #[inline]
    pub(crate) fn service(self) -> u32 {
        (self.place >> 32) as u32
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.place as u32
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// Serialised as its text.
#[cfg(feature = "serde")]
impl serde::Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `<service>.<serial>.<slot>`, unique within the process.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.service(), self.serial, self.slot()))
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
        let service = part()?.parse().map_err(number)?;
        let serial = part()?.parse().map_err(number)?;
        let slot = part()?.parse().map_err(number)?;
        let id = Self::new(service, serial, slot);
        parts.next().is_none().then_some(id).ok_or(ParseTaskIdError(()))
    }
}

/// Whether a number is written exactly as `Display` writes it, so that each id has only one text.
fn is_canonical(number: &str) -> bool {
    number == "0" || number.starts_with(|first: char| matches!(first, '1'..='9'))
}

/// The text is not a [`TaskId`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseTaskIdError(());

impl fmt::Display for ParseTaskIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task id is three numbers such as `0.17.3`, as `TaskId` prints them")
    }
}

impl std::error::Error for ParseTaskIdError {}
