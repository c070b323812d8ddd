//! The flows of one service: the tasks of each connection that wait for a worker.
//!
//! Within a flow, tasks run in the order in which they were submitted or resumed: tasks that have
//! started take turns with those that have not. A flow is listed in the lanes if and only if it has
//! a task that may run.

use super::fair::{Debt, EMPTY, FlowKey, List, NONE};
use super::lanes::{AccountId, Lanes, Prepaid};
use super::{Entry, FlowData, FlowState, MoveTarget};
use crate::task::id::GroupId;
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
    account: AccountId,
    group: Option<GroupId>,
}

const UNUSED: Flow = Flow {
    lists: [EMPTY; 2],
    running: 0,
    queued: 0,
    waiting: 0,
    account: AccountId::NONE,
    group: None,
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
    moved: FxHashMap<u32, MoveTarget>,
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

    fn account(&mut self, flow: u32, lanes: &mut Lanes) -> AccountId {
        let key = FlowKey {
            service: self.service,
            flow,
        };
        let own = self.flow(flow);
        own.account = lanes.account(own.account, own.group, key);
        own.account
    }

    /// Moves a flow with its waiting tasks to another group, or to no group. It begins there like a
    /// new flow. Turns that have begun are charged to its old account.
    pub(crate) fn set_group(&mut self, flow: u32, group: Option<GroupId>, lanes: &mut Lanes) {
        if self.flow(flow).group == group {
            return;
        }
        let has_tasks = self.has_tasks(flow);
        if has_tasks {
            let account = self.account(flow, lanes);
            lanes.set_waiting(account, 0);
            lanes.set_queued(account, 0);
            lanes.unlist(account);
        }
        let own = self.flow(flow);
        (own.account, own.group) = (AccountId::NONE, group);
        if has_tasks {
            let account = self.account(flow, lanes);
            let &mut Flow { waiting, queued, .. } = self.flow(flow);
            lanes.set_waiting(account, waiting);
            lanes.set_queued(account, queued);
            self.settle(flow, account, lanes);
        }
    }

    /// Takes over the data that a loop has about the flow of a task that it submits. Returns the
    /// account of the flow.
    fn note_data(&mut self, flow: u32, data: FlowData, lanes: &mut Lanes) -> AccountId {
        let FlowData { state, weight } = data;
        self.set_group(flow, state.group(), lanes);
        let account = self.account(flow, lanes);
        match state {
            FlowState::Idle { tag } | FlowState::InDebt { tag } => lanes.set_tag(account, tag),
            FlowState::LeftGroup | FlowState::NewInGroup(_) => lanes.set_tag(account, 0),
            FlowState::Busy { .. } | FlowState::InGroup(_) | FlowState::IdleGroup(_) => {}
        }
        lanes.set_weight(account, weight);
        account
    }

    /// Adds a task that its loop has submitted.
    pub(crate) fn push(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        let Entry {
            flow, state, weight, ..
        } = entry;
        let account = self.note_data(flow, FlowData { state, weight }, lanes);
        if let Some(group) = state.group()
            && lanes.is_group_idle(account)
        {
            entry.state = FlowState::IdleGroup(group);
        }
        self.insert(entry, account, lanes);
    }

    /// Adds a task that has had a turn. Its tag includes that turn if it had no account.
    pub(crate) fn push_again(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        if let Some(to) = self.moved.remove(&entry.slot) {
            // The tag is that of its old flow.
            return self.push_moved(entry, to, lanes);
        }
        let account = self.account(entry.flow, lanes);
        if self.flow(entry.flow).group.is_none()
            && let Some(tag) = entry.state.tag()
        {
            lanes.raise_tag(account, tag);
        }
        self.insert(entry, account, lanes);
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
    fn insert(&mut self, entry: Entry<T>, account: AccountId, lanes: &mut Lanes) {
        let flow = entry.flow;
        let last = self.flow(flow).lists[list_of(&entry)].last;
        self.order += 1;
        self.note_entry(&entry, account, lanes);
        self.link(entry, self.order, last);
        self.settle(flow, account, lanes);
    }

    /// Gives a task back that was taken and not begun: it keeps its place among the others of its
    /// flow, which is served next.
    pub(crate) fn put_back(&mut self, entry: Entry<T>, lanes: &mut Lanes) {
        let flow = entry.flow;
        if !entry.has_started {
            self.uncount(entry.slot);
        }
        if let Some(to) = self.moved.remove(&entry.slot) {
            return self.push_moved(entry, to, lanes);
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
        let account = self.account(flow, lanes);
        self.note_entry(&entry, account, lanes);
        self.link(entry, order, prev);
        if self.may_run(flow) {
            lanes.list_returned(account);
        }
    }

    /// Counts one more task of a flow.
    #[inline]
    fn note_entry(&mut self, entry: &Entry<T>, account: AccountId, lanes: &mut Lanes) {
        let own = self.flow(entry.flow);
        own.waiting += 1;
        lanes.set_waiting(account, own.waiting);
        if !entry.has_started {
            own.queued += 1;
            lanes.set_queued(account, own.queued);
        }
    }

    /// Counts one task less of a flow.
    #[inline]
    fn note_exit(&mut self, entry: &Entry<T>, account: AccountId, lanes: &mut Lanes) {
        let own = self.flow(entry.flow);
        own.waiting -= 1;
        lanes.set_waiting(account, own.waiting);
        if !entry.has_started {
            own.queued -= 1;
            lanes.set_queued(account, own.queued);
        }
    }

    /// The number of tasks of a flow that wait and have not started.
    pub(crate) fn queued_in(&self, flow: u32) -> u32 {
        let flow = self.by_connection.get(flow as usize);
        flow.map_or(0, |flow| flow.queued)
    }

    /// The last account of a flow.
    pub(crate) fn last_account(&self, flow: u32) -> AccountId {
        let flow = self.by_connection.get(flow as usize);
        flow.map_or(AccountId::NONE, |flow| flow.account)
    }

    /// Removes the newest task of a flow that has not started.
    pub(crate) fn pop_newest(&mut self, flow: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let newest = self.flow(flow).lists[1].last;
        self.take_out(newest, lanes)
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
        let entry = self.unlink(first)?;
        self.note_exit(&entry, account, lanes);
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
        self.take_out(place, lanes)
    }

    /// Removes a waiting task from its flow.
    fn take_out(&mut self, place: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let entry = self.unlink(place)?;
        let account = self.account(entry.flow, lanes);
        self.note_exit(&entry, account, lanes);
        self.settle(entry.flow, account, lanes);
        Some(entry)
    }

    /// Removes a task from the lists of its flow.
    fn unlink(&mut self, place: u32) -> Option<Entry<T>> {
        let Waiting {
            entry, prev, next, ..
        } = self.waiting.try_remove(place as usize)?;
        let (flow, list) = (entry.flow, list_of(&entry));
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
            let account = self.account(flow, lanes);
            self.settle(flow, account, lanes);
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

    /// Takes over the data that the loop has about the flow to which a task moves. Returns the
    /// account of that flow.
    fn note_target(&mut self, to: MoveTarget, lanes: &mut Lanes) -> AccountId {
        let MoveTarget { flow, weight, state } = to;
        if let Some(state) = state {
            return self.note_data(flow, FlowData { state, weight }, lanes);
        }
        let account = self.account(flow, lanes);
        lanes.set_weight(account, weight);
        account
    }

    /// Adds a task from another flow.
    pub(crate) fn push_moved(&mut self, entry: Entry<T>, to: MoveTarget, lanes: &mut Lanes) {
        let account = self.note_target(to, lanes);
        let entry = Entry {
            flow: to.flow,
            weight: to.weight,
            state: FlowState::MOVED,
            ..entry
        };
        self.insert(entry, account, lanes);
    }

    /// Moves a task to the end of another flow. Returns whether the task waits in a flow.
    pub(crate) fn relocate(&mut self, slot: u32, target: MoveTarget, lanes: &mut Lanes) -> bool {
        let (place, to) = (self.place_of(slot), target.flow);
        if self
            .waiting_at(place)
            .is_some_and(|waiting| waiting.entry.flow == to)
        {
            return true;
        }
        let waiting = self.unlink(place);
        let mut from = None;
        if let Some(entry) = &waiting {
            from = Some(entry.flow);
            let account = self.account(entry.flow, lanes);
            self.note_exit(entry, account, lanes);
        }
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
        if let Some(entry) = waiting {
            self.push_moved(entry, target, lanes);
        } else if target.state.is_some() {
            self.note_target(target, lanes);
        }
        if let Some(from) = from {
            for flow in [to, from] {
                let account = self.account(flow, lanes);
                self.settle(flow, account, lanes);
            }
        }
        is_waiting
    }

    /// Records that a task, which a worker has now, will be in another flow when it waits again.
    /// The queue already has the data about that flow.
    pub(crate) fn note_move(&mut self, slot: u32, to: MoveTarget) {
        self.moved.insert(slot, MoveTarget { state: None, ..to });
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn has_moves(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Removes the record of a move. The loop has the task again, or the task has left its batch.
    pub(crate) fn forget_move(&mut self, slot: u32) {
        self.moved.remove(&slot);
    }

    /// Whether a task of a flow may run.
    fn may_run(&mut self, flow: u32) -> bool {
        self.first(flow) != NONE
    }

    /// Whether tasks of a flow wait.
    fn has_tasks(&mut self, flow: u32) -> bool {
        self.flow(flow).lists.iter().any(|list| list.first != NONE)
    }

    /// Lists a flow if it has a task that may run; otherwise takes it out of the lanes.
    fn settle(&mut self, flow: u32, account: AccountId, lanes: &mut Lanes) {
        if self.may_run(flow) {
            lanes.activate(account);
        } else {
            lanes.unlist(account);
            if self.has_tasks(flow) {
                lanes.block(account);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
impl<T> Flows<T> {
    /// Checks that the numbers say the same as the lists and the lanes. `flow_of`: the connection
    /// of a task and its group, as its loop knows them. Returns the number of waiting tasks.
    pub(crate) fn check(&mut self, lanes: &Lanes, flow_of: impl Fn(u32) -> (u32, Option<GroupId>)) -> usize {
        let mut waiting = 0;
        for flow in 0..self.by_connection.len() as u32 {
            let own = *self.flow(flow);
            let mut lengths = [0; 2];
            for (list, length) in lengths.iter_mut().enumerate() {
                let (mut prev, mut at) = (NONE, own.lists[list].first);
                while let Some(task) = self.waiting.get(at as usize) {
                    assert_eq!(
                        (task.entry.flow, task.prev, list_of(&task.entry)),
                        (flow, prev, list)
                    );
                    assert_eq!(self.places[task.entry.slot as usize], at);
                    assert_eq!(flow_of(task.entry.slot), (flow, own.group));
                    (prev, at) = (at, task.next);
                    *length += 1;
                }
                assert_eq!(own.lists[list].last, prev);
            }
            assert_eq!((own.waiting, own.queued), (lengths[0] + lengths[1], lengths[1]));
            let running = self.counted.iter().filter(|&&counted| counted == flow).count();
            assert_eq!(own.running as usize, running);
            let first = Some(self.first(flow)).filter(|&first| first != NONE);
            let key = FlowKey {
                service: self.service,
                flow,
            };
            lanes.check_account(own.account, key, [own.waiting, own.queued], first);
            waiting += own.waiting as usize;
        }
        assert_eq!(self.waiting.len(), waiting);
        let counted = (0..).zip(&self.counted).filter(|&(_, &flow)| flow != NONE);
        counted.for_each(|(slot, &flow)| assert_eq!(flow_of(slot).0, flow));
        waiting
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::lanes::KnownFlow;
    use super::*;

    fn entry(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            task: (),
            serial: slot.into(),
            since: 0,
            slot,
            flow,
            state: FlowState::Busy { tag: 0 },
            weight: 1,
            syncs: 0,
            has_started: false,
            has_new_deadline: false,
        }
    }

    fn started(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            has_started: true,
            ..entry(slot, flow)
        }
    }

    fn to(flow: u32) -> MoveTarget {
        MoveTarget {
            flow,
            weight: 1,
            state: None,
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
        flows.relocate(0, to(1), &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1]);
        flows.release(0, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [2]);
    }

    #[test]
    fn a_waiting_task_that_moves_is_the_last_of_its_new_flow() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 1), (2, 1)]);
        flows.relocate(0, to(1), &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1, 2, 0]);
    }

    const GROUP: GroupId = GroupId(1);

    fn grouped(slot: u32, flow: u32) -> Entry<()> {
        Entry {
            state: FlowState::InGroup(GROUP),
            ..entry(slot, flow)
        }
    }

    /// Takes all tasks. Each turn takes 1 us.
    fn pop_flows(flows: &mut Flows<()>, lanes: &mut Lanes) -> Vec<u32> {
        std::iter::from_fn(|| take(flows, lanes).map(|entry| entry.flow)).collect()
    }

    #[test]
    fn a_group_takes_turns_with_other_flows() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0), (2, 0)]);
        for flow in 1..4 {
            flows.push(grouped(10 + flow, flow), &mut lanes);
        }
        assert_eq!(pop_flows(&mut flows, &mut lanes), [0, 1, 0, 2, 0, 3]);
        assert!(flows.waiting.is_empty() && lanes.is_empty());
    }

    #[test]
    fn only_the_first_task_of_an_idle_group_is_prompt() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        flows.push(grouped(0, 0), &mut lanes);
        flows.push(grouped(1, 1), &mut lanes);
        let states: Vec<_> = std::iter::from_fn(|| take(&mut flows, &mut lanes))
            .map(|entry| entry.state.is_prompt())
            .collect();
        assert_eq!(states, [true, false]);
        flows.push(grouped(0, 0), &mut lanes);
        let again = take(&mut flows, &mut lanes).expect("a task");
        assert!(again.state.is_prompt(), "the group has no other task again");
    }

    #[test]
    fn a_new_task_of_a_group_waits_for_the_other_tasks_of_the_group() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        for flow in 0..8 {
            flows.push(grouped(flow, flow), &mut lanes);
        }
        // Each turn takes 1 us.
        take(&mut flows, &mut lanes).expect("a task");
        let mut time_before = |group| {
            let task = KnownFlow {
                key: None,
                tag: 0,
                weight: 1,
                group,
            };
            lanes.time_before(task, AccountId::NONE)
        };
        assert!((7_000..=9_000).contains(&time_before(Some(GROUP))));
        assert_eq!(time_before(Some(GroupId(2))), 0);
        assert_eq!(time_before(None), 0);
    }

    #[test]
    fn waiting_tasks_move_with_their_connection_to_another_group() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]);
        for flow in 1..3 {
            flows.set_group(flow, Some(GROUP), &mut lanes);
        }
        assert_eq!(pop_flows(&mut flows, &mut lanes), [0, 1, 0, 2, 1, 2]);
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0)]);
        for (slot, flow) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
            flows.push(grouped(slot, flow), &mut lanes);
        }
        flows.set_group(2, None, &mut lanes);
        assert_eq!(pop_flows(&mut flows, &mut lanes), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_group_loses_the_size_of_a_connection_that_leaves_it() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        for (slot, flow) in [(0, 0), (1, 0), (2, 1)] {
            flows.push(grouped(slot, flow), &mut lanes);
        }
        assert!(lanes.fattest(1, None).is_some(), "the group has three tasks");
        flows.set_group(0, Some(GroupId(2)), &mut lanes);
        assert!(lanes.fattest(1, None).is_none(), "no group has three tasks");
        flows.set_group(1, Some(GroupId(2)), &mut lanes);
        assert!(lanes.fattest(1, None).is_some(), "the new group has three tasks");
        pop_all(&mut flows, &mut lanes);
        assert!(lanes.fattest(0, None).is_none());
    }

    #[test]
    fn a_turn_is_charged_to_the_group_in_which_it_began() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        flows.push(grouped(0, 0), &mut lanes);
        let (_, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
        flows.set_group(0, Some(GroupId(2)), &mut lanes);
        lanes.charge(prepaid, 1_000_000_000);
        let second = Entry {
            state: FlowState::InGroup(GroupId(2)),
            ..started(0, 0)
        };
        flows.push_again(second, &mut lanes);
        flows.push(grouped(1, 1), &mut lanes);
        assert!(lanes.has_prompt(), "the new group has no debt");
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1], "the old group has one");
    }

    /// A task was taken straight from the ring. Its tag is a virtual time of the root, which is far
    /// ahead of that of a group.
    #[test]
    fn the_tag_of_a_loop_does_not_count_in_a_group() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        flows.set_group(0, Some(GROUP), &mut lanes);
        let task = Entry {
            state: FlowState::Busy { tag: 1 << 50 },
            ..started(0, 0)
        };
        flows.push_again(task, &mut lanes);
        assert!(lanes.has_prompt(), "the group has no debt");
        flows.push(grouped(1, 1), &mut lanes);
        flows.push(grouped(2, 0), &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1, 2]);
    }

    #[test]
    fn a_new_connection_in_the_slot_of_another_one_has_no_debt_in_their_group() {
        for is_new in [true, false] {
            let (mut flows, mut lanes) = flows_of(None, &[]);
            flows.push(grouped(0, 0), &mut lanes);
            let (_, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
            lanes.charge(prepaid, 1_000_000_000);
            let state = if is_new {
                FlowState::NewInGroup(GROUP)
            } else {
                FlowState::InGroup(GROUP)
            };
            flows.push(Entry { state, ..entry(1, 0) }, &mut lanes);
            flows.push(grouped(2, 1), &mut lanes);
            let expected = if is_new { [1, 2] } else { [2, 1] };
            assert_eq!(pop_all(&mut flows, &mut lanes), expected, "new: {is_new}");
        }
    }

    /// The slot of a connection with a group is used again for a connection without one.
    #[test]
    fn a_connection_without_a_group_leaves_the_group_of_an_earlier_one() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        flows.push(grouped(0, 0), &mut lanes);
        let (_, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
        lanes.charge(prepaid, 1_000_000_000);
        let lone = Entry {
            state: FlowState::Idle { tag: 0 },
            ..entry(1, 0)
        };
        flows.push(lone, &mut lanes);
        assert!(lanes.has_prompt(), "the connection has no debt");
    }

    #[test]
    fn with_a_limit_a_blocked_connection_does_not_block_its_group() {
        let (mut flows, mut lanes) = (Flows::new(0, Some(1)), Lanes::new());
        for (slot, flow) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
            flows.push(grouped(slot, flow), &mut lanes);
        }
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 2]);
        assert!(lanes.is_empty(), "no task of the group may start");
        flows.release(2, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [3]);
        flows.release(0, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [1]);
    }

    /// With a limit, a group can have tasks of which none may run.
    #[test]
    fn a_task_behind_another_one_of_its_group_is_not_prompt() {
        let (mut flows, mut lanes) = (Flows::new(0, Some(1)), Lanes::new());
        flows.push(grouped(0, 0), &mut lanes);
        assert!(take(&mut flows, &mut lanes).is_some());
        for slot in 1..3 {
            flows.push(grouped(slot, 0), &mut lanes);
        }
        flows.release(0, &mut lanes);
        let prompt = [1, 2].map(|slot| {
            let task = take(&mut flows, &mut lanes).expect("a task");
            flows.release(slot, &mut lanes);
            task.state.is_prompt()
        });
        assert_eq!(prompt, [true, false]);
    }

    #[test]
    fn a_task_that_is_given_back_returns_to_its_group() {
        let (mut flows, mut lanes) = flows_of(None, &[(9, 9)]);
        for (slot, flow) in [(0, 0), (1, 1)] {
            flows.push(grouped(slot, flow), &mut lanes);
        }
        assert_eq!(pop(&mut flows, &mut lanes), Some(9));
        let (task, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
        lanes.cancel_turn(prepaid);
        flows.put_back(task, &mut lanes);
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 1]);
        assert!(flows.waiting.is_empty() && lanes.is_empty());
    }

    /// The tag of the old connection counted as worker time of the new one.
    #[test]
    fn a_moved_task_does_not_move_the_debt_of_its_old_connection() {
        for was_waiting in [true, false] {
            let (mut flows, mut lanes) = flows_of(None, &[]);
            let state = FlowState::Busy { tag: 1 << 50 };
            let new = MoveTarget {
                state: Some(FlowState::Idle { tag: 0 }),
                ..to(1)
            };
            flows.push(
                Entry {
                    state,
                    ..started(0, 0)
                },
                &mut lanes,
            );
            let mut task = None;
            if !was_waiting {
                task = take(&mut flows, &mut lanes);
                flows.note_move(0, new);
            }
            flows.relocate(0, new, &mut lanes);
            // The next turns of the task.
            for turn in 0..3 {
                task = task.or_else(|| take(&mut flows, &mut lanes));
                flows.push_again(task.take().expect("the task"), &mut lanes);
                assert!(lanes.has_prompt(), "turn {turn}, waiting: {was_waiting}");
            }
        }
    }

    #[test]
    fn a_moved_task_counts_in_the_group_of_its_new_connection() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0), (1, 0)]);
        let new = MoveTarget {
            state: Some(FlowState::NewInGroup(GROUP)),
            ..to(5)
        };
        flows.push(grouped(2, 1), &mut lanes);
        flows.push(grouped(3, 1), &mut lanes);
        assert!(flows.relocate(1, new, &mut lanes));
        assert!(lanes.fattest(1, None).is_some(), "the group has three tasks");
        assert_eq!(pop_all(&mut flows, &mut lanes), [0, 2, 1, 3]);
    }

    #[test]
    fn the_memory_of_a_burst_is_freed() {
        let slots: Vec<_> = (0..2 * KEPT as u32).map(|slot| (slot, 0)).collect();
        let (mut flows, mut lanes) = flows_of(None, &slots);
        pop_all(&mut flows, &mut lanes);
        assert_eq!(flows.waiting.capacity(), 0);
    }
}
