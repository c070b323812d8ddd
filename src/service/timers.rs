//! Timeouts without a thread: a set of moments for each service, at which its loop looks.

use crate::clock::nanos;
use crate::task::phase::Phase;
use crate::task::status::Timeout;
use std::collections::BTreeSet;
use std::time::Duration;

/// The moments at which a task must be looked at: at most one for each task, so that its length is
/// bounded by the number of tasks with timeouts. (A heap would keep the entries of ended tasks.)
#[derive(Default)]
pub(crate) struct Timers(BTreeSet<Due>);

/// A moment, and the task that must be looked at then. At equal moments the older task is first.
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

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|due| due.at)
    }

    /// The first moment that is not after `now`. The caller arms the task again, or disarms it.
    pub(crate) fn due(&self, now: u64) -> Option<Due> {
        self.0.first().copied().filter(|due| due.at <= now)
    }
}

/// A task's timeouts, on the pool's clock. Its deadline is where workers see it, too
/// ([`Page::deadline`](crate::task::header::Page::deadline)).
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Timing {
    /// The moment by which its first step must have begun.
    pub(crate) queue: Option<u64>,
    /// How long it may be parked.
    sync: Option<u64>,
    /// When its present `Sync` was announced: the time counts from then, so that a loop that was
    /// stopped for a while does not give up on its clients before it can answer.
    pub(crate) announced: Option<u64>,
    /// Its entry among the timers.
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

    /// The timeout that a task in this phase, with this deadline, has next, and when it is due. The
    /// task must not have been asked to stop.
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
