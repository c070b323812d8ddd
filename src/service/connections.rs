//! The connections of a service that have tasks, or had some a short time ago.
//!
//! A connection without tasks is kept, since it often gets the next one soon, until most
//! connections have no tasks. A connection with a weight, a group or a debt is kept longer: a
//! client must not lose its debt when its last task ends.

use crate::queue::fair::{is_in_debt, weighted};
use crate::queue::lanes::KnownFlow;
use crate::queue::member::FlowKey;
use crate::queue::{FlowData, FlowState};
use crate::task::id::{ConnId, GroupId};
use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashSet};
use slab::Slab;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// At least this many connections without tasks are kept.
const FEW: usize = 1024;
/// Up to this many connections without tasks are kept because of their debts.
const MANY: usize = 8 * FEW;
/// No task, in place of the slot of a task.
pub(super) const NO_TASK: u32 = u32::MAX;

/// A connection: its first and its last task, and the number of its tasks in flight.
pub(crate) struct Connection {
    /// The id. `None` once the connection has closed.
    pub(crate) id: Option<ConnId>,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The number of its tasks in flight: submitted, and not yet received back by the loop.
    pub(crate) away: u32,
    /// Its share of worker time is in proportion to this number.
    pub(crate) weight: u16,
    used: UsedTime,
    /// The number of its tasks that have not started, as far as the loop has seen.
    pub(crate) queued: u32,
    /// No task before this one counts in `queued`.
    pub(crate) first_queued: u32,
}

/// The worker time that a connection has used, as the loop knows it.
#[derive(Clone, Copy)]
enum UsedTime {
    /// The finish tag: the virtual time up to which the connection has been served. Zero before its
    /// first task.
    UpTo(u64),
    /// Only the queue counts the worker time of a group and of its connections. `is_new`: the next
    /// task is the first one of the connection in this group.
    OfGroup { group: GroupId, is_new: bool },
    /// Nothing, and the next task tells the queue that the connection has no group.
    LeftGroup,
}

impl Connection {
    #[inline]
    fn submit(&mut self, virtual_time: u64) -> FlowData {
        let state = match &mut self.used {
            UsedTime::UpTo(finish) => {
                let tag = *finish;
                if self.away > 0 {
                    FlowState::Busy { tag }
                } else {
                    // A connection does not save idle time.
                    *finish = tag.max(virtual_time);
                    if is_in_debt(tag, virtual_time) {
                        FlowState::InDebt { tag }
                    } else {
                        FlowState::Idle { tag }
                    }
                }
            }
            UsedTime::OfGroup { group, is_new } => {
                if std::mem::take(is_new) {
                    FlowState::NewInGroup(*group)
                } else {
                    FlowState::InGroup(*group)
                }
            }
            UsedTime::LeftGroup => {
                self.used = UsedTime::UpTo(virtual_time);
                FlowState::LeftGroup
            }
        };
        self.away += 1;
        FlowData {
            state,
            weight: self.weight,
        }
    }

    /// Charges a turn of one of its tasks, in nanoseconds.
    #[inline]
    pub(crate) fn charge(&mut self, nanos: u64) {
        if let UsedTime::UpTo(finish) = &mut self.used {
            *finish = finish.saturating_add(weighted(nanos, self.weight));
        }
    }

    pub(crate) fn group(&self) -> Option<GroupId> {
        match self.used {
            UsedTime::UpTo(_) | UsedTime::LeftGroup => None,
            UsedTime::OfGroup { group, .. } => Some(group),
        }
    }

    /// The flow of this connection, for the estimate of a wait. `None` if the connection has had no
    /// task.
    pub(crate) fn known_flow(&self, service: u32, flow: u32) -> Option<KnownFlow> {
        let (tag, is_new) = match self.used {
            UsedTime::UpTo(0) | UsedTime::LeftGroup => return None,
            UsedTime::UpTo(tag) => (tag, false),
            UsedTime::OfGroup { is_new, .. } => (0, is_new),
        };
        Some(KnownFlow {
            key: (!is_new).then_some(FlowKey { service, flow }),
            tag,
            weight: self.weight,
            group: self.group(),
        })
    }

    /// The connection begins in its new group like a new one. If it has tasks in flight, the caller
    /// tells the queue; otherwise the next submission does.
    fn set_group(&mut self, group: Option<GroupId>) {
        let is_new = self.away == 0;
        self.used = match group {
            Some(group) => UsedTime::OfGroup { group, is_new },
            None if is_new => UsedTime::LeftGroup,
            // This tag is before all virtual times, and is not zero.
            None => UsedTime::UpTo(1),
        };
    }

    /// Whether the connection has no tasks, no weight, no group and no debt.
    fn may_be_forgotten(&self, virtual_time: u64) -> bool {
        let has_nothing = match self.used {
            UsedTime::UpTo(finish) => !is_in_debt(finish, virtual_time),
            UsedTime::OfGroup { .. } => false,
            UsedTime::LeftGroup => true,
        };
        self.first == NO_TASK && self.weight == 1 && has_nothing
    }
}

/// Finds a connection by its id. The table holds slots instead of ids, which halves its size.
pub(crate) struct Connections {
    slots: Slab<Connection>,
    by_id: HashTable<u32>,
    /// The number of connections without tasks.
    idle: usize,
    /// The number of connections without tasks at which they are checked.
    sweep_at: usize,
    /// The last known virtual time.
    virtual_time: u64,
    /// The slots of connections that had a group. The queue keeps the group of a slot until it is
    /// told that the connection has none.
    had_group: FxHashSet<u32>,
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
            sweep_at: FEW + 1,
            virtual_time: 0,
            had_group: FxHashSet::default(),
        }
    }

    /// Counts a task of this connection that the loop submits or resumes.
    #[inline]
    pub(crate) fn submit(&mut self, slot: u32, virtual_time: u64) -> FlowData {
        self.virtual_time = virtual_time;
        self[slot].submit(virtual_time)
    }

    /// The slot of an open connection.
    #[inline]
    pub(crate) fn find(&self, id: ConnId) -> Option<u32> {
        let is_it = |&slot: &u32| self[slot].id == Some(id);
        self.by_id.find(hash(id), is_it).copied()
    }

    /// The slot of a connection. An unknown connection is opened. The caller adds a task to it.
    #[inline]
    pub(crate) fn find_or_open(&mut self, id: ConnId) -> u32 {
        let Some(slot) = self.find(id) else {
            return self.open(id);
        };
        self.idle -= usize::from(self[slot].first == NO_TASK);
        slot
    }

    pub(crate) fn set_weight(&mut self, id: ConnId, weight: u16) {
        let slot = self.find_or_open(id);
        self[slot].weight = weight;
        if self[slot].first == NO_TASK {
            self.note_idle(slot);
        }
    }

    /// Sets the group of a connection. Returns its slot if it has tasks in flight whose group the
    /// queue must change.
    pub(crate) fn set_group(&mut self, id: ConnId, group: Option<GroupId>) -> Option<u32> {
        let before = self.find(id).and_then(|slot| self[slot].group());
        if before == group {
            return None;
        }
        let slot = self.find_or_open(id);
        let conn = &mut self[slot];
        conn.set_group(group);
        let (is_idle, is_in_flight) = (conn.first == NO_TASK, conn.away > 0);
        self.had_group.insert(slot);
        if is_idle {
            self.note_idle(slot);
        }
        is_in_flight.then_some(slot)
    }

    fn open(&mut self, id: ConnId) -> u32 {
        let Self {
            slots,
            by_id,
            had_group,
            ..
        } = self;
        let used = if had_group.contains(&(slots.vacant_key() as u32)) {
            UsedTime::LeftGroup
        } else {
            UsedTime::UpTo(0)
        };
        let slot = slots.insert(Connection {
            id: Some(id),
            first: NO_TASK,
            last: NO_TASK,
            away: 0,
            weight: 1,
            used,
            queued: 0,
            first_queued: NO_TASK,
        }) as u32;
        by_id.insert_unique(hash(id), slot, |&slot| hash(id_in(slots, slot)));
        slot
    }

    /// The connection cannot be found from now on. It keeps its slot while it has tasks.
    pub(crate) fn close(&mut self, slot: u32) {
        let conn = &mut self[slot];
        let is_idle = conn.first == NO_TASK;
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

    /// The last task of the connection was removed.
    #[inline]
    pub(crate) fn note_idle(&mut self, slot: u32) {
        self.idle += 1;
        if self[slot].id.is_none() {
            self.close(slot);
        } else if self.idle >= self.sweep_at && self.idle > self.slots.len() / 2 {
            self.close_idle();
        }
    }

    /// Removes the connections without tasks, except connections with a weight, a group or a debt.
    fn close_idle(&mut self) {
        let virtual_time = if self.idle > MANY {
            u64::MAX / 2
        } else {
            self.virtual_time
        };
        let may_go =
            |(slot, conn): (usize, &Connection)| conn.may_be_forgotten(virtual_time).then_some(slot as u32);
        let slots: Vec<u32> = self.slots.iter().filter_map(may_go).collect();
        for slot in slots {
            self.close(slot);
        }
        if self.slots.is_empty() {
            let had_group = std::mem::take(&mut self.had_group);
            *self = Self {
                had_group,
                ..Self::new()
            };
        }
        // The remaining connections must not be checked again at the end of each task.
        self.sweep_at = (2 * self.idle).max(FEW + 1);
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

    /// One more connection than are kept in every case.
    const MORE: usize = FEW + 1;

    /// Makes connections with one task each.
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
            conns[slot].first = NO_TASK;
            conns.note_idle(slot);
        }
    }

    fn known(conns: &Connections, ids: std::ops::Range<usize>) -> usize {
        ids.filter(|&id| conns.find(ConnId(id as u64)).is_some()).count()
    }

    #[test]
    fn a_few_idle_connections_are_kept() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..MORE);
        leave(&mut conns, &slots[1..]);
        assert_eq!(known(&conns, 0..MORE), MORE);
        leave(&mut conns, &slots[..1]);
        assert_eq!((known(&conns, 0..MORE), conns.slots.capacity()), (0, 0));
    }

    #[test]
    fn idle_connections_are_kept_until_they_are_the_majority() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..2 * MORE);
        leave(&mut conns, &slots[..MORE]);
        assert_eq!(known(&conns, 0..slots.len()), slots.len());
        leave(&mut conns, &slots[MORE..][..1]);
        assert_eq!(known(&conns, 0..MORE + 1), 0);
        assert_eq!(known(&conns, MORE + 1..slots.len()), FEW);
        assert_eq!((conns.slots.len(), conns.by_id.len(), conns.idle), (FEW, FEW, 0));
    }

    #[test]
    fn a_connection_that_has_a_task_again_is_not_idle() {
        let mut conns = Connections::new();
        let slots = with_tasks(&mut conns, 0..MORE);
        leave(&mut conns, &slots[1..]);
        assert_eq!(with_tasks(&mut conns, 1..2), slots[1..2]);
        leave(&mut conns, &slots[..1]);
        assert_eq!(known(&conns, 0..MORE), MORE);
    }

    #[test]
    fn a_connection_with_a_group_is_kept_until_it_is_closed() {
        let mut conns = Connections::new();
        assert_eq!(conns.set_group(ConnId(0), Some(GroupId(1))), None);
        let slots = with_tasks(&mut conns, 0..2 * MORE);
        leave(&mut conns, &slots);
        assert_eq!(known(&conns, 0..2 * MORE), 1);
        assert_eq!(conns[slots[0]].group(), Some(GroupId(1)));
        conns.close(slots[0]);
        assert_eq!((conns.slots.len(), conns.by_id.len(), conns.idle), (0, 0, 0));
    }

    #[test]
    fn a_connection_is_new_in_its_group_once() {
        let mut conns = Connections::new();
        let slot = with_tasks(&mut conns, 0..1)[0];
        let state = |conns: &mut Connections| conns.submit(slot, 1000).state;
        assert_eq!(state(&mut conns), FlowState::Idle { tag: 0 });
        // The queue moves the task in flight, so that the next task is not the first one.
        assert_eq!(conns.set_group(ConnId(0), Some(GroupId(1))), Some(slot));
        assert_eq!(state(&mut conns), FlowState::InGroup(GroupId(1)));
        conns[slot].away = 0;
        assert_eq!(conns.set_group(ConnId(0), Some(GroupId(1))), None);
        assert_eq!(state(&mut conns), FlowState::InGroup(GroupId(1)));
        conns[slot].away = 0;
        assert_eq!(conns.set_group(ConnId(0), Some(GroupId(2))), None);
        assert_eq!(state(&mut conns), FlowState::NewInGroup(GroupId(2)));
        assert_eq!(state(&mut conns), FlowState::InGroup(GroupId(2)));
        assert_eq!(conns.set_group(ConnId(0), None), Some(slot));
        assert_eq!(state(&mut conns), FlowState::Busy { tag: 1 });
        conns[slot].away = 0;
        assert_eq!(conns.set_group(ConnId(0), Some(GroupId(2))), None);
        assert_eq!(conns.set_group(ConnId(0), None), None);
        assert_eq!(state(&mut conns), FlowState::LeftGroup);
        conns[slot].away = 0;
        assert!(matches!(state(&mut conns), FlowState::Idle { .. }));
    }

    /// A task that came straight from the ring, and gave way, went on in the group of the earlier
    /// connection.
    #[test]
    fn the_first_task_in_the_slot_of_a_connection_with_a_group_tells_the_queue() {
        let mut conns = Connections::new();
        conns.set_group(ConnId(0), Some(GroupId(1)));
        let before = with_tasks(&mut conns, 0..1);
        leave(&mut conns, &before);
        conns.close(before[0]);
        let slots = with_tasks(&mut conns, 1..3);
        assert_eq!(before[0], slots[0], "the slot is used again");
        let states = slots.iter().map(|&slot| conns.submit(slot, 1000).state);
        assert_eq!(
            states.collect::<Vec<_>>(),
            [FlowState::LeftGroup, FlowState::Idle { tag: 0 }]
        );
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
