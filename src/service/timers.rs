//! Timeouts without a thread. Each service has a set of times at which its loop checks tasks.

use crate::clock::nanos;
use crate::task::phase::Phase;
use crate::task::status::Timeout;
use std::collections::BTreeSet;
use std::time::Duration;

/// The times at which tasks must be checked, at most one for each task, so that the length is
/// bounded by the number of tasks with timeouts. (A heap would keep the entries of ended tasks.)
#[derive(Default)]
pub(crate) struct Timers(BTreeSet<Due>);

/// A time, and the task that must be checked then. At equal times the older task is first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Due {
    pub(crate) at: u64,
    pub(crate) serial: u64,
    pub(crate) slot: u32,
}

impl Timers {
    pub(crate) fn arm(&mut self, due: Due) {
        self.0.insert(due);
    }

    pub(crate) fn disarm(&mut self, due: Due) {
        self.0.remove(&due);
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|due| due.at)
    }

    /// The first entry whose time is not after `now`. The caller arms or disarms the task.
    pub(crate) fn due(&self, now: u64) -> Option<Due> {
        self.0.first().copied().filter(|due| due.at <= now)
    }
}

/// A task's timeouts, on the pool's clock. Its deadline is stored where workers can read it
/// ([`Page::deadline`](crate::task::header::Page::deadline)).
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Timing {
    /// The time by which its first step must have begun.
    pub(crate) queue: Option<u64>,
    /// How long it may be parked.
    sync: Option<u64>,
    /// When its current `Sync` was announced: set by `Table::announce`. The sync timeout counts
    /// from then, so that a loop that was stopped for a while has the whole time to answer.
    pub(crate) announced: Option<u64>,
    /// The entry of the task in the timers.
    pub(crate) armed: Option<Due>,
}

impl Timing {
    pub(crate) fn new(queue: Option<u64>, sync: Option<Duration>) -> Self {
        Self {
            queue,
            sync: sync.map(nanos),
            ..Self::default()
        }
    }

    /// The next timeout of a task in this phase, with this deadline, and its time. The task must
    /// not have been asked to stop.
    pub(crate) fn next(&self, phase: Phase, deadline: Option<u64>) -> Option<(u64, Timeout)> {
        if phase.is_ended() {
            return None;
        }
        let deadline = deadline.map(|at| (at, Timeout::Deadline));
        let here = match phase {
            Phase::Queued => self.queue.map(|at| (at, Timeout::Queue)),
            Phase::Parked => {
                let announced = self.announced.zip(self.sync);
                announced.map(|(at, sync)| (at.saturating_add(sync), Timeout::Sync))
            }
            _ => None,
        };
        [deadline, here].into_iter().flatten().min_by_key(|&(at, _)| at)
    }
}
