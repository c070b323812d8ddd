//! The flows that have something to run, in the order of their turns.

use slab::Slab;

/// No turn, no slot.
pub(crate) const NONE: u32 = u32::MAX;

/// An empty list keeps the memory of this many turns.
const KEPT: usize = 4096;

/// Names a flow: the number of its service in the run queue, and the slot of its connection there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    pub(crate) service: u32,
    pub(crate) flow: u32,
}

struct Turn {
    key: FlowKey,
    prev: u32,
    next: u32,
}

/// A list in which each flow is at most once. Every operation is O(1).
pub(crate) struct Turns {
    list: Slab<Turn>,
    first: u32,
    last: u32,
    /// The last of those at the front that were given back.
    returned: u32,
    /// The number of tasks in all flows.
    tasks: usize,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            list: Slab::new(),
            first: NONE,
            last: NONE,
            returned: NONE,
            tasks: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// A flow has one task more.
    pub(crate) fn note_task(&mut self) {
        self.tasks += 1;
    }

    /// A flow has one task less.
    pub(crate) fn note_task_gone(&mut self) {
        self.tasks -= 1;
    }

    /// Whether each flow has one task, which may run: then the order of the turns is that of the
    /// tasks.
    #[inline]
    pub(crate) fn are_single(&self) -> bool {
        self.tasks == self.list.len()
    }

    /// The flow whose turn is next.
    pub(crate) fn first(&self) -> Option<FlowKey> {
        self.list.get(self.first as usize).map(|turn| turn.key)
    }

    /// Adds a flow at the end. Returns the number of its turn.
    pub(crate) fn push(&mut self, key: FlowKey) -> u32 {
        self.insert_after(self.last, key)
    }

    /// Adds a flow whose task was taken and is given back: before all others, but behind those that
    /// were given back before.
    pub(crate) fn push_returned(&mut self, key: FlowKey) -> u32 {
        self.returned = self.insert_after(self.returned, key);
        self.returned
    }

    fn insert_after(&mut self, prev: u32, key: FlowKey) -> u32 {
        let next = self.list.get(prev as usize).map_or(self.first, |turn| turn.next);
        let number = self.list.insert(Turn { key, prev, next }) as u32;
        match self.list.get_mut(prev as usize) {
            Some(prev) => prev.next = number,
            None => self.first = number,
        }
        match self.list.get_mut(next as usize) {
            Some(next) => next.prev = number,
            None => self.last = number,
        }
        number
    }

    pub(crate) fn remove(&mut self, number: u32) {
        let Turn { prev, next, .. } = self.list.remove(number as usize);
        if self.returned == number {
            self.returned = prev;
        }
        match self.list.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => self.first = next,
        }
        match self.list.get_mut(next as usize) {
            Some(next) => next.prev = prev,
            None => self.last = prev,
        }
        if self.list.is_empty() && self.list.capacity() > KEPT {
            self.list = Slab::new();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn turns_of(flows: u32) -> (Turns, Vec<u32>) {
        let mut turns = Turns::new();
        let numbers = (0..flows)
            .map(|flow| turns.push(FlowKey { service: 0, flow }))
            .collect();
        (turns, numbers)
    }

    #[test]
    fn a_flow_can_leave_from_anywhere() {
        for (leaves, left) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
            let (mut turns, numbers) = turns_of(3);
            turns.remove(numbers[leaves]);
            for flow in left {
                assert_eq!(turns.first().map(|key| key.flow), Some(flow));
                turns.remove(numbers[flow as usize]);
            }
            assert!(turns.is_empty() && turns.first().is_none());
        }
    }

    #[test]
    fn what_is_given_back_is_first_and_in_order() {
        let (mut turns, _) = turns_of(1);
        for flow in [8, 9] {
            turns.push_returned(FlowKey { service: 0, flow });
        }
        let mut order = Vec::new();
        while let Some(key) = turns.first() {
            order.push(key.flow);
            turns.remove(turns.first);
        }
        assert_eq!(order, [8, 9, 0]);
        turns.push_returned(FlowKey { service: 0, flow: 1 });
        assert_eq!(turns.first().map(|key| key.flow), Some(1));
    }

    #[test]
    fn the_memory_of_a_burst_is_freed() {
        let (mut turns, numbers) = turns_of(2 * KEPT as u32);
        for number in numbers {
            turns.remove(number);
        }
        assert_eq!(turns.list.capacity(), 0);
    }
}
