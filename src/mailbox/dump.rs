//! The state of a mailbox in a dump.

/// The state of a mailbox: an entry of [`PoolDump::mailboxes`](crate::PoolDump::mailboxes).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MailboxDump {
    /// The number of the service: the part of the text of its [`TaskId`](crate::TaskId)s before the
    /// first dot.
    pub service: u32,
    /// The type of its messages.
    pub message_type: &'static str,
    /// Messages that the loop has not taken.
    pub length: usize,
    /// The largest number of messages that the mailbox may hold.
    pub capacity: usize,
    /// The largest number of messages that the mailbox has held.
    pub high_water_mark: usize,
    /// Threads that wait for room in [`send_blocking`](crate::Sender::send_blocking).
    pub waiting_senders: usize,
    /// Messages that were dropped because their connection had closed.
    pub dropped: u64,
    /// The number of notifications of the loop that messages caused.
    pub notifications: u64,
}
