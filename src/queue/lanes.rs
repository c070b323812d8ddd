//! Two levels of fair queueing: worker time is divided between groups and flows without a group
//! first, and the time of each group between its flows.
//!
//! The root and each group are a [`Level`]. The root has an account for each flow without a group,
//! and one for each group. A group is listed in the root if and only if one of its flows may run.
//! The next turn is selected in the root and then in the selected group. Both levels are charged
//! for it, with the estimate of the flow first.
//!
//! A group is removed with its account in the root: when it has no tasks and no debt, or when there
//! are too many accounts. So a group does not lose its debt when its last task ends.

use super::fair::estimate::Member;
use super::fair::{Debt, FlowKey, Level, NONE, StampedAccount};
use crate::scheduler::QUANTUM;
use crate::task::id::GroupId;
use slab::Slab;
use std::collections::HashMap;

/// Names the account of a flow: its group, or [`NONE`], and its account in that level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AccountId {
    group: u32,
    account: u32,
}

impl AccountId {
    pub(crate) const NONE: Self = Self::in_root(NONE);

    const fn in_root(account: u32) -> Self {
        Self { group: NONE, account }
    }
}

/// Names the accounts that a taken task was charged to. Each is charged or cancelled once; until
/// then the group of the task is not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prepaid {
    group: u32,
    flow: StampedAccount,
}

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
    /// Its account in the root.
    account: u32,
    flows: Level,
    /// The number of times that the debts of its flows were forgiven.
    forgiven: u64,
}

/// The key of a group in the root: a flow of no service.
fn key_of_group(group: u32) -> FlowKey {
    FlowKey {
        service: NONE,
        flow: group,
    }
}

/// The group with this key. [`NONE`] if it is the key of a flow.
#[inline]
fn group_of(key: FlowKey) -> u32 {
    if key.service == NONE { key.flow } else { NONE }
}

/// The flows with tasks that may run, and the worker time that each flow and each group has used.
pub(crate) struct Lanes {
    root: Level,
    /// A group record has several hundred bytes, and a slab keeps its memory.
    groups: Slab<Box<Group>>,
    /// Hashed with a key, because a client may be able to choose its group.
    by_id: HashMap<GroupId, u32>,
    /// The weights other than 1.
    weights: HashMap<GroupId, u16>,
    /// The number of tasks that wait in flows.
    tasks: usize,
    /// The number of times that all debts were forgiven.
    forgiven: u64,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            root: Level::root(),
            groups: Slab::new(),
            by_id: HashMap::new(),
            weights: HashMap::new(),
            tasks: 0,
            forgiven: 0,
        }
    }

    #[inline]
    fn group(&self, group: u32) -> Option<&Group> {
        self.groups.get(group as usize).map(|group| &**group)
    }

    /// The level of the flows of a group, or of the flows without a group.
    #[inline]
    fn level_of(&mut self, account: AccountId) -> &mut Level {
        if account.group == NONE {
            &mut self.root
        } else {
            &mut self.groups[account.group as usize].flows
        }
    }

    /// The virtual time of the root.
    #[inline]
    pub(crate) fn virtual_time(&self) -> u64 {
        self.root.virtual_time()
    }

    /// Records that a task with this tag was taken straight from the ring. Its flow has no group.
    #[inline]
    pub(crate) fn pass(&mut self, tag: u64) {
        self.root.pass(tag);
    }

    /// Whether a flow or a group in debt has its turn although others are before it, because many
    /// new ones were served in succession.
    #[inline]
    pub(crate) fn must_serve_debt(&self) -> bool {
        self.root.must_serve_debt()
    }

    /// Whether a flow waits that has no debt and whose group has none.
    #[inline]
    pub(crate) fn has_prompt(&mut self) -> bool {
        self.root.has_prompt()
    }

    /// Records that a flow without a group was served up to this tag.
    pub(crate) fn note_finish(&mut self, finish: u64) {
        self.root.note_finish(finish);
    }

    /// The largest finish tag of the root, in nanoseconds.
    #[cfg(loom)]
    pub(crate) fn largest_finish_tag(&self) -> u64 {
        self.root.largest_finish_tag()
    }

    /// Forgives all debts, because no task runs and no task waits. The debts within a group are
    /// forgiven when one of its flows has a task again, so that this call is O(1).
    pub(crate) fn forgive(&mut self) {
        self.root.forgive();
        self.forgiven += 1;
    }

    /// Whether no flow has a task that may run.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.listed() == 0
    }

    /// Whether no flow without a group, and no group, has a second task.
    pub(crate) fn are_single(&self) -> bool {
        self.tasks == self.root.listed()
    }

    /// The account of a flow. `known`: its account when it was last used, if it had the same group
    /// then.
    #[inline]
    pub(crate) fn account(&mut self, known: AccountId, group: Option<GroupId>, key: FlowKey) -> AccountId {
        match group {
            None if self.root.is_account_of(known.account, key) => known,
            None => AccountId::in_root(self.open(key)),
            Some(id) => self.account_in_group(known, id, key),
        }
    }

    fn account_in_group(&mut self, known: AccountId, id: GroupId, key: FlowKey) -> AccountId {
        let is_it = self.group(known.group).is_some_and(|group| group.id == id);
        let number = match self.by_id.get(&id) {
            _ if is_it => known.group,
            Some(&number) => number,
            None => self.open_group(id),
        };
        AccountId {
            group: number,
            account: self.groups[number as usize].flows.account(known.account, key),
        }
    }

    /// Opens an account in the root.
    #[cold]
    fn open(&mut self, key: FlowKey) -> u32 {
        self.sweep();
        self.root.open(key)
    }

    #[cold]
    fn open_group(&mut self, id: GroupId) -> u32 {
        // This comes first, because it changes the number of the next group.
        self.sweep();
        let number = self.groups.vacant_key() as u32;
        let account = self.root.open(key_of_group(number));
        self.root.set_weight(account, self.weight_of(id));
        self.by_id.insert(id, number);
        self.groups.insert(Box::new(Group {
            id,
            account,
            flows: Level::of_group(self.root.estimate()),
            forgiven: self.forgiven,
        }));
        number
    }

    /// Removes flows and groups that have no task and no debt, if there are many accounts.
    fn sweep(&mut self) {
        let Self {
            root, groups, by_id, ..
        } = self;
        if root.is_full() {
            root.sweep(|key| {
                if let Some(group) = groups.try_remove(group_of(key) as usize) {
                    by_id.remove(&group.id);
                }
            });
        }
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
            let account = self.groups[group as usize].account;
            self.root.set_weight(account, weight);
        }
    }

    /// Sets the weight of a flow within its group, or among the groups and the flows without one.
    pub(crate) fn set_weight(&mut self, at: AccountId, weight: u16) {
        self.level_of(at).set_weight(at.account, weight);
    }

    /// Takes over the data that the loop has about a flow without other tasks in flight. A tag of
    /// zero means a new connection. The loop of a connection in a group knows no other tag.
    pub(crate) fn set_tag(&mut self, at: AccountId, tag: u64) {
        self.level_of(at).set_tag(at.account, tag);
    }

    /// Takes over the finish tag of a flow without a group that had a turn without an account.
    pub(crate) fn raise_tag(&mut self, at: AccountId, tag: u64) {
        self.root.raise_tag(at.account, tag);
    }

    /// Sets the number of waiting tasks of a flow.
    #[inline]
    pub(crate) fn set_waiting(&mut self, at: AccountId, waiting: u32) {
        let before = self.level_of(at).set_waiting(at.account, waiting);
        self.tasks = self.tasks - before as usize + waiting as usize;
    }

    /// Sets the number of waiting tasks of a flow that have not started. The size of a group is the
    /// sum of these numbers.
    pub(crate) fn set_queued(&mut self, at: AccountId, queued: u32) {
        if at.group == NONE {
            return self.root.set_queued(at.account, queued);
        }
        let group = &mut self.groups[at.group as usize];
        let others = self.root.queued(group.account) - group.flows.queued(at.account);
        group.flows.set_queued(at.account, queued);
        self.root.set_queued(group.account, others + queued);
    }

    /// Returns the flow whose newest task is shed for a new task. `own`: the number of tasks of the
    /// flow of the new task that have not started; `group`: its group.
    ///
    /// It is a flow with the most such tasks, within a factor of two, if it has at least two more
    /// than the flow of the new task. A group counts as one flow. If there is none, the same rule
    /// selects a flow in the group of the new task.
    pub(crate) fn fattest(&self, own: u32, group: Option<GroupId>) -> Option<FlowKey> {
        let group = group
            .and_then(|id| self.by_id.get(&id))
            .and_then(|&group| self.group(group));
        let size = group.map_or(own, |group| self.root.queued(group.account));
        match self.root.fattest(size + 2) {
            Some(fattest) => match self.group(group_of(fattest)) {
                Some(group) => group.flows.fattest(1),
                None => Some(fattest),
            },
            None => group?.flows.fattest(own + 2),
        }
    }

    /// Forgives the debts within a group if this was not done yet. Called before a flow of the
    /// group is compared with its virtual time.
    fn forgive_within(&mut self, group: u32) {
        if let Some(group) = self.groups.get_mut(group as usize)
            && group.forgiven != self.forgiven
        {
            group.forgiven = self.forgiven;
            group.flows.forgive();
        }
    }

    /// Lists a flow that has a task that may run and had none before.
    #[inline]
    pub(crate) fn activate(&mut self, at: AccountId) {
        if at.group == NONE {
            self.root.activate(at.account);
        } else {
            self.activate_in_group(at);
        }
    }

    #[cold]
    fn activate_in_group(&mut self, at: AccountId) {
        self.forgive_within(at.group);
        let group = &mut self.groups[at.group as usize];
        group.flows.activate(at.account);
        self.root.activate(group.account);
    }

    /// Lists a flow that has more tasks after a turn.
    pub(crate) fn list(&mut self, at: AccountId) {
        self.level_of(at).list(at.account);
        if let Some(group) = self.groups.get(at.group as usize) {
            self.root.list(group.account);
        }
    }

    /// Lists a flow whose taken task was returned before its turn, before all others of its level.
    /// The same applies to its group. A flow or a group that is listed keeps its place.
    pub(crate) fn list_returned(&mut self, at: AccountId) {
        self.forgive_within(at.group);
        self.level_of(at).list_returned(at.account);
        if let Some(group) = self.groups.get(at.group as usize) {
            self.root.list_returned(group.account);
        }
    }

    /// Unlists a flow that has no more tasks that may run.
    pub(crate) fn unlist(&mut self, at: AccountId) {
        self.level_of(at).unlist(at.account);
        if let Some(group) = self.groups.get(at.group as usize)
            && group.flows.listed() == 0
        {
            self.root.unlist(group.account);
        }
    }

    /// Records that a flow has tasks and none of them may run. Its idle time ends here: the loop
    /// counts it as active.
    pub(crate) fn block(&mut self, at: AccountId) {
        self.forgive_within(at.group);
        let level = self.level_of(at);
        level.raise_tag(at.account, level.virtual_time());
    }

    /// How long a worker may wait before it takes a flow or a group in debt, in nanoseconds. `last`
    /// is the last turn of the worker.
    pub(crate) fn time_before_debt(&mut self, last: Prepaid) -> u64 {
        let member = if last.group == NONE {
            Some(last.flow)
        } else {
            // The group may have been removed after the turn.
            let group = self.groups.get(last.group as usize);
            group.map(|group| self.root.stamped(group.account))
        };
        member.map_or(0, |member| self.root.time_before_debt(member))
    }

    /// The flow whose turn is next. The turn begins with [`begin_turn`](Self::begin_turn). `debt`
    /// applies to the root.
    #[inline]
    pub(crate) fn next(&mut self, debt: Debt) -> Option<(AccountId, FlowKey)> {
        let (account, key) = self.root.next(debt)?;
        let group = group_of(key);
        if group == NONE {
            return Some((AccountId::in_root(account), key));
        }
        let (account, key) = self.groups[group as usize].flows.next(Debt::Take)?;
        Some((AccountId { group, account }, key))
    }

    /// Begins the turn of the next flow: charges the estimate and unlists the flow. Also returns
    /// the expected time of the turn; an unknown cost counts as a quantum.
    #[inline]
    pub(crate) fn begin_turn(&mut self, at: AccountId) -> (Prepaid, u64) {
        let (flow, estimate) = if at.group == NONE {
            let estimate = self.root.estimate_of(at.account);
            (self.root.begin_turn(at.account, estimate), estimate)
        } else {
            self.begin_turn_in_group(at)
        };
        let time = if estimate == 0 { QUANTUM } else { estimate.into() };
        let group = at.group;
        (Prepaid { group, flow }, time)
    }

    #[cold]
    fn begin_turn_in_group(&mut self, at: AccountId) -> (StampedAccount, u32) {
        let group = &mut self.groups[at.group as usize];
        let estimate = group.flows.estimate_of(at.account);
        let flow = group.flows.begin_turn(at.account, estimate);
        self.root.begin_turn(group.account, estimate);
        if group.flows.listed() > 0 {
            self.root.list(group.account);
        }
        (flow, estimate)
    }

    /// Whether the group of a flow has no task in the queue or in a batch, and no debt.
    pub(crate) fn is_group_idle(&self, at: AccountId) -> bool {
        let group = self.group(at.group);
        group.is_some_and(|group| self.root.is_idle(group.account))
    }

    /// The worker time that waiting tasks get before the first task of a new flow begins, in
    /// nanoseconds. O(flows).
    pub(crate) fn time_before_new_flow(&self) -> u64 {
        self.root.time_before_new_flow(|key| self.work_of_group(key))
    }

    /// The work of the group with this key. `None` if it is the key of a flow.
    fn work_of_group(&self, key: FlowKey) -> Option<u64> {
        Some(self.group(group_of(key))?.flows.work())
    }

    /// The worker time that waiting tasks get before a new task begins, in nanoseconds. `known` is
    /// the account that its flow had when it was last used. O(flows).
    pub(crate) fn time_before(&mut self, flow: KnownFlow, known: AccountId) -> u64 {
        let number = match flow.group {
            None => NONE,
            Some(id) => match self.by_id.get(&id) {
                Some(&number) => number,
                None => return self.time_before_new_flow(),
            },
        };
        self.forgive_within(number);
        let is_known = known.group == number
            && flow
                .key
                .is_some_and(|key| self.level_of(known).is_account_of(known.account, key));
        let member = Member {
            account: is_known.then_some(known.account),
            tag: flow.tag,
            weight: flow.weight,
            own_time: None,
        };
        let Some(group) = self.group(number) else {
            return self.root.time_before(&member, |key| self.work_of_group(key));
        };
        // The group itself needs this time before the task begins.
        let member = Member {
            account: Some(group.account),
            tag: 0,
            weight: self.weight_of(group.id),
            own_time: Some(group.flows.time_before(&member, |_| None)),
        };
        self.root.time_before(&member, |key| self.work_of_group(key))
    }

    /// Cancels the charge of a taken task that was returned before its turn.
    pub(crate) fn cancel_turn(&mut self, Prepaid { group, flow }: Prepaid) {
        if group == NONE {
            return self.root.cancel_turn(flow);
        }
        let group = &mut self.groups[group as usize];
        group.flows.cancel_turn(flow);
        self.root.cancel_turn(self.root.stamped(group.account));
    }

    /// Charges the turn of a taken task, which took `nanos` nanoseconds.
    #[inline]
    pub(crate) fn charge(&mut self, Prepaid { group, flow }: Prepaid, nanos: u64) {
        if group == NONE {
            self.root.charge(flow, nanos);
        } else {
            self.charge_group(group, flow, nanos);
        }
    }

    #[cold]
    fn charge_group(&mut self, group: u32, flow: StampedAccount, nanos: u64) {
        let group = &mut self.groups[group as usize];
        group.flows.charge(flow, nanos);
        self.root.charge(self.root.stamped(group.account), nanos);
    }
}

#[cfg(all(test, not(loom)))]
impl Lanes {
    /// Checks that the two levels say the same. `taken`: the turns that were not charged yet.
    pub(crate) fn check(&self, taken: &[Prepaid]) {
        self.root.check();
        assert_eq!(self.groups.len(), self.by_id.len());
        for (number, group) in &self.groups {
            let number = number as u32;
            assert_eq!(self.by_id[&group.id], number);
            assert!(self.root.is_account_of(group.account, key_of_group(number)));
            let (queued, is_listed) = self.root.queued_and_listed(group.account);
            assert_eq!(queued, group.flows.check());
            assert_eq!(is_listed, group.flows.listed() > 0);
            let running = taken.iter().filter(|turn| turn.group == number).count();
            assert_eq!(self.root.running_of(group.account) as usize, running);
        }
    }

    /// Checks an account of a flow.
    pub(crate) fn check_account(
        &self,
        at: AccountId,
        key: FlowKey,
        [waiting, queued]: [u32; 2],
        may_run: Option<u32>,
    ) {
        let level = self.group(at.group).map_or(&self.root, |group| &group.flows);
        let is_it = level.is_account_of(at.account, key);
        assert!(is_it || waiting == 0 && may_run.is_none());
        if is_it {
            assert_eq!(level.queued_and_listed(at.account), (queued, may_run.is_some()));
            assert_eq!(level.waiting_of(at.account), waiting);
        }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// The time that all waiting tasks need.
    pub(crate) fn work(&self) -> u64 {
        let groups = self.groups.iter().map(|(_, group)| group.flows.work_of_all());
        self.root.work_of_all() + groups.sum::<u64>()
    }

    pub(crate) fn sweep_soon(&mut self) {
        self.root.sweep_soon();
        self.groups
            .iter_mut()
            .for_each(|(_, group)| group.flows.sweep_soon());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::queue::fair::VIRTUAL_QUANTUM;

    const MS: u64 = 1_000_000;
    const GROUP: Option<GroupId> = Some(GroupId(1));

    fn key(flow: u32) -> FlowKey {
        FlowKey { service: 0, flow }
    }

    /// Gives a flow a task that may run.
    fn submit(lanes: &mut Lanes, flow: u32, group: Option<GroupId>) -> AccountId {
        let at = lanes.account(AccountId::NONE, group, key(flow));
        lanes.activate(at);
        at
    }

    /// Takes the only task of the next flow.
    fn take(lanes: &mut Lanes) -> (u32, Prepaid) {
        let (at, key) = lanes.next(Debt::Take).expect("a flow is listed");
        (key.flow, lanes.begin_turn(at).0)
    }

    /// Runs a task of a flow, alone.
    fn run(lanes: &mut Lanes, flow: u32, group: Option<GroupId>, nanos: u64) {
        submit(lanes, flow, group);
        let (_, prepaid) = take(lanes);
        lanes.charge(prepaid, nanos);
    }

    fn order(lanes: &mut Lanes) -> Vec<u32> {
        std::iter::from_fn(|| (!lanes.is_empty()).then(|| take(lanes).0)).collect()
    }

    #[test]
    fn groups_without_tasks_and_debts_are_removed() {
        let mut lanes = Lanes::new();
        for group in 0..100_000 {
            run(&mut lanes, group, Some(GroupId(group.into())), 0);
        }
        assert!(lanes.groups.len() <= 1024, "{} groups", lanes.groups.len());
        assert_eq!(lanes.groups.len(), lanes.by_id.len());
    }

    #[test]
    fn the_number_of_groups_in_debt_is_bounded() {
        let mut lanes = Lanes::new();
        submit(&mut lanes, 0, None);
        for group in 1..30_000 {
            let at = submit(&mut lanes, group, Some(GroupId(group.into())));
            let (prepaid, _) = lanes.begin_turn(at);
            lanes.charge(prepaid, 1000 * MS);
        }
        assert!(lanes.groups.len() <= 20_000, "{} groups", lanes.groups.len());
        assert_eq!(lanes.groups.len(), lanes.by_id.len());
    }

    #[test]
    fn a_group_keeps_its_debt_when_its_tasks_have_ended() {
        let mut lanes = Lanes::new();
        run(&mut lanes, 0, GROUP, 1000 * MS);
        // Enough accounts for many sweeps.
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
        let mut lanes = Lanes::new();
        run(&mut lanes, 0, GROUP, 1000 * MS);
        let at = lanes.account(AccountId::NONE, GROUP, key(1));
        lanes.activate(at);
        let at = AccountId {
            account: 0,
            group: at.group,
        };
        lanes.activate(at);
        assert_eq!(order(&mut lanes), [1, 0]);
    }

    #[test]
    fn debts_within_a_group_are_forgiven_with_all_others() {
        for forgives in 0..2 {
            let mut lanes = Lanes::new();
            run(&mut lanes, 0, GROUP, 1000 * MS);
            (0..forgives).for_each(|_| lanes.forgive());
            let old = lanes.account(AccountId { group: 0, account: 0 }, GROUP, key(0));
            lanes.activate(old);
            // Served up to the virtual time of the group, so that it is not a new flow.
            let other = lanes.account(AccountId::NONE, GROUP, key(1));
            let level = lanes.level_of(other);
            level.raise_tag(other.account, level.virtual_time());
            lanes.activate(other);
            let expected = if forgives == 0 { [1, 0] } else { [0, 1] };
            assert_eq!(order(&mut lanes), expected, "forgiven {forgives} times");
        }
    }

    #[test]
    fn the_estimate_of_a_turn_is_that_of_its_flow() {
        let mut lanes = Lanes::new();
        let (long, short) = (
            lanes.account(AccountId::NONE, GROUP, key(0)),
            lanes.account(AccountId::NONE, GROUP, key(1)),
        );
        for at in [long, short].repeat(20) {
            lanes.activate(at);
            let (prepaid, _) = lanes.begin_turn(at);
            lanes.charge(prepaid, if at == long { 5 * MS } else { 1000 });
        }
        lanes.activate(short);
        let (_, time) = lanes.begin_turn(short);
        assert!(time < 50_000, "{time} ns");
    }

    /// With a limit of running tasks, a flow can have tasks of which none may run.
    #[test]
    fn the_debts_of_a_group_are_forgiven_before_one_of_its_flows_is_blocked() {
        let mut lanes = Lanes::new();
        run(&mut lanes, 0, GROUP, 1000 * MS);
        let at =
            |lanes: &mut Lanes, flow| lanes.account(AccountId { group: 0, account: 0 }, GROUP, key(flow));
        lanes.forgive();
        let (old, blocked) = (at(&mut lanes, 0), at(&mut lanes, 1));
        lanes.block(blocked);
        lanes.activate(old);
        lanes.activate(blocked);
        assert_eq!(order(&mut lanes), [0, 1], "its idle time has ended now");
    }

    #[test]
    fn the_size_of_a_group_is_the_number_of_all_its_queued_tasks() {
        let mut lanes = Lanes::new();
        let fat = lanes.account(AccountId::NONE, None, key(0));
        lanes.set_queued(fat, 4);
        let accounts: Vec<_> = (1..=10)
            .map(|flow| {
                let at = lanes.account(AccountId::NONE, GROUP, key(flow));
                lanes.set_queued(at, 1);
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
        lanes.set_queued(accounts[3], 3);
        assert_eq!(
            lanes.fattest(0, None),
            Some(key(4)),
            "the fattest flow of the group"
        );
        for &at in &accounts[1..] {
            lanes.set_queued(at, 0);
        }
        assert_eq!(lanes.fattest(0, None), Some(key(0)), "the group has one task");
        assert_eq!(lanes.fattest(3, None), None);
    }

    #[test]
    fn a_new_task_of_the_fattest_group_replaces_a_task_of_that_group() {
        let mut lanes = Lanes::new();
        for (flow, queued) in [(0, 2), (1, 20)] {
            let at = lanes.account(AccountId::NONE, GROUP, key(flow));
            lanes.set_queued(at, queued);
        }
        let lone = lanes.account(AccountId::NONE, None, key(2));
        lanes.set_queued(lone, 5);
        assert_eq!(lanes.fattest(2, GROUP), Some(key(1)));
        assert_eq!(lanes.fattest(19, GROUP), None, "two more are needed");
    }

    /// A connection that begins in the slot of an earlier one resets the account of the flow, but
    /// not that of the group.
    #[test]
    fn a_group_is_charged_for_a_turn_of_a_closed_connection() {
        let mut lanes = Lanes::new();
        let at = submit(&mut lanes, 0, GROUP);
        let (_, prepaid) = take(&mut lanes);
        lanes.set_tag(at, 0);
        lanes.charge(prepaid, 1000 * MS);
        submit(&mut lanes, 0, GROUP);
        submit(&mut lanes, 1, None);
        assert_eq!(order(&mut lanes), [1, 0]);
    }

    #[test]
    fn a_cancelled_turn_costs_a_group_nothing() {
        let mut lanes = Lanes::new();
        run(&mut lanes, 0, GROUP, 1000 * MS);
        run(&mut lanes, 1, Some(GroupId(2)), 0);
        lanes.forgive();
        let before = lanes.virtual_time();
        submit(&mut lanes, 0, GROUP);
        let (_, prepaid) = take(&mut lanes);
        lanes.cancel_turn(prepaid);
        submit(&mut lanes, 0, GROUP);
        assert!(lanes.has_prompt(), "the group is not in debt");
        assert!(lanes.virtual_time() < before + VIRTUAL_QUANTUM);
    }

    #[test]
    fn the_weight_of_a_group_does_not_depend_on_its_accounts() {
        let mut lanes = Lanes::new();
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
}
