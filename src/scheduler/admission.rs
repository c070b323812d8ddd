//! The two limits on what a pool accepts.
//!
//! They are exact for any number of services, and cost one atomic operation a task: what has
//! started and what was reaped is read from the counters of the workers and services, and only when
//! a limit seems to be reached.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    QueueFull,
    TooManyTasks,
    /// The pool is shutting down.
    ShuttingDown,
    /// The threads of the pool are in the parent process.
    Forked,
}

#[derive(Debug)]
pub(crate) struct Admission {
    depth_max: u64,
    tasks_max: u64,
    accepted: AtomicU64,
    /// Cancelled before their first step.
    never_ran: AtomicU64,
    /// The number that have started, when it was last read.
    started_seen: AtomicU64,
    /// The number that were reaped, when it was last read.
    reaped_seen: AtomicU64,
}

/// What the counters of the pool say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) started: u64,
    pub(crate) reaped: u64,
    /// Idle workers: each counts as one more place in the queue.
    pub(crate) idle: u64,
}

impl Admission {
    pub(crate) fn new(depth_max: usize, tasks_max: usize) -> Self {
        Self {
            depth_max: depth_max as u64,
            tasks_max: tasks_max as u64,
            accepted: AtomicU64::new(0),
            never_ran: AtomicU64::new(0),
            started_seen: AtomicU64::new(0),
            reaped_seen: AtomicU64::new(0),
        }
    }

    /// Accepts one task. `progress` is called only when a limit seems to be reached.
    #[inline]
    pub(crate) fn admit(&self, progress: impl Fn() -> Progress) -> Result<(), Refused> {
        let mut accepted = self.accepted.load(Relaxed);
        loop {
            if self.alive(accepted) >= self.tasks_max || self.waiting(accepted) >= self.depth_max {
                let now = progress();
                self.started_seen.fetch_max(now.started, Relaxed);
                self.reaped_seen.fetch_max(now.reaped, Relaxed);
                if self.alive(accepted) >= self.tasks_max {
                    return Err(Refused::TooManyTasks);
                }
                if self.waiting(accepted) >= self.depth_max.saturating_add(now.idle) {
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

    #[inline]
    fn alive(&self, accepted: u64) -> u64 {
        accepted.saturating_sub(self.reaped_seen.load(Relaxed))
    }

    #[inline]
    fn waiting(&self, accepted: u64) -> u64 {
        let gone = self.never_ran.load(Relaxed) + self.started_seen.load(Relaxed);
        accepted.saturating_sub(gone)
    }

    pub(crate) fn count_never_ran(&self) {
        self.never_ran.fetch_add(1, Relaxed);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn never_ran(&self) -> u64 {
        self.never_ran.load(Relaxed)
    }
}
