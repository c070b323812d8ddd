//! The recipient of a message.

use crate::task::id::ConnId;

/// The recipient of a message. A [`Drain`](crate::Drain) yields it with the message.
///
/// No variant will be added: a loop that matches all three handles every message.
///
/// ```
/// use moored::{ConnId, Recipient};
///
/// assert_eq!(Recipient::from(7), Recipient::Connection(ConnId(7)));
/// # #[cfg(feature = "mio")]
/// assert_eq!(Recipient::from(mio::Token(7)), Recipient::Connection(ConnId(7)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Recipient {
    /// One connection.
    Connection(ConnId),
    /// Every connection of the loop: a [`broadcast`](crate::Sender::broadcast). The loop gives a
    /// clone to each of its connections.
    All,
    /// The loop itself. Examples of such messages are a closure that the loop runs, and a socket
    /// that it takes over.
    Loop,
}

/// Everything that can be converted to a [`ConnId`] is a recipient.
impl<C: Into<ConnId>> From<C> for Recipient {
    fn from(conn: C) -> Self {
        Self::Connection(conn.into())
    }
}
