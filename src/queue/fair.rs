//! Which flow has the next turn: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) in
//! worker time.
//!
//! Flows share worker time in proportion to their weights. The cost of a turn is known only after
//! the turn. There are three changes to the algorithm of the paper:
//!
//! - A flow is charged in two parts: an estimate when a task is taken, which is the recent cost of
//!   its turns, and the difference after the turn. Otherwise several workers would serve one flow
//!   before any of them has reported a cost (compare SFQ(D): Jin, Chase, Kaur, SIGMETRICS 2004).
//! - Virtual time is compared in steps of a quantum. Flows within one quantum of it are served
//!   first in, first out, without a heap (compare deficit round robin: Shreedhar, Varghese 1995).
//! - A flow that becomes active and has used less than its share is served first, like the new
//!   flows of `fq_codel` (RFC 8290).
//!
//! # Rules
//!
//! Virtual time `V` is the worker time that a flow of weight 1 would have received if it had had
//! tasks at all times. The finish tag `F` of a flow is the virtual time up to which it has been
//! served. A flow with a task that may run is in one of three lanes:
//!
//! 1. *express*: the flow had no task, and `F < V`. `F` becomes `V`: a flow does not save idle
//!    time.
//! 2. *ring*: `F < V + quantum`.
//! 3. *debt*: the other flows, in the order of `F`.
//!
//! The lanes are served in this order. When only flows in debt have tasks, `V` becomes the smallest
//! `F`. Flows in debt that `V` reaches move to the ring. After [`EXPRESS_RUN`] express turns in
//! succession another lane has a turn, so that a sequence of new flows cannot stop the others. When
//! the pool has nothing to run and nothing runs, `V` becomes the largest `F`: earlier debts do not
//! count any more.
//!
//! A stream is with its loop between two steps, so its flow may have no task for some microseconds.
//! Before a worker begins a long turn of a flow in debt, it waits for a short time if the flow that
//! it has just served would be served first if it had a task again (anticipatory scheduling: Iyer,
//! Druschel, SOSP 2001). [`Level::time_before_debt`] tells the worker how long it may wait.
//!
//! A turn costs O(1) for flows that stay within their quantum, and otherwise O(log flows). This
//! module has no lock and no clock; the lock of the run queue protects it.
//!
//! # Two levels
//!
//! A [`Level`] divides worker time between its members. The root divides it between groups of flows
//! and the flows that have no group; the level of a group divides the time of the group between its
//! flows, with a virtual time of its own ([`super::lanes`]). Here "flow" means a member of a level.

pub(crate) mod estimate;
mod fattest;

use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// In nanoseconds.
const QUANTUM: u64 = crate::scheduler::QUANTUM;
/// The number of binary places of virtual time below a nanosecond.
const FRACTION: u32 = 8;
/// The largest weight of a flow. One nanosecond is charged to it as one unit of virtual time.
pub(crate) const WEIGHT_MAX: u16 = 1 << FRACTION;
/// The resolution of virtual time.
pub(crate) const VIRTUAL_QUANTUM: u64 = QUANTUM << FRACTION;
/// After this number of express turns in succession another lane has a turn.
const EXPRESS_RUN: u32 = 32;
/// A wait before a flow in debt takes at most this part (one of 32) of the turn that it delays, and
/// all waits of a worker take at most the same part of its time: about 3 %. (Rows: `shares`.)
pub(crate) const WAIT_PART: u64 = 32;
/// The longest wait before a flow in debt: 640 us, the wait before a turn of 20 ms. A loop that
/// does not resume a stream within this time is busy with other work, or its client is slow.
const WAIT_MAX: u64 = WAIT_PART * QUANTUM;
/// Means "no flow" or "no place".
pub(crate) const NONE: u32 = u32::MAX;
/// Up to this number of accounts, none is removed from the root.
const KEPT: usize = 1024;
/// The same for a group. The number is small, because there may be many groups.
const KEPT_IN_GROUP: usize = 32;

/// Names a flow: the number of its service in the run queue, and the slot of its connection there.
/// (A group: see [`super::lanes`].)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    pub(crate) service: u32,
    pub(crate) flow: u32,
}

/// The charge of a flow of this weight for `nanos` nanoseconds of worker time.
#[inline]
pub(crate) fn weighted(nanos: u64, weight: u16) -> u64 {
    let time = nanos.min(u64::MAX >> (FRACTION + 1)) << FRACTION;
    match weight {
        0 | 1 => time,
        weight => time / u64::from(weight),
    }
}

/// Whether a flow with this finish tag is in debt.
#[inline]
pub(crate) fn is_in_debt(finish: u64, virtual_time: u64) -> bool {
    finish >= virtual_time.saturating_add(VIRTUAL_QUANTUM)
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

/// Names the account that a taken task was charged to. The charge is void if the flow was reset
/// later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StampedAccount {
    account: u32,
    stamp: u32,
}

/// The worker time that a flow has used.
struct Account {
    key: FlowKey,
    /// The finish tag.
    finish: u64,
    /// The sum of the estimates of taken tasks whose cost is not known yet, and the number of these
    /// tasks.
    prepaid: u64,
    running: u32,
    /// The recent cost of a turn, in nanoseconds; zero if it is not known.
    estimate: u32,
    weight: u16,
    lane: Lane,
    /// The previous and the next account in its lane.
    prev: u32,
    next: u32,
    /// The sequence number of its last entry in the debt lane.
    debt_number: u64,
    stamp: u32,
    /// The stamp when the account got its present connection. A charge with an older stamp belongs
    /// to another connection.
    first_stamp: u32,
    /// The number of its waiting tasks. Zero for a group.
    waiting: u32,
    /// The number of its waiting tasks that have not started, and its place in the list of flows
    /// with about the same number.
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

/// The ends of a list whose items are linked through their records: of accounts, or of tasks.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) first: u32,
    pub(super) last: u32,
}

pub(super) const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

/// The flows with tasks that may run, and the worker time that each flow has used.
pub(super) struct Level {
    accounts: Slab<Account>,
    virtual_time: u64,
    /// The largest finish tag.
    finish_max: u64,
    express: List,
    express_run: u32,
    /// The front of the express lane has the flows whose tasks were returned before their turn.
    /// This is the last of them.
    returned: u32,
    ring: List,
    /// Ordered by finish tag; equal tags are first in, first out. An item counts only if its
    /// account is in this lane with the same number.
    debt: BinaryHeap<Reverse<Debtor>>,
    /// The number of entries that were ever added to the debt lane.
    debtors: u64,
    /// The number of flows in all lanes, and of flows in the debt lane.
    listed: usize,
    in_debt: usize,
    /// The first estimate for a new flow: the recent cost of the turns of all flows.
    estimate: u32,
    stamps: u32,
    /// The flows with at least `size_min` tasks that have not started, sorted by the logarithm of
    /// that number.
    by_size: Vec<Vec<u32>>,
    size_min: u32,
    /// Up to this number, accounts and stale items of the heap are not removed.
    kept: usize,
    /// At this number of accounts, accounts without tasks and without a debt are removed.
    sweep_at: usize,
}

/// A moving average: a quarter of each new value. The first value counts in full.
fn average(old: u32, new: u32) -> u32 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

impl Level {
    /// The level of the groups and of the flows without a group.
    pub(super) fn root() -> Self {
        // A task of a flow with one task is never shed, so that the list costs nothing for most
        // flows.
        Self::new(KEPT, 2, 0)
    }

    /// The level of the flows of one group. `estimate`: the expected cost of their first turns.
    pub(super) fn of_group(estimate: u32) -> Self {
        Self::new(KEPT_IN_GROUP, 1, estimate)
    }

    fn new(kept: usize, size_min: u32, estimate: u32) -> Self {
        Self {
            accounts: Slab::new(),
            // Larger than the finish tag of a new flow.
            virtual_time: VIRTUAL_QUANTUM,
            finish_max: 0,
            express: EMPTY,
            express_run: 0,
            returned: NONE,
            ring: EMPTY,
            debt: BinaryHeap::new(),
            debtors: 0,
            listed: 0,
            in_debt: 0,
            estimate,
            stamps: 0,
            by_size: Vec::new(),
            size_min,
            kept,
            sweep_at: kept,
        }
    }

    #[inline]
    pub(super) fn virtual_time(&self) -> u64 {
        self.virtual_time
    }

    /// Records that a task with this tag was taken straight from the ring.
    #[inline]
    pub(super) fn pass(&mut self, tag: u64) {
        if tag < self.virtual_time {
            self.express_run = self.express_run.saturating_add(1);
        } else {
            self.express_run = 0;
            self.virtual_time = tag;
        }
    }

    /// Whether a flow in debt has its turn although others are before it, because many new flows
    /// were served in succession.
    #[inline]
    pub(super) fn must_serve_debt(&self) -> bool {
        self.in_debt > 0 && self.express_run >= EXPRESS_RUN
    }

    /// Records that a flow was served up to this tag.
    pub(super) fn note_finish(&mut self, finish: u64) {
        self.finish_max = self.finish_max.max(finish);
    }

    /// The largest finish tag, in nanoseconds.
    #[cfg(loom)]
    pub(super) fn largest_finish_tag(&self) -> u64 {
        self.finish_max >> FRACTION
    }

    /// Forgives all debts, because no task runs and no task waits.
    pub(super) fn forgive(&mut self) {
        self.virtual_time = self.virtual_time.max(self.finish_max);
    }

    /// The number of flows with tasks that may run.
    #[inline]
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    /// The recent cost of the turns of all flows.
    pub(super) fn estimate(&self) -> u32 {
        self.estimate
    }

    /// The number of tasks of a flow that have not started.
    pub(super) fn queued(&self, at: u32) -> u32 {
        self.accounts[at as usize].queued
    }

    /// Sets the number of waiting tasks of a flow. Returns the number before.
    #[inline]
    pub(super) fn set_waiting(&mut self, at: u32, waiting: u32) -> u32 {
        std::mem::replace(&mut self.accounts[at as usize].waiting, waiting)
    }

    /// Whether a flow without a debt waits.
    #[inline]
    pub(super) fn has_prompt(&mut self) -> bool {
        self.listed > self.in_debt || self.in_debt > 0 && self.reached_debt().is_some()
    }

    /// The account of a flow. `at` is its place when it was last used.
    pub(super) fn account(&mut self, at: u32, key: FlowKey) -> u32 {
        if self.is_account_of(at, key) {
            return at;
        }
        if self.is_full() {
            self.sweep(|_| {});
        }
        self.open(key)
    }

    /// Whether [`sweep`](Self::sweep) is due before the next account is opened.
    pub(super) fn is_full(&self) -> bool {
        self.accounts.len() >= self.sweep_at
    }

    /// Opens the account of a flow.
    pub(super) fn open(&mut self, key: FlowKey) -> u32 {
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
            waiting: 0,
            queued: 0,
            place: 0,
            stamp: self.stamps,
            first_stamp: self.stamps,
        }) as u32
    }

    #[inline]
    pub(super) fn is_account_of(&self, at: u32, key: FlowKey) -> bool {
        let account = self.accounts.get(at as usize);
        account.is_some_and(|account| account.key == key)
    }

    /// Removes the accounts of flows that have no task, and no debt. Debts are kept up to a number
    /// of accounts. Calls `forget` for each removed account.
    #[cold]
    pub(super) fn sweep(&mut self, mut forget: impl FnMut(FlowKey)) {
        let virtual_time = self.virtual_time;
        let keeps_debts = self.accounts.len() <= 8 * self.kept + 2 * self.listed;
        self.accounts.retain(|_, account| {
            let stays = account.has_tasks() || keeps_debts && is_in_debt(account.finish, virtual_time);
            if !stays {
                forget(account.key);
            }
            stays
        });
        self.sweep_at = self.kept.max(2 * self.accounts.len());
    }

    /// Whether a flow has no task in the queue or in a batch, and no debt.
    pub(super) fn is_idle(&self, at: u32) -> bool {
        let account = &self.accounts[at as usize];
        !account.has_tasks() && !is_in_debt(account.finish, self.virtual_time)
    }

    /// Takes over the data that the loop has about a flow without other tasks in flight. A tag of
    /// zero means a new connection.
    pub(super) fn set_tag(&mut self, at: u32, tag: u64) {
        self.stamps = self.stamps.wrapping_add(1);
        let account = &mut self.accounts[at as usize];
        if tag == 0 {
            account.finish = 0;
            account.estimate = self.estimate;
            account.first_stamp = self.stamps;
        } else {
            // The loop knows the costs of all turns.
            account.finish = account.finish.saturating_sub(account.prepaid).max(tag);
        }
        (account.prepaid, account.running) = (0, 0);
        account.stamp = self.stamps;
    }

    /// Takes over the finish tag of a flow that had a turn without an account.
    #[inline]
    pub(super) fn raise_tag(&mut self, at: u32, tag: u64) {
        let account = &mut self.accounts[at as usize];
        account.finish = account.finish.max(tag);
    }

    pub(super) fn set_weight(&mut self, at: u32, weight: u16) {
        self.accounts[at as usize].weight = weight;
    }

    /// Lists a flow that has a task that may run and had none before.
    #[inline]
    pub(super) fn activate(&mut self, at: u32) {
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

    /// Lists a flow that has more tasks after a turn. If its estimate was too high, its finish tag
    /// may be behind virtual time, and stays behind.
    pub(super) fn list(&mut self, at: u32) {
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

    /// Lists a flow whose taken task was returned before its turn. The flow is served before all
    /// others, except flows whose tasks were returned earlier. A flow that is listed keeps its
    /// place.
    pub(super) fn list_returned(&mut self, at: u32) {
        let account = &mut self.accounts[at as usize];
        if account.lane != Lane::Unlisted {
            return;
        }
        // A task that was taken straight from a ring had no account.
        account.finish = account.finish.max(self.virtual_time);
        let prev = std::mem::replace(&mut self.returned, at);
        let next = self
            .accounts
            .get(prev as usize)
            .map_or(self.express.first, |prev| prev.next);
        let account = &mut self.accounts[at as usize];
        (account.lane, account.prev, account.next) = (Lane::Express, prev, next);
        self.listed += 1;
        self.link_next(Lane::Express, prev, at);
        self.link_prev(Lane::Express, next, at);
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
        self.listed += 1;
        self.link_next(lane, prev, at);
    }

    /// Removes an account from the list of its lane.
    fn unlink(&mut self, at: u32) {
        let &Account { lane, prev, next, .. } = &self.accounts[at as usize];
        self.link_next(lane, prev, next);
        self.link_prev(lane, next, prev);
        if self.returned == at {
            self.returned = prev;
        }
    }

    /// Unlists a flow that has no more tasks that may run.
    pub(super) fn unlist(&mut self, at: u32) {
        match self.accounts[at as usize].lane {
            Lane::Unlisted => return,
            Lane::Debt => {
                self.in_debt -= 1;
                if self.debt.len() > 2 * self.in_debt + self.kept {
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

    /// The flow in debt with the smallest tag, if virtual time has reached this tag.
    fn reached_debt(&mut self) -> Option<u32> {
        let (tag, at) = self.first_debt()?;
        (!is_in_debt(tag, self.virtual_time)).then_some(at)
    }

    /// How long a worker may wait before it takes a flow in debt, in nanoseconds. `last` is the
    /// last turn of the worker. The result is zero unless the flow of that turn has no task now,
    /// and would be before the flow in debt even after one more turn. Between flows with equal
    /// turns it is zero.
    pub(super) fn time_before_debt(&mut self, last: StampedAccount) -> u64 {
        let Some((_, debtor)) = self.first_debt() else {
            return 0;
        };
        let debtor = &self.accounts[debtor as usize];
        let wait = (u64::from(debtor.estimate) / WAIT_PART).min(WAIT_MAX);
        let is_first = |own: &Account| {
            let is_away = own.stamp == last.stamp && own.lane == Lane::Unlisted;
            let next = weighted(own.estimate.into(), own.weight);
            is_away && own.finish.saturating_add(next) < debtor.finish
        };
        let own = self.accounts.get(last.account as usize);
        if own.is_some_and(is_first) { wait } else { 0 }
    }

    /// The flow whose turn is next. The turn begins with [`begin_turn`](Self::begin_turn).
    pub(super) fn next(&mut self, debt: Debt) -> Option<(u32, FlowKey)> {
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
            // The flow was charged after it was listed.
            self.unlist(at);
            self.list(at);
        }
        while (debt == Debt::Take || self.must_serve_debt())
            && let Some((tag, at)) = self.first_debt()
        {
            let finish = self.accounts[at as usize].finish;
            // Not a sum, which would be saturated at the end of time: then the loop would not end.
            if finish.saturating_sub(tag) < VIRTUAL_QUANTUM {
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

    /// The recent cost of a turn of a flow, in nanoseconds; zero if it is not known.
    #[inline]
    pub(super) fn estimate_of(&self, at: u32) -> u32 {
        self.accounts[at as usize].estimate
    }

    /// Begins the turn of the next flow: charges the estimate and unlists the flow.
    #[inline]
    pub(super) fn begin_turn(&mut self, at: u32, estimate: u32) -> StampedAccount {
        let is_express = self.accounts[at as usize].lane == Lane::Express;
        self.express_run = if is_express { self.express_run + 1 } else { 0 };
        self.unlist(at);
        // One flow for each turn, so that no turn takes long.
        self.move_reached();
        let account = &mut self.accounts[at as usize];
        let charge = weighted(estimate.into(), account.weight);
        account.finish = account.finish.saturating_add(charge);
        account.prepaid += charge;
        account.running += 1;
        let stamp = account.stamp;
        StampedAccount { account: at, stamp }
    }

    /// Names an account as it is now. The caller knows that the account was not reset since its
    /// turns began.
    pub(super) fn stamped(&self, at: u32) -> StampedAccount {
        let stamp = self.accounts[at as usize].stamp;
        StampedAccount { account: at, stamp }
    }

    /// The account, if the charge is not void.
    fn if_prepaid(&mut self, stamped: StampedAccount) -> Option<&mut Account> {
        let account = self.accounts.get_mut(stamped.account as usize)?;
        (account.stamp == stamped.stamp && account.running > 0).then_some(account)
    }

    /// Cancels the charge of a taken task that was returned before its turn.
    pub(super) fn cancel_turn(&mut self, stamped: StampedAccount) {
        if let Some(account) = self.if_prepaid(stamped) {
            account.take_prepaid();
        }
    }

    /// Charges the turn of a taken task, which took `nanos` nanoseconds.
    #[inline]
    pub(super) fn charge(&mut self, stamped: StampedAccount, nanos: u64) {
        let cost = u32::try_from(nanos).unwrap_or(u32::MAX);
        self.estimate = average(self.estimate, cost);
        if let Some(account) = self.if_prepaid(stamped) {
            account.take_prepaid();
            let charge = weighted(nanos, account.weight);
            account.finish = account.finish.saturating_add(charge);
            account.estimate = average(account.estimate, cost);
            let finish = account.finish;
            self.note_finish(finish);
        } else if let Some(account) = self.accounts.get_mut(stamped.account as usize)
            && account.is_own(stamped)
        {
            // The loop has counted this turn already. Only the estimate is updated, because the
            // connection may be new.
            account.estimate = average(account.estimate, cost);
        }
    }
}

#[cfg(all(test, not(loom)))]
impl Level {
    /// Checks that the numbers and the lists say the same as the accounts. Returns the sum of the
    /// queued tasks.
    pub(super) fn check(&self) -> u32 {
        let in_lane = |lane| {
            self.accounts
                .iter()
                .filter(move |(_, account)| account.lane == lane)
        };
        let count = |lane| in_lane(lane).count();
        assert_eq!(self.in_debt, count(Lane::Debt));
        assert_eq!(self.listed, self.accounts.len() - count(Lane::Unlisted));
        assert_eq!(self.listed, self.listed_accounts().count());
        for (list, lane) in [(self.express, Lane::Express), (self.ring, Lane::Ring)] {
            let (mut prev, mut at, mut length) = (NONE, list.first, 0);
            while at != NONE {
                let account = &self.accounts[at as usize];
                assert_eq!((account.lane, account.prev), (lane, prev));
                (prev, at, length) = (at, account.next, length + 1);
            }
            assert_eq!((list.last, length), (prev, count(lane)));
        }
        assert!(self.returned == NONE || self.accounts[self.returned as usize].lane == Lane::Express);
        let current = self
            .debt
            .iter()
            .filter(|Reverse(debtor)| debtor.is_current(&self.accounts));
        assert_eq!(current.count(), self.in_debt);
        assert!(self.debt.len() <= 2 * self.in_debt + self.kept + 1);
        for (at, account) in &self.accounts {
            assert!(account.prepaid <= account.finish || account.finish == 0);
            if let Some(size) = self.size_of(account.queued) {
                assert_eq!(self.by_size[size][account.place as usize], at as u32);
            }
        }
        let sized = self
            .accounts
            .iter()
            .filter(|(_, account)| self.size_of(account.queued).is_some());
        assert_eq!(self.by_size.iter().map(Vec::len).sum::<usize>(), sized.count());
        self.accounts.iter().map(|(_, account)| account.queued).sum()
    }

    /// The number of tasks of a flow that were taken and not charged.
    pub(super) fn running_of(&self, at: u32) -> u32 {
        self.accounts[at as usize].running
    }

    pub(super) fn queued_and_listed(&self, at: u32) -> (u32, bool) {
        let account = &self.accounts[at as usize];
        (account.queued, account.lane != Lane::Unlisted)
    }

    pub(super) fn waiting_of(&self, at: u32) -> u32 {
        self.accounts[at as usize].waiting
    }

    /// The next account that is opened removes all that have no tasks and no debts.
    pub(super) fn sweep_soon(&mut self) {
        (self.kept, self.sweep_at) = (4, 0);
    }
}

impl Debtor {
    /// Whether this item of the debt lane still counts.
    fn is_current(&self, accounts: &Slab<Account>) -> bool {
        let account = accounts.get(self.account as usize);
        account.is_some_and(|account| account.lane == Lane::Debt && account.debt_number == self.number)
    }
}

impl Account {
    /// Whether a task waits or was taken. With a limit, waiting tasks that have not started may be
    /// unlisted.
    fn has_tasks(&self) -> bool {
        self.lane != Lane::Unlisted || self.running > 0 || self.queued > 0
    }

    /// Whether the charge belongs to the present connection of the account, and not to an earlier
    /// one.
    fn is_own(&self, stamped: StampedAccount) -> bool {
        stamped.stamp.wrapping_sub(self.first_stamp).cast_signed() >= 0
    }

    /// Cancels the charge for one task.
    fn take_prepaid(&mut self) {
        let one = self.prepaid / u64::from(self.running);
        self.running -= 1;
        self.prepaid -= one;
        self.finish = self.finish.saturating_sub(one);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const KEY: FlowKey = FlowKey { service: 0, flow: 0 };
    const OTHER: FlowKey = FlowKey { service: 0, flow: 1 };
    const COST: u64 = 5_000_000;

    /// A task of a new connection was taken, and its turn was not charged yet.
    fn taken() -> (Level, u32, StampedAccount) {
        let mut level = Level::root();
        let at = level.account(NONE, KEY);
        level.set_tag(at, 0);
        level.activate(at);
        let prepaid = level.begin_turn(at, 0);
        (level, at, prepaid)
    }

    #[test]
    fn a_turn_that_the_loop_has_counted_still_updates_the_estimate() {
        let (mut level, at, prepaid) = taken();
        level.set_tag(at, VIRTUAL_QUANTUM);
        level.charge(prepaid, COST);
        assert_eq!(u64::from(level.estimate_of(at)), COST);
    }

    /// The worker waited for 31 ms before a turn of a second.
    #[test]
    fn a_wait_before_a_long_turn_is_short() {
        for (turn, wait) in [
            (20_000_000, 625_000),
            (50_000_000, 640_000),
            (1_000_000_000, 640_000),
        ] {
            let (mut level, long, prepaid) = taken();
            level.charge(prepaid, turn);
            level.list(long);
            let short = level.account(NONE, OTHER);
            level.activate(short);
            let last = level.begin_turn(short, 0);
            level.charge(last, 1_000);
            assert_eq!(level.time_before_debt(last), wait, "{turn} ns");
        }
    }

    /// A worker charges its turns after its batch. Until then the account of a short flow may have
    /// been removed, and its place used for another flow.
    #[test]
    fn a_late_charge_does_not_change_the_estimate_of_another_flow() {
        let (mut level, at, prepaid) = taken();
        level.set_tag(at, VIRTUAL_QUANTUM);
        level.sweep(|_| {});
        assert_eq!(level.account(NONE, OTHER), at, "the place is used again");
        level.charge(prepaid, COST);
        assert_eq!(level.estimate_of(at), 0, "unknown");
    }

    /// The same with a new connection in the slot of an old one.
    #[test]
    fn a_late_charge_does_not_change_the_estimate_of_a_new_connection() {
        let (mut level, at, prepaid) = taken();
        level.set_tag(at, 0);
        level.charge(prepaid, COST);
        assert_eq!(level.estimate_of(at), 0, "unknown");
    }
}
