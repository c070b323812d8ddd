//! Why a message was refused.

use std::fmt;

/// Why a [`Sender`](crate::Sender) refused a message. It contains the message.
///
/// It implements [`Error`](std::error::Error) for every type of message. Its text does not show the
/// message.
///
/// ```
/// use moored::{BoxTask, SendError, ThreadPool};
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let service = pool.service::<BoxTask>(|| {});
/// let (sender, mailbox) = service.mailbox(1);
/// sender.send(7, "first")?;
/// let refused = sender.send(7, "second").unwrap_err();
/// assert!(refused.is_full());
/// assert_eq!(refused.into_inner(), "second");
/// # drop(mailbox);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<M> {
    /// The mailbox holds as many messages as its capacity. Send again later, drop the message, or
    /// wait for room with [`send_blocking`](crate::Sender::send_blocking).
    Full(M),
    /// The mailbox or its service was dropped, so that no loop will take the message.
    Closed(M),
    /// Only from [`send_blocking`](crate::Sender::send_blocking): the calling thread must not wait,
    /// because it is the thread of the loop or a worker of the pool. Use
    /// [`send`](crate::Sender::send) on these threads.
    WouldDeadlock(M),
}

impl<M> SendError<M> {
    /// Returns the refused message, unchanged.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) | Self::WouldDeadlock(message) => message,
        }
    }

    /// Whether the mailbox was full. The same call can succeed after the next drain.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the mailbox is closed. Every later call fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
            Self::WouldDeadlock(_) => "WouldDeadlock(..)",
        })
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => {
                "the mailbox is full: send again after the loop has drained it, or wait with `send_blocking`"
            }
            Self::Closed(_) => "the mailbox or its service was dropped: stop sending",
            Self::WouldDeadlock(_) => {
                "`send_blocking` on the loop's own thread or on a worker of its pool would deadlock: use `send`"
            }
        })
    }
}

impl<M> std::error::Error for SendError<M> {}
