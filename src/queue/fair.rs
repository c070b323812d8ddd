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
//! The records of all members are in one place ([`super::member`]), and are passed to each call.

pub(crate) mod estimate;
pub(super) mod fattest;

use super::list::{Links, List, NONE, Records};
use super::member::{Lane, Member, average};
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
/// Up to this number of items of the heap that do not count, none is removed.
const STALE_MAX: usize = 64;

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

/// Whether a worker takes flows in debt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Debt {
    Take,
    Leave,
}

/// A flow in debt: its finish tag when it was listed, its number, and its record.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Debtor {
    tag: u64,
    number: u64,
    member: u32,
}

impl Debtor {
    /// Whether this item of the debt lane of a group still counts. The number of the record may
    /// have been used again, for a member of any level.
    fn is_current(&self, members: &Records<Member>, group: u32) -> bool {
        members.get(self.member).is_some_and(|member| {
            member.lane == Lane::Debt && member.debt_number == self.number && member.group == group
        })
    }
}

/// The flows with tasks that may run.
pub(crate) struct Level {
    /// The number of the group whose level this is. [`NONE`]: the root.
    group: u32,
    virtual_time: u64,
    /// The largest finish tag.
    finish_max: u64,
    express: List,
    express_run: u32,
    /// The front of the express lane has the flows whose tasks were returned before their turn.
    /// This is the last of them.
    returned: u32,
    ring: List,
    /// Ordered by finish tag; equal tags are first in, first out. An item counts only if its flow
    /// is in this lane with the same number.
    debt: BinaryHeap<Reverse<Debtor>>,
    /// The number of entries that were ever added to the debt lane.
    debtors: u64,
    /// The number of flows in all lanes, and of flows in the debt lane.
    pub(super) listed: usize,
    in_debt: usize,
    /// The first estimate for a new flow: the recent cost of the turns of all flows.
    pub(super) estimate: u32,
    /// The flows with at least `size_min` tasks that have not started, sorted by the logarithm of
    /// that number.
    by_size: Vec<Vec<u32>>,
    size_min: u32,
}

impl Level {
    /// The level of the flows of a group, or the root if `group` is [`NONE`]. `estimate`: the
    /// expected cost of the first turns.
    pub(super) fn new(group: u32, estimate: u32) -> Self {
        Self {
            group,
            // Larger than the finish tag of a new flow.
            virtual_time: VIRTUAL_QUANTUM,
            finish_max: 0,
            express: List::EMPTY,
            express_run: 0,
            returned: NONE,
            ring: List::EMPTY,
            debt: BinaryHeap::new(),
            debtors: 0,
            listed: 0,
            in_debt: 0,
            estimate,
            by_size: Vec::new(),
            // A task of a flow with one task is never shed, so that the list costs nothing for most
            // flows.
            size_min: if group == NONE { 2 } else { 1 },
        }
    }

    #[inline]
    pub(crate) fn virtual_time(&self) -> u64 {
        self.virtual_time
    }

    /// Records that a task with this tag was taken straight from the ring.
    #[inline]
    pub(crate) fn pass(&mut self, tag: u64) {
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
    pub(crate) fn must_serve_debt(&self) -> bool {
        self.in_debt > 0 && self.express_run >= EXPRESS_RUN
    }

    /// Records that a flow was served up to this tag.
    #[inline]
    pub(crate) fn note_finish(&mut self, finish: u64) {
        self.finish_max = self.finish_max.max(finish);
    }

    /// The largest finish tag, in nanoseconds.
    #[cfg(loom)]
    pub(crate) fn largest_finish_tag(&self) -> u64 {
        self.finish_max >> FRACTION
    }

    /// Forgives all debts, because no task runs and no task waits.
    pub(super) fn forgive(&mut self) {
        self.virtual_time = self.virtual_time.max(self.finish_max);
    }

    /// Whether a flow without a debt waits.
    #[inline]
    pub(super) fn has_prompt(&mut self, members: &Records<Member>) -> bool {
        self.listed > self.in_debt || self.in_debt > 0 && self.reached_debt(members).is_some()
    }

    /// Lists a flow that has a task that may run and had none before.
    #[inline]
    pub(super) fn activate(&mut self, members: &mut Records<Member>, at: u32) {
        let member = &mut members[at];
        if member.lane != Lane::Unlisted {
            return;
        }
        if member.finish < self.virtual_time {
            member.finish = self.virtual_time;
            self.push_back(members, at, Lane::Express);
        } else {
            self.list(members, at);
        }
    }

    /// Lists a flow that has more tasks after a turn. If its estimate was too high, its finish tag
    /// may be behind virtual time, and stays behind.
    pub(super) fn list(&mut self, members: &mut Records<Member>, at: u32) {
        let member = &mut members[at];
        if member.lane != Lane::Unlisted {
            return;
        }
        if is_in_debt(member.finish, self.virtual_time) {
            self.listed += 1;
            self.in_debt += 1;
            self.debtors += 1;
            member.lane = Lane::Debt;
            member.debt_number = self.debtors;
            self.debt.push(Reverse(Debtor {
                tag: member.finish,
                number: self.debtors,
                member: at,
            }));
        } else {
            self.push_back(members, at, Lane::Ring);
        }
    }

    /// Adds a flow to the end of the express lane or of the ring.
    #[inline]
    fn push_back(&mut self, members: &mut Records<Member>, at: u32, lane: Lane) {
        let list = match lane {
            Lane::Express => &mut self.express,
            _ => &mut self.ring,
        };
        let links = list.links_at_end();
        let member = &mut members[at];
        (member.lane, member.links) = (lane, links);
        list.add(members, at, links);
        self.listed += 1;
    }

    /// Lists a flow whose taken task was returned before its turn. The flow is served before all
    /// others, except flows whose tasks were returned earlier. A flow that is listed keeps its
    /// place.
    pub(super) fn list_returned(&mut self, members: &mut Records<Member>, at: u32) {
        let member = &mut members[at];
        if member.lane == Lane::Unlisted {
            // A task that was taken straight from a ring had no record.
            member.raise_tag(self.virtual_time);
            member.lane = Lane::Express;
            let prev = std::mem::replace(&mut self.returned, at);
            let next = match members.get(prev) {
                Some(prev) => prev.links.next,
                None => self.express.first,
            };
            let links = Links { prev, next };
            members[at].links = links;
            self.express.add(members, at, links);
            self.listed += 1;
        }
    }

    /// Unlists a flow that has no more tasks that may run.
    #[inline]
    pub(super) fn unlist(&mut self, members: &mut Records<Member>, at: u32) {
        let member = &mut members[at];
        let links = member.links;
        match std::mem::replace(&mut member.lane, Lane::Unlisted) {
            Lane::Unlisted => return,
            Lane::Express => {
                if self.returned == at {
                    self.returned = links.prev;
                }
                self.express.remove(members, links);
            }
            Lane::Ring => self.ring.remove(members, links),
            Lane::Debt => {
                self.in_debt -= 1;
                if self.debt.len() > 2 * self.in_debt + STALE_MAX {
                    self.drop_stale(members);
                }
            }
        }
        self.listed -= 1;
    }

    /// Removes the items of the heap that do not count.
    #[cold]
    fn drop_stale(&mut self, members: &Records<Member>) {
        self.debt
            .retain(|Reverse(debtor)| debtor.is_current(members, self.group));
    }

    /// The flow in debt with the smallest tag.
    fn first_debt(&mut self, members: &Records<Member>) -> Option<(u64, u32)> {
        while let Some(Reverse(debtor)) = self.debt.peek() {
            if debtor.is_current(members, self.group) {
                return Some((debtor.tag, debtor.member));
            }
            self.debt.pop();
        }
        None
    }

    /// The flow in debt with the smallest tag, if virtual time has reached this tag.
    fn reached_debt(&mut self, members: &Records<Member>) -> Option<u32> {
        let (tag, at) = self.first_debt(members)?;
        (!is_in_debt(tag, self.virtual_time)).then_some(at)
    }

    /// How long a worker may wait before it takes a flow in debt, in nanoseconds. `last` is the
    /// flow of the last turn of the worker. The result is zero unless that flow has no task now,
    /// and would be before the flow in debt even after one more turn. Between flows with equal
    /// turns it is zero.
    pub(super) fn time_before_debt(&mut self, members: &Records<Member>, last: u32) -> u64 {
        let Some((_, debtor)) = self.first_debt(members) else {
            return 0;
        };
        let (own, debtor) = (&members[last], &members[debtor]);
        let next = weighted(own.estimate.into(), own.weight);
        if own.lane == Lane::Unlisted && own.finish.saturating_add(next) < debtor.finish {
            (u64::from(debtor.estimate) / WAIT_PART).min(WAIT_MAX)
        } else {
            0
        }
    }

    /// The flow whose turn is next. The turn begins with [`begin_turn`](Self::begin_turn).
    #[inline]
    pub(super) fn next(&mut self, members: &mut Records<Member>, debt: Debt) -> Option<u32> {
        let express = self.express.first;
        let others_wait = self.ring.first != NONE || self.in_debt > 0;
        if express != NONE && (self.express_run < EXPRESS_RUN || !others_wait) {
            return Some(express);
        }
        self.next_of_others(members, debt)
            .or_else(|| (express != NONE).then_some(express))
    }

    #[inline(never)]
    fn next_of_others(&mut self, members: &mut Records<Member>, debt: Debt) -> Option<u32> {
        self.next_in_ring(members)
            .or_else(|| self.next_in_debt(members, debt))
    }

    fn next_in_ring(&mut self, members: &mut Records<Member>) -> Option<u32> {
        if self.ring.first == NONE {
            self.move_reached(members);
        }
        while let Some(member) = members.get(self.ring.first) {
            let at = self.ring.first;
            if !is_in_debt(member.finish, self.virtual_time) {
                return Some(at);
            }
            // The flow was charged after it was listed.
            self.unlist(members, at);
            self.list(members, at);
        }
        None
    }

    fn next_in_debt(&mut self, members: &mut Records<Member>, debt: Debt) -> Option<u32> {
        while (debt == Debt::Take || self.must_serve_debt())
            && let Some((tag, at)) = self.first_debt(members)
        {
            // Not a sum, which would be saturated at the end of time: then the loop would not end.
            if members[at].finish.saturating_sub(tag) < VIRTUAL_QUANTUM {
                self.virtual_time = self.virtual_time.max(tag);
                return Some(at);
            }
            self.unlist(members, at);
            self.list(members, at);
        }
        None
    }

    /// Moves a flow in debt that virtual time has reached to the ring.
    #[inline]
    fn move_reached(&mut self, members: &mut Records<Member>) {
        if self.in_debt > 0
            && let Some(at) = self.reached_debt(members)
        {
            self.unlist(members, at);
            self.push_back(members, at, Lane::Ring);
        }
    }

    /// Unlists the next flow, because its turn begins.
    #[inline]
    pub(super) fn begin_turn(&mut self, members: &mut Records<Member>, at: u32) {
        let is_express = at == self.express.first;
        self.express_run = if is_express { self.express_run + 1 } else { 0 };
        self.unlist(members, at);
        // One flow for each turn, so that no turn takes long.
        self.move_reached(members);
    }

    /// Charges a turn of a flow, which began with this stamp and took `nanos` nanoseconds.
    #[inline]
    pub(super) fn charge(&mut self, member: &mut Member, stamp: u32, nanos: u64) {
        let cost = u32::try_from(nanos).unwrap_or(u32::MAX);
        self.estimate = average(self.estimate, cost);
        member.estimate = average(member.estimate, cost);
        if member.cancel_turn(stamp) {
            let charge = weighted(nanos, member.weight);
            member.finish = member.finish.saturating_add(charge);
            self.note_finish(member.finish);
        }
    }
}

#[cfg(all(test, not(loom)))]
impl Level {
    /// Checks that the numbers and the lists of this level say the same as the records of its
    /// members.
    pub(super) fn check(&self, records: &Records<Member>) {
        let members = || records.iter().filter(|(_, member)| member.group == self.group);
        let count = |lane| members().filter(|(_, member)| member.lane == lane).count();
        assert_eq!(self.in_debt, count(Lane::Debt));
        assert_eq!(self.listed, members().count() - count(Lane::Unlisted));
        assert_eq!(self.listed, self.listed_members(records).count());
        for (list, lane) in [(self.express, Lane::Express), (self.ring, Lane::Ring)] {
            let (mut prev, mut at, mut length) = (NONE, list.first, 0);
            while at != NONE {
                let member = &records[at];
                assert_eq!((member.lane, member.links.prev), (lane, prev));
                (prev, at, length) = (at, member.links.next, length + 1);
            }
            assert_eq!((list.last, length), (prev, count(lane)));
        }
        assert!(self.returned == NONE || records[self.returned].lane == Lane::Express);
        let current = self
            .debt
            .iter()
            .filter(|Reverse(debtor)| debtor.is_current(records, self.group));
        assert_eq!(current.count(), self.in_debt);
        assert!(self.debt.len() <= 2 * self.in_debt + STALE_MAX + 1);
        for (at, member) in members() {
            assert!(member.prepaid <= member.finish || member.finish == 0);
            if let Some(size) = self.size_of(member.queued) {
                assert_eq!(self.by_size[size][member.place as usize] as usize, at);
            }
        }
        let sized = members().filter(|(_, member)| self.size_of(member.queued).is_some());
        assert_eq!(self.by_size.iter().map(Vec::len).sum::<usize>(), sized.count());
    }
}
