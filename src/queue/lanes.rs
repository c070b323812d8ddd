//! Two levels of fair queueing: worker time is divided between groups and flows without a group
//! first, and the time of each group between its flows.
//!
//! The root and each group are a [`Level`]. The members of the root are the flows without a group,
//! and the groups. A group is listed in the root if and only if one of its flows may run.
//! The next turn is selected in the root and then in the selected group. Both levels are charged
//! for it, with the estimate of the flow first.
//!
//! The records of all flows and groups are in one place. Records without tasks and without a debt
//! are removed when there are many records, and a group is removed after its flows. So a group does
//! not lose its debt when its last task ends.

use super::FlowData;
use super::fair::estimate::NewTask;
use super::fair::fattest::has_other_size;
use super::fair::{Debt, Level, is_in_debt};
use super::list::{List, NONE, Records};
use super::member::{FlowKey, Lane, Member, Part, Prepaid};
use crate::scheduler::QUANTUM;
use crate::task::id::GroupId;
use rustc_hash::FxHashSet;
use slab::Slab;
use std::collections::HashMap;

/// Up to this number of records, none is removed.
const KEPT: usize = 1024;
/// At most about this number of records without tasks is kept because of debts, or while the pool
/// has nothing to do.
const MANY: usize = 8 * KEPT;

/// The flow of a task that could be enqueued now, as its loop knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownFlow {
    /// `None`: the connection has had no task in its group.
    pub(crate) key: Option<FlowKey>,
    /// Zero in a group: then only the queue knows the tag.
    pub(crate) tag: u64,
    pub(crate) weight: u16,
    pub(crate) group: Option<GroupId>,
}

struct Group {
    id: GroupId,
    /// Its record.
    member: u32,
    flows: Level,
    /// The number of times that the debts of its flows were forgiven.
    forgiven: u64,
}

impl Group {
    /// Forgives the debts within the group if this was not done yet.
    fn forgive(&mut self, forgiven: u64) {
        if self.forgiven != forgiven {
            self.forgiven = forgiven;
            self.flows.forgive();
        }
    }
}

/// The flows with their tasks, and the worker time that each flow and each group has used. A flow
/// and a group are named by the number of their record.
pub(crate) struct Lanes {
    pub(super) members: Records<Member>,
    pub(crate) root: Level,
    /// A group has several hundred bytes, and a slab keeps its memory.
    groups: Slab<Box<Group>>,
    /// Hashed with a key, because a client may be able to choose its group.
    by_id: HashMap<GroupId, u32>,
    /// The weights other than 1.
    weights: HashMap<GroupId, u16>,
    /// The largest number of unfinished tasks of a flow. `u32::MAX`: there is no limit.
    pub(super) limit: u32,
    /// The number of tasks that wait in flows.
    tasks: usize,
    /// The number of times that all debts were forgiven.
    forgiven: u64,
    stamps: u32,
    /// The number of records created since records were last removed because the pool had nothing
    /// to do.
    created: usize,
    /// At this number of records, records without tasks and without a debt are removed.
    sweep_at: usize,
}

impl Lanes {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self {
            members: Records::new(),
            root: Level::new(NONE, 0),
            groups: Slab::new(),
            by_id: HashMap::new(),
            weights: HashMap::new(),
            limit: limit.unwrap_or(u32::MAX),
            tasks: 0,
            forgiven: 0,
            stamps: 0,
            created: 0,
            sweep_at: KEPT,
        }
    }

    #[inline]
    pub(crate) fn has_limit(&self) -> bool {
        self.limit < u32::MAX
    }

    /// Whether a flow waits that has no debt and whose group has none.
    #[inline]
    pub(crate) fn has_prompt(&mut self) -> bool {
        self.root.has_prompt(&self.members)
    }

    /// Forgives all debts, because no task runs and no task waits. The debts within a group are
    /// forgiven when one of its flows has a task again, so that this call is usually O(1). If there
    /// are many records, those without tasks are removed: O(1) for each record created.
    pub(crate) fn forgive(&mut self) {
        self.root.forgive();
        self.forgiven += 1;
        if self.members.len() > MANY && self.members.len() <= 4 * self.created {
            self.sweep();
            self.created = 0;
        }
    }

    /// Whether no flow has a task that may run.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.listed == 0
    }

    /// Whether no flow without a group, and no group, has a second task.
    pub(crate) fn are_single(&self) -> bool {
        self.tasks == self.root.listed
    }

    /// The level of the flows of a group, or of the flows without a group.
    #[inline]
    fn level_of(&mut self, group: u32) -> (&mut Level, &mut Records<Member>) {
        let level = match self.groups.get_mut(group as usize) {
            Some(group) => &mut group.flows,
            None => &mut self.root,
        };
        (level, &mut self.members)
    }

    /// The record of the group of a flow. [`NONE`] if the flow has no group.
    fn group_of(&self, at: u32) -> u32 {
        let group = self.groups.get(self.members[at].group as usize);
        group.map_or(NONE, |group| group.member)
    }

    /// The record of a flow. `at` is its last number: the record may have been removed, and the
    /// number used for another flow.
    #[inline]
    pub(super) fn get(&self, at: u32, key: FlowKey) -> Option<&Member> {
        self.members.get(at).filter(|member| member.key == key)
    }

    /// Whether this is the record of a flow in this group.
    #[inline]
    pub(super) fn is_member(&self, at: u32, key: FlowKey, group: Option<GroupId>) -> bool {
        let group_of = |member: &Member| self.groups.get(member.group as usize);
        self.get(at, key).is_some_and(|member| match group {
            None => member.group == NONE,
            Some(id) => group_of(member).is_some_and(|group| group.id == id),
        })
    }

    /// Creates a record for a flow.
    #[cold]
    pub(crate) fn open(&mut self, key: FlowKey, group: Option<GroupId>) -> u32 {
        // This comes first, because it may remove the group.
        if self.members.len() >= self.sweep_at {
            self.sweep();
        }
        let number = group.map_or(NONE, |id| match self.by_id.get(&id) {
            Some(&number) => number,
            None => self.open_group(id),
        });
        self.insert(key, number)
    }

    fn insert(&mut self, key: FlowKey, group: u32) -> u32 {
        self.stamps = self.stamps.wrapping_add(1);
        self.created += 1;
        let stamp = self.stamps;
        let (level, members) = self.level_of(group);
        members.insert(Member::new(key, group, level.estimate, stamp))
    }

    fn open_group(&mut self, id: GroupId) -> u32 {
        let number = self.groups.vacant_key() as u32;
        let member = self.insert(FlowKey::of_group(number), NONE);
        self.members[member].weight = self.weight_of(id);
        self.by_id.insert(id, number);
        self.groups.insert(Box::new(Group {
            id,
            member,
            flows: Level::new(number, self.root.estimate),
            forgiven: self.forgiven,
        }));
        number
    }

    /// Removes the records of flows without tasks and without a debt, and then those of groups
    /// without flows and without a debt. Debts are kept up to a number of records.
    fn sweep(&mut self) {
        let Self {
            members,
            root,
            groups,
            by_id,
            ..
        } = self;
        groups
            .iter_mut()
            .for_each(|(_, group)| group.forgive(self.forgiven));
        let busy = members.iter().filter(|(_, member)| member.has_tasks()).count();
        let keeps_debts = members.len() <= MANY + 2 * busy;
        members.retain(|member| {
            let group = groups.get(member.group as usize);
            let level = group.map_or(&*root, |group| &group.flows);
            let has_debt = is_in_debt(member.finish, level.virtual_time());
            member.key.group() != NONE || member.has_tasks() || keeps_debts && has_debt
        });
        let used: FxHashSet<u32> = members.iter().map(|(_, member)| member.group).collect();
        members.retain(|member| {
            let number = member.key.group();
            let has_debt = is_in_debt(member.finish, root.virtual_time());
            let stays = number == NONE || used.contains(&number) || keeps_debts && has_debt;
            if !stays {
                by_id.remove(&groups.remove(number as usize).id);
            }
            stays
        });
        if members.is_empty() {
            *members = Records::new();
        }
        self.sweep_at = KEPT.max(2 * members.len());
    }

    fn weight_of(&self, id: GroupId) -> u16 {
        self.weights.get(&id).copied().unwrap_or(1)
    }

    /// Sets the weight of a group among the groups and the flows without a group.
    pub(crate) fn set_group_weight(&mut self, id: GroupId, weight: u16) {
        if weight == 1 {
            self.weights.remove(&id);
        } else {
            self.weights.insert(id, weight);
        }
        if let Some(&group) = self.by_id.get(&id) {
            let member = self.groups[group as usize].member;
            self.members[member].weight = weight;
        }
    }

    /// Takes over the data that a loop has about a flow. Returns false if the flow needs a new
    /// record: it has none, or its record belongs to another group or to an earlier connection.
    #[inline]
    pub(crate) fn take_over(&mut self, at: u32, key: FlowKey, data: FlowData) -> bool {
        let (group, tag) = data.state.group_and_tag();
        if !self.is_member(at, key, group) {
            return false;
        }
        let member = &mut self.members[at];
        if tag == Some(0) && member.turns > 0 {
            return false;
        }
        member.weight = data.weight;
        if let Some(tag) = tag {
            self.stamps = self.stamps.wrapping_add(1);
            member.set_tag(tag, self.stamps);
            if tag == 0 {
                self.reset(at);
            }
        }
        true
    }

    /// The record of a flow is used for a new connection.
    #[cold]
    fn reset(&mut self, at: u32) {
        let group = self.members[at].group;
        let (level, members) = self.level_of(group);
        (members[at].finish, members[at].estimate) = (0, level.estimate);
    }

    /// Calls a function for a flow, and then for its group if it has one.
    #[inline]
    fn for_both(&mut self, at: u32, act: impl Fn(&mut Level, &mut Records<Member>, u32)) {
        let group = self.members[at].group;
        if group == NONE {
            act(&mut self.root, &mut self.members, at);
        } else {
            let group = &mut self.groups[group as usize];
            act(&mut group.flows, &mut self.members, at);
            act(&mut self.root, &mut self.members, group.member);
        }
    }

    /// Counts waiting tasks of a flow. The numbers of a group are the sums of those of its flows.
    #[inline]
    pub(super) fn count(&mut self, at: u32, part: Part, change: i32) {
        self.tasks = self.tasks.wrapping_add_signed(change as isize);
        let member = &mut self.members[at];
        let before = member.count(part, change);
        if member.group != NONE || has_other_size(before, member.queued) {
            self.note_count(at, part, change, before);
        }
    }

    #[cold]
    fn note_count(&mut self, at: u32, part: Part, change: i32, before: u32) {
        let group = self.members[at].group;
        let (level, members) = self.level_of(group);
        level.note_size(members, at, before);
        if let Some(&Group { member, .. }) = self.groups.get(group as usize).map(|group| &**group) {
            let before = self.members[member].count(part, change);
            self.root.note_size(&mut self.members, member, before);
        }
    }

    /// Moves the waiting tasks of a flow to its new record. Turns that have begun are charged to
    /// the old one.
    pub(super) fn move_tasks(&mut self, from: u32, to: u32) {
        self.unlist(from);
        let Member {
            lists,
            waiting,
            queued,
            unfinished,
            weight,
            ..
        } = self.members[from];
        for (part, number) in [(Part::Started, waiting - queued), (Part::Fresh, queued)] {
            self.count(from, part, -number.cast_signed());
            self.count(to, part, number.cast_signed());
        }
        let old = &mut self.members[from];
        (old.lists, old.unfinished) = ([List::EMPTY; 2], 0);
        let new = &mut self.members[to];
        (new.lists, new.unfinished, new.weight) = (lists, unfinished, weight);
        self.settle(to);
    }

    /// Returns the key of the flow whose newest task is shed for a new task. `own`: the number of
    /// tasks of the flow of the new task that have not started; `group`: its group.
    ///
    /// It is a flow with the most such tasks, within a factor of two, if it has at least two more
    /// than the flow of the new task. A group counts as one flow. If there is none, the same rule
    /// selects a flow in the group of the new task.
    pub(crate) fn fattest(&self, own: u32, group: Option<GroupId>) -> Option<FlowKey> {
        let group = group
            .and_then(|id| self.by_id.get(&id))
            .map(|&number| &self.groups[number as usize]);
        let size = group.map_or(own, |group| self.members[group.member].queued);
        let flow = match self.root.fattest(&self.members, size + 2) {
            Some(fattest) => match self.groups.get(fattest.key.group() as usize) {
                Some(group) => group.flows.fattest(&self.members, 1),
                None => Some(fattest),
            },
            None => group?.flows.fattest(&self.members, own + 2),
        };
        flow.map(|flow| flow.key)
    }

    /// Forgives the debts within the group of a flow if this was not done yet. Called before the
    /// flow is compared with the virtual time of the group.
    #[inline]
    fn forgive_within(&mut self, group: u32) {
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.forgive(self.forgiven);
        }
    }

    /// Lists a flow if it has a task that may run; otherwise takes it out of the lanes.
    #[inline]
    pub(crate) fn settle(&mut self, at: u32) {
        let member = &self.members[at];
        match (member.may_run(self.limit), member.lane) {
            (true, Lane::Unlisted) if member.group == NONE => self.root.activate(&mut self.members, at),
            (true, Lane::Unlisted) => self.activate_in_group(at),
            (true, _) => {}
            (false, _) => self.block(at),
        }
    }

    #[cold]
    fn activate_in_group(&mut self, at: u32) {
        self.forgive_within(self.members[at].group);
        self.for_both(at, Level::activate);
    }

    /// Lists a flow whose taken task was returned before its turn, before all others of its level,
    /// if one of its tasks may run. The same applies to its group. A flow or a group that is listed
    /// keeps its place.
    pub(super) fn list_returned(&mut self, at: u32) {
        if self.members[at].may_run(self.limit) {
            self.forgive_within(self.members[at].group);
            self.for_both(at, Level::list_returned);
        }
    }

    /// Unlists a flow that has no more tasks that may run.
    fn unlist(&mut self, at: u32) {
        let group = self.members[at].group;
        let (level, members) = self.level_of(group);
        level.unlist(members, at);
        if level.listed == 0
            && let Some(group) = self.groups.get(group as usize)
        {
            self.root.unlist(&mut self.members, group.member);
        }
    }

    /// Takes a flow that has no task that may run out of the lanes. If it has other tasks, its idle
    /// time ends here: the loop counts it as active.
    #[cold]
    fn block(&mut self, at: u32) {
        self.unlist(at);
        let &Member { waiting, group, .. } = &self.members[at];
        if waiting > 0 {
            self.forgive_within(group);
            let (level, members) = self.level_of(group);
            members[at].raise_tag(level.virtual_time());
        }
    }

    /// How long a worker may wait before it takes a flow or a group in debt, in nanoseconds. `last`
    /// is the last turn of the worker.
    pub(crate) fn time_before_debt(&mut self, last: Prepaid) -> u64 {
        let own = self.members.get(last.member);
        if own.is_none_or(|own| own.stamp != last.stamp) {
            // The flow has got a new task or another record.
            return 0;
        }
        let member = match self.group_of(last.member) {
            NONE => last.member,
            group => group,
        };
        self.root.time_before_debt(&self.members, member)
    }

    /// The flow whose turn is next. The turn begins with [`begin_turn`](Self::begin_turn). `debt`
    /// applies to the root.
    #[inline]
    pub(crate) fn next(&mut self, debt: Debt) -> Option<(u32, FlowKey)> {
        let at = self.root.next(&mut self.members, debt)?;
        let key = self.members[at].key;
        if key.group() == NONE {
            return Some((at, key));
        }
        let group = &mut self.groups[key.group() as usize];
        let at = group.flows.next(&mut self.members, Debt::Take)?;
        Some((at, self.members[at].key))
    }

    /// Begins a turn of the next flow, with a task of this part: charges the estimate, and unlists
    /// the flow unless other tasks of it may run. Also returns the expected time of the turn; an
    /// unknown cost counts as a quantum.
    #[inline]
    pub(crate) fn begin_turn(&mut self, at: u32, part: Part) -> (Prepaid, u64) {
        let has_limit = self.has_limit();
        let member = &mut self.members[at];
        if has_limit && part == Part::Fresh {
            member.unfinished += 1;
        }
        let (stamp, estimate) = (member.stamp, member.estimate);
        member.begin_turn(estimate);
        if member.group == NONE {
            self.root.begin_turn(&mut self.members, at);
        } else {
            self.begin_turn_in_group(at);
        }
        self.count(at, part, -1);
        if self.members[at].may_run(self.limit) {
            self.for_both(at, Level::list);
        }
        let time = if estimate == 0 { QUANTUM } else { estimate.into() };
        (Prepaid { member: at, stamp }, time)
    }

    #[cold]
    fn begin_turn_in_group(&mut self, at: u32) {
        let &Member { group, estimate, .. } = &self.members[at];
        let group = &mut self.groups[group as usize];
        group.flows.begin_turn(&mut self.members, at);
        self.members[group.member].begin_turn(estimate);
        self.root.begin_turn(&mut self.members, group.member);
        if group.flows.listed > 0 {
            self.root.list(&mut self.members, group.member);
        }
    }

    /// Whether the group of a flow has no task in the queue or in a batch, and no debt.
    pub(super) fn is_group_idle(&self, at: u32) -> bool {
        let group = self.members.get(self.group_of(at));
        group.is_some_and(|group| !group.has_tasks() && !is_in_debt(group.finish, self.root.virtual_time()))
    }

    /// The worker time that waiting tasks get before the first task of a new flow begins, in
    /// nanoseconds. O(flows).
    pub(crate) fn time_before_new_flow(&self) -> u64 {
        self.root
            .time_before_new_flow(&self.members, |member| self.work_of_group(member))
    }

    /// The work of a group. `None` for a flow.
    fn work_of_group(&self, member: &Member) -> Option<u64> {
        let group = self.groups.get(member.key.group() as usize)?;
        Some(group.flows.work(&self.members))
    }

    /// The worker time that waiting tasks get before a new task begins, in nanoseconds. `known` is
    /// the record that its flow had when it was last used. O(flows).
    pub(crate) fn time_before(&mut self, flow: KnownFlow, known: u32) -> u64 {
        let number = match flow.group {
            None => NONE,
            Some(id) => match self.by_id.get(&id) {
                Some(&number) => number,
                None => return self.time_before_new_flow(),
            },
        };
        self.forgive_within(number);
        let member = flow.key.and_then(|key| self.get(known, key));
        let is_known = member.is_some_and(|member| member.group == number);
        let mut task = NewTask {
            member: is_known.then_some(known),
            tag: flow.tag,
            weight: flow.weight,
            own_time: None,
        };
        if let Some(group) = self.groups.get(number as usize) {
            // The group itself needs this time before the task begins.
            task = NewTask {
                member: Some(group.member),
                tag: 0,
                weight: self.weight_of(group.id),
                own_time: Some(group.flows.time_before(&self.members, &task, |_| None)),
            };
        }
        self.root
            .time_before(&self.members, &task, |member| self.work_of_group(member))
    }

    /// Cancels the charge of a taken task that was returned before its turn.
    pub(crate) fn cancel_turn(&mut self, Prepaid { member, stamp }: Prepaid) {
        self.members[member].cancel_turn(stamp);
        if let Some(group) = self.members.get_mut(self.group_of(member)) {
            group.cancel_turn(group.stamp);
        }
    }

    /// Charges the turn of a taken task, which took `nanos` nanoseconds.
    #[inline]
    pub(crate) fn charge(&mut self, Prepaid { member, stamp }: Prepaid, nanos: u64) {
        let own = &mut self.members[member];
        if own.group == NONE {
            self.root.charge(own, stamp, nanos);
        } else {
            self.charge_group(member, stamp, nanos);
        }
    }

    #[cold]
    fn charge_group(&mut self, at: u32, stamp: u32, nanos: u64) {
        let own = &mut self.members[at];
        let group = &mut self.groups[own.group as usize];
        group.flows.charge(own, stamp, nanos);
        let own = &mut self.members[group.member];
        self.root.charge(own, own.stamp, nanos);
    }
}

#[cfg(all(test, not(loom)))]
impl Lanes {
    /// Checks that the levels, the groups and the records say the same. `taken`: the turns that
    /// were not charged yet.
    pub(crate) fn check(&self, taken: &[Prepaid]) {
        self.root.check(&self.members);
        assert_eq!(self.groups.len(), self.by_id.len());
        for (number, group) in &self.groups {
            let number = number as u32;
            assert_eq!(self.by_id[&group.id], number);
            assert_eq!(self.members[group.member].key, FlowKey::of_group(number));
            group.flows.check(&self.members);
            let own = &self.members[group.member];
            let of_flows = |count: fn(&Member) -> u32| {
                let flows = self.members.iter().filter(|(_, flow)| flow.group == number);
                flows.map(|(_, flow)| count(flow)).sum::<u32>()
            };
            assert_eq!(own.waiting, of_flows(|flow| flow.waiting));
            assert_eq!(own.queued, of_flows(|flow| flow.queued));
            assert_eq!(own.turns, of_flows(|flow| flow.turns));
            assert_eq!((own.turns, own.unfinished), (own.running, 0));
            assert_eq!(own.lane != Lane::Unlisted, group.flows.listed > 0);
        }
        for (at, member) in self.members.iter() {
            let turns = taken.iter().filter(|turn| turn.member as usize == at);
            let present = turns.clone().filter(|turn| turn.stamp == member.stamp);
            if member.key.group() == NONE {
                assert_eq!(member.turns as usize, turns.count());
                assert_eq!(member.running as usize, present.count());
                assert_eq!(member.lane != Lane::Unlisted, member.may_run(self.limit));
            }
        }
    }

    /// The group, the lists and the numbers of a flow: waiting, queued and unfinished tasks. `None`
    /// if this is not its record.
    pub(super) fn flow(&self, at: u32, key: FlowKey) -> Option<(Option<GroupId>, [List; 2], [u32; 3])> {
        let flow = self.get(at, key)?;
        let group = self.groups.get(flow.group as usize).map(|group| group.id);
        Some((group, flow.lists, [flow.waiting, flow.queued, flow.unfinished]))
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// The time that all waiting tasks need.
    pub(crate) fn work(&self) -> u64 {
        let flows = self.members.iter().map(|(_, member)| member);
        let flows = flows.filter(|member| member.key.group() == NONE);
        let work = flows.map(|flow| match self.groups.get(flow.group as usize) {
            Some(group) => group.flows.work_of(flow, |_| None),
            None => self.root.work_of(flow, |_| None),
        });
        work.sum()
    }

    /// The next record that is created removes all that have no tasks and no debts.
    pub(crate) fn sweep_soon(&mut self) {
        self.sweep_at = 0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::queue::FlowState;
    use crate::queue::fair::VIRTUAL_QUANTUM;

    const MS: u64 = 1_000_000;
    const GROUP: Option<GroupId> = Some(GroupId(1));
    const COST: u64 = 5 * MS;

    fn key(flow: u32) -> FlowKey {
        FlowKey { service: 0, flow }
    }

    /// Gives a flow a task that may run.
    fn add(lanes: &mut Lanes, at: u32) {
        lanes.count(at, Part::Started, 1);
        lanes.settle(at);
    }

    /// Sets the number of tasks of a flow that have not started.
    fn set_queued(lanes: &mut Lanes, at: u32, queued: u32) {
        let before = lanes.members[at].queued;
        lanes.count(at, Part::Fresh, queued.cast_signed() - before.cast_signed());
        lanes.settle(at);
    }

    /// Gives a new flow a task that may run.
    fn submit(lanes: &mut Lanes, flow: u32, group: Option<GroupId>) -> u32 {
        let at = lanes.open(key(flow), group);
        add(lanes, at);
        at
    }

    /// Takes a task of the next flow.
    fn take(lanes: &mut Lanes) -> (u32, Prepaid) {
        let (at, key) = lanes.next(Debt::Take).expect("a flow is listed");
        (key.flow, begin(lanes, at).0)
    }

    fn begin(lanes: &mut Lanes, at: u32) -> (Prepaid, u64) {
        lanes.begin_turn(at, Part::Started)
    }

    /// Runs a task of a new flow, alone.
    fn run(lanes: &mut Lanes, flow: u32, group: Option<GroupId>, nanos: u64) -> u32 {
        let at = submit(lanes, flow, group);
        let (_, prepaid) = take(lanes);
        lanes.charge(prepaid, nanos);
        at
    }

    fn order(lanes: &mut Lanes) -> Vec<u32> {
        std::iter::from_fn(|| (!lanes.is_empty()).then(|| take(lanes).0)).collect()
    }

    /// The loop submits a task of a flow.
    fn take_over(lanes: &mut Lanes, at: u32, state: FlowState) -> bool {
        lanes.take_over(at, lanes.members[at].key, FlowData { state, weight: 1 })
    }

    #[test]
    fn groups_without_tasks_and_debts_are_removed() {
        let mut lanes = Lanes::new(None);
        for group in 0..100_000 {
            run(&mut lanes, group, Some(GroupId(group.into())), 0);
        }
        assert!(lanes.groups.len() <= 1024, "{} groups", lanes.groups.len());
        assert_eq!(lanes.groups.len(), lanes.by_id.len());
        assert_eq!(lanes.members.len(), 2 * lanes.groups.len());
    }

    #[test]
    fn the_number_of_groups_in_debt_is_bounded() {
        let mut lanes = Lanes::new(None);
        submit(&mut lanes, 0, None);
        for group in 1..30_000 {
            let at = submit(&mut lanes, group, Some(GroupId(group.into())));
            let (prepaid, _) = begin(&mut lanes, at);
            lanes.charge(prepaid, 1000 * MS);
        }
        assert!(lanes.groups.len() <= 20_000, "{} groups", lanes.groups.len());
        assert_eq!(lanes.groups.len(), lanes.by_id.len());
    }

    /// 100,000 parked streams do not need a record each.
    #[test]
    fn a_pool_with_nothing_to_do_keeps_few_records() {
        let mut lanes = Lanes::new(None);
        for flow in 0..=2 * MANY as u32 {
            submit(&mut lanes, flow, None);
        }
        while !lanes.is_empty() {
            let (_, prepaid) = take(&mut lanes);
            lanes.charge(prepaid, 1000);
        }
        assert_eq!(lanes.members.len(), 2 * MANY + 1);
        lanes.forgive();
        assert_eq!((lanes.members.len(), lanes.members.capacity()), (0, 0));
        run(&mut lanes, 0, None, 1000);
        lanes.forgive();
        assert_eq!(
            lanes.members.len(),
            1,
            "few records are kept, with their estimates"
        );
    }

    #[test]
    fn a_group_keeps_its_debt_when_its_tasks_have_ended() {
        let mut lanes = Lanes::new(None);
        run(&mut lanes, 0, GROUP, 1000 * MS);
        // Enough records for many sweeps.
        for flow in 1..10_000 {
            run(&mut lanes, flow, None, 0);
        }
        // The next task of the group is a task of a new connection.
        submit(&mut lanes, 10_000, GROUP);
        assert!(!lanes.has_prompt(), "the group is in debt");
        submit(&mut lanes, 10_001, None);
        assert!(lanes.has_prompt(), "a new connection without a group is not");
    }

    #[test]
    fn a_flow_keeps_its_debt_in_its_group() {
        let mut lanes = Lanes::new(None);
        let old = run(&mut lanes, 0, GROUP, 1000 * MS);
        submit(&mut lanes, 1, GROUP);
        add(&mut lanes, old);
        assert_eq!(order(&mut lanes), [1, 0]);
    }

    #[test]
    fn debts_within_a_group_are_forgiven_with_all_others() {
        for forgives in 0..2 {
            let mut lanes = Lanes::new(None);
            let old = run(&mut lanes, 0, GROUP, 1000 * MS);
            (0..forgives).for_each(|_| lanes.forgive());
            add(&mut lanes, old);
            // Served up to the virtual time of the group, so that it is not a new flow.
            let other = lanes.open(key(1), GROUP);
            let (level, members) = lanes.level_of(0);
            members[other].finish = level.virtual_time();
            add(&mut lanes, other);
            let expected = if forgives == 0 { [1, 0] } else { [0, 1] };
            assert_eq!(order(&mut lanes), expected, "forgiven {forgives} times");
        }
    }

    #[test]
    fn the_estimate_of_a_turn_is_that_of_its_flow() {
        let mut lanes = Lanes::new(None);
        let (long, short) = (lanes.open(key(0), GROUP), lanes.open(key(1), GROUP));
        for at in [long, short].repeat(20) {
            add(&mut lanes, at);
            let (prepaid, _) = begin(&mut lanes, at);
            lanes.charge(prepaid, if at == long { 5 * MS } else { 1000 });
        }
        add(&mut lanes, short);
        let (_, time) = begin(&mut lanes, short);
        assert!(time < 50_000, "{time} ns");
    }

    /// With a limit of running tasks, a flow can have tasks of which none may run.
    #[test]
    fn the_debts_of_a_group_are_forgiven_before_one_of_its_flows_is_blocked() {
        let mut lanes = Lanes::new(Some(1));
        let old = run(&mut lanes, 0, GROUP, 1000 * MS);
        lanes.forgive();
        let blocked = lanes.open(key(1), GROUP);
        lanes.members[blocked].unfinished += 1;
        set_queued(&mut lanes, blocked, 1);
        add(&mut lanes, old);
        lanes.members[blocked].unfinished -= 1;
        lanes.settle(blocked);
        let (first, _) = take(&mut lanes);
        assert_eq!(first, 0, "the idle time of the other flow ended before");
    }

    #[test]
    fn the_size_of_a_group_is_the_number_of_all_its_queued_tasks() {
        let mut lanes = Lanes::new(None);
        let fat = lanes.open(key(0), None);
        set_queued(&mut lanes, fat, 4);
        let flows: Vec<_> = (1..=10)
            .map(|flow| {
                let at = lanes.open(key(flow), GROUP);
                set_queued(&mut lanes, at, 1);
                at
            })
            .collect();
        let fattest = lanes.fattest(0, None).expect("the group");
        assert!(fattest.flow > 0, "a flow of the group: {fattest:?}");
        assert_eq!(
            lanes.fattest(2, Some(GroupId(2))),
            Some(fattest),
            "of a new group"
        );
        set_queued(&mut lanes, flows[3], 3);
        assert_eq!(
            lanes.fattest(0, None),
            Some(key(4)),
            "the fattest flow of the group"
        );
        for &at in &flows[1..] {
            set_queued(&mut lanes, at, 0);
        }
        assert_eq!(lanes.fattest(0, None), Some(key(0)), "the group has one task");
        assert_eq!(lanes.fattest(3, None), None);
    }

    #[test]
    fn a_new_task_of_the_fattest_group_replaces_a_task_of_that_group() {
        let mut lanes = Lanes::new(None);
        for (flow, group, queued) in [(0, GROUP, 2), (1, GROUP, 20), (2, None, 5)] {
            let at = lanes.open(key(flow), group);
            set_queued(&mut lanes, at, queued);
        }
        assert_eq!(lanes.fattest(2, GROUP), Some(key(1)));
        assert_eq!(lanes.fattest(19, GROUP), None, "two more are needed");
    }

    /// A new connection in the slot of an earlier one has a record of its own, but the group has
    /// the same record.
    #[test]
    fn a_group_is_charged_for_a_turn_of_a_closed_connection() {
        let mut lanes = Lanes::new(None);
        let at = submit(&mut lanes, 0, GROUP);
        let (_, prepaid) = take(&mut lanes);
        assert!(!take_over(&mut lanes, at, FlowState::NewInGroup(GroupId(1))));
        lanes.charge(prepaid, 1000 * MS);
        submit(&mut lanes, 0, GROUP);
        submit(&mut lanes, 1, None);
        assert_eq!(order(&mut lanes), [1, 0]);
    }

    #[test]
    fn a_cancelled_turn_costs_a_group_nothing() {
        let mut lanes = Lanes::new(None);
        run(&mut lanes, 0, GROUP, 1000 * MS);
        run(&mut lanes, 1, Some(GroupId(2)), 0);
        lanes.forgive();
        let before = lanes.root.virtual_time();
        submit(&mut lanes, 0, GROUP);
        let (_, prepaid) = take(&mut lanes);
        lanes.cancel_turn(prepaid);
        submit(&mut lanes, 0, GROUP);
        assert!(lanes.has_prompt(), "the group is not in debt");
        assert!(lanes.root.virtual_time() < before + VIRTUAL_QUANTUM);
    }

    #[test]
    fn the_weight_of_a_group_does_not_depend_on_its_record() {
        let mut lanes = Lanes::new(None);
        lanes.set_group_weight(GroupId(1), 256);
        run(&mut lanes, 0, GROUP, MS);
        submit(&mut lanes, 0, GROUP);
        assert!(lanes.has_prompt(), "its charge is 4 us");
        order(&mut lanes);
        lanes.set_group_weight(GroupId(1), 1);
        assert!(lanes.weights.is_empty());
        run(&mut lanes, 0, GROUP, MS);
        submit(&mut lanes, 0, GROUP);
        assert!(!lanes.has_prompt(), "its charge is 1 ms");
    }

    /// A task of a new connection was taken, and its turn was not charged yet.
    fn taken() -> (Lanes, u32, Prepaid) {
        let mut lanes = Lanes::new(None);
        let at = submit(&mut lanes, 0, None);
        let (_, prepaid) = take(&mut lanes);
        (lanes, at, prepaid)
    }

    const RETURNED: FlowState = FlowState::Idle { tag: VIRTUAL_QUANTUM };

    #[test]
    fn a_turn_that_the_loop_has_counted_still_updates_the_estimate() {
        let (mut lanes, at, prepaid) = taken();
        assert!(take_over(&mut lanes, at, RETURNED));
        lanes.charge(prepaid, COST);
        let own = &lanes.members[at];
        assert_eq!(
            (u64::from(own.estimate), own.finish),
            (COST, 2 * VIRTUAL_QUANTUM - VIRTUAL_QUANTUM)
        );
    }

    /// The worker waited for 31 ms before a turn of a second.
    #[test]
    fn a_wait_before_a_long_turn_is_short() {
        for (turn, wait) in [
            (20_000_000, 625_000),
            (50_000_000, 640_000),
            (1_000_000_000, 640_000),
        ] {
            let (mut lanes, long, prepaid) = taken();
            lanes.charge(prepaid, turn);
            add(&mut lanes, long);
            let short = submit(&mut lanes, 1, None);
            let (last, _) = begin(&mut lanes, short);
            lanes.charge(last, 1_000);
            assert_eq!(lanes.time_before_debt(last), wait, "{turn} ns");
        }
    }

    /// A worker charges its turns after its batch. Until then the record of a short flow was
    /// removed, and its number was used for another flow.
    #[test]
    fn a_late_charge_does_not_change_the_estimate_of_another_flow() {
        let (mut lanes, at, prepaid) = taken();
        assert!(take_over(&mut lanes, at, RETURNED));
        lanes.sweep();
        let other = lanes.open(key(1), None);
        assert_ne!(other, at, "the first record has a turn");
        lanes.charge(prepaid, COST);
        assert_eq!(lanes.members[other].estimate, 0, "unknown");
        lanes.sweep();
        assert_eq!(lanes.members.len(), 0);
    }

    /// The same with a new connection in the slot of an old one.
    #[test]
    fn a_late_charge_does_not_change_the_estimate_of_a_new_connection() {
        let (mut lanes, at, prepaid) = taken();
        assert!(!take_over(&mut lanes, at, FlowState::Idle { tag: 0 }));
        let new = lanes.open(key(0), None);
        lanes.charge(prepaid, COST);
        assert_eq!(lanes.members[new].estimate, 0, "unknown");
    }
}
