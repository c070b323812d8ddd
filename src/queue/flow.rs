//! The flows of one service: the tasks of each connection that wait for a worker.
//!
//! Within a flow, tasks run in the order in which they were submitted or resumed: tasks that have
//! started take turns with those that have not. A flow is listed in the lanes if and only if it has
//! a task that may run. The record of a flow is in the lanes ([`super::member`]), and its tasks,
//! which have the type of the service, are here.

use super::fair::Debt;
use super::lanes::Lanes;
use super::list::{Linked, Links, List, NONE, Records};
use super::member::{FlowKey, Member, Part, Prepaid};
use super::{Entry, FlowData, FlowState, MoveTarget};
use crate::task::id::GroupId;
use rustc_hash::FxHashMap;

/// Empty flows keep the memory of this many tasks.
const KEPT: usize = 4096;

struct Waiting<T> {
    entry: Entry<T>,
    /// Its place in the order of all tasks of its flow.
    order: i64,
    links: Links,
}

impl<T> Linked for Waiting<T> {
    #[inline]
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

pub(crate) struct Flows<T> {
    /// The number of the service.
    service: u32,
    /// The last record of each flow, by the slot of the connection.
    members: Vec<u32>,
    /// The groups of the flows that have one, whether they have a record or not.
    groups: FxHashMap<u32, GroupId>,
    waiting: Records<Waiting<T>>,
    /// The number of tasks that were added so far.
    order: i64,
    /// The place of a task in `waiting`, by its slot.
    places: Vec<u32>,
    /// The new flows of tasks that were relocated while a worker had them, by the slot of the task.
    moved: FxHashMap<u32, MoveTarget>,
    /// The flow in which a task counts as unfinished, by the slot of the task. Empty without a
    /// limit.
    counted: Vec<u32>,
}

/// The position of a task in the order of submission.
fn age<T>(entry: &Entry<T>) -> (u64, u64) {
    (entry.since, entry.serial)
}

fn part_of<T>(entry: &Entry<T>) -> Part {
    if entry.has_started {
        Part::Started
    } else {
        Part::Fresh
    }
}

/// The number at a place of a vector that grows on demand.
#[inline]
fn at_or_grow(numbers: &mut Vec<u32>, at: u32) -> &mut u32 {
    let at = at as usize;
    if at >= numbers.len() {
        numbers.resize(at + 1, NONE);
    }
    &mut numbers[at]
}

impl<T> Flows<T> {
    pub(crate) fn new(service: u32) -> Self {
        Self {
            service,
            members: Vec::new(),
            groups: FxHashMap::default(),
            waiting: Records::new(),
            order: 0,
            places: Vec::new(),
            moved: FxHashMap::default(),
            counted: Vec::new(),
        }
    }

    fn key(&self, flow: u32) -> FlowKey {
        FlowKey {
            service: self.service,
            flow,
        }
    }

    /// The last record of a flow. It may belong to another flow now.
    #[inline]
    pub(crate) fn last_member(&self, flow: u32) -> u32 {
        self.members.get(flow as usize).copied().unwrap_or(NONE)
    }

    /// The record of a flow.
    fn member(&mut self, flow: u32, lanes: &mut Lanes) -> u32 {
        let (at, group) = (self.last_member(flow), self.groups.get(&flow));
        if lanes.is_member(at, self.key(flow), group.copied()) {
            at
        } else {
            self.open(flow, lanes)
        }
    }

    /// Creates a new record for a flow, and moves its waiting tasks there.
    #[cold]
    fn open(&mut self, flow: u32, lanes: &mut Lanes) -> u32 {
        let key = self.key(flow);
        let new = lanes.open(key, self.groups.get(&flow).copied());
        let old = std::mem::replace(at_or_grow(&mut self.members, flow), new);
        if old != new && lanes.get(old, key).is_some() {
            lanes.move_tasks(old, new);
        }
        new
    }

    /// Moves a flow with its waiting tasks to another group, or to no group. It begins there like a
    /// new flow. Turns that have begun are charged to its old record.
    pub(crate) fn set_group(&mut self, flow: u32, group: Option<GroupId>, lanes: &mut Lanes) {
        let before = match group {
            Some(group) => self.groups.insert(flow, group),
            None => self.groups.remove(&flow),
        };
        if before == group {
            return;
        }
        let old = lanes.get(self.last_member(flow), self.key(flow));
        if old.is_some_and(|old| old.waiting > 0 || old.unfinished > 0) {
            self.open(flow, lanes);
        } else {
            // The flow gets a record when it has a task again.
            *at_or_grow(&mut self.members, flow) = NONE;
        }
    }

    /// The first task of a new connection does not pass through its flow. The record that an earlier
    /// connection had in this slot no longer belongs to the flow.
    #[inline]
    pub(crate) fn forget_record(&mut self, flow: u32) {
        if let Some(at) = self.members.get_mut(flow as usize) {
            *at = NONE;
        }
    }

    /// Takes over the data that a loop has about the flow of a task that it submits. Returns the
    /// record of the flow.
    #[inline]
    fn take_over(&mut self, flow: u32, data: FlowData, lanes: &mut Lanes) -> u32 {
        let at = self.last_member(flow);
        if lanes.take_over(at, self.key(flow), data) {
            return at;
        }
        self.begin(flow, data, lanes)
    }

    /// The same for a flow that needs a new record.
    #[cold]
    fn begin(&mut self, flow: u32, data: FlowData, lanes: &mut Lanes) -> u32 {
        match data.state.group() {
            Some(group) => _ = self.groups.insert(flow, group),
            None => _ = self.groups.remove(&flow),
        }
        let at = self.open(flow, lanes);
        let is_done = lanes.take_over(at, self.key(flow), data);
        debug_assert!(is_done, "the record is new");
        at
    }

    /// Adds a task that its loop has submitted.
    #[inline]
    pub(crate) fn push(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        let Entry {
            flow, state, weight, ..
        } = entry;
        let at = self.take_over(flow, FlowData { state, weight }, lanes);
        if let Some(group) = state.group()
            && lanes.is_group_idle(at)
        {
            entry.state = FlowState::IdleGroup(group);
        }
        self.insert(entry, at, lanes);
    }

    /// Adds a task that has had a turn. Its tag includes that turn if the turn had no record.
    pub(crate) fn push_again(&mut self, mut entry: Entry<T>, lanes: &mut Lanes) {
        self.find_counted(&mut entry);
        if let Some(to) = self.moved.remove(&entry.slot) {
            // The tag is that of its old flow.
            return self.push_moved(entry, to, lanes);
        }
        let at = self.member(entry.flow, lanes);
        let member = &mut lanes.members[at];
        if let Some(tag) = entry.state.tag()
            && member.group == NONE
        {
            member.raise_tag(tag);
        }
        self.insert(entry, at, lanes);
    }

    /// Updates the flow of a task that counts as unfinished, because the task may have moved to
    /// another connection.
    fn find_counted(&self, entry: &mut Entry<T>) {
        if entry.has_started
            && let Some(&flow) = self.counted.get(entry.slot as usize)
            && flow != NONE
        {
            entry.flow = flow;
        }
    }

    /// Adds a task behind the others of its part.
    #[inline]
    fn insert(&mut self, entry: Entry<T>, at: u32, lanes: &mut Lanes) {
        let part = part_of(&entry);
        let list = &mut lanes.members[at].lists[part as usize];
        let links = list.links_at_end();
        self.order += 1;
        let place = self.store(entry, self.order, links);
        list.add(&mut self.waiting, place, links);
        lanes.count(at, part, 1);
        lanes.settle(at);
    }

    #[inline]
    fn store(&mut self, entry: Entry<T>, order: i64, links: Links) -> u32 {
        let slot = entry.slot;
        let place = self.waiting.insert(Waiting { entry, order, links });
        *at_or_grow(&mut self.places, slot) = place;
        place
    }

    /// Gives a task back that was taken and not begun: it keeps its place among the others of its
    /// flow, which is served next.
    pub(crate) fn put_back(&mut self, entry: Entry<T>, lanes: &mut Lanes) {
        if !entry.has_started {
            self.uncount(entry.slot, lanes);
        }
        if let Some(to) = self.moved.remove(&entry.slot) {
            return self.push_moved(entry, to, lanes);
        }
        let at = self.member(entry.flow, lanes);
        let (part, lists) = (part_of(&entry), &mut lanes.members[at].lists);
        let mut links = Links {
            prev: NONE,
            next: lists[part as usize].first,
        };
        // Older tasks were returned before.
        while let Some(waiting) = self.waiting.get(links.next)
            && age(&waiting.entry) < age(&entry)
        {
            links = Links {
                prev: links.next,
                next: waiting.links.next,
            };
        }
        let order = match self.waiting.get(links.prev) {
            Some(prev) => prev.order,
            None => self.order_of_first(lists) - 1,
        };
        let place = self.store(entry, order, links);
        lists[part as usize].add(&mut self.waiting, place, links);
        lanes.count(at, part, 1);
        lanes.list_returned(at);
    }

    /// Removes the newest task of a flow that has not started.
    pub(crate) fn pop_newest(&mut self, flow: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let at = self.member(flow, lanes);
        let newest = lanes.members[at].lists[Part::Fresh as usize].last;
        self.take_out(newest, lanes)
    }

    /// The lowest order of the tasks of a flow.
    fn order_of_first(&self, lists: &[List; 2]) -> i64 {
        let order = |list: &List| self.waiting.get(list.first).map(|waiting| waiting.order);
        let lowest = lists.iter().filter_map(order).min();
        lowest.unwrap_or(self.order)
    }

    /// Removes a waiting task from the list of its flow. The caller then removes its record.
    #[inline]
    fn unlink(&mut self, place: u32, at: u32, lanes: &mut Lanes) -> Part {
        let Waiting { entry, links, .. } = &self.waiting[place];
        let (part, links) = (part_of(entry), *links);
        self.places[entry.slot as usize] = NONE;
        lanes.members[at].lists[part as usize].remove(&mut self.waiting, links);
        part
    }

    /// Frees the memory of a burst of tasks.
    #[inline]
    fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = Records::new();
        }
    }

    fn place_of(&self, slot: u32) -> u32 {
        self.places.get(slot as usize).copied().unwrap_or(NONE)
    }

    /// The place of the next task of a flow that may run.
    #[inline]
    fn first(&self, member: &Member, limit: u32) -> u32 {
        let [started, fresh] = member.lists.map(|list| list.first);
        if fresh == NONE || member.unfinished >= limit {
            return started;
        }
        if started == NONE || self.waiting[fresh].order < self.waiting[started].order {
            return fresh;
        }
        started
    }

    /// Takes the next task of all flows, if it belongs to this service. Calls `sink` with the task
    /// and the charged record, and returns the expected time of the turn.
    #[inline]
    pub(crate) fn take_next(
        &mut self,
        debt: Debt,
        lanes: &mut Lanes,
        sink: impl FnOnce(Entry<T>, Prepaid),
    ) -> Option<u64> {
        let (at, key) = lanes.next(debt)?;
        if key.service != self.service {
            return None;
        }
        let first = self.first(&lanes.members[at], lanes.limit);
        let part = self.unlink(first, at, lanes);
        if lanes.has_limit() && part == Part::Fresh {
            let slot = self.waiting[first].entry.slot;
            *at_or_grow(&mut self.counted, slot) = key.flow;
        }
        let (prepaid, time) = lanes.begin_turn(at, part);
        sink(self.waiting.remove(first).entry, prepaid);
        self.shrink();
        Some(time)
    }

    /// Removes a task that has not started. Returns `None` if the task is not in the flows.
    pub(crate) fn remove(&mut self, slot: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let place = self.place_of(slot);
        self.waiting
            .get(place)
            .filter(|waiting| !waiting.entry.has_started)?;
        self.take_out(place, lanes)
    }

    /// Removes a waiting task from its flow.
    fn take_out(&mut self, place: u32, lanes: &mut Lanes) -> Option<Entry<T>> {
        let flow = self.waiting.get(place)?.entry.flow;
        let at = self.member(flow, lanes);
        let entry = self.take_from(place, at, lanes);
        lanes.settle(at);
        Some(entry)
    }

    /// Removes a waiting task from the flow with this record.
    fn take_from(&mut self, place: u32, at: u32, lanes: &mut Lanes) -> Entry<T> {
        let part = self.unlink(place, at, lanes);
        lanes.count(at, part, -1);
        let entry = self.waiting.remove(place).entry;
        self.shrink();
        entry
    }

    /// Counts the end of a taken task, or its removal from a batch before its first step. Its flow
    /// may then start another task.
    pub(crate) fn release(&mut self, slot: u32, lanes: &mut Lanes) {
        if let Some(at) = self.uncount(slot, lanes) {
            lanes.settle(at);
        }
    }

    /// Returns the record of the flow in which the task was counted.
    fn uncount(&mut self, slot: u32, lanes: &mut Lanes) -> Option<u32> {
        let counted = self.counted.get_mut(slot as usize)?;
        let flow = std::mem::replace(counted, NONE);
        if flow == NONE {
            return None;
        }
        let at = self.member(flow, lanes);
        lanes.members[at].unfinished -= 1;
        Some(at)
    }

    /// Takes over the data that the loop has about the flow to which a task moves. Returns the
    /// record of that flow.
    fn take_over_target(&mut self, to: MoveTarget, lanes: &mut Lanes) -> u32 {
        let MoveTarget { flow, weight, state } = to;
        if let Some(state) = state {
            return self.take_over(flow, FlowData { state, weight }, lanes);
        }
        let at = self.member(flow, lanes);
        lanes.members[at].weight = weight;
        at
    }

    /// Adds a task from another flow.
    pub(crate) fn push_moved(&mut self, entry: Entry<T>, to: MoveTarget, lanes: &mut Lanes) {
        let at = self.take_over_target(to, lanes);
        let entry = Entry {
            flow: to.flow,
            weight: to.weight,
            state: FlowState::MOVED,
            ..entry
        };
        self.insert(entry, at, lanes);
    }

    /// Moves a task to the end of another flow. Returns whether the task waits in a flow.
    pub(crate) fn relocate(&mut self, slot: u32, target: MoveTarget, lanes: &mut Lanes) -> bool {
        let (place, to) = (self.place_of(slot), target.flow);
        let mut from = self.waiting.get(place).map(|waiting| waiting.entry.flow);
        if from == Some(to) {
            return true;
        }
        let waiting = from.map(|flow| {
            let at = self.member(flow, lanes);
            self.take_from(place, at, lanes)
        });
        if let Some(&counted) = self.counted.get(slot as usize)
            && counted != NONE
            && counted != to
        {
            self.uncount(slot, lanes);
            self.counted[slot as usize] = to;
            let at = self.member(to, lanes);
            lanes.members[at].unfinished += 1;
            from = Some(counted);
        }
        let is_waiting = waiting.is_some();
        if let Some(entry) = waiting {
            self.push_moved(entry, target, lanes);
        } else if target.state.is_some() {
            self.take_over_target(target, lanes);
        }
        if let Some(from) = from {
            for flow in [to, from] {
                let at = self.member(flow, lanes);
                lanes.settle(at);
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
}

#[cfg(all(test, not(loom)))]
impl<T> Flows<T> {
    /// The same as [`take_next`](Self::take_next), and returns the task and the record too.
    pub(crate) fn pop(&mut self, debt: Debt, lanes: &mut Lanes) -> Option<(Entry<T>, Prepaid, u64)> {
        let mut taken = None;
        let time = self.take_next(debt, lanes, |entry, prepaid| taken = Some((entry, prepaid)))?;
        taken.map(|(entry, prepaid)| (entry, prepaid, time))
    }

    /// Checks that the records say the same as the tasks. `flow_of`: the connection of a task and
    /// its group, as its loop knows them. Returns the number of waiting tasks.
    pub(crate) fn check(&mut self, lanes: &Lanes, flow_of: impl Fn(u32) -> (u32, Option<GroupId>)) -> usize {
        let (mut all_waiting, mut all_counted) = (0, 0);
        for flow in 0..self.members.len() as u32 {
            let Some((group, lists, numbers)) = lanes.flow(self.last_member(flow), self.key(flow)) else {
                continue;
            };
            assert_eq!(self.groups.get(&flow), group.as_ref());
            let mut lengths = [0; 2];
            for (part, length) in [Part::Started, Part::Fresh].into_iter().zip(&mut lengths) {
                let list = lists[part as usize];
                let (mut prev, mut at) = (NONE, list.first);
                while let Some(task) = self.waiting.get(at) {
                    let entry = &task.entry;
                    assert_eq!((entry.flow, task.links.prev, part_of(entry)), (flow, prev, part));
                    assert_eq!(self.places[entry.slot as usize], at);
                    assert_eq!(flow_of(entry.slot), (flow, group));
                    (prev, at) = (at, task.links.next);
                    *length += 1;
                }
                assert_eq!(list.last, prev);
            }
            let counted = self.counted.iter().filter(|&&counted| counted == flow).count();
            let [started, fresh] = lengths;
            assert_eq!(numbers, [started + fresh, fresh, counted as u32]);
            all_waiting += numbers[0] as usize;
            all_counted += counted;
        }
        assert_eq!(self.waiting.len(), all_waiting);
        let counted = (0..).zip(&self.counted).filter(|&(_, &flow)| flow != NONE);
        assert_eq!(counted.clone().count(), all_counted);
        counted.for_each(|(slot, &flow)| assert_eq!(flow_of(slot).0, flow));
        all_waiting
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
        let (mut flows, mut lanes) = (Flows::new(0), Lanes::new(limit));
        for &(slot, flow) in entries {
            flows.push(entry(slot, flow), &mut lanes);
        }
        (flows, lanes)
    }

    /// The group of a task changes while a worker has it, and again while it is parked. The queue
    /// had moved the flow to the first group, and moved it there again at its next turn.
    #[test]
    fn a_flow_that_leaves_its_group_while_its_task_is_parked_stays_outside() {
        let (mut flows, mut lanes) = flows_of(Some(1), &[(0, 0)]);
        let entry = take(&mut flows, &mut lanes).expect("it waits");
        flows.set_group(0, Some(GroupId(1)), &mut lanes);
        let state = FlowState::LeftGroup;
        let resumed = Entry {
            state,
            ..started(0, entry.flow)
        };
        flows.push(resumed, &mut lanes);
        let entry = take(&mut flows, &mut lanes).expect("it waits");
        flows.push_again(entry, &mut lanes);
        let flow = lanes.flow(flows.last_member(0), flows.key(0));
        let (group, _, numbers) = flow.expect("it has a task");
        assert_eq!((group, numbers), (None, [1, 0, 1]));
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
            lanes.time_before(task, NONE)
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

    /// The waiting tasks got the share of a connection of weight 1.
    #[test]
    fn a_connection_keeps_its_weight_when_it_moves_with_its_tasks() {
        let (mut flows, mut lanes) = flows_of(None, &[]);
        for slot in 0..40 {
            let weight = if slot < 30 { 3 } else { 1 };
            let flow = u32::from(slot >= 30);
            flows.push(
                Entry {
                    weight,
                    ..entry(slot, flow)
                },
                &mut lanes,
            );
        }
        flows.set_group(0, Some(GROUP), &mut lanes);
        flows.set_group(1, Some(GROUP), &mut lanes);
        let mut turns = [0; 2];
        while turns[1] < 10 {
            let (task, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
            lanes.charge(prepaid, 1_000_000);
            turns[task.flow as usize] += 1;
        }
        assert!(turns[0] >= 25, "{turns:?}");
    }

    /// Its first turns were charged the estimate of the time when it entered the group.
    #[test]
    fn a_connection_without_waiting_tasks_has_no_record_in_its_new_group() {
        let (mut flows, mut lanes) = flows_of(None, &[(0, 0)]);
        let (task, prepaid, _) = flows.pop(Debt::Take, &mut lanes).expect("a task");
        flows.set_group(0, Some(GROUP), &mut lanes);
        lanes.charge(prepaid, 5_000_000);
        flows.push_again(task, &mut lanes);
        let (_, _, time) = flows.pop(Debt::Take, &mut lanes).expect("a task");
        assert_eq!(time, 5_000_000, "the cost of the turns of all flows");
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
        let (mut flows, mut lanes) = (Flows::new(0), Lanes::new(Some(1)));
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
        let (mut flows, mut lanes) = (Flows::new(0), Lanes::new(Some(1)));
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
