//! Timeouts without a thread: a set of moments per service, looked at by its loop.

use crate::clock::nanos;
use crate::options::TaskOptions;
use crate::state::{Phase, Word};
use crate::status::Timeout;
use std::collections::BTreeSet;

/// The moments at which a task must be looked at, at most one per task, so that it is as long as there are tasks with
/// timeouts and no longer (a heap would keep the entries of tasks that have ended).
#[derive(Default)]
pub(crate) struct Timers(BTreeSet<Due>);

/// A moment, and what must be looked at then: of one moment the task that came first.
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

    /// When, until `now`, which task must be looked at. The caller arms it anew, or disarms it.
    pub(crate) fn due(&self, now: u64) -> Option<Due> {
        self.0.first().copied().filter(|due| due.at <= now)
    }
}

/// A task's timeouts, on the pool's clock.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Timing {
    /// Until when its first step must have begun.
    pub(crate) queue: Option<u64>,
    /// Until when it must have ended.
    deadline: Option<u64>,
    /// How long it may be parked.
    sync: Option<u64>,
    /// Which of its `Sync`s was last announced: only then does the time count, so that a loop that was itself stopped for a
    /// while can answer before it gives up on anybody.
    pub(crate) announced: u32,
    /// Its entry among the timers.
    pub(crate) armed: Option<Due>,
}

impl Timing {
    pub(crate) fn new(options: &TaskOptions, now: u64) -> Self {
        let at = |timeout| now.saturating_add(nanos(timeout));
        Self {
            queue: options.queue_timeout.map(at),
            deadline: options.deadline.map(at),
            sync: options.sync_timeout.map(nanos),
            announced: 0,
            armed: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none() && self.deadline.is_none() && self.sync.is_none()
    }

    /// The timeout that holds for a task in this state, and when it is due. `since` is when it got there.
    pub(crate) fn next(&self, word: Word, since: u64) -> Option<(u64, Timeout)> {
        if word.has_ended() || word.stop().is_some() {
            return None;
        }
        let deadline = self.deadline.map(|at| (at, Timeout::Deadline));
        let here = match word.phase() {
            Phase::Queued => self.queue.map(|at| (at, Timeout::Queue)),
            Phase::Syncing if word.syncs() == self.announced => {
                self.sync.map(|sync| (since.saturating_add(sync), Timeout::Sync))
            }
            _ => None,
        };
        [deadline, here].into_iter().flatten().min_by_key(|&(at, _)| at)
    }
}
