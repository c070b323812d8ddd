//! Where a thread runs tasks: a worker's own place, or a loop's inside `run_pending`.

use crate::cell::Head;
use crate::shared::{Shared, WorkerSeat};
use crate::state::NO_WORKER;
use crate::stats::Stats;
use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// One thread's view of the pool while it runs tasks.
pub(crate) struct Desk<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) stats: &'a Stats,
    worker: Option<(u16, &'a WorkerSeat)>,
    /// The clock as last read: at the end of the last step.
    now: Cell<u64>,
}

impl<'a> Desk<'a> {
    pub(crate) fn of_worker(shared: &'a Shared, index: usize) -> Self {
        let seat: &WorkerSeat = &shared.seats[index];
        let worker = Some((index as u16, seat));
        Self {
            shared,
            stats: &seat.stats,
            worker,
            now: Cell::new(shared.clock.now()),
        }
    }

    /// For a thread that is no worker; it counts into `stats`, which nobody else may do meanwhile.
    pub(crate) fn of_guest(shared: &'a Shared, stats: &'a Stats) -> Self {
        Self {
            shared,
            stats,
            worker: None,
            now: Cell::new(shared.clock.now()),
        }
    }

    pub(crate) fn worker(&self) -> Option<u16> {
        self.worker.map(|(index, _)| index)
    }

    pub(crate) fn number(&self) -> u16 {
        self.worker().unwrap_or(NO_WORKER)
    }

    /// Reads the clock.
    pub(crate) fn tick(&self) -> u64 {
        self.now.set(self.shared.clock.now());
        self.now.get()
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        if let Some((_, seat)) = self.worker {
            seat.busy.store(busy, Release);
        }
    }

    /// Whether a task that has been running since `started` must let others run.
    pub(crate) fn must_yield(&self, started: u64) -> bool {
        self.now().saturating_sub(started) >= self.shared.time_slice && self.others_wait()
    }

    fn others_wait(&self) -> bool {
        self.shared.others_wait() || self.worker.is_some_and(|(_, seat)| !seat.stealer.is_empty())
    }

    /// The lane of a loop's inbox for news of this task.
    pub(crate) fn lane(&self, head: &Head) -> usize {
        if self.shared.limited {
            head.line.load(Relaxed) as u32 as usize
        } else {
            self.worker().map_or(0, usize::from)
        }
    }
}
