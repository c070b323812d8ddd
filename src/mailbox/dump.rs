//! A mailbox as part of a dump.

/// A mailbox at one moment: an entry of [`PoolDump::mailboxes`](crate::PoolDump::mailboxes).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MailboxDump {
    /// The number of its service: the part of a [`TaskId`](crate::TaskId)'s text before the dot.
    pub service: u32,
    /// The type of its messages.
    pub message_type: &'static str,
    /// Messages that the loop has not taken.
    pub length: usize,
    /// The most messages that it may hold.
    pub capacity: usize,
    /// The most messages that it has held.
    pub high_water_mark: usize,
    /// Threads that wait for room in [`send_blocking`](crate::Sender::send_blocking).
    pub waiting_senders: usize,
    /// Messages that were dropped because their connection had closed.
    pub dropped: u64,
    /// Notifications of the loop that its messages caused.
    pub notifications: u64,
}
