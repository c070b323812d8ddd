//! Ways for any thread to send messages to a loop: moored's mailbox, and bounded channels.
//!
//! A channel that cannot wake a mio loop gets a notifier, which makes a system call only if the
//! loop sleeps.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::{Events, Poll, Token, Waker};
use moored::{BoxTask, Recipient, Service, ThreadPool};
use parking_lot::{Condvar, Mutex};

use crate::contenders::moored::pool;
use crate::contenders::tokio::{OwnThread, runtime};
use crate::notifier::{Notifier, Sleeper};
use crate::pool::PlainThread;
use crate::rows::mailbox::{CAPACITY, Mail, Mailbox, Post};

/// What a channel carries.
type Letter = (u64, Mail);

/// moored, used as its documentation says.
pub(crate) struct Ours {
    poll: Poll,
    events: Events,
    service: Service<BoxTask>,
    mailbox: moored::Mailbox<Mail>,
    _pool: ThreadPool,
}

impl Post for moored::Sender<Mail> {
    fn send(&self, connection: u64, mail: Mail) {
        self.send_blocking(connection, mail).expect("the loop runs");
    }
}

impl Mailbox for Ours {
    type Post = moored::Sender<Mail>;
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, Self::Post, PlainThread) {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let pool = pool(threads);
        let service = pool.service(Arc::new(waker));
        let (sender, mailbox) = service.mailbox(CAPACITY);
        let ours = Self {
            poll,
            events: Events::with_capacity(64),
            service,
            mailbox,
            _pool: pool,
        };
        (ours, sender, PlainThread)
    }

    fn take_each(&mut self, mut take: impl FnMut(u64, Mail)) {
        for (recipient, mail) in self.mailbox.drain() {
            if let Recipient::Connection(connection) = recipient {
                take(connection.0, mail);
            }
        }
    }

    async fn sleep(&mut self) {
        self.poll
            .poll(&mut self.events, self.service.poll_timeout())
            .expect("poll");
    }
}

/// A bounded channel.
pub(crate) trait Channel: 'static {
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;

    fn open() -> (Self::Sender, Self::Receiver);
    fn send(sender: &Self::Sender, letter: Letter);
    fn try_receive(receiver: &Self::Receiver) -> Option<Letter>;
}

/// A channel, and the notifier of a mio loop.
pub(crate) struct Notifying<C: Channel> {
    receiver: C::Receiver,
    sleeper: Sleeper,
    /// What was there when the loop was about to sleep.
    first: Option<Letter>,
}

pub(crate) struct NotifyingPost<C: Channel> {
    sender: C::Sender,
    notifier: Arc<Notifier>,
}

impl<C: Channel> Clone for NotifyingPost<C> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            notifier: self.notifier.clone(),
        }
    }
}

impl<C: Channel> Post for NotifyingPost<C> {
    fn send(&self, connection: u64, mail: Mail) {
        C::send(&self.sender, (connection, mail));
        self.notifier.notify();
    }
}

impl<C: Channel> Mailbox for Notifying<C> {
    type Post = NotifyingPost<C>;
    type Host = PlainThread;

    fn start(_threads: usize) -> (Self, Self::Post, PlainThread) {
        let (sender, receiver) = C::open();
        let sleeper = Sleeper::new();
        let notifier = sleeper.notifier();
        let first = None;
        (
            Self {
                receiver,
                sleeper,
                first,
            },
            NotifyingPost { sender, notifier },
            PlainThread,
        )
    }

    fn take_each(&mut self, mut take: impl FnMut(u64, Mail)) {
        while let Some((connection, mail)) = self.first.take().or_else(|| C::try_receive(&self.receiver)) {
            take(connection, mail);
        }
    }

    async fn sleep(&mut self) {
        let (first, receiver) = (&mut self.first, &self.receiver);
        self.sleeper.sleep(None, || {
            *first = C::try_receive(receiver);
            first.is_some()
        });
    }
}

pub(crate) struct CrossbeamChannel;

impl Channel for CrossbeamChannel {
    type Sender = crossbeam_channel::Sender<Letter>;
    type Receiver = crossbeam_channel::Receiver<Letter>;

    fn open() -> (Self::Sender, Self::Receiver) {
        crossbeam_channel::bounded(CAPACITY)
    }

    fn send(sender: &Self::Sender, letter: Letter) {
        sender.send(letter).expect("the loop runs");
    }

    fn try_receive(receiver: &Self::Receiver) -> Option<Letter> {
        receiver.try_recv().ok()
    }
}

pub(crate) struct FlumeChannel;

impl Channel for FlumeChannel {
    type Sender = flume::Sender<Letter>;
    type Receiver = flume::Receiver<Letter>;

    fn open() -> (Self::Sender, Self::Receiver) {
        flume::bounded(CAPACITY)
    }

    fn send(sender: &Self::Sender, letter: Letter) {
        sender.send(letter).expect("the loop runs");
    }

    fn try_receive(receiver: &Self::Receiver) -> Option<Letter> {
        receiver.try_recv().ok()
    }
}

pub(crate) struct StdChannel;

impl Channel for StdChannel {
    type Sender = SyncSender<Letter>;
    type Receiver = Receiver<Letter>;

    fn open() -> (Self::Sender, Self::Receiver) {
        sync_channel(CAPACITY)
    }

    fn send(sender: &Self::Sender, letter: Letter) {
        sender.send(letter).expect("the loop runs");
    }

    fn try_receive(receiver: &Self::Receiver) -> Option<Letter> {
        receiver.try_recv().ok()
    }
}

/// Not a peer: a locked list that the loop swaps. No bound for single connections, no closed
/// connections, no dump.
pub(crate) struct Swapped {
    shared: Arc<Shared>,
    taken: Vec<Letter>,
    sleeper: Sleeper,
}

struct Shared {
    letters: Mutex<Vec<Letter>>,
    has_room: Condvar,
}

#[derive(Clone)]
pub(crate) struct SwappedPost {
    shared: Arc<Shared>,
    notifier: Arc<Notifier>,
}

impl Post for SwappedPost {
    fn send(&self, connection: u64, mail: Mail) {
        let mut letters = self.shared.letters.lock();
        while letters.len() == CAPACITY {
            self.shared.has_room.wait(&mut letters);
        }
        letters.push((connection, mail));
        drop(letters);
        self.notifier.notify();
    }
}

impl Mailbox for Swapped {
    type Post = SwappedPost;
    type Host = PlainThread;

    fn start(_threads: usize) -> (Self, SwappedPost, PlainThread) {
        let shared = Arc::new(Shared {
            letters: Mutex::new(Vec::with_capacity(CAPACITY)),
            has_room: Condvar::new(),
        });
        let sleeper = Sleeper::new();
        let post = SwappedPost {
            shared: shared.clone(),
            notifier: sleeper.notifier(),
        };
        let taken = Vec::with_capacity(CAPACITY);
        (
            Self {
                shared,
                taken,
                sleeper,
            },
            post,
            PlainThread,
        )
    }

    fn take_each(&mut self, mut take: impl FnMut(u64, Mail)) {
        let mut letters = self.shared.letters.lock();
        mem::swap(&mut *letters, &mut self.taken);
        drop(letters);
        if self.taken.len() == CAPACITY {
            self.shared.has_room.notify_all();
        }
        for (connection, mail) in self.taken.drain(..) {
            take(connection, mail);
        }
    }

    async fn sleep(&mut self) {
        let shared = &self.shared;
        self.sleeper.sleep(None, || !shared.letters.lock().is_empty());
    }
}

/// tokio's channel, and a loop in `block_on`.
pub(crate) struct TokioChannel {
    receiver: tokio::sync::mpsc::Receiver<Letter>,
    taken: Vec<Letter>,
}

impl Post for tokio::sync::mpsc::Sender<Letter> {
    fn send(&self, connection: u64, mail: Mail) {
        self.blocking_send((connection, mail)).expect("the loop runs");
    }
}

impl Mailbox for TokioChannel {
    type Post = tokio::sync::mpsc::Sender<Letter>;
    type Host = OwnThread;

    fn start(threads: usize) -> (Self, Self::Post, OwnThread) {
        let (sender, receiver) = tokio::sync::mpsc::channel(CAPACITY);
        let taken = Vec::with_capacity(CAPACITY);
        (
            Self { receiver, taken },
            sender,
            OwnThread::from(runtime(threads)),
        )
    }

    fn take_each(&mut self, mut take: impl FnMut(u64, Mail)) {
        for (connection, mail) in self.taken.drain(..) {
            take(connection, mail);
        }
    }

    async fn sleep(&mut self) {
        self.receiver.recv_many(&mut self.taken, CAPACITY).await;
    }
}
