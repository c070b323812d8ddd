//! The times for which the tasks of all services wait (`TaskReturn::Delay`). The tasks themselves
//! stay with their service.

use std::collections::BTreeSet;

/// A time at which a task must run, or at which a loop must check its timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    pub(crate) at: u64,
    /// The number of its service in the run queue.
    pub(crate) service: u32,
    pub(crate) slot: u32,
}

/// Used in place of a slot if the loop of the service must be notified at that time.
pub(crate) const LOOP: u32 = u32::MAX;

/// All times, the earliest first.
#[derive(Default)]
pub(crate) struct Delayed(BTreeSet<Moment>);

impl Delayed {
    pub(crate) fn insert(&mut self, moment: Moment) {
        self.0.insert(moment);
    }

    pub(crate) fn remove(&mut self, moment: Moment) {
        self.0.remove(&moment);
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|moment| moment.at)
    }

    /// Removes the earliest time, unless it is after `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Moment> {
        self.next().filter(|&at| at <= now)?;
        self.0.pop_first()
    }
}
