//! A task of the reference pool, and its timeouts.

use crate::script::{Plan, nanos};
use moored::Status::{self, Queued, Running, Syncing};
use moored::{StopReason, Timeout};

/// A connection until its close. After the close the same number is another connection.
pub(crate) type Line = (u64, usize);

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) line: Line,
    /// `Running` and `Stopping` begin with the first turn, and include waiting for the next one.
    pub(crate) status: Status,
    pub(crate) stop: Option<StopReason>,
    accepted_at: u64,
    /// When the timeout of its `Sync` began.
    pub(crate) announced_at: Option<u64>,
}

impl Task {
    pub(crate) fn new(plan: &Plan, line: Line, now: u64) -> Self {
        Self {
            plan: plan.clone(),
            line,
            status: Queued,
            stop: None,
            accepted_at: now,
            announced_at: None,
        }
    }

    /// The timeouts of the task with number `n` in its current state, and their times.
    pub(crate) fn dues(&self, n: usize) -> impl Iterator<Item = (u64, Timeout)> {
        self.plan.timeouts.iter().filter_map(move |&(why, ticks)| {
            let since = match (why, self.status) {
                (Timeout::Queue, Queued) | (Timeout::Deadline, Queued | Running | Syncing) => {
                    self.accepted_at
                }
                (Timeout::Sync, Syncing) => self.announced_at?,
                _ => return None,
            };
            Some((since + nanos(ticks, n), why))
        })
    }
}
