//! The two limits of a pool: the number of queued tasks, and the number of all tasks.
//!
//! They are exact for any number of services, and cost one atomic operation for each task. The
//! counters of the workers and services say how many tasks have started and how many were reaped;
//! they are read only when a limit seems to be reached.

use crate::sync::AtomicU64 as Reaped;
use crate::task::id::ConnId;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    QueueFull,
    TooManyTasks,
    /// The connection has `queued` tasks that have not started.
    ConnectionFull {
        connection: ConnId,
        queued: u32,
        limit: u32,
    },
    /// The pool is shutting down.
    ShuttingDown,
    /// The process was forked: the threads of the pool are in the parent process.
    Forked,
}

#[derive(Debug)]
pub(crate) struct Admission {
    depth_max: u64,
    tasks_max: u64,
    accepted: AtomicU64,
    /// Tasks that were cancelled before their first step.
    never_ran: AtomicU64,
    /// The number of tasks that were started on threads other than workers.
    started_outside: AtomicU64,
    /// The number of tasks that had started when the counters were last read.
    started_seen: AtomicU64,
    /// The number of tasks that had been reaped when the counters were last read.
    reaped_seen: AtomicU64,
    /// The number of reaped tasks that the loops have reported.
    reaped: CachePadded<Reaped>,
}

/// The values of the pool's counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The number of tasks that the workers have started.
    pub(crate) started: u64,
    /// The number of idle workers. Each adds one place to the queue.
    pub(crate) idle: u64,
}

impl Admission {
    pub(crate) fn new(depth_max: usize, tasks_max: usize) -> Self {
        Self {
            depth_max: depth_max as u64,
            tasks_max: tasks_max as u64,
            accepted: AtomicU64::new(0),
            never_ran: AtomicU64::new(0),
            started_outside: AtomicU64::new(0),
            started_seen: AtomicU64::new(0),
            reaped_seen: AtomicU64::new(0),
            reaped: CachePadded::new(Reaped::new(0)),
        }
    }

    /// Accepts one task. `progress` is called only when a limit seems to be reached.
    #[inline]
    pub(crate) fn admit(&self, progress: impl Fn() -> Progress) -> Result<(), Refused> {
        let mut accepted = self.accepted.load(Relaxed);
        loop {
            if self.alive(accepted) >= self.tasks_max || self.waiting(accepted) >= self.depth_max {
                self.check(accepted, progress())?;
            }
            match self
                .accepted
                .compare_exchange_weak(accepted, accepted + 1, SeqCst, Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => accepted = now,
            }
        }
    }

    /// Takes the last acceptance of this thread back, because the pool accepts no more tasks.
    #[cold]
    pub(crate) fn withdraw(&self) {
        self.accepted.fetch_sub(1, SeqCst);
    }

    fn check(&self, accepted: u64, now: Progress) -> Result<(), Refused> {
        let started = now.started + self.started_outside.load(Relaxed);
        self.started_seen.fetch_max(started, Relaxed);
        self.reaped_seen.fetch_max(self.reaped.load(Relaxed), Relaxed);
        if self.alive(accepted) >= self.tasks_max {
            Err(Refused::TooManyTasks)
        } else if self.waiting(accepted) >= self.depth_max.saturating_add(now.idle) {
            Err(Refused::QueueFull)
        } else {
            Ok(())
        }
    }

    /// Whether `enqueue` would accept a task now.
    pub(crate) fn has_room(&self, now: Progress) -> bool {
        self.check(self.accepted(), now).is_ok()
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

    // These counters are sequentially consistent. `room` gives the reason.

    pub(crate) fn count_never_ran(&self) {
        self.never_ran.fetch_add(1, SeqCst);
    }

    /// Counts a task that was started on a thread other than a worker.
    pub(crate) fn count_started_outside(&self) {
        self.started_outside.fetch_add(1, SeqCst);
    }

    #[inline]
    pub(crate) fn count_reaped(&self, tasks: u64) {
        self.reaped.fetch_add(tasks, SeqCst);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn never_ran(&self) -> u64 {
        self.never_ran.load(Relaxed)
    }
}
