//! When a client that was refused should try again.

use std::time::Duration;

const SECONDS_MAX: u64 = 3600;

/// The recent cost of a task: a moving average, in which the last eight tasks or so count.
#[derive(Debug)]
pub struct Cost(Duration);

impl Cost {
    /// The cost to assume before any task has ended.
    pub fn new(expected: Duration) -> Self {
        Self(expected)
    }

    pub fn add(&mut self, cost: Duration) {
        self.0 = (self.0 * 7 + cost) / 8;
    }

    /// Seconds after which `queued` tasks have started on so many threads, rounded up, at least 1.
    pub fn retry_after(&self, queued: usize, threads: usize) -> u32 {
        let tasks = u32::try_from(queued.saturating_add(1)).unwrap_or(u32::MAX);
        let threads = u32::try_from(threads.max(1)).unwrap_or(u32::MAX);
        let wait = self.0.saturating_mul(tasks) / threads;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        seconds.clamp(1, SECONDS_MAX) as u32
    }
}
