//! A task of the reference pool, and its timeouts.

use crate::script::{Plan, nanos};
use moored::Status::{self, Queued, Running, Syncing};
use moored::{StopReason, Timeout};

/// A connection until its close: the same number used again is another one.
pub(crate) type Line = (u64, usize);

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) line: Line,
    /// `Running` and `Stopping` from the first turn on, whether on its turn or in line.
    pub(crate) status: Status,
    pub(crate) stop: Option<StopReason>,
    accepted_at: u64,
    pub(crate) announced_at: u64,
}

impl Task {
    pub(crate) fn new(plan: &Plan, line: Line, now: u64) -> Self {
        Self {
            plan: plan.clone(),
            line,
            status: Queued,
            stop: None,
            accepted_at: now,
            announced_at: 0,
        }
    }

    /// What it can time out of as it stands, being number `n`, and when. A park cannot time out
    /// before it was announced.
    pub(crate) fn dues(&self, n: usize, announced: bool) -> impl Iterator<Item = (u64, Timeout)> {
        self.plan.timeouts.iter().filter_map(move |&(why, ticks)| {
            let since = match (why, self.status) {
                (Timeout::Queue, Queued) | (Timeout::Deadline, Queued | Running | Syncing) => {
                    self.accepted_at
                }
                (Timeout::Sync, Syncing) if announced => self.announced_at,
                _ => return None,
            };
            Some((since + nanos(ticks, n), why))
        })
    }
}
