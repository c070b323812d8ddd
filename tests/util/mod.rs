//! The shared code of the behaviour tests.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod loops;
mod wait;
mod work;

pub(crate) use loops::{End, Loop, Wakes, reap, resume};
pub(crate) use wait::{Count, Gate, GateGuard, PATIENCE, eventually, within_patience};
pub(crate) use work::{Alive, Log, Token, Twice, Work, panic_silently};

use moored::{Clock, ManualClock, ThreadPool, ThreadPoolBuilder};
use std::time::Duration;

/// A budget for `run_pending` that is always enough.
pub(crate) const PLENTY: Duration = Duration::from_secs(3600);

/// A pool with threads, or without (0).
pub(crate) fn pool(threads: usize) -> ThreadPool {
    ThreadPool::builder()
        .threads(threads)
        .max_queue_depth(200_000)
        .max_tasks(200_000)
        .build()
        .expect("a few threads")
}

/// A pool in which a task gives way after each step if other tasks wait.
pub(crate) fn hasty_pool(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().threads(threads);
    builder.time_slice(Duration::ZERO).build().expect("a thread")
}

/// A pool whose clock moves only when the test moves it.
pub(crate) fn manual(builder: ThreadPoolBuilder) -> (ThreadPool, ManualClock) {
    let (clock, hand) = Clock::manual();
    (builder.clock(clock).build().expect("a few threads"), hand)
}
