//! The record of a flow or of a group: all that the queue knows about it.
//!
//! A flow keeps its record while it has tasks, taken tasks, or tasks that count for the limit, and
//! usually while it has a debt. A record belongs to one connection in one group: if one of them
//! changes, the flow gets another record, and the turns that have begun are charged to the old one.

use super::fair::weighted;
use super::list::{Linked, Links, List, NONE};

/// Names a flow: the number of its service in the run queue, and the slot of its connection there.
/// A group is a flow of no service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    pub(crate) service: u32,
    pub(crate) flow: u32,
}

impl FlowKey {
    /// The key of a group with this number.
    pub(super) fn of_group(number: u32) -> Self {
        Self {
            service: NONE,
            flow: number,
        }
    }

    /// The number of the group. [`NONE`] if it is the key of a flow.
    #[inline]
    pub(super) fn group(self) -> u32 {
        if self.service == NONE { self.flow } else { NONE }
    }
}

/// The tasks of a flow are in two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Started,
    /// The tasks that have not started.
    Fresh,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// The flow has no task that may run.
    Unlisted,
    Express,
    Ring,
    Debt,
}

/// Names the record that a taken task was charged to. Each turn is charged or cancelled once; until
/// then the record is not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prepaid {
    pub(super) member: u32,
    pub(super) stamp: u32,
}

pub(crate) struct Member {
    pub(super) key: FlowKey,
    /// The number of its group, or [`NONE`].
    pub(super) group: u32,
    /// The waiting tasks of each [`Part`]. A group has none.
    pub(super) lists: [List; 2],
    /// The number of its waiting tasks. The numbers of a group are the sums of those of its flows.
    pub(super) waiting: u32,
    /// The number of its waiting tasks that have not started, and its place in the list of members
    /// with about the same number.
    pub(super) queued: u32,
    pub(super) place: u32,
    /// The number of its tasks that have started and not ended. Only counted if there is a limit.
    pub(super) unfinished: u32,
    /// The finish tag.
    pub(super) finish: u64,
    /// The number of turns that have begun and were not charged.
    pub(super) turns: u32,
    /// The number of those turns that have the present stamp, and the sum of their estimates. The
    /// loop has counted the other turns itself.
    pub(super) running: u32,
    pub(super) prepaid: u64,
    /// Changes when the loop submits a finish tag.
    pub(super) stamp: u32,
    /// The recent cost of a turn, in nanoseconds; zero if it is not known.
    pub(super) estimate: u32,
    pub(super) weight: u16,
    pub(super) lane: Lane,
    /// The previous and the next member in its lane.
    pub(super) links: Links,
    /// The sequence number of its last entry in the debt lane.
    pub(super) debt_number: u64,
}

impl Linked for Member {
    #[inline]
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// A moving average: a quarter of each new value. The first value counts in full.
pub(super) fn average(old: u32, new: u32) -> u32 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

impl Member {
    pub(super) fn new(key: FlowKey, group: u32, estimate: u32, stamp: u32) -> Self {
        Self {
            key,
            group,
            lists: [List::EMPTY; 2],
            waiting: 0,
            queued: 0,
            place: 0,
            unfinished: 0,
            finish: 0,
            turns: 0,
            running: 0,
            prepaid: 0,
            stamp,
            estimate,
            weight: 1,
            lane: Lane::Unlisted,
            links: Links::NONE,
            debt_number: 0,
        }
    }

    /// Whether a task waits, was taken, or counts for the limit. A flow stays listed for a moment
    /// when its last task moves to another flow.
    pub(super) fn has_tasks(&self) -> bool {
        self.lane != Lane::Unlisted || self.waiting > 0 || self.turns > 0 || self.unfinished > 0
    }

    /// Whether a task may run, if at most `limit` tasks of a flow may be unfinished.
    #[inline]
    pub(super) fn may_run(&self, limit: u32) -> bool {
        self.waiting > self.queued || self.queued > 0 && self.unfinished < limit
    }

    /// Counts waiting tasks. Returns the number before of those that have not started.
    #[inline]
    pub(super) fn count(&mut self, part: Part, change: i32) -> u32 {
        let before = self.queued;
        self.waiting = self.waiting.wrapping_add_signed(change);
        if part == Part::Fresh {
            self.queued = before.wrapping_add_signed(change);
        }
        before
    }

    /// Takes over the finish tag of a flow without other tasks in flight.
    #[inline]
    pub(super) fn set_tag(&mut self, tag: u64, stamp: u32) {
        // The loop knows the costs of all turns.
        self.finish = self.finish.saturating_sub(self.prepaid).max(tag);
        (self.prepaid, self.running, self.stamp) = (0, 0, stamp);
    }

    /// Takes over a finish tag, unless the flow has been served further.
    #[inline]
    pub(super) fn raise_tag(&mut self, tag: u64) {
        self.finish = self.finish.max(tag);
    }

    /// Charges the estimate of a turn that begins.
    #[inline]
    pub(super) fn begin_turn(&mut self, estimate: u32) {
        let charge = weighted(estimate.into(), self.weight);
        self.finish = self.finish.saturating_add(charge);
        self.prepaid += charge;
        self.running += 1;
        self.turns += 1;
    }

    /// Cancels the charge of a turn with this stamp. Returns false if that charge is void, because
    /// the loop has counted the turn itself.
    #[inline]
    pub(super) fn cancel_turn(&mut self, stamp: u32) -> bool {
        self.turns -= 1;
        if self.stamp != stamp {
            return false;
        }
        let one = match self.running {
            1 => self.prepaid,
            running => self.prepaid / u64::from(running),
        };
        self.running -= 1;
        self.prepaid -= one;
        self.finish = self.finish.saturating_sub(one);
        true
    }
}
