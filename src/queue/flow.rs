//! The flows of one service: the tasks of each connection that wait for a worker.
//!
//! Within a flow, tasks that have started come before tasks that have not; both in the order in
//! which they came. A flow has a turn if and only if it has a task that may run.

use super::Entry;
use super::turns::{FlowKey, NONE, Turns};
use slab::Slab;

/// Without tasks the flows keep the memory of this many.
const KEPT: usize = 4096;

#[derive(Clone, Copy)]
struct Flow {
    first: u32,
    last_started: u32,
    last: u32,
    /// Tasks that have started and not ended. Counted only if there is a limit.
    running: u32,
    /// The number of its turn.
    turn: u32,
}

const EMPTY: Flow = Flow {
    first: NONE,
    last_started: NONE,
    last: NONE,
    running: 0,
    turn: NONE,
};

struct Waiting<T> {
    entry: Entry<T>,
    prev: u32,
    next: u32,
}

pub(crate) struct Flows<T> {
    /// The number of the service.
    service: u32,
    /// How many tasks of a flow may have started and not ended.
    limit: Option<u32>,
    /// By the slot of the connection.
    by_connection: Vec<Flow>,
    /// The tasks, each with the places of those before and behind it.
    waiting: Slab<Waiting<T>>,
    /// The place of a task, by its slot.
    places: Vec<u32>,
    /// The flow in which a task counts as running, by the slot of the task. Empty without a limit.
    counted: Vec<u32>,
}

impl<T> Flows<T> {
    pub(crate) fn new(service: u32, limit: Option<u32>) -> Self {
        Self {
            service,
            limit,
            by_connection: Vec::new(),
            waiting: Slab::new(),
            places: Vec::new(),
            counted: Vec::new(),
        }
    }

    fn flow(&mut self, flow: u32) -> &mut Flow {
        let flow = flow as usize;
        if flow >= self.by_connection.len() {
            self.by_connection.resize(flow + 1, EMPTY);
        }
        &mut self.by_connection[flow]
    }

    /// Adds a task behind the other tasks of its flow; one that has started, before those that have
    /// not.
    pub(crate) fn push(&mut self, mut entry: Entry<T>, turns: &mut Turns) {
        let counted = self.counted.get(entry.slot as usize);
        if let Some(&counted) = counted.filter(|&&flow| entry.has_started && flow != NONE) {
            // It may have moved to another connection meanwhile.
            entry.flow = counted;
        }
        let flow = *self.flow(entry.flow);
        let prev = if entry.has_started {
            flow.last_started
        } else {
            flow.last
        };
        let key = entry.flow;
        self.link(entry, prev);
        turns.note_task();
        self.settle(key, turns);
    }

    /// Gives a task back that was taken and not begun: it keeps its place among the others of its
    /// flow, which gets its turn again if it has none now.
    pub(crate) fn put_back(&mut self, entry: Entry<T>, turns: &mut Turns) {
        let (key, has_started) = (entry.flow, entry.has_started);
        if !has_started {
            self.uncount(entry.slot);
        }
        let last_started = self.flow(key).last_started;
        let mut prev = if has_started { NONE } else { last_started };
        // The tasks that came before it were given back before.
        while !(has_started && prev == last_started) {
            let next = self.waiting_at(prev).map_or(NONE, |waiting| waiting.next);
            let next = if prev == NONE { self.flow(key).first } else { next };
            let age = |entry: &Entry<T>| (entry.since, entry.serial);
            match self.waiting_at(next) {
                Some(waiting) if age(&waiting.entry) < age(&entry) => prev = next,
                _ => break,
            }
        }
        self.link(entry, prev);
        turns.note_task();
        let service = self.service;
        if self.may_run(key) && self.flow(key).turn == NONE {
            self.flow(key).turn = turns.push_returned(FlowKey { service, flow: key });
        }
    }

    /// Makes a task the one behind `prev` in its flow.
    fn link(&mut self, entry: Entry<T>, prev: u32) {
        let (slot, key, has_started) = (entry.slot as usize, entry.flow, entry.has_started);
        let flow = *self.flow(key);
        let next = self.waiting_at(prev).map_or(flow.first, |waiting| waiting.next);
        let place = self.waiting.insert(Waiting { entry, prev, next }) as u32;
        if slot >= self.places.len() {
            self.places.resize(slot + 1, NONE);
        }
        self.places[slot] = place;
        self.set_next(key, prev, place);
        self.set_prev(key, next, place);
        if has_started && prev == flow.last_started {
            self.flow(key).last_started = place;
        }
    }

    fn waiting_at(&mut self, place: u32) -> Option<&mut Waiting<T>> {
        self.waiting.get_mut(place as usize)
    }

    fn place_of(&self, slot: u32) -> u32 {
        self.places.get(slot as usize).copied().unwrap_or(NONE)
    }

    fn set_next(&mut self, flow: u32, place: u32, next: u32) {
        match self.waiting_at(place) {
            Some(waiting) => waiting.next = next,
            None => self.flow(flow).first = next,
        }
    }

    fn set_prev(&mut self, flow: u32, place: u32, prev: u32) {
        match self.waiting_at(place) {
            Some(waiting) => waiting.prev = prev,
            None => self.flow(flow).last = prev,
        }
    }

    /// Takes the first task of a flow, whose turn is over; the flow gets another turn if it has
    /// more. The flow must have a turn.
    pub(crate) fn pop(&mut self, flow: u32, turns: &mut Turns) -> Option<Entry<T>> {
        let turn = std::mem::replace(&mut self.flow(flow).turn, NONE);
        turns.remove(turn);
        let first = self.flow(flow).first;
        let entry = self.unlink(first, turns)?;
        if !entry.has_started {
            self.count(entry.slot, flow);
        }
        self.settle(flow, turns);
        Some(entry)
    }

    /// Takes out a task that has not started. `None`: it does not wait here.
    pub(crate) fn remove(&mut self, slot: u32, turns: &mut Turns) -> Option<Entry<T>> {
        let place = self.place_of(slot);
        self.waiting_at(place)
            .filter(|waiting| !waiting.entry.has_started)?;
        let entry = self.unlink(place, turns)?;
        self.settle(entry.flow, turns);
        Some(entry)
    }

    fn unlink(&mut self, place: u32, turns: &mut Turns) -> Option<Entry<T>> {
        let Waiting { entry, prev, next } = self.waiting.try_remove(place as usize)?;
        let key = entry.flow;
        turns.note_task_gone();
        self.places[entry.slot as usize] = NONE;
        self.set_next(key, prev, next);
        self.set_prev(key, next, prev);
        let flow = self.flow(key);
        if flow.last_started == place {
            flow.last_started = prev;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = Slab::new();
        }
        Some(entry)
    }

    /// A task has been taken for its first step.
    fn count(&mut self, slot: u32, flow: u32) {
        if self.limit.is_some() {
            if slot as usize >= self.counted.len() {
                self.counted.resize(slot as usize + 1, NONE);
            }
            self.counted[slot as usize] = flow;
            self.flow(flow).running += 1;
        }
    }

    /// A task that was taken has ended, or has left a batch before its first step: its flow may
    /// start another.
    pub(crate) fn release(&mut self, slot: u32, turns: &mut Turns) {
        if let Some(flow) = self.uncount(slot) {
            self.settle(flow, turns);
        }
    }

    /// Returns the flow in which the task has counted.
    fn uncount(&mut self, slot: u32) -> Option<u32> {
        let counted = self.counted.get_mut(slot as usize)?;
        let flow = std::mem::replace(counted, NONE);
        if flow == NONE {
            return None;
        }
        self.flow(flow).running -= 1;
        Some(flow)
    }

    /// A task belongs to another flow from now on, in which it is the last.
    pub(crate) fn relocate(&mut self, slot: u32, to: u32, turns: &mut Turns) {
        let place = self.place_of(slot);
        if self
            .waiting_at(place)
            .is_some_and(|waiting| waiting.entry.flow == to)
        {
            return;
        }
        let waiting = self.unlink(place, turns);
        let from = waiting.as_ref().map(|entry| entry.flow);
        if let Some(flow) = self.counted.get_mut(slot as usize)
            && *flow != NONE
            && *flow != to
        {
            let from = std::mem::replace(flow, to);
            self.flow(from).running -= 1;
            self.flow(to).running += 1;
            self.settle(from, turns);
        }
        if let Some(mut entry) = waiting {
            entry.flow = to;
            self.push(entry, turns);
        }
        self.settle(to, turns);
        if let Some(from) = from {
            self.settle(from, turns);
        }
    }

    /// Whether the first task of a flow may run.
    fn may_run(&mut self, flow: u32) -> bool {
        let limit = self.limit;
        let own = self.flow(flow);
        let may_start = limit.is_none_or(|limit| own.running < limit);
        own.first != NONE && (may_start || own.last_started != NONE)
    }

    /// Gives a flow that has a task which may run a turn, and takes it from one that has not.
    fn settle(&mut self, flow: u32, turns: &mut Turns) {
        let (service, may_run) = (self.service, self.may_run(flow));
        let own = self.flow(flow);
        if may_run && own.turn == NONE {
            own.turn = turns.push(FlowKey { service, flow });
        } else if !may_run && own.turn != NONE {
            turns.remove(std::mem::replace(&mut own.turn, NONE));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            task: (),
            serial: slot.into(),
            since: 0,
            syncs: 0,
            slot,
            flow,
            has_started: false,
            has_siblings: false,
            has_new_deadline: false,
        }
    }

    fn started(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            has_started: true,
            ..entry(slot, flow)
        }
    }

    fn flows_of(limit: Option<u32>, entries: &[(u32, u32)]) -> (Flows<()>, Turns) {
        let (mut flows, mut turns) = (Flows::new(0, limit), Turns::new());
        for &(slot, flow) in entries {
            flows.push(entry(slot, flow), &mut turns);
        }
        (flows, turns)
    }

    fn take(flows: &mut Flows<()>, turns: &mut Turns) -> Option<Entry<()>> {
        let flow = turns.first()?.flow;
        flows.pop(flow, turns)
    }

    fn pop(flows: &mut Flows<()>, turns: &mut Turns) -> Option<u32> {
        take(flows, turns).map(|entry| entry.slot)
    }

    fn pop_all(flows: &mut Flows<()>, turns: &mut Turns) -> Vec<u32> {
        std::iter::from_fn(|| pop(flows, turns)).collect()
    }

    #[test]
    fn flows_take_turns() {
        let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]);
        assert_eq!(pop_all(&mut flows, &mut turns), [0, 3, 4, 1, 5, 2]);
        assert!(flows.waiting.is_empty() && turns.is_empty());
    }

    #[test]
    fn started_tasks_come_before_the_others_of_their_flow() {
        let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 0)]);
        for slot in [8, 9] {
            flows.push(started(slot, 0), &mut turns);
        }
        assert_eq!(pop_all(&mut flows, &mut turns), [8, 9, 0, 1]);
    }

    #[test]
    fn a_task_can_be_taken_out_from_anywhere() {
        for leaves in 0..3 {
            let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 0), (2, 0)]);
            assert!(flows.remove(leaves, &mut turns).is_some());
            assert!(flows.remove(leaves, &mut turns).is_none());
            let left: Vec<_> = (0..3).filter(|&slot| slot != leaves).collect();
            assert_eq!(pop_all(&mut flows, &mut turns), left);
        }
    }

    #[test]
    fn a_flow_that_loses_its_last_task_loses_its_turn() {
        let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 1)]);
        flows.remove(0, &mut turns);
        flows.push(entry(2, 0), &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [1, 2]);
    }

    #[test]
    fn with_a_limit_a_flow_waits_until_its_task_is_released() {
        let (mut flows, mut turns) = flows_of(Some(1), &[(0, 0), (1, 0), (2, 1)]);
        assert_eq!(pop_all(&mut flows, &mut turns), [0, 2]);
        flows.push(started(0, 0), &mut turns);
        assert_eq!(
            pop_all(&mut flows, &mut turns),
            [0],
            "a started task may continue"
        );
        flows.release(0, &mut turns);
        flows.release(0, &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [1]);
    }

    /// Two workers with tasks of one flow give them back, in either order.
    #[test]
    fn tasks_that_are_given_back_keep_their_order() {
        for order in [[0, 1], [1, 0]] {
            let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 0), (2, 0), (9, 1)]);
            let mut taken = [(); 2].map(|()| take(&mut flows, &mut turns));
            taken.swap(0, 1);
            assert_eq!(
                taken
                    .each_ref()
                    .map(|entry| entry.as_ref().map(|entry| entry.slot)),
                [Some(9), Some(0)]
            );
            let [_, first] = taken;
            let mut back = [first, take(&mut flows, &mut turns)];
            for index in order {
                flows.put_back(back[index].take().expect("once"), &mut turns);
            }
            assert_eq!(pop_all(&mut flows, &mut turns), [0, 1, 2]);
        }
    }

    #[test]
    fn a_flow_gets_its_turn_again_with_a_task_that_is_given_back() {
        let (mut flows, mut turns) = flows_of(Some(1), &[(0, 0), (1, 1), (2, 2)]);
        let taken: Vec<_> = (0..2).filter_map(|_| take(&mut flows, &mut turns)).collect();
        flows.push(entry(5, 0), &mut turns);
        for entry in taken {
            flows.put_back(entry, &mut turns);
        }
        assert_eq!(pop_all(&mut flows, &mut turns), [0, 1, 2]);
        flows.release(0, &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [5]);
    }

    #[test]
    fn a_task_that_moves_counts_in_its_new_flow() {
        let (mut flows, mut turns) = flows_of(Some(1), &[(0, 0), (1, 0), (2, 1)]);
        assert_eq!(pop(&mut flows, &mut turns), Some(0));
        flows.relocate(0, 1, &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [1]);
        flows.release(0, &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [2]);
    }

    #[test]
    fn a_waiting_task_that_moves_is_the_last_of_its_new_flow() {
        let (mut flows, mut turns) = flows_of(None, &[(0, 0), (1, 1), (2, 1)]);
        flows.relocate(0, 1, &mut turns);
        assert_eq!(pop_all(&mut flows, &mut turns), [1, 2, 0]);
    }

    #[test]
    fn the_memory_of_a_burst_is_freed() {
        let slots: Vec<_> = (0..2 * KEPT as u32).map(|slot| (slot, 0)).collect();
        let (mut flows, mut turns) = flows_of(None, &slots);
        pop_all(&mut flows, &mut turns);
        assert_eq!(flows.waiting.capacity(), 0);
    }
}
