//! The state that the mailboxes of one service share.

use super::closed::ClosedConnections;
use super::dump::MailboxDump;
use crate::scheduler::Scheduler;
use crate::scheduler::reentrancy::{is_inside, is_worker_of};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::task::id::ConnId;
use slab::Slab;
use std::sync::{Arc, Weak};

/// A mailbox without the type of its messages.
pub(crate) trait AnyMailbox: Send + Sync {
    /// Refuses further messages. The mailbox keeps the messages that it holds.
    fn close(&self);
    fn dump(&self, service: u32) -> MailboxDump;
}

/// Lock order: no thread holds two of these locks, or one of them together with the lock of a
/// mailbox.
pub(crate) struct Mailboxes {
    pool: Arc<Scheduler>,
    /// The number of mailboxes that hold messages. Changed under the lock of the mailbox.
    undrained: AtomicUsize,
    closed: Mutex<ClosedConnections>,
    /// Whether any connection was closed. Loops that never close one skip the lookup.
    any_closed: AtomicBool,
    list: Mutex<Slab<Weak<dyn AnyMailbox>>>,
}

impl Mailboxes {
    pub(crate) fn new(pool: Arc<Scheduler>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            undrained: AtomicUsize::new(0),
            closed: Mutex::new(ClosedConnections::default()),
            any_closed: AtomicBool::new(false),
            list: Mutex::new(Slab::new()),
        })
    }

    /// Returns the slot of the new mailbox.
    pub(super) fn add(&self, mailbox: Weak<dyn AnyMailbox>) -> usize {
        self.list.lock().insert(mailbox)
    }

    pub(super) fn remove(&self, slot: usize) {
        // Dropped after the lock is released.
        let removed = self.list.lock().remove(slot);
        drop(removed);
    }

    fn all(&self) -> Vec<Arc<dyn AnyMailbox>> {
        let list: Vec<_> = self.list.lock().iter().map(|(_, weak)| weak.clone()).collect();
        list.iter().filter_map(Weak::upgrade).collect()
    }

    /// The service was dropped.
    pub(crate) fn close(&self) {
        for mailbox in self.all() {
            mailbox.close();
        }
    }

    pub(crate) fn dump(&self, service: u32) -> Vec<MailboxDump> {
        self.all().iter().map(|mailbox| mailbox.dump(service)).collect()
    }

    /// A mailbox that was empty has a message now.
    pub(super) fn note_undrained(&self) {
        self.undrained.fetch_add(1, Ordering::AcqRel);
    }

    /// A mailbox is empty now.
    pub(super) fn note_drained(&self) {
        self.undrained.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a mailbox holds messages. Call it after the re-arm: see [`crate::mailbox`].
    pub(crate) fn are_undrained(&self) -> bool {
        // Not a load, which may return an old value: this operation has an order with each
        // `note_undrained`.
        self.undrained.fetch_add(0, Ordering::AcqRel) > 0
    }

    pub(crate) fn note_closed(&self, conn: ConnId) {
        self.closed.lock().insert(conn);
        self.any_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.any_closed.load(Ordering::Relaxed) && self.closed.lock().contains(conn)
    }

    /// Whether this thread runs tasks of the pool. While such a thread waits, tasks wait.
    pub(super) fn runs_tasks(&self) -> bool {
        is_worker_of(&*self.pool) || is_inside(&*self.pool)
    }

    pub(super) fn pool_name(&self) -> &str {
        &self.pool.name
    }
}
