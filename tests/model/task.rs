//! A task as the reference pool keeps it.

use crate::script::{Act, Plan, Seen, nanos};
use crate::turns::Line;
use moored::{Status, StopReason, Timeout};

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) number: usize,
    pub(crate) plan: Plan,
    pub(crate) line: Line,
    /// `Running` from the first turn on, whether on its turn or in line.
    pub(crate) phase: Status,
    pub(crate) stop: Option<StopReason>,
    pub(crate) detached: bool,
    pub(crate) accepted_at: u64,
    pub(crate) parked_at: u64,
    /// How often it has parked.
    pub(crate) syncs: u32,
    /// Which of these was announced last: no other can time out.
    pub(crate) told: u32,
}

impl Task {
    pub(crate) fn new(number: usize, plan: &Plan, line: Line, now: u64) -> Self {
        Self {
            number,
            plan: plan.clone(),
            line,
            phase: Status::Queued,
            stop: None,
            detached: false,
            accepted_at: now,
            parked_at: 0,
            syncs: 0,
            told: 0,
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self.phase {
            Status::Running if self.stop.is_some() => Status::Stopping,
            phase => phase,
        }
    }

    /// Which of its timeouts is next, and when.
    pub(crate) fn due(&self) -> Option<(u64, Timeout)> {
        if self.stop.is_some() || self.phase.is_ended() {
            return None;
        }
        let at = |from: u64, ticks: Option<u64>, why| Some((from + nanos(ticks?, self.number), why));
        let here = match self.phase {
            Status::Queued => at(self.accepted_at, self.plan.queue_timeout, Timeout::Queue),
            Status::Syncing if self.told == self.syncs => {
                at(self.parked_at, self.plan.sync_timeout, Timeout::Sync)
            }
            _ => None,
        };
        let deadline = at(self.accepted_at, self.plan.deadline, Timeout::Deadline);
        deadline.into_iter().chain(here).min_by_key(|&(at, _)| at)
    }

    /// One step: what it is told, and what comes of what it does.
    pub(crate) fn step(&mut self) -> (Seen, Act) {
        let seen = Seen {
            task: self.number,
            stop: self.stop,
            connection: (!self.detached).then_some(self.line.0),
        };
        let act = self.plan.script.next(self.stop.is_some());
        self.plan.outlives |= act == Act::Outlive;
        // Nobody would answer it.
        let goes_on = self.stop.is_some() || self.detached;
        let act = if act == Act::Sync && goes_on {
            Act::Continue
        } else {
            act
        };
        (seen, act)
    }
}
