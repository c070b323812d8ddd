//! The time until a new task begins.

use super::Scheduler;
use crate::queue::lanes::KnownFlow;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

impl Scheduler {
    /// Estimates the time until a task of this flow has its first step, if it is enqueued now.
    /// `None` means the flow of a new connection.
    pub(crate) fn estimated_wait(&self, flow: Option<KnownFlow>) -> Duration {
        if self.is_forked() {
            return Duration::ZERO;
        }
        let work = self.queue.lock().time_before(flow);
        let now = self.clock.now();
        let busy_times = self.workers().iter().map(|worker| {
            let is_busy = worker.is_busy.load(Acquire) || worker.has_batch();
            let due = worker.batch_times.due.load(Relaxed);
            // If a worker is late by some time, it will probably need the same time once more.
            if is_busy { due.abs_diff(now) } else { 0 }
        });
        let mut busy_times: Vec<u64> = busy_times.collect();
        if busy_times.is_empty() {
            // Without workers, one loop at a time runs the tasks.
            busy_times.push(0);
        }
        Duration::from_nanos(time_until_free(&mut busy_times, work))
    }
}

/// The time after which a worker is free, if each worker is busy for the given time and then shares
/// the remaining work with the others.
fn time_until_free(busy_times: &mut [u64], work: u64) -> u64 {
    busy_times.sort_unstable();
    // The workers that become free first share the work. The right number of these workers gives
    // the smallest time.
    let mut sum = work;
    let ends = (1..).zip(busy_times).map(|(workers, busy)| {
        sum = sum.saturating_add(*busy);
        sum / workers
    });
    ends.min().unwrap_or(work)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::time_until_free;

    #[test]
    fn the_first_free_workers_share_the_work() {
        for (busy, work, expected) in [
            (&[0][..], 0, 0),
            (&[5], 0, 5),
            (&[5], 10, 15),
            (&[9, 5], 0, 5),
            (&[9, 5], 4, 9),
            (&[9, 5], 2, 7),
            (&[9, 5], 6, 10),
            (&[0, 0, 1000], 100, 50),
            (&[u64::MAX, u64::MAX], u64::MAX, u64::MAX / 2),
        ] {
            assert_eq!(
                time_until_free(&mut busy.to_vec(), work),
                expected,
                "{busy:?} {work}"
            );
        }
    }
}
