//! Who may come in: the two limits on what a pool accepts.
//!
//! The counts are exact whatever the number of services, and cost a service two uncontended atomic operations per
//! task: what workers have started is read from their own counters, and only when the queue seems full.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    QueueFull,
    TooManyTasks,
}

#[derive(Debug)]
pub(crate) struct Admission {
    depth_max: u64,
    tasks_max: u64,
    accepted: AtomicU64,
    /// Cancelled before they had started.
    never_ran: AtomicU64,
    reaped: AtomicU64,
    /// At least so many have started.
    started_seen: AtomicU64,
}

impl Admission {
    pub(crate) fn new(depth_max: usize, tasks_max: usize) -> Self {
        Self {
            depth_max: depth_max as u64,
            tasks_max: tasks_max as u64,
            accepted: AtomicU64::new(0),
            never_ran: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
            started_seen: AtomicU64::new(0),
        }
    }

    /// Accepts one task. `progress` tells how many tasks have started and how many workers are idle: an idle worker
    /// is as good as a place in the queue.
    pub(crate) fn admit(&self, progress: impl Fn() -> (u64, usize)) -> Result<(), Refused> {
        let mut accepted = self.accepted.load(Relaxed);
        loop {
            if accepted.saturating_sub(self.reaped.load(Relaxed)) >= self.tasks_max {
                return Err(Refused::TooManyTasks);
            }
            if self.waiting(accepted) >= self.depth_max {
                let (started, idle) = progress();
                self.started_seen.fetch_max(started, Relaxed);
                if self.waiting(accepted) >= self.depth_max.saturating_add(idle as u64) {
                    return Err(Refused::QueueFull);
                }
            }
            match self
                .accepted
                .compare_exchange_weak(accepted, accepted + 1, Relaxed, Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => accepted = now,
            }
        }
    }

    fn waiting(&self, accepted: u64) -> u64 {
        let gone = self.never_ran.load(Relaxed) + self.started_seen.load(Relaxed);
        accepted.saturating_sub(gone)
    }

    pub(crate) fn count_never_ran(&self) {
        self.never_ran.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_reaped(&self) {
        self.reaped.fetch_add(1, Relaxed);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn never_ran(&self) -> u64 {
        self.never_ran.load(Relaxed)
    }

    pub(crate) fn reaped(&self) -> u64 {
        self.reaped.load(Relaxed)
    }
}
