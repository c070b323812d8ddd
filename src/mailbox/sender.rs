//! The sending end of a mailbox.

use super::channel::Channel;
use super::error::SendError;
use super::recipient::Recipient;
use std::fmt;
use std::sync::Arc;

/// The message type of a mailbox whose loop runs closures: see [`Sender::run_in_loop`].
///
/// The closure has no parameter, and it must be `Send`. If a closure needs the state of the loop,
/// use another type of message, such as `Box<dyn FnOnce(&mut State) + Send>`. Send it with
/// [`Sender::send`] to [`Recipient::Loop`], and let the loop call it with its state.
#[doc(alias = "queueInLoop")]
pub type LoopFn = Box<dyn FnOnce() + Send>;

/// Sends messages to the connections of a loop, from any thread.
///
/// Made by [`Service::mailbox`](crate::Service::mailbox). A clone sends to the same
/// [`Mailbox`](crate::Mailbox). All messages arrive in the order of the calls that sent them, for
/// all senders and recipients.
///
/// ```
/// use moored::{BoxTask, ConnId, Recipient, SendError, ThreadPool};
///
/// let pool = ThreadPool::builder().threads(1).build()?;
/// let service = pool.service::<BoxTask>(|| {});
/// let (sender, mut mailbox) = service.mailbox::<String>(1);
///
/// let producer = sender.clone();
/// std::thread::spawn(move || producer.send(7, "tick".to_owned()))
///     .join()
///     .unwrap()?;
/// match sender.send(7, "tock".to_owned()) {
///     Err(SendError::Full(message)) => assert_eq!(message, "tock"),
///     other => panic!("{other:?}"),
/// }
/// let messages: Vec<_> = mailbox.drain().collect();
/// assert_eq!(messages, [(Recipient::Connection(ConnId(7)), "tick".to_owned())]);
///
/// drop(service);
/// assert!(sender.send(7, "late".to_owned()).unwrap_err().is_closed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Push from any thread
///
/// A producer is a thread that has a sender. It ends when a flag is set or when the mailbox is
/// closed. Each message is serialised once; with an `Arc` or `bytes::Bytes`, all connections share
/// it.
///
/// ```
/// use moored::{BoxTask, SendError, Sender, ThreadPool};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::thread;
/// use std::time::Duration;
///
/// fn produce(sender: &Sender<Arc<str>>, is_stopping: &AtomicBool) {
///     let mut number = 0;
///     while !is_stopping.load(Ordering::Relaxed) {
///         number += 1;
///         match sender.broadcast(format!("{{\"number\":{number}}}").into()) {
///             Ok(()) => {}
///             // The loop is late: the next message replaces this one. If each message must
///             // arrive, use `send_blocking` with `Recipient::All`.
///             Err(SendError::Full(_)) => {}
///             Err(_) => return,
///         }
///         thread::park_timeout(Duration::from_millis(1));
///     }
/// }
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let this = thread::current();
/// let mut service = pool.service::<BoxTask>(move || this.unpark());
/// let (sender, mut mailbox) = service.mailbox(2);
/// let is_stopping = Arc::new(AtomicBool::new(false));
/// let producer = thread::spawn({
///     let is_stopping = Arc::clone(&is_stopping);
///     move || produce(&sender, &is_stopping)
/// });
///
/// let mut messages = Vec::new();
/// while messages.len() < 3 {
///     thread::park_timeout(service.poll_timeout().unwrap_or(Duration::MAX));
///     messages.extend(mailbox.drain().map(|(_, message)| message));
/// }
/// is_stopping.store(true, Ordering::Relaxed);
/// producer.thread().unpark();
/// producer.join().unwrap();
/// assert_eq!(&*messages[0], "{\"number\":1}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "channel")]
#[doc(alias = "mg_wakeup")]
pub struct Sender<M> {
    channel: Arc<Channel<M>>,
}

impl<M> Sender<M> {
    pub(super) fn new(channel: Arc<Channel<M>>) -> Self {
        Self { channel }
    }

    /// Sends a message to a connection (a [`ConnId`](crate::ConnId) or its number), or to another
    /// [`Recipient`]. Never waits.
    ///
    /// The message moves into the mailbox, and the loop is notified, unless a notification is
    /// outstanding already. The connection need not have a task. The loop checks whether the
    /// connection is open when it drains: see [`Mailbox::drain`](crate::Mailbox::drain).
    ///
    /// It can be called from any thread, inside a step, inside a `Drop`, and on the loop's thread.
    /// O(1).
    ///
    /// # Errors
    ///
    /// The error contains the message: [`Full`](SendError::Full), or [`Closed`](SendError::Closed)
    /// if the mailbox or its service was dropped.
    #[doc(alias = "push")]
    #[doc(alias = "wakeup")]
    #[doc(alias = "mg_wakeup")]
    #[doc(alias = "queueInLoop")]
    pub fn send(&self, to: impl Into<Recipient>, message: M) -> Result<(), SendError<M>> {
        self.channel.send(to.into(), message)
    }

    /// Sends a message like [`send`](Self::send), but waits until there is room.
    ///
    /// It returns an error where waiting would prevent the drain or delay tasks: on the loop's own
    /// thread, on the workers of the pool, and inside
    /// [`Service::run_pending`](crate::Service::run_pending). In these places it refuses every
    /// message, even if there is room.
    ///
    /// The loop's own thread is the thread that called [`Mailbox::drain`](crate::Mailbox::drain)
    /// last. Before the first drain it is unknown. Until then, the call is refused on the thread
    /// that made the mailbox if there is no room. So if that thread sends, start the loop first.
    ///
    /// If two loops wait for room in each other's mailbox, both wait for ever, and this call cannot
    /// detect it. Use [`send`](Self::send) between loops.
    ///
    /// ```
    /// use moored::{BoxTask, SendError, ThreadPool};
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let service = pool.service::<BoxTask>(|| {});
    /// let (sender, mut mailbox) = service.mailbox::<u32>(1);
    ///
    /// let producer = std::thread::spawn({
    ///     let sender = sender.clone();
    ///     move || (0..3).try_for_each(|number| sender.send_blocking(7, number))
    /// });
    /// let mut sum = 0;
    /// while sum < 3 {
    ///     sum += mailbox.drain().map(|(_, number)| number).sum::<u32>();
    /// }
    /// producer.join().unwrap()?;
    ///
    /// // This thread drains, so it would wait for itself.
    /// assert!(matches!(sender.send_blocking(7, 9), Err(SendError::WouldDeadlock(9))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error contains the message: [`Closed`](SendError::Closed), also if the mailbox closes
    /// while this call waits, or [`WouldDeadlock`](SendError::WouldDeadlock).
    #[doc(alias = "backpressure")]
    pub fn send_blocking(&self, to: impl Into<Recipient>, message: M) -> Result<(), SendError<M>> {
        self.channel.send_blocking(to.into(), message)
    }

    /// Sends a message to every connection of the loop: one entry of the mailbox, for
    /// [`Recipient::All`]. Never waits.
    ///
    /// The loop gives a clone of the message to each of its connections. If the message is a
    /// `bytes::Bytes` or an `Arc`, no bytes are copied.
    ///
    /// It can be called from any thread. O(1), for any number of connections.
    ///
    /// ```
    /// use moored::{BoxTask, Recipient, ThreadPool};
    /// use std::sync::Arc;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let service = pool.service::<BoxTask>(|| {});
    /// let (sender, mut mailbox) = service.mailbox::<Arc<[u8]>>(8);
    /// sender.broadcast(vec![0; 65_536].into())?;
    ///
    /// let mut clients: Vec<Vec<Arc<[u8]>>> = vec![Vec::new(); 100];
    /// for (recipient, message) in mailbox.drain() {
    ///     assert_eq!(recipient, Recipient::All);
    ///     for client in &mut clients {
    ///         client.push(Arc::clone(&message)); // all share one buffer
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as those of [`send`](Self::send).
    pub fn broadcast(&self, message: M) -> Result<(), SendError<M>>
    where
        M: Clone,
    {
        self.channel.send(Recipient::All, message)
    }

    /// Whether the mailbox or its service was dropped, so that every message is refused. It can be
    /// called from any thread. O(1).
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// The largest number of messages that the mailbox may hold.
    pub fn capacity(&self) -> usize {
        self.channel.capacity()
    }
}

impl Sender<LoopFn> {
    /// Runs a closure in the loop: immediately if the call is on the loop's own thread, otherwise
    /// as a message to [`Recipient::Loop`] that the loop calls when it drains.
    ///
    /// The loop's own thread is the thread that called [`Mailbox::drain`](crate::Mailbox::drain)
    /// last. Before the first drain the closure is always sent as a message.
    ///
    /// Messages run in the order in which they were sent. A closure that runs immediately runs
    /// before all messages in the mailbox. To keep the order on the loop's own thread, too, use
    /// [`send`](Self::send). In Drogon, `run_in_loop` is `runInLoop`, and `send` is `queueInLoop`.
    ///
    /// ```
    /// use moored::{BoxTask, LoopFn, Recipient, ThreadPool};
    /// use std::sync::mpsc;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let service = pool.service::<BoxTask>(|| {});
    /// let (sender, mut mailbox) = service.mailbox::<LoopFn>(64);
    /// let (log, lines) = mpsc::channel();
    ///
    /// let (other, other_log) = (sender.clone(), log.clone());
    /// let other_thread = std::thread::spawn(move || {
    ///     other.run_in_loop(move || other_log.send("from another thread").unwrap_or(()))
    /// });
    /// other_thread.join().unwrap()?;
    /// for (_, run) in mailbox.drain() {
    ///     run();
    /// }
    /// // This thread has drained, so it is the loop's thread now.
    /// sender.send(Recipient::Loop, Box::new({
    ///     let log = log.clone();
    ///     move || log.send("sent").unwrap_or(())
    /// }))?;
    /// sender.run_in_loop(move || log.send("at once").unwrap_or(()))?;
    /// for (_, run) in mailbox.drain() {
    ///     run();
    /// }
    /// let lines: Vec<_> = lines.iter().take(3).collect();
    /// assert_eq!(lines, ["from another thread", "at once", "sent"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as those of [`send`](Self::send); the error contains the closure in its box. If the
    /// mailbox is closed, the closure does not run.
    ///
    /// # Panics
    ///
    /// If the closure runs immediately and panics.
    #[doc(alias = "runInLoop")]
    #[doc(alias = "queueInLoop")]
    pub fn run_in_loop(&self, run: impl FnOnce() + Send + 'static) -> Result<(), SendError<LoopFn>> {
        if self.channel.is_on_loop_thread() {
            run();
            return Ok(());
        }
        self.send(Recipient::Loop, Box::new(run))
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.channel))
    }
}

/// Prints `<locked>` instead of the length if another thread holds the lock.
impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.debug("Sender", f)
    }
}
