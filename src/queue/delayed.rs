//! The moments for which tasks wait (`TaskReturn::Delay`), of all services. The tasks themselves
//! stay with their service.

use std::collections::BTreeSet;

/// A moment at which a task is to run, or a loop to look at its timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    pub(crate) at: u64,
    /// The number of its service in the run queue.
    pub(crate) service: u32,
    pub(crate) slot: u32,
}

/// Stands for the slot of a moment at which the loop of the service is notified.
pub(crate) const LOOP: u32 = u32::MAX;

/// Every moment, the earliest first.
#[derive(Default)]
pub(crate) struct Delayed(BTreeSet<Moment>);

impl Delayed {
    pub(crate) fn insert(&mut self, moment: Moment) {
        self.0.insert(moment);
    }

    pub(crate) fn remove(&mut self, moment: Moment) {
        self.0.remove(&moment);
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|moment| moment.at)
    }

    /// Takes out the earliest moment, unless it is after `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Moment> {
        self.next().filter(|&at| at <= now)?;
        self.0.pop_first()
    }
}
