//! A service's tasks, and which connection each belongs to.
//!
//! Touched by the service's loop, and by who dumps or finishes the pool; a worker comes here only when the
//! service is gone. The tasks of a connection are linked through the slab, in the order in which they came, so that
//! closing it costs as much as it has tasks.

use crate::cell::HasHead;
use crate::conns::Conns;
use crate::id::{ConnId, TaskId};
use crate::inbox::Event;
use crate::state::Phase;
use crate::status::Timeout;
use crate::timers::{Timers, Timing};
use slab::Slab;
use std::borrow::Cow;
use std::sync::Arc;

const NONE: u32 = u32::MAX;

pub(crate) struct Entry<C> {
    pub(crate) cell: Arc<C>,
    /// `None` for a task without name and timeouts.
    pub(crate) extras: Option<Box<Extras>>,
    conn: u32,
    prev: u32,
    next: u32,
}

/// What most tasks do not have.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) timing: Timing,
}

impl<C: HasHead> Entry<C> {
    /// Which of its timeouts is next, and when.
    pub(crate) fn due(&self) -> Option<(u64, Timeout)> {
        let head = self.cell.head();
        self.extras
            .as_ref()?
            .timing
            .next(head.state.load(), head.times.since())
    }
}

pub(crate) struct Table<C> {
    entries: Slab<Entry<C>>,
    conns: Conns,
    pub(crate) timers: Timers,
    service: u32,
    serial: u64,
    /// The pool is finishing.
    pub(crate) closed: bool,
}

impl<C: HasHead> Table<C> {
    pub(crate) fn new(service: u32) -> Self {
        Self {
            entries: Slab::new(),
            conns: Conns::new(),
            timers: Timers::default(),
            service,
            serial: 0,
            closed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds the task that `make` makes from its id and the slot of its connection.
    pub(crate) fn insert(
        &mut self,
        conn: ConnId,
        extras: Option<Box<Extras>>,
        make: impl FnOnce(TaskId, u32) -> Arc<C>,
    ) -> &Entry<C> {
        let conn = self.conns.find_or_open(conn, NONE);
        self.serial += 1;
        let slot = self.entries.vacant_key() as u32;
        let id = TaskId {
            serial: self.serial,
            service: self.service,
            slot,
        };
        let cell = make(id, conn);
        self.entries.insert(Entry {
            cell,
            extras,
            conn,
            prev: NONE,
            next: NONE,
        });
        self.link(slot, conn);
        &self.entries[slot as usize]
    }

    pub(crate) fn get(&self, id: TaskId) -> Option<&Entry<C>> {
        self.entries
            .get(id.slot as usize)
            .filter(|entry| entry.cell.head().id == id)
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Entry<C>> {
        self.entries.get(slot as usize)
    }

    pub(crate) fn remove(&mut self, id: TaskId) -> Option<Arc<C>> {
        self.get(id)?;
        self.unlink(id.slot);
        let entry = self.entries.remove(id.slot as usize);
        if let Some(due) = entry.extras.and_then(|extras| extras.timing.armed) {
            self.timers.disarm(due, id.slot);
        }
        Some(entry.cell)
    }

    /// The tasks of an open connection, in the order in which they came to it.
    pub(crate) fn tasks_of(&self, conn: ConnId) -> impl Iterator<Item = &Entry<C>> {
        let first = self.conns.find(conn).map_or(NONE, |slot| self.conns[slot].first);
        let entry = |slot: u32| self.entries.get(slot as usize);
        std::iter::successors(entry(first), move |last| entry(last.next))
    }

    /// The connection is unknown from now on; its tasks stay, without one.
    pub(crate) fn close_conn(&mut self, conn: ConnId) {
        if let Some(slot) = self.conns.find(conn) {
            self.conns.close(slot);
        }
    }

    pub(crate) fn connection_of(&self, id: TaskId) -> Option<ConnId> {
        self.get(id).and_then(|entry| self.conns[entry.conn].id)
    }

    /// Moves a task to another connection; gives the slot of that.
    pub(crate) fn reattach(&mut self, id: TaskId, conn: ConnId) -> Option<u32> {
        let from = self.get(id)?.conn;
        let to = self.conns.find_or_open(conn, NONE);
        if to == from {
            return Some(to);
        }
        self.unlink(id.slot);
        self.link(id.slot, to);
        Some(to)
    }

    /// All tasks, in slot order, from slot `from` on.
    pub(crate) fn from(&self, from: usize) -> impl Iterator<Item = (&Entry<C>, Option<ConnId>)> {
        (from..self.entries.capacity()).filter_map(|slot| {
            let entry = self.entries.get(slot)?;
            Some((entry, self.conns[entry.conn].id))
        })
    }

    /// The task that an event tells of, unless it has been reaped, answered or stopped meanwhile.
    pub(crate) fn is_news(&self, event: Event) -> Option<TaskId> {
        let id = TaskId {
            serial: event.serial,
            service: self.service,
            slot: event.slot,
        };
        let word = self.get(id)?.cell.head().state.load();
        let is_news = event.syncs == 0 || word.phase() == Phase::Syncing && word.syncs() == event.syncs;
        is_news.then_some(id)
    }

    /// The same, for the loop's eyes: from now on a parked task's timeout counts.
    pub(crate) fn announce(&mut self, event: Event) -> Option<TaskId> {
        let id = self.is_news(event)?;
        if let Some(extras) = &mut self.entries[id.slot as usize].extras {
            extras.timing.announced = event.syncs;
            self.rearm(id.slot);
        }
        Some(id)
    }

    /// Sets the moment at which the timers look at a task again.
    pub(crate) fn rearm(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize) else {
            return;
        };
        let due = entry.due().map(|(at, _)| at);
        let Some(extras) = &mut entry.extras else { return };
        let before = std::mem::replace(&mut extras.timing.armed, due);
        if before != due {
            if let Some(before) = before {
                self.timers.disarm(before, slot);
            }
            if let Some(due) = due {
                self.timers.arm(due, slot);
            }
        }
    }

    fn link(&mut self, slot: u32, conn: u32) {
        let list = &mut self.conns[conn];
        let prev = std::mem::replace(&mut list.last, slot);
        if prev == NONE {
            list.first = slot;
        } else {
            self.entries[prev as usize].next = slot;
        }
        let entry = &mut self.entries[slot as usize];
        (entry.conn, entry.prev, entry.next) = (conn, prev, NONE);
    }

    /// Takes a task out of its connection, and forgets a connection that has none left.
    fn unlink(&mut self, slot: u32) {
        let Entry { conn, prev, next, .. } = self.entries[slot as usize];
        if prev != NONE {
            self.entries[prev as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        let list = &mut self.conns[conn];
        if list.first == slot {
            list.first = next;
        }
        if list.last == slot {
            list.last = prev;
        }
        if list.first == NONE {
            self.conns.remove(conn);
        }
    }
}
