//! Which flow has the next turn: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) in
//! worker time.
//!
//! Flows share worker time in proportion to their weights. What a turn costs is known only after
//! it. There are three changes to the algorithm of the paper:
//!
//! - A flow is charged in two parts: an estimate when a task is taken, which is the recent cost of
//!   its turns, and the rest after the turn. Otherwise several workers would serve one flow before
//!   any of them has reported (compare SFQ(D): Jin, Chase, Kaur, SIGMETRICS 2004).
//! - Virtual time is compared in steps of a quantum. Flows within one quantum of it are served
//!   first in, first out, without a heap (compare deficit round robin: Shreedhar, Varghese 1995).
//! - A flow that becomes active and has used less than its share is served first, like the new
//!   flows of `fq_codel` (RFC 8290).
//!
//! # Rules
//!
//! Virtual time `V` is the worker time that a flow of weight 1 would have received if it always had
//! had tasks. The finish tag `F` of a flow is the virtual time up to which it has been served. A
//! flow with a task that may run is in one of three lanes:
//!
//! 1. *express*: it had no task, and `F < V`. `F` becomes `V`: idle time is not saved.
//! 2. *ring*: `F < V + quantum`.
//! 3. *debt*: the others, in the order of `F`.
//!
//! The lanes are served in this order. When only flows in debt are left, `V` becomes the smallest
//! `F`. Flows in debt that `V` reaches move to the ring. After [`EXPRESS_RUN`] express turns in
//! succession another lane has a turn, so that a sequence of new flows cannot stop the others. When
//! the pool has nothing to run and nothing runs, `V` becomes the largest `F`: debts from before do
//! not count any more.
//!
//! A turn costs O(1) for flows that stay within their quantum, else O(log flows). This has no lock
//! and no clock; the run queue keeps it under its lock.

use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// In nanoseconds: the resolution of virtual time.
const QUANTUM: u64 = crate::scheduler::QUANTUM;
/// After so many express turns in succession another lane has a turn.
const EXPRESS_RUN: u32 = 32;
/// No flow, no place.
pub(crate) const NONE: u32 = u32::MAX;
/// At least this many accounts are kept.
const KEPT: usize = 1024;
/// Up to this many accounts are kept because of their debts.
const MANY: usize = 8 * KEPT;

/// Names a flow: the number of its service in the run queue, and the slot of its connection there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    pub(crate) service: u32,
    pub(crate) flow: u32,
}

/// What a flow of this weight is charged for so many nanoseconds of worker time.
#[inline]
pub(crate) fn weighted(nanos: u64, weight: u16) -> u64 {
    match weight {
        0 | 1 => nanos,
        weight => nanos / u64::from(weight),
    }
}

/// Whether a flow with this finish tag is in debt.
#[inline]
pub(crate) fn is_in_debt(finish: u64, virtual_time: u64) -> bool {
    finish >= virtual_time + QUANTUM
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lane {
    /// The flow has no task that may run.
    Unlisted,
    Express,
    Ring,
    Debt,
}

/// Whether a worker takes flows in debt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Debt {
    Take,
    Leave,
}

/// Names the account that a taken task was charged to. It is void when the flow was reset since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prepaid {
    account: u32,
    stamp: u32,
}

/// What a flow has used.
struct Account {
    key: FlowKey,
    /// The finish tag.
    finish: u64,
    /// What was charged for taken tasks whose cost is not known yet, and their number.
    prepaid: u64,
    running: u32,
    /// The recent cost of a turn, in nanoseconds; zero if it is not known.
    estimate: u32,
    weight: u16,
    lane: Lane,
    /// Neighbours in its lane.
    prev: u32,
    next: u32,
    /// Its number among those that were ever listed in debt.
    debt_number: u64,
    stamp: u32,
    /// The number of its tasks that have not started, and its place among the flows that have about
    /// as many.
    queued: u32,
    place: u32,
}

/// A flow in debt: its finish tag when it was listed, its number, and its account.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Debtor {
    tag: u64,
    number: u64,
    account: u32,
}

/// A list of accounts, linked through their records.
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

/// The flows that have tasks which may run, and what each flow has used.
pub(crate) struct Lanes {
    accounts: Slab<Account>,
    virtual_time: u64,
    /// The largest finish tag.
    finish_max: u64,
    express: List,
    express_run: u32,
    /// The last one of those at the front of the express lane whose tasks came back unbegun.
    returned: u32,
    ring: List,
    /// By finish tag; at equal tags, first in, first out. An item counts only if its account is in
    /// this lane with this number.
    debt: BinaryHeap<Reverse<Debtor>>,
    /// The number of flows that were ever listed in debt.
    debtors: u64,
    /// The number of flows in all lanes, and of those in debt.
    listed: usize,
    in_debt: usize,
    /// The number of tasks that wait in flows.
    tasks: usize,
    /// The first estimate of a new flow: the recent cost of any turn.
    estimate: u32,
    stamps: u32,
    /// The flows with two tasks or more that have not started, by the logarithm of that number.
    by_size: Vec<Vec<u32>>,
    /// When there are so many accounts, those that do not matter any more are removed.
    sweep_at: usize,
}

/// A moving average: a quarter of the new value, and all of the first.
fn average(old: u32, new: u32) -> u32 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

/// The logarithm of a number of tasks, zero for less than two.
fn size_of(queued: u32) -> usize {
    queued.max(1).ilog2() as usize
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            accounts: Slab::new(),
            // More than the finish tag of a new flow.
            virtual_time: QUANTUM,
            finish_max: 0,
            express: EMPTY,
            express_run: 0,
            returned: NONE,
            ring: EMPTY,
            debt: BinaryHeap::new(),
            debtors: 0,
            listed: 0,
            in_debt: 0,
            tasks: 0,
            estimate: 0,
            stamps: 0,
            by_size: Vec::new(),
            sweep_at: KEPT,
        }
    }

    #[inline]
    pub(crate) fn virtual_time(&self) -> u64 {
        self.virtual_time
    }

    /// A task with this tag was served without passing through a lane.
    #[inline]
    pub(crate) fn pass(&mut self, tag: u64) {
        self.virtual_time = self.virtual_time.max(tag);
    }

    /// Some flow was served up to this tag.
    pub(crate) fn note_finish(&mut self, finish: u64) {
        self.finish_max = self.finish_max.max(finish);
    }

    /// Nothing runs and nothing waits: earlier debts do not count any more.
    pub(crate) fn forgive(&mut self) {
        self.virtual_time = self.virtual_time.max(self.finish_max);
    }

    /// Whether no flow has a task that may run.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.listed == 0
    }

    /// A flow has one task more.
    pub(crate) fn note_task(&mut self) {
        self.tasks += 1;
    }

    /// A flow has one task less.
    pub(crate) fn note_task_gone(&mut self) {
        self.tasks -= 1;
    }

    /// A flow has so many tasks that have not started.
    pub(crate) fn set_queued(&mut self, at: u32, queued: u32) {
        let before = std::mem::replace(&mut self.accounts[at as usize].queued, queued);
        let (from, to) = (size_of(before), size_of(queued));
        if from != to {
            if from > 0 {
                self.leave_size(at, from);
            }
            if to > 0 {
                if self.by_size.len() <= to {
                    self.by_size.resize_with(to + 1, Vec::new);
                }
                self.accounts[at as usize].place = self.by_size[to].len() as u32;
                self.by_size[to].push(at);
            }
        }
    }

    fn leave_size(&mut self, at: u32, size: usize) {
        let place = self.accounts[at as usize].place;
        self.by_size[size].swap_remove(place as usize);
        if let Some(&moved) = self.by_size[size].get(place as usize) {
            self.accounts[moved as usize].place = place;
        }
    }

    /// A flow with the most tasks that have not started, within a factor of two, if these are at
    /// least `least`.
    pub(crate) fn fattest(&self, least: u32) -> Option<FlowKey> {
        let flows = self.by_size.iter().rfind(|flows| !flows.is_empty())?;
        let fattest = &self.accounts[*flows.last()? as usize];
        (fattest.queued >= least).then_some(fattest.key)
    }

    /// Whether no flow has a second task.
    pub(crate) fn are_single(&self) -> bool {
        self.tasks == self.listed
    }

    /// Whether a flow waits that is not in debt.
    #[inline]
    pub(crate) fn has_prompt(&mut self) -> bool {
        self.listed > self.in_debt || self.in_debt > 0 && self.reached_debt().is_some()
    }

    /// The account of a flow. `at` is where it was when it was last used.
    pub(crate) fn account(&mut self, at: u32, key: FlowKey) -> u32 {
        if self.is_account_of(at, key) {
            return at;
        }
        if self.accounts.len() >= self.sweep_at {
            self.sweep();
        }
        self.stamps = self.stamps.wrapping_add(1);
        self.accounts.insert(Account {
            key,
            finish: 0,
            prepaid: 0,
            running: 0,
            estimate: self.estimate,
            weight: 1,
            lane: Lane::Unlisted,
            prev: NONE,
            next: NONE,
            debt_number: 0,
            queued: 0,
            place: 0,
            stamp: self.stamps,
        }) as u32
    }

    fn is_account_of(&self, at: u32, key: FlowKey) -> bool {
        let account = self.accounts.get(at as usize);
        account.is_some_and(|account| account.key == key)
    }

    /// Removes the accounts of flows that have no task, and no debt.
    #[cold]
    fn sweep(&mut self) {
        let is_active =
            |account: &Account| account.lane != Lane::Unlisted || account.running > 0 || account.queued > 0;
        let virtual_time = self.virtual_time;
        let keeps_debts = self.accounts.len() <= MANY + 2 * self.listed;
        self.accounts.retain(|_, account| {
            is_active(account) || keeps_debts && is_in_debt(account.finish, virtual_time)
        });
        self.sweep_at = KEPT.max(2 * self.accounts.len());
    }

    /// What its loop knows about a flow that has no other tasks with the workers. A tag of zero
    /// means a new connection.
    pub(crate) fn set_tag(&mut self, at: u32, tag: u64) {
        let account = &mut self.accounts[at as usize];
        if tag == 0 {
            account.finish = 0;
            account.estimate = self.estimate;
        } else {
            // The loop has seen the costs of all turns.
            account.finish = account.finish.saturating_sub(account.prepaid).max(tag);
        }
        (account.prepaid, account.running) = (0, 0);
        self.stamps = self.stamps.wrapping_add(1);
        account.stamp = self.stamps;
    }

    /// The finish tag of a flow that was served without an account.
    pub(crate) fn raise_tag(&mut self, at: u32, tag: u64) {
        let account = &mut self.accounts[at as usize];
        account.finish = account.finish.max(tag);
    }

    pub(crate) fn set_weight(&mut self, at: u32, weight: u16) {
        self.accounts[at as usize].weight = weight;
    }

    /// A flow has a task that may run, and had none before.
    pub(crate) fn activate(&mut self, at: u32) {
        let account = &mut self.accounts[at as usize];
        if account.lane != Lane::Unlisted {
            return;
        }
        if account.finish < self.virtual_time {
            account.finish = self.virtual_time;
            self.push_back(at, Lane::Express);
        } else {
            self.list(at);
        }
    }

    /// A flow that had a turn has more tasks. If its estimate was too high, its finish tag may be
    /// behind virtual time, and stays there.
    pub(crate) fn list(&mut self, at: u32) {
        let account = &mut self.accounts[at as usize];
        if account.lane != Lane::Unlisted {
            return;
        }
        if is_in_debt(account.finish, self.virtual_time) {
            self.debtors += 1;
            account.lane = Lane::Debt;
            account.debt_number = self.debtors;
            self.debt.push(Reverse(Debtor {
                tag: account.finish,
                number: self.debtors,
                account: at,
            }));
            self.listed += 1;
            self.in_debt += 1;
        } else {
            self.push_back(at, Lane::Ring);
        }
    }

    /// A taken task of a flow comes back unbegun: the flow is served before all others, but behind
    /// those that came back before. A flow that is listed stays where it is.
    pub(crate) fn list_returned(&mut self, at: u32) {
        if self.accounts[at as usize].lane != Lane::Unlisted {
            return;
        }
        let prev = std::mem::replace(&mut self.returned, at);
        let next = self
            .accounts
            .get(prev as usize)
            .map_or(self.express.first, |prev| prev.next);
        let account = &mut self.accounts[at as usize];
        (account.lane, account.prev, account.next) = (Lane::Express, prev, next);
        self.link_next(Lane::Express, prev, at);
        self.link_prev(Lane::Express, next, at);
        self.listed += 1;
    }

    fn list_of(&mut self, lane: Lane) -> &mut List {
        if lane == Lane::Express {
            &mut self.express
        } else {
            &mut self.ring
        }
    }

    fn link_prev(&mut self, lane: Lane, at: u32, prev: u32) {
        match self.accounts.get_mut(at as usize) {
            Some(account) => account.prev = prev,
            None => self.list_of(lane).last = prev,
        }
    }

    fn link_next(&mut self, lane: Lane, at: u32, next: u32) {
        match self.accounts.get_mut(at as usize) {
            Some(account) => account.next = next,
            None => self.list_of(lane).first = next,
        }
    }

    fn push_back(&mut self, at: u32, lane: Lane) {
        let prev = std::mem::replace(&mut self.list_of(lane).last, at);
        let account = &mut self.accounts[at as usize];
        (account.lane, account.prev, account.next) = (lane, prev, NONE);
        self.link_next(lane, prev, at);
        self.listed += 1;
    }

    /// Takes an account out of the list of its lane.
    fn unlink(&mut self, at: u32) {
        let &Account { lane, prev, next, .. } = &self.accounts[at as usize];
        self.link_next(lane, prev, next);
        self.link_prev(lane, next, prev);
        if self.returned == at {
            self.returned = prev;
        }
    }

    /// A flow has no task that may run any more.
    pub(crate) fn unlist(&mut self, at: u32) {
        match self.accounts[at as usize].lane {
            Lane::Unlisted => return,
            Lane::Debt => {
                self.in_debt -= 1;
                if self.debt.len() > 2 * self.in_debt + KEPT {
                    self.drop_stale();
                }
            }
            Lane::Express | Lane::Ring => self.unlink(at),
        }
        self.accounts[at as usize].lane = Lane::Unlisted;
        self.listed -= 1;
    }

    /// Removes the items of the heap that do not count.
    #[cold]
    fn drop_stale(&mut self) {
        let accounts = &self.accounts;
        self.debt.retain(|Reverse(debtor)| debtor.is_current(accounts));
    }

    /// The flow in debt with the smallest tag.
    fn first_debt(&mut self) -> Option<(u64, u32)> {
        while let Some(Reverse(debtor)) = self.debt.peek() {
            if debtor.is_current(&self.accounts) {
                return Some((debtor.tag, debtor.account));
            }
            self.debt.pop();
        }
        None
    }

    /// The flow in debt with the smallest tag, if virtual time has reached that.
    fn reached_debt(&mut self) -> Option<u32> {
        let (tag, at) = self.first_debt()?;
        (!is_in_debt(tag, self.virtual_time)).then_some(at)
    }

    /// The flow whose turn is next. The turn begins with [`begin_turn`](Self::begin_turn).
    pub(crate) fn next(&mut self, debt: Debt) -> Option<(u32, FlowKey)> {
        let at = self.next_account(debt)?;
        Some((at, self.accounts[at as usize].key))
    }

    fn next_account(&mut self, debt: Debt) -> Option<u32> {
        if self.express_run < EXPRESS_RUN && self.express.first != NONE {
            return Some(self.express.first);
        }
        if self.ring.first == NONE {
            self.move_reached();
        }
        while let Some(account) = self.accounts.get(self.ring.first as usize) {
            let at = self.ring.first;
            if !is_in_debt(account.finish, self.virtual_time) {
                return Some(at);
            }
            // It was charged since it was listed.
            self.unlist(at);
            self.list(at);
        }
        while debt == Debt::Take
            && let Some((tag, at)) = self.first_debt()
        {
            let finish = self.accounts[at as usize].finish;
            if finish < tag + QUANTUM {
                self.virtual_time = self.virtual_time.max(tag);
                return Some(at);
            }
            self.unlist(at);
            self.list(at);
        }
        let express = self.express.first;
        (express != NONE).then_some(express)
    }

    /// Moves a flow in debt that virtual time has reached to the ring.
    fn move_reached(&mut self) {
        if let Some(at) = self.reached_debt() {
            self.unlist(at);
            self.push_back(at, Lane::Ring);
        }
    }

    /// The next flow has its turn: it is charged the estimate, and is not listed any more. Also
    /// returns how long the turn may take: an unknown cost counts as a quantum.
    pub(crate) fn begin_turn(&mut self, at: u32) -> (Prepaid, u64) {
        let is_express = self.accounts[at as usize].lane == Lane::Express;
        self.express_run = if is_express { self.express_run + 1 } else { 0 };
        self.unlist(at);
        // One at a time, so that no turn takes long.
        self.move_reached();
        let account = &mut self.accounts[at as usize];
        let estimate = u64::from(account.estimate);
        let charge = weighted(estimate, account.weight);
        account.finish += charge;
        account.prepaid += charge;
        account.running += 1;
        let stamp = account.stamp;
        let time = if estimate == 0 { QUANTUM } else { estimate };
        (Prepaid { account: at, stamp }, time)
    }

    fn prepaid(&mut self, prepaid: Prepaid) -> Option<&mut Account> {
        let account = self.accounts.get_mut(prepaid.account as usize)?;
        (account.stamp == prepaid.stamp && account.running > 0).then_some(account)
    }

    /// A taken task comes back unbegun.
    pub(crate) fn cancel_turn(&mut self, prepaid: Prepaid) {
        if let Some(account) = self.prepaid(prepaid) {
            account.take_prepaid();
        }
    }

    /// A taken task has had its turn, which took so many nanoseconds.
    pub(crate) fn charge(&mut self, prepaid: Prepaid, nanos: u64) {
        let cost = u32::try_from(nanos).unwrap_or(u32::MAX);
        self.estimate = average(self.estimate, cost);
        if let Some(account) = self.prepaid(prepaid) {
            account.take_prepaid();
            account.finish += weighted(nanos, account.weight);
            account.estimate = average(account.estimate, cost);
            let finish = account.finish;
            self.note_finish(finish);
        } else if let Some(account) = self.accounts.get_mut(prepaid.account as usize) {
            // Its loop has counted this turn; the estimate may be of a new connection, and adapts.
            account.estimate = average(account.estimate, cost);
        }
    }
}

impl Debtor {
    /// Whether the flow is still listed as it was then.
    fn is_current(&self, accounts: &Slab<Account>) -> bool {
        let account = accounts.get(self.account as usize);
        account.is_some_and(|account| account.lane == Lane::Debt && account.debt_number == self.number)
    }
}

impl Account {
    /// Takes back what was charged for one task.
    fn take_prepaid(&mut self) {
        let one = self.prepaid / u64::from(self.running);
        self.running -= 1;
        self.prepaid -= one;
        self.finish -= one;
    }
}
