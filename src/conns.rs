//! The connections of a service that have tasks.

use crate::id::ConnId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// A connection: the first and the last of its tasks.
pub(crate) struct Conn {
    /// `None` once it has closed.
    pub(crate) id: Option<ConnId>,
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// Finds connections by their id; the table holds slots and not ids, which halves its size.
pub(crate) struct Conns {
    slots: Slab<Conn>,
    by_id: HashTable<u32>,
}

fn hash(id: ConnId) -> u64 {
    FxBuildHasher.hash_one(id)
}

/// Only what is open is in `by_id`.
fn id_in(slots: &Slab<Conn>, slot: u32) -> ConnId {
    slots[slot as usize]
        .id
        .expect("a connection that can be found is open")
}

impl Conns {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            by_id: HashTable::new(),
        }
    }

    /// The slot of an open connection.
    pub(crate) fn find(&self, id: ConnId) -> Option<u32> {
        self.by_id
            .find(hash(id), |&slot| id_in(&self.slots, slot) == id)
            .copied()
    }

    /// The slot of a connection, which is opened, without tasks, if it is unknown.
    #[inline]
    pub(crate) fn find_or_open(&mut self, id: ConnId, no_task: u32) -> u32 {
        let Self { slots, by_id } = self;
        let entry = by_id.entry(
            hash(id),
            |&slot| id_in(slots, slot) == id,
            |&slot| hash(id_in(slots, slot)),
        );
        match entry {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let slot = slots.insert(Conn {
                    id: Some(id),
                    first: no_task,
                    last: no_task,
                }) as u32;
                *entry.insert(slot).get()
            }
        }
    }

    /// The connection cannot be found any more. It keeps its slot.
    #[inline]
    pub(crate) fn close(&mut self, slot: u32) {
        if let Some(id) = self.slots[slot as usize].id.take()
            && let Ok(entry) = self.by_id.find_entry(hash(id), |&other| other == slot)
        {
            entry.remove();
        }
    }

    /// The connection gives up its slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.close(slot);
        self.slots.remove(slot as usize);
    }
}

impl Index<u32> for Conns {
    type Output = Conn;

    fn index(&self, slot: u32) -> &Conn {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Conns {
    fn index_mut(&mut self, slot: u32) -> &mut Conn {
        &mut self.slots[slot as usize]
    }
}
