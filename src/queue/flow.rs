//! The flows of one service: the tasks of each connection that wait for a worker.
//!
//! Within a flow, tasks run in the order in which they were submitted or resumed: tasks that have
//! started take turns with those that have not. A flow is listed in the lanes if and only if it has
//! a task that may run.

use super::fair::{Debt, EMPTY, FlowKey, Lanes, List, NONE, Prepaid};
use super::{Entry, FlowState};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Empty flows keep the memory of this many tasks.
const KEPT: usize = 4096;

#[derive(Clone, Copy)]
struct Flow {
    /// The tasks that have started, and those that have not.
    lists: [List; 2],
    /// The number of tasks that have started and not ended. Only counted if there is a limit.
    running: u32,
    /// Tasks that wait and have not started.
    queued: u32,
    /// All tasks that wait.
    waiting: u32,
    /// Its account in the lanes, if the account still belongs to this flow.
    account: u32,
}

const UNUSED: Flow = Flow {
    lists: [EMPTY; 2],
    running: 0,
    queued: 0,
    waiting: 0,
    account: NONE,
};

struct Waiting<T> {
    entry: Entry<T>,
    /// Its place in the order of all tasks of its flow.
    order: i64,
    prev: u32,
    next: u32,
}

pub(crate) struct Flows<T> {
    /// The number of the service.
    service: u32,
    /// The largest number of tasks of a flow that have started and not ended.
    limit: Option<u32>,
    /// The flows, by the slot of the connection.
    by_connection: Vec<Flow>,
    /// The waiting tasks, each with the places of the tasks before and behind it in its flow.
    waiting: Slab<Waiting<T>>,
    /// The number of tasks that were added so far.
    order: i64,
    /// The place of a task in `waiting`, by its slot.
    places: Vec<u32>,
    /// The new flows of tasks that were relocated while a worker had them, by the slot of the task.
    moved: FxHashMap<u32, u32>,
    /// The flow in which a task counts as running, by the slot of the task. Empty without a limit.
    counted: Vec<u32>,
}

/// The position of a task in the order of submission.
fn age<T>(entry: &Entry<T>) -> (u64, u64) {
    (entry.since, entry.serial)
}

fn list_of<T>(entry: &Entry<T>) -> usize {
    usize::from(!entry.has_started)
}

impl<T> Flows<T> {
    pub(crate) fn new(service: u32, limit: Option<u32>) -> Self {
        Self {
            service,
            limit,
            by_connection: Vec::new(),
            waiting: Slab::new(),
            order: 0,
            places: Vec::new(),
            moved: FxHashMap::default(),
            counted: Vec::new(),
        }
    }

    fn flow(&mut self, flow: u32) -> &mut Flow {
        let flow = flow as usize;
        if flow >= self.by_connection.len() {
            self.by_connection.resize(flow + 1, UNUSED);
        }
        &mut self.by_connection[flow]
    }

    fn account(&mut self, flow: u32, lanes: &mut Lanes) -> u32 {
        let key = FlowKey {
            service: self.service,
            flow,
        };
        let own = self.flow(flow);
        own.account = lanes.account(own.account, key);
        own.account
    }

    /// Adds a task that its loop has submitted.
    pub(crate) fn push(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        let account = self.account(entry.flow, lanes);
        if entry.flow_state != FlowState::Busy {
            lanes.set_tag(account, entry.tag);
        }
        lanes.set_weight(account, entry.weight);
        self.insert(entry, lanes);
    }

    /// Adds a task that has had a turn. Its tag includes that turn if it had no account.
    pub(crate) fn push_again(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        if let Some(flow) = self.moved.remove(&entry.slot) {
            // The tag is that of its old flow.
            entry.flow = flow;
        } else {
            let account = self.account(entry.flow, lanes);
            lanes.raise_tag(account, entry.tag);
        }
        self.insert(entry, lanes);
    }

    /// Updates the flow of a task that counts as running, because the task may have moved to
    /// another connection.
    fn find_counted(&self, entry: &mut Entry<T>) {
        let counted = self.counted.get(entry.slot as usize);
        if let Some(&counted) = counted.filter(|&&flow| entry.has_started && flow != NONE) {
            entry.flow = counted;
        }
    }

    /// Adds a task behind the others of its list.
    fn insert(&mut self, entry: Entry<T>, lanes: &mut Lanes) {
        let flow = entry.flow;
        let last = self.flow(flow).lists[list_of(&entry)].last;
        self.order += 1;
        let queued = u32::from(!entry.has_started);
        self.link(entry, self.order, last);
        self.note_task(flow, queued, lanes);
        self.settle(flow, lanes);
    }

    /// Gives a task back that was taken and not begun: it keeps its place among the others of its
    /// flow, which is served next.
    pub(crate) fn put_back(&mut self, entry: Entry<T>, lanes: &mut Lanes) {
        let flow = entry.flow;
        if !entry.has_started {
            self.uncount(entry.slot);
        }
        let (mut prev, mut next) = (NONE, self.flow(flow).lists[list_of(&entry)].first);
        // Older tasks were returned before.
        while let Some(waiting) = self.waiting.get(next as usize)
            && age(&waiting.entry) < age(&entry)
        {
            (prev, next) = (next, waiting.next);
        }
        let order = match self.waiting.get(prev as usize) {
            Some(prev) => prev.order,
            None => self.order_of_first(flow) - 1,
        };
        let queued = u32::from(!entry.has_started);
        self.link(entry, order, prev);
        self.note_task(flow, queued, lanes);
        if self.may_run(flow) {
            let account = self.account(flow, lanes);
            lanes.list_returned(account);
        }
    }

    /// Counts one more task of a flow; `queued` is 1 if it has not started.
    fn note_task(&mut self, flow: u32, queued: u32, lanes: &mut Lanes) {
        lanes.note_task();
        let own = self.flow(flow);
        own.waiting += 1;
        own.queued += queued;
        if queued > 0 {
            self.publish_queued(flow, lanes);
        }
    }

    fn publish_queued(&mut self, flow: u32, lanes: &mut Lanes) {
        let account = self.account(flow, lanes);
        lanes.set_queued(account, self.flow(flow).queued);
    }

    /// The number of tasks of a flow that wait and have not started.
    pub(crate) fn queued_in(&self, flow: u32) -> u32 {
        let flow = self.by_connection.get(flow as usize);
        flow.map_or(0, |flow| flow.queued)
    }

    /// The last account of a flow, and the number of its tasks that wait.
    pub(crate) fn account_and_waiting(&self, flow: u32) -> (u32, u32) {
        let flow = self.by_connection.get(flow as usize).unwrap_or(&UNUSED);
        (flow.account, flow.waiting)
    }

    /// Removes the newest task of a flow that has not started.
    pub(crate) fn pop_newest(&mut self, flow: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let newest = self.flow(flow).lists[1].last;
        let entry = self.unlink(newest, lanes)?;
        self.settle(flow, lanes);
        Some(entry)
    }

    /// The lowest order of the tasks of a flow.
    fn order_of_first(&mut self, flow: u32) -> i64 {
        let firsts = self.flow(flow).lists.map(|list| list.first);
        let order = |place: u32| self.waiting.get(place as usize).map(|waiting| waiting.order);
        let lowest = firsts.into_iter().filter_map(order).min();
        lowest.unwrap_or(self.order)
    }

    /// Links a task behind `prev` in its list.
    fn link(&mut self, entry: Entry<T>, order: i64, prev: u32) {
        let (slot, flow, list) = (entry.slot as usize, entry.flow, list_of(&entry));
        let first = self.flow(flow).lists[list].first;
        let next = self.waiting_at(prev).map_or(first, |waiting| waiting.next);
        let place = self.waiting.insert(Waiting {
            entry,
            order,
            prev,
            next,
        }) as u32;
        if slot >= self.places.len() {
            self.places.resize(slot + 1, NONE);
        }
        self.places[slot] = place;
        self.set_next(flow, list, prev, place);
        self.set_prev(flow, list, next, place);
    }

    fn waiting_at(&mut self, place: u32) -> Option<&mut Waiting<T>> {
        self.waiting.get_mut(place as usize)
    }

    fn place_of(&self, slot: u32) -> u32 {
        self.places.get(slot as usize).copied().unwrap_or(NONE)
    }

    fn set_next(&mut self, flow: u32, list: usize, place: u32, next: u32) {
        match self.waiting_at(place) {
            Some(waiting) => waiting.next = next,
            None => self.flow(flow).lists[list].first = next,
        }
    }

    fn set_prev(&mut self, flow: u32, list: usize, place: u32, prev: u32) {
        match self.waiting_at(place) {
            Some(waiting) => waiting.prev = prev,
            None => self.flow(flow).lists[list].last = prev,
        }
    }

    /// The place of the next task of a flow.
    fn first(&mut self, flow: u32) -> u32 {
        let limit = self.limit;
        let own = self.flow(flow);
        let [started, fresh] = own.lists.map(|list| list.first);
        if fresh == NONE || limit.is_some_and(|limit| own.running >= limit) {
            return started;
        }
        if started == NONE {
            return fresh;
        }
        let order = |place: u32| self.waiting[place as usize].order;
        if order(fresh) < order(started) {
            fresh
        } else {
            started
        }
    }

    /// Takes the next task of all flows, if it belongs to this service. Returns the task, the
    /// charged account, and the expected time of its turn.
    pub(crate) fn pop(&mut self, debt: Debt, lanes: &mut Lanes) -> Option<(Entry<T>, Prepaid, u64)> {
        let (account, key) = lanes.next(debt)?;
        if key.service != self.service {
            return None;
        }
        let (prepaid, time) = lanes.begin_turn(account);
        let first = self.first(key.flow);
        let entry = self.unlink(first, lanes)?;
        if !entry.has_started {
            self.count(entry.slot, key.flow);
        }
        if self.may_run(key.flow) {
            lanes.list(account);
        }
        Some((entry, prepaid, time))
    }

    /// Removes a task that has not started. Returns `None` if the task is not in the flows.
    pub(crate) fn remove(&mut self, slot: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let place = self.place_of(slot);
        self.waiting_at(place)
            .filter(|waiting| !waiting.entry.has_started)?;
        let entry = self.unlink(place, lanes)?;
        self.settle(entry.flow, lanes);
        Some(entry)
    }

    fn unlink(&mut self, place: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let Waiting {
            entry, prev, next, ..
        } = self.waiting.try_remove(place as usize)?;
        let (flow, list) = (entry.flow, list_of(&entry));
        lanes.note_task_gone();
        let own = self.flow(flow);
        own.waiting -= 1;
        if !entry.has_started {
            own.queued -= 1;
            self.publish_queued(flow, lanes);
        }
        self.places[entry.slot as usize] = NONE;
        self.set_next(flow, list, prev, next);
        self.set_prev(flow, list, next, prev);
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

    /// Counts the end of a taken task, or its removal from a batch before its first step. Its flow
    /// may then start another task.
    pub(crate) fn release(&mut self, slot: u32, lanes: &mut Lanes) {
        if let Some(flow) = self.uncount(slot) {
            self.settle(flow, lanes);
        }
    }

    /// Returns the flow in which the task was counted.
    fn uncount(&mut self, slot: u32) -> Option<u32> {
        let counted = self.counted.get_mut(slot as usize)?;
        let flow = std::mem::replace(counted, NONE);
        if flow == NONE {
            return None;
        }
        self.flow(flow).running -= 1;
        Some(flow)
    }

    /// Adds a task from another flow. `tag`: the tag of its loop, if its new flow has no other task
    /// in flight.
    pub(crate) fn push_moved(&mut self, entry: Entry<T>, tag: Option<u64>, lanes: &mut Lanes) {
        let account = self.account(entry.flow, lanes);
        if let Some(tag) = tag {
            lanes.set_tag(account, tag);
        }
        self.insert(entry, lanes);
    }

    /// Moves a task to the end of another flow. `tag`: the same as for
    /// [`push_moved`](Self::push_moved). Returns whether the task waits in a flow.
    pub(crate) fn relocate(&mut self, slot: u32, to: u32, tag: Option<u64>, lanes: &mut Lanes) -> bool {
        let place = self.place_of(slot);
        if self
            .waiting_at(place)
            .is_some_and(|waiting| waiting.entry.flow == to)
        {
            return true;
        }
        let waiting = self.unlink(place, lanes);
        let mut from = waiting.as_ref().map(|entry| entry.flow);
        if let Some(flow) = self.counted.get_mut(slot as usize)
            && *flow != NONE
            && *flow != to
        {
            let counted = std::mem::replace(flow, to);
            self.flow(counted).running -= 1;
            self.flow(to).running += 1;
            from = Some(counted);
        }
        let is_waiting = waiting.is_some();
        if let Some(mut entry) = waiting {
            entry.flow = to;
            self.push_moved(entry, tag, lanes);
        }
        if let Some(from) = from {
            self.settle(to, lanes);
            self.settle(from, lanes);
        }
        is_waiting
    }

    /// A task that a worker has is to be in another flow when it waits again.
    pub(crate) fn note_move(&mut self, slot: u32, to: u32) {
        self.moved.insert(slot, to);
    }

    /// A task has been returned to its loop, which knows its connection.
    pub(crate) fn forget_move(&mut self, slot: u32) {
        self.moved.remove(&slot);
    }

    /// Whether a task of a flow may run.
    fn may_run(&mut self, flow: u32) -> bool {
        self.first(flow) != NONE
    }

    /// Lists a flow if it has a task that may run; otherwise takes it out of the lanes.
    fn settle(&mut self, flow: u32, lanes: &mut Lanes) {
        let may_run = self.may_run(flow);
        let has_tasks = self.flow(flow).lists.iter().any(|list| list.first != NONE);
        let account = self.account(flow, lanes);
        if may_run {
            lanes.activate(account);
        } else {
            lanes.unlist(account);
            if has_tasks {
                // The loop counts the flow as active, so its idle time ends here too.
                lanes.raise_tag(account, lanes.virtual_time());
            }
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
            tag: 0,
            slot,
            flow,
            weight: 1,
            syncs: 0,
            has_started: false,
            flow_state: FlowState::Busy,
            has_new_deadline: false,
        }
    }

    fn started(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            has_started: true,
            ..entry(slot, flow)
        }
    }

    fn flows_of(limit: Option<u32>, entries: &[(u32, u32)]) -> (Flows<()>, Lanes) {
        let (mut flows, mut lanes) = (Flows::new(0, limit), Lanes::new());
        for &(slot, flow) in entries {
            flows.push(entry(slot, flow), &mut lanes);
        }
        (flows, lanes)
    }

    fn take(flows: &mut Flows<()>, lanes: &mut Lanes) -> Option<Entry<()>> {
        let (entry, prepaid, _) = flows.pop(Debt::Take, lanes)?;
        // Each turn costs the same.
        lanes.charge(prepaid, 1000);
        Some(entry)
    }

    fn pop(flows: &mut Flows<()>, lanes: &mut Lanes) -> Option<u32> {
        take(flows, lanes).map(|entry| entry.slot)
    }

    fn pop_all(flows: &mut Flows<()>, lanes: &mut Lanes) -> Vec<u32> {
        std::iter::from_fn(|| pop(flows, lanes)).collect()
    }

    #[test]
    fn flows_take_turns() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]);
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 3, 4, 1, 5, 2]);
        assert!(flows.waiting.is_empty() && lanes.is_empty());
    }

    /// U4: a task that gave way always ran before the tasks of its flow that had not started.
    #[test]
    fn started_tasks_take_turns_with_the_others_of_their_flow() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0)]);
        flows.push_again(started(8, 0), &mut lanes);
        flows.push(entry(2, 0), &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1, 8, 2]);
    }

    #[test]
    fn a_task_can_be_taken_out_from_anywhere() {
        for leaves in 0..3 {
            let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0), (2, 0)]);
            assert!(flows.remove(leaves, &mut lanes).is_some());
            assert!(flows.remove(leaves, &mut lanes).is_none());
            let left: Vec<_> = (0..3).filter(|&slot| slot != leaves).collect();
            assert_eq!(pop_all(&mut flows, &mut lanes), left);
        }
    }

    #[test]
    fn a_flow_that_loses_its_last_task_loses_its_turn() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 1)]);
        flows.remove(0, &mut lanes);
        flows.push(entry(2, 0), &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1, 2]);
    }

    #[test]
    fn with_a_limit_a_flow_waits_until_its_task_is_released() {
        let (mut flows, mut lanes) = flows_of(Some(1), &[(0, 0), (1, 0), (2, 1)]);
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 2]);
        flows.push(started(0, 0), &mut lanes);
        assert_eq!(
            pop_all(&mut flows, &mut lanes),
            [0],
            "a started task may continue"
        );
        flows.release(0, &mut lanes);
        flows.release(0, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1]);
    }

    /// Two workers return tasks of the same flow, in either order.
    #[test]
    fn tasks_that_are_given_back_keep_their_order() {
        for order in [[0, 1], [1, 0]] {
            let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0), (2, 0), (9, 1)]);
            let mut taken = [(); 2].map(|()| take(&mut flows, &mut lanes));
            taken.swap(0, 1);
            assert_eq!(
                taken
                    .each_ref()
                    .map(|entry| entry.as_ref().map(|entry| entry.slot)),
                [Some(9), Some(0)]
            );
            let [_, first] = taken;
            let mut back = [first, take(&mut flows, &mut lanes)];
            for index in order {
                flows.put_back(back[index].take().expect("once"), &mut lanes);
            }
            assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1, 2]);
        }
    }

    #[test]
    fn a_flow_gets_its_turn_again_with_a_task_that_is_given_back() {
        let (mut flows, mut lanes) = flows_of(Some(1), &[(0, 0), (1, 1), (2, 2)]);
        let taken: Vec<_> = (0..2).filter_map(|_| take(&mut flows, &mut lanes)).collect();
        flows.push(entry(5, 0), &mut lanes);
        for entry in taken {
            flows.put_back(entry, &mut lanes);
        }
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1, 2]);
        flows.release(0, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [5]);
    }

    #[test]
    fn a_task_that_moves_counts_in_its_new_flow() {
        let (mut flows, mut lanes) = flows_of(Some(1), &[(0, 0), (1, 0), (2, 1)]);
        assert_eq!(pop(&mut flows, &mut lanes), Some(0));
        flows.relocate(0, 1, None, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1]);
        flows.release(0, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [2]);
    }

    #[test]
    fn a_waiting_task_that_moves_is_the_last_of_its_new_flow() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 1), (2, 1)]);
        flows.relocate(0, 1, None, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1, 2, 0]);
    }

    #[test]
    fn the_memory_of_a_burst_is_freed() {
        let slots: Vec<_> = (0..2 * KEPT as u32).map(|slot| (slot, 0)).collect();
        let (mut flows, mut lanes) = flows_of(None, &slots);
        pop_all(&mut flows, &mut lanes);
        assert_eq!(flows.waiting.capacity(), 0);
    }
}
