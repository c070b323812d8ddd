//! Messages from any thread to the connections of a loop.
//!
//! # How the loop learns of messages
//!
//! Tasks and mailboxes of a service share one notifier ([`crate::wake::notifier`]): a flag, and the
//! loop's [`Wake`](crate::Wake).
//!
//! Send, on any thread:
//! 1. Under the lock of the mailbox: add the message. If the mailbox was empty, count it as
//!    undrained.
//! 2. Set the flag. If this call has changed it from "not set", call the wake.
//!
//! Look, on the loop's thread:
//! 1. Re-arm: clear the flag. `take_ready` always writes it; a drain writes it only if it is set,
//!    since a worker's deferred notification belongs to tasks, at which a drain does not look.
//! 2. `take_ready` takes the ready tasks; a drain takes all messages, under the same lock as the
//!    send.
//!
//! `poll_timeout` is zero if a mailbox is counted as undrained. Otherwise it re-arms if the flag is
//! set, and checks again.
//!
//! # Why nothing is lost
//!
//! Claim: after a drain has taken its messages, a later message finds the flag clear and wakes the
//! loop, or finds a flag whose wake has not ended a sleep of the loop yet.
//! - The lock orders the drain's step 2 and the send's step 1. If the send is first, the drain
//!   takes the message.
//! - Otherwise the re-arm happened before the send looks at the flag. So the send sees the cleared
//!   flag, or one that was set after the re-arm. Its wake came after the loop's last sleep, and a
//!   wake is sticky: it ends the next sleep.
//! - The re-arm of a drain does not write if it finds the flag clear. It may miss only a flag whose
//!   wake has not ended a sleep yet, because a wake synchronizes with the end of the sleep that it
//!   ends. Such a wake ends the next sleep.
//!
//! So the order of `take_ready` and drains within an iteration does not matter, and a loop may
//! drain without calling `take_ready`. Two cases remain:
//! - The loop drops a drain early. Then the end of the drain notifies the loop again.
//! - The loop calls `take_ready`, which re-arms, and does not drain in this iteration. Then
//!   `poll_timeout` is zero. Both `poll_timeout` and the send that counts the mailbox do a
//!   read-modify-write of the counter. If that of `poll_timeout` is first, the re-arm before it
//!   happened before the send looks at the flag, and the send wakes. Otherwise `poll_timeout` sees
//!   the mailbox.
//!
//! Only the call that sets the flag wakes, so there is at most one notification between two looks.
//!
//! `tests/loom/mailbox.rs` checks this.

mod channel;
mod closed;
pub(crate) mod dump;
mod error;
pub(crate) mod mailboxes;
mod recipient;
mod sender;

pub use dump::MailboxDump;
pub use error::SendError;
pub use recipient::Recipient;
pub use sender::{LoopFn, Sender};

use crate::panic::drop_quietly;
use crate::service::Service;
use crate::task::Task;
use channel::{Channel, Messages};
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Weak};

/// A drain makes room for senders after this many messages, and when it ends.
const RELEASE_AFTER: usize = 32;

impl<T: Task> Service<T> {
    /// Makes a mailbox. Any thread sends messages to this loop's connections, and the loop drains
    /// them.
    ///
    /// It holds at most `capacity` messages. When it is full, `send` returns the message in an
    /// error and `send_blocking` waits. Memory is allocated as messages arrive. A service can have
    /// several mailboxes, for different types of messages.
    ///
    /// A message wakes the loop through the service's [`Wake`](crate::Wake), as an event of a task
    /// does: at most one notification is outstanding for the tasks and all mailboxes together. A
    /// loop with mailboxes makes these calls in every iteration: [`take_ready`](Self::take_ready)
    /// if it has tasks, [`drain`](Mailbox::drain) for each mailbox, in any order, and
    /// [`poll_timeout`](Self::poll_timeout) right before it blocks. `poll_timeout` is zero while a
    /// mailbox holds messages.
    ///
    /// A mailbox works without threads (`threads(0)`), and after the pool was shut down or dropped.
    /// Dropping the service closes the mailbox: it refuses further messages, and the loop can still
    /// drain the messages that it holds.
    ///
    /// ```
    /// use moored::{BoxTask, ConnId, Recipient, ThreadPool};
    /// use std::collections::BTreeMap;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let this = std::thread::current();
    /// let mut service = pool.service::<BoxTask>(move || this.unpark());
    /// let (sender, mut mailbox) = service.mailbox::<&'static str>(1024);
    /// let mut clients = BTreeMap::from([7, 8, 9].map(|id| (ConnId(id), Vec::new())));
    ///
    /// let producer = std::thread::spawn(move || {
    ///     sender.send(7, "to one")?;
    ///     sender.send(9, "to one that has gone")?;
    ///     sender.broadcast("to all")
    /// });
    /// clients.remove(&ConnId(9));
    /// service.connection_closed(9);
    ///
    /// while clients[&ConnId(8)].is_empty() {
    ///     std::thread::park_timeout(service.poll_timeout().unwrap_or(std::time::Duration::MAX));
    ///     for (recipient, message) in mailbox.drain() {
    ///         match recipient {
    ///             Recipient::Connection(conn) => {
    ///                 if let Some(sent) = clients.get_mut(&conn) {
    ///                     sent.push(message);
    ///                 }
    ///             }
    ///             Recipient::All => clients.values_mut().for_each(|sent| sent.push(message)),
    ///             Recipient::Loop => unreachable!("nobody sends to the loop here"),
    ///         }
    ///     }
    /// }
    /// assert_eq!(clients[&ConnId(7)], ["to one", "to all"]);
    /// assert_eq!(clients[&ConnId(8)], ["to all"]);
    /// assert_eq!(mailbox.dropped(), 1);
    /// producer.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    #[doc(alias = "channel")]
    #[doc(alias = "push")]
    #[doc(alias = "mg_wakeup")]
    pub fn mailbox<M: Send + 'static>(&self, capacity: usize) -> (Sender<M>, Mailbox<M>) {
        assert!(capacity > 0, "the capacity of a mailbox is 0: give at least 1");
        let mailboxes = self.inner.open_mailboxes();
        let channel = Channel::new(capacity, Arc::clone(mailboxes), Arc::clone(&self.inner.notifier));
        let weak: Weak<Channel<M>> = Arc::downgrade(&channel);
        let mailbox = Mailbox {
            slot: mailboxes.add(weak),
            channel: Arc::clone(&channel),
            batch: Messages::new(),
        };
        (Sender::new(channel), mailbox)
    }
}

/// The loop's end of a mailbox. It yields the messages that [`Sender`]s have sent.
///
/// Made by [`Service::mailbox`], which has an example. It belongs to the loop of the service.
/// Dropping it closes it: it refuses further messages, waiting calls of
/// [`send_blocking`](Sender::send_blocking) return an error, and the messages that it holds are
/// dropped.
#[doc(alias = "channel")]
#[must_use = "dropping the mailbox closes it"]
pub struct Mailbox<M> {
    channel: Arc<Channel<M>>,
    /// Messages that were taken out of the channel, and that a drain left when it ended early.
    batch: Messages<M>,
    slot: usize,
}

impl<M> Mailbox<M> {
    /// Takes the messages that are in the mailbox at this moment, each with its [`Recipient`], in
    /// the order in which they were sent. Never waits.
    ///
    /// Messages that arrive during the drain are left for the next drain. If the loop drops the
    /// iterator early, the remaining messages are left for the next drain, too, and the loop is
    /// notified. A message counts for the capacity until the loop takes it out of the iterator.
    /// Senders get the room after every 32 messages and at the end of the drain.
    ///
    /// # Closed connections
    ///
    /// A message for a closed connection is dropped inside this call and counted
    /// ([`dropped`](Self::dropped)). It does not matter whether the message was sent before or
    /// after [`Service::connection_closed`], or whether that call happens during the drain. For
    /// this the service remembers at least the last 16,384 closed connections, from its first
    /// mailbox on. A message for a connection that closed earlier is yielded, like one for a
    /// connection that never existed, because only the loop knows which connections exist. So a
    /// loop with a mailbox must never use a [`ConnId`](crate::ConnId) again.
    ///
    /// # Cost
    ///
    /// O(1) for each message, for any number of connections, and two locks for each drain that
    /// finds messages. Messages for closed connections are dropped on this thread, without a lock;
    /// a panic in their `Drop` is contained.
    ///
    /// ```
    /// use moored::{BoxTask, ConnId, Recipient, ThreadPool};
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let (sender, mut mailbox) = service.mailbox(8);
    /// for conn in [1, 2, 1, 3] {
    ///     sender.send(conn, format!("for {conn}"))?;
    /// }
    /// let mut seen = Vec::new();
    /// for (recipient, message) in mailbox.drain() {
    ///     if recipient == Recipient::Connection(ConnId(2)) {
    ///         service.connection_closed(1); // the second message for 1 is dropped
    ///     }
    ///     seen.push(message);
    /// }
    /// assert_eq!(seen, ["for 1", "for 2", "for 3"]);
    /// assert_eq!(mailbox.dropped(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> Drain<'_, M> {
        self.channel.take_into(&mut self.batch);
        Drain {
            mailbox: self,
            taken: 0,
        }
    }

    /// The number of messages that the loop has not taken.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether the loop has taken every message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number of messages that the mailbox may hold.
    pub fn capacity(&self) -> usize {
        self.channel.capacity()
    }

    /// The number of messages that were dropped because their connection had closed.
    pub fn dropped(&self) -> u64 {
        self.channel.dropped()
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let left = self.channel.close_and_take();
        self.channel.mailboxes.remove(self.slot);
        // One by one: a panic in one `Drop` must not prevent the drop of the others.
        self.batch.drain(..).chain(left).for_each(drop_quietly);
    }
}

/// Prints `<locked>` instead of the length if another thread holds the lock.
impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.debug("Mailbox", f)
    }
}

/// An iterator over the messages of a mailbox with their recipients. See [`Mailbox::drain`].
#[must_use = "messages that are not taken stay in the mailbox"]
pub struct Drain<'a, M> {
    mailbox: &'a mut Mailbox<M>,
    /// The number of messages taken since senders last got room.
    taken: usize,
}

impl<M> Iterator for Drain<'_, M> {
    type Item = (Recipient, M);

    fn next(&mut self) -> Option<Self::Item> {
        let Mailbox { channel, batch, .. } = &mut *self.mailbox;
        while let Some((recipient, message)) = batch.pop_front() {
            self.taken += 1;
            if self.taken == RELEASE_AFTER {
                channel.release(batch.len());
                self.taken = 0;
            }
            match recipient {
                Recipient::Connection(conn) if channel.mailboxes.is_closed(conn) => {
                    channel.note_dropped();
                    drop_quietly(message);
                }
                _ => return Some((recipient, message)),
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.mailbox.batch.len()))
    }
}

impl<M> FusedIterator for Drain<'_, M> {}

impl<M> Drop for Drain<'_, M> {
    fn drop(&mut self) {
        let Mailbox { channel, batch, .. } = &*self.mailbox;
        if self.taken > 0 {
            channel.release(batch.len());
        }
        if !batch.is_empty() {
            channel.notify_of_rest();
        }
    }
}

impl<M> fmt::Debug for Drain<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("len", &self.mailbox.batch.len())
            .finish_non_exhaustive()
    }
}

/// A sender can be used on any thread. A mailbox can be moved to the thread of its loop.
const _: () = {
    const fn is_sender<S: Send + Sync + Clone>() {}
    const fn is_mailbox<B: Send>() {}
    is_sender::<Sender<std::cell::Cell<u8>>>();
    is_sender::<Sender<LoopFn>>();
    is_mailbox::<Mailbox<std::cell::Cell<u8>>>();
};
