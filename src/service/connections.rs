//! The connections of a service that have tasks, or had some recently.
//!
//! A connection without tasks is kept, since it often has the next one soon, until most connections
//! have none.

use crate::task::id::ConnId;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// At least this many connections without tasks are kept.
const FEW: usize = 1024;
/// No task.
const NONE: u32 = u32::MAX;

/// A connection: the first and the last of its tasks, how many are away, and at most how many of
/// these have not started.
pub(crate) struct Connection {
    /// `None` once it has closed.
    pub(crate) id: Option<ConnId>,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// How many of its tasks are with the workers, or on their way.
    pub(crate) away: u32,
    /// At most so many of its tasks have not started.
    pub(crate) queued_max: u32,
}

/// Finds connections by their id; the table holds slots and not ids, which halves its size.
pub(crate) struct Connections {
    slots: Slab<Connection>,
    by_id: HashTable<u32>,
    /// How many have no task.
    idle: usize,
}

#[inline]
fn hash(id: ConnId) -> u64 {
    FxBuildHasher.hash_one(id)
}

/// `by_id` has open connections only.
fn id_in(slots: &Slab<Connection>, slot: u32) -> ConnId {
    slots[slot as usize]
        .id
        .expect("a connection that can be found is open")
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            by_id: HashTable::new(),
            idle: 0,
        }
    }

    /// The slot of an open connection.
    #[inline]
    pub(crate) fn find(&self, id: ConnId) -> Option<u32> {
        let is_it = |&slot: &u32| self.slots[slot as usize].id == Some(id);
        self.by_id.find(hash(id), is_it).copied()
    }

    /// The slot of a connection, which is opened if it is unknown. The caller gives it a task.
    #[inline]
    pub(crate) fn find_or_open(&mut self, id: ConnId) -> u32 {
        let Some(slot) = self.find(id) else {
            return self.open(id);
        };
        self.idle -= usize::from(self.slots[slot as usize].first == NONE);
        slot
    }

    fn open(&mut self, id: ConnId) -> u32 {
        let Self { slots, by_id, .. } = self;
        let slot = slots.insert(Connection {
            id: Some(id),
            first: NONE,
            last: NONE,
            away: 0,
            queued_max: 0,
        }) as u32;
        by_id.insert_unique(hash(id), slot, |&slot| hash(id_in(slots, slot)));
        slot
    }

    /// The connection cannot be found any more. It keeps its slot as long as it has tasks.
    pub(crate) fn close(&mut self, slot: u32) {
        let conn = &mut self.slots[slot as usize];
        let is_idle = conn.first == NONE;
        if let Some(id) = conn.id.take()
            && let Ok(entry) = self.by_id.find_entry(hash(id), |&other| other == slot)
        {
            entry.remove();
        }
        if is_idle {
            self.slots.remove(slot as usize);
            self.idle -= 1;
        }
    }

    /// The connection has lost its last task.
    #[inline]
    pub(crate) fn note_idle(&mut self, slot: u32) {
        self.idle += 1;
        if self.slots[slot as usize].id.is_none() {
            self.close(slot);
        } else if self.idle > FEW && self.idle > self.slots.len() / 2 {
            self.close_idle();
        }
    }

    fn close_idle(&mut self) {
        let is_idle = |(slot, conn): (usize, &Connection)| (conn.first == NONE).then_some(slot as u32);
        let idle: Vec<u32> = self.slots.iter().filter_map(is_idle).collect();
        for slot in idle {
            self.close(slot);
        }
        if self.slots.is_empty() {
            *self = Self::new();
        }
    }
}

impl Index<u32> for Connections {
    type Output = Connection;

    #[inline]
    fn index(&self, slot: u32) -> &Connection {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Connections {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MANY: usize = FEW + 1;

    /// Connections, each with a task.
    fn with_tasks(conns: &mut Connections, ids: std::ops::Range<usize>) -> Vec<u32> {
        ids.map(|id| {
            let slot = conns.find_or_open(ConnId(id as u64));
            conns[slot].first = 0;
            slot
        })
        .collect()
    }

    fn leave(conns: &mut Connections, slots: &[u32]) {
        for &slot in slots {
            conns[slot].first = NONE;
            conns.note_idle(slot);
        }
    }

    fn known(conns: &Connections, ids: std::ops::Range<usize>) -> usize {
        ids.filter(|&id| conns.find(ConnId(id as u64)).is_some()).count()
    }

    #[test]
    fn a_few_idle_connections_are_kept() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..MANY);
        leave(&mut conns, &slots[1..]);
        assert_eq!(known(&conns, 0..MANY), MANY);
        leave(&mut conns, &slots[..1]);
        assert_eq!((known(&conns, 0..MANY), conns.slots.capacity()), (0, 0));
    }

    #[test]
    fn idle_connections_are_kept_until_they_are_the_majority() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..2 * MANY);
        leave(&mut conns, &slots[..MANY]);
        assert_eq!(known(&conns, 0..slots.len()), slots.len());
        leave(&mut conns, &slots[MANY..][..1]);
        assert_eq!(known(&conns, 0..MANY + 1), 0);
        assert_eq!(known(&conns, MANY + 1..slots.len()), FEW);
        assert_eq!((conns.slots.len(), conns.by_id.len(), conns.idle), (FEW, FEW, 0));
    }

    #[test]
    fn a_connection_that_has_a_task_again_is_not_idle() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..MANY);
        leave(&mut conns, &slots[1..]);
        assert_eq!(with_tasks(&mut conns, 1..2), slots[1..2]);
        leave(&mut conns, &slots[..1]);
        assert_eq!(known(&conns, 0..MANY), MANY);
    }

    #[test]
    fn a_closed_connection_is_forgotten_with_its_last_task() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..2);
        conns.close(slots[0]);
        assert_eq!((known(&conns, 0..2), conns.slots.len()), (1, 2));
        leave(&mut conns, &slots);
        conns.close(slots[1]);
        assert_eq!((conns.slots.len(), conns.by_id.len(), conns.idle), (0, 0, 0));
    }
}
