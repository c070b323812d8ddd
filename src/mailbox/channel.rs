//! The queue between the senders and their mailbox: bounded, behind one lock.

use super::dump::MailboxDump;
use super::error::SendError;
use super::mailboxes::{AnyMailbox, Mailboxes};
use super::recipient::Recipient;
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, thread, wait};
use crate::wake::notifier::Notifier;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

pub(super) type Messages<M> = VecDeque<(Recipient, M)>;

/// No user code runs under its lock. The lock of a [`Mailboxes`] is never taken under it.
pub(super) struct Channel<M> {
    state: Mutex<State<M>>,
    /// Notified when there is room, and when the mailbox closes.
    room: Condvar,
    capacity: usize,
    pub(super) mailboxes: Arc<Mailboxes>,
    /// The thread that made the mailbox.
    creator: thread::ThreadId,
    dropped: AtomicU64,
    notifications: AtomicU64,
}

struct State<M> {
    queue: Messages<M>,
    /// Messages that the mailbox has taken out of the queue and that the loop has not taken yet.
    /// They count for the capacity.
    held: usize,
    /// The number of threads that wait in `send_blocking`.
    waiting: usize,
    /// Whether this mailbox is counted as undrained.
    is_undrained: bool,
    /// The notifier of the loop. `None` once the mailbox or its service was dropped: the channel is
    /// closed.
    notifier: Option<Arc<Notifier>>,
    /// The thread of the last drain.
    loop_thread: Option<thread::ThreadId>,
    high_water_mark: usize,
}

impl<M> State<M> {
    fn len(&self) -> usize {
        self.queue.len() + self.held
    }
}

impl<M> Channel<M> {
    pub(super) fn new(capacity: usize, mailboxes: Arc<Mailboxes>, notifier: Arc<Notifier>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                held: 0,
                waiting: 0,
                is_undrained: false,
                notifier: Some(notifier),
                loop_thread: None,
                high_water_mark: 0,
            }),
            room: Condvar::new(),
            capacity,
            mailboxes,
            creator: thread::current().id(),
            dropped: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
        })
    }

    pub(super) fn send(&self, to: Recipient, message: M) -> Result<(), SendError<M>> {
        let state = self.state.lock();
        if state.notifier.is_none() {
            return Err(SendError::Closed(message));
        }
        if state.len() >= self.capacity {
            return Err(SendError::Full(message));
        }
        self.push(state, to, message);
        Ok(())
    }

    pub(super) fn send_blocking(&self, to: Recipient, message: M) -> Result<(), SendError<M>> {
        let this_thread = thread::current().id();
        let may_not_wait = self.mailboxes.runs_tasks();
        let mut state = self.state.lock();
        let may_not_wait = may_not_wait || state.loop_thread == Some(this_thread);
        loop {
            if state.notifier.is_none() {
                return Err(SendError::Closed(message));
            }
            if may_not_wait {
                return Err(SendError::WouldDeadlock(message));
            }
            if state.len() < self.capacity {
                self.push(state, to, message);
                return Ok(());
            }
            if state.loop_thread.is_none() && self.creator == this_thread {
                return Err(SendError::WouldDeadlock(message));
            }
            state.waiting += 1;
            wait(&self.room, &mut state);
            state.waiting -= 1;
        }
    }

    fn push(&self, mut state: MutexGuard<'_, State<M>>, to: Recipient, message: M) {
        state.queue.push_back((to, message));
        state.high_water_mark = state.high_water_mark.max(state.len());
        if !state.is_undrained {
            state.is_undrained = true;
            self.mailboxes.note_undrained();
        }
        let notifier = state.notifier.as_ref().filter(|notifier| !notifier.is_notified());
        let notifier = notifier.cloned();
        drop(state);
        self.notify(notifier);
    }

    /// Notifies the loop. The caller holds no lock.
    fn notify(&self, notifier: Option<Arc<Notifier>>) {
        if notifier.is_some_and(|notifier| notifier.notify()) {
            self.notifications.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Re-arms the notification and moves all messages to the end of `batch`.
    pub(super) fn take_into(&self, batch: &mut Messages<M>) {
        let this_thread = thread::current().id();
        let mut state = self.state.lock();
        if let Some(notifier) = &state.notifier {
            notifier.rearm_after_notification();
        }
        state.loop_thread = Some(this_thread);
        if batch.is_empty() {
            std::mem::swap(batch, &mut state.queue);
        } else {
            batch.append(&mut state.queue);
        }
        state.held = batch.len();
    }

    /// The drain has this many messages left. Senders get the room of the messages that the loop
    /// has taken.
    pub(super) fn release(&self, held: usize) {
        let mut state = self.state.lock();
        state.held = held;
        if state.is_undrained && state.len() == 0 {
            state.is_undrained = false;
            self.mailboxes.note_drained();
        }
        let room = self.capacity.saturating_sub(state.len());
        let woken = state.waiting.min(room);
        drop(state);
        for _ in 0..woken {
            self.room.notify_one();
        }
    }

    /// The loop has dropped a drain early: notifies it, so that it drains again.
    pub(super) fn notify_of_rest(&self) {
        let notifier = self.state.lock().notifier.clone();
        self.notify(notifier);
    }

    /// The mailbox was dropped: refuses further messages, and returns the messages that remain.
    pub(super) fn close_and_take(&self) -> Messages<M> {
        self.close_senders();
        let mut state = self.state.lock();
        let queue = std::mem::take(&mut state.queue);
        state.held = 0;
        if std::mem::take(&mut state.is_undrained) {
            self.mailboxes.note_drained();
        }
        queue
    }

    fn close_senders(&self) {
        // Dropped after the lock is released, because the last reference may drop the user's
        // wake-up.
        let notifier = self.state.lock().notifier.take();
        drop(notifier);
        self.room.notify_all();
    }

    /// Whether the last drain was on this thread, and the mailbox is open.
    pub(super) fn is_on_loop_thread(&self) -> bool {
        let this_thread = thread::current().id();
        let state = self.state.lock();
        state.notifier.is_some() && state.loop_thread == Some(this_thread)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().notifier.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A message was dropped because its connection was closed.
    pub(super) fn note_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// For `Debug`, which must not wait for the lock.
    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct(name);
        debug.field("pool", &self.mailboxes.pool_name());
        match self.state.try_lock() {
            Some(state) => {
                let (len, is_closed) = (state.len(), state.notifier.is_none());
                drop(state);
                debug.field("len", &len).field("is_closed", &is_closed);
            }
            None => _ = debug.field("len", &format_args!("<locked>")),
        }
        debug.field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<M: Send> AnyMailbox for Channel<M> {
    fn close(&self) {
        self.close_senders();
    }

    fn dump(&self, service: u32) -> MailboxDump {
        let state = self.state.lock();
        MailboxDump {
            service,
            message_type: std::any::type_name::<M>(),
            length: state.len(),
            capacity: self.capacity,
            high_water_mark: state.high_water_mark,
            waiting_senders: state.waiting,
            dropped: self.dropped(),
            notifications: self.notifications.load(Ordering::Relaxed),
        }
    }
}
