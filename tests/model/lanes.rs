//! The choice of the next connection in the reference pool. It has the rules of
//! `src/queue/fair.rs` and `src/queue/lanes.rs`, with vectors that are searched from the front.

use crate::task::Line;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// The resolution of virtual time, as in the pool.
const UNITS: u64 = 256;
const QUANTUM: u64 = 20_000 * UNITS;
const EXPRESS_RUN: u32 = 32;

#[derive(Clone, Debug)]
struct Account {
    finish: u64,
    /// In nanoseconds.
    estimate: u64,
    /// The estimate that the current turn was charged.
    prepaid: u64,
    weight: u64,
}

impl Account {
    fn charge_of(&self, nanos: u64) -> u64 {
        nanos * UNITS / self.weight
    }
}

/// Members that share worker time: connections, or connections and groups.
#[derive(Clone, Debug)]
struct Level<M> {
    virtual_time: u64,
    finish_max: u64,
    estimate: u64,
    express: Vec<M>,
    express_run: u32,
    ring: Vec<M>,
    /// In the order in which they were listed, each with the tag that it had then.
    debt: Vec<(u64, M)>,
    accounts: HashMap<M, Account>,
}

fn average(old: u64, new: u64) -> u64 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

impl<M: Copy + Eq + Hash + Debug> Level<M> {
    fn new(estimate: u64) -> Self {
        Self {
            virtual_time: QUANTUM,
            finish_max: 0,
            estimate,
            express: Vec::new(),
            express_run: 0,
            ring: Vec::new(),
            debt: Vec::new(),
            accounts: HashMap::new(),
        }
    }

    fn account(&mut self, member: M) -> &mut Account {
        let new = Account {
            finish: 0,
            estimate: self.estimate,
            prepaid: 0,
            weight: 1,
        };
        self.accounts.entry(member).or_insert(new)
    }

    fn is_empty(&self) -> bool {
        self.express.is_empty() && self.ring.is_empty() && self.debt.is_empty()
    }

    fn is_listed(&self, member: M) -> bool {
        self.express.contains(&member)
            || self.ring.contains(&member)
            || self.debt.iter().any(|&(_, other)| other == member)
    }

    fn unlist(&mut self, member: M) {
        self.express.retain(|&other| other != member);
        self.ring.retain(|&other| other != member);
        self.debt.retain(|&(_, other)| other != member);
    }

    fn activate(&mut self, member: M) {
        if self.is_listed(member) {
            return;
        }
        let virtual_time = self.virtual_time;
        let account = self.account(member);
        if account.finish < virtual_time {
            account.finish = virtual_time;
            self.express.push(member);
        } else {
            self.list(member);
        }
    }

    fn block(&mut self, member: M) {
        let virtual_time = self.virtual_time;
        let account = self.account(member);
        account.finish = account.finish.max(virtual_time);
    }

    fn list(&mut self, member: M) {
        if self.is_listed(member) {
            return;
        }
        let finish = self.account(member).finish;
        if finish < self.virtual_time + QUANTUM {
            self.ring.push(member);
        } else {
            self.debt.push((finish, member));
        }
    }

    fn first_debt(&self) -> Option<(u64, M)> {
        self.debt.iter().copied().min_by_key(|&(tag, _)| tag)
    }

    fn move_reached(&mut self) {
        if let Some((tag, member)) = self.first_debt()
            && tag < self.virtual_time + QUANTUM
        {
            self.unlist(member);
            self.ring.push(member);
        }
    }

    fn next(&mut self) -> M {
        if self.express_run < EXPRESS_RUN
            && let Some(&member) = self.express.first()
        {
            return member;
        }
        if self.ring.is_empty() {
            self.move_reached();
        }
        while let Some(&member) = self.ring.first() {
            if self.account(member).finish < self.virtual_time + QUANTUM {
                return member;
            }
            self.unlist(member);
            self.list(member);
        }
        while let Some((tag, member)) = self.first_debt() {
            if self.account(member).finish < tag + QUANTUM {
                self.virtual_time = self.virtual_time.max(tag);
                return member;
            }
            self.unlist(member);
            self.list(member);
        }
        self.express[0]
    }

    fn begin_turn(&mut self, member: M, estimate: u64) {
        let is_express = self.express.contains(&member);
        self.express_run = if is_express { self.express_run + 1 } else { 0 };
        self.unlist(member);
        self.move_reached();
        let account = self.account(member);
        account.prepaid = account.charge_of(estimate);
        account.finish += account.prepaid;
    }

    fn charge(&mut self, member: M, nanos: u64) {
        self.estimate = average(self.estimate, nanos);
        self.cancel(member);
        let account = self.account(member);
        account.finish += account.charge_of(nanos);
        account.estimate = average(account.estimate, nanos);
        let finish = account.finish;
        self.finish_max = self.finish_max.max(finish);
    }

    fn cancel(&mut self, member: M) {
        let account = self.account(member);
        account.finish -= account.prepaid;
        account.prepaid = 0;
    }

    fn forgive(&mut self) {
        self.virtual_time = self.virtual_time.max(self.finish_max);
    }
}

/// A member of the root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Member {
    Lone(Line),
    Group(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    root: Level<Member>,
    groups: HashMap<u64, Level<Line>>,
    /// The groups of connections.
    grouped: HashMap<Line, u64>,
    weights: HashMap<u64, u64>,
    /// The connections for which the loop has submitted a task.
    known: HashSet<Line>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            root: Level::new(0),
            groups: HashMap::new(),
            grouped: HashMap::new(),
            weights: HashMap::new(),
            known: HashSet::new(),
        }
    }
}

impl Lanes {
    /// The group of a connection, and its level.
    fn group(&mut self, line: Line) -> Option<(Member, &mut Level<Line>)> {
        let &group = self.grouped.get(&line)?;
        let Self {
            root,
            groups,
            weights,
            ..
        } = self;
        let level = groups.entry(group).or_insert_with(|| {
            root.account(Member::Group(group)).weight = weights.get(&group).copied().unwrap_or(1);
            Level::new(root.estimate)
        });
        Some((Member::Group(group), level))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    pub(crate) fn set_weight(&mut self, group: u64, weight: u64) {
        self.weights.insert(group, weight);
        if self.groups.contains_key(&group) {
            self.root.account(Member::Group(group)).weight = weight;
        }
    }

    pub(crate) fn group_of(&self, line: Line) -> Option<u64> {
        self.grouped.get(&line).copied()
    }

    /// Moves a connection to another group, or to no group, where it is a new connection.
    pub(crate) fn set_group(&mut self, line: Line, group: Option<u64>) {
        self.unlist(line);
        if let Some(group) = group {
            self.grouped.insert(line, group);
            if let Some(level) = self.groups.get_mut(&group) {
                level.accounts.remove(&line);
            }
        } else {
            self.grouped.remove(&line);
            self.root.accounts.remove(&Member::Lone(line));
        }
    }

    /// Records whether the connection has a task that may run.
    pub(crate) fn settle(&mut self, line: Line, may_run: bool) {
        if !may_run {
            return self.unlist(line);
        }
        match self.group(line) {
            Some((group, level)) => {
                level.activate(line);
                self.root.activate(group);
            }
            None => self.root.activate(Member::Lone(line)),
        }
    }

    fn unlist(&mut self, line: Line) {
        self.root.unlist(Member::Lone(line));
        if let Some(&group) = self.grouped.get(&line)
            && let Some(level) = self.groups.get_mut(&group)
        {
            level.unlist(line);
            if level.is_empty() {
                self.root.unlist(Member::Group(group));
            }
        }
    }

    /// Records that the connection has tasks, and that none of them may run.
    pub(crate) fn block(&mut self, line: Line) {
        match self.group(line) {
            Some((_, level)) => level.block(line),
            None => self.root.block(Member::Lone(line)),
        }
    }

    /// Records that the loop submits a task of a connection without other tasks in the queue.
    pub(crate) fn submit(&mut self, line: Line) {
        if !self.known.insert(line) {
            return;
        }
        match self.group(line) {
            Some((_, level)) => _ = level.accounts.remove(&line),
            None => _ = self.root.accounts.remove(&Member::Lone(line)),
        }
    }

    /// Takes the next connection, and charges it an estimate.
    pub(crate) fn begin_turn(&mut self) -> Line {
        let member = self.root.next();
        match member {
            Member::Lone(line) => {
                let estimate = self.root.account(member).estimate;
                self.root.begin_turn(member, estimate);
                line
            }
            Member::Group(group) => {
                let level = self.groups.get_mut(&group).expect("it is listed");
                let line = level.next();
                let estimate = level.account(line).estimate;
                level.begin_turn(line, estimate);
                self.root.begin_turn(member, estimate);
                if !level.is_empty() {
                    self.root.list(member);
                }
                line
            }
        }
    }

    /// Lists a connection that has more tasks after its turn has begun.
    pub(crate) fn relist(&mut self, line: Line) {
        match self.group(line) {
            Some((group, level)) => {
                level.list(line);
                self.root.list(group);
            }
            None => self.root.list(Member::Lone(line)),
        }
    }

    /// Charges the turn of a connection that has ended.
    pub(crate) fn charge(&mut self, line: Line, cost: u64) {
        match self.group(line) {
            Some((group, level)) => {
                level.charge(line, cost);
                self.root.charge(group, cost);
            }
            None => self.root.charge(Member::Lone(line), cost),
        }
    }

    /// Cancels the turn of a connection that did not begin.
    pub(crate) fn cancel(&mut self, line: Line) {
        match self.group(line) {
            Some((group, level)) => {
                level.cancel(line);
                self.root.cancel(group);
            }
            None => self.root.cancel(Member::Lone(line)),
        }
    }

    /// Forgets earlier debts, because no task waits.
    pub(crate) fn forgive(&mut self) {
        self.root.forgive();
        self.groups.values_mut().for_each(Level::forgive);
    }
}
