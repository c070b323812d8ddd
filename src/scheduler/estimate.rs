//! The time until a new task begins.

use super::Scheduler;
use super::shared_context::UNKNOWN;
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
            if is_busy && due != UNKNOWN {
                due.abs_diff(now)
            } else {
                0
            }
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
    use crate::{Clock, Status, TaskReturn, ThreadPool, task_fn};
    use std::time::Duration;

    /// A worker that had slept for an hour and had just taken a batch counted as late by an hour.
    #[test]
    fn a_worker_that_has_slept_is_not_late() {
        let (clock, time) = Clock::manual();
        let pool = ThreadPool::builder().threads(1).clock(clock).build();
        let pool = pool.expect("a thread");
        let mut service = pool.service(|| {});
        let id = service.enqueue(1, task_fn(|_| TaskReturn::TaskDone));
        let (id, scheduler) = (id.expect("room"), &service.inner.scheduler);
        while !service.peek(id).is_some_and(Status::is_ended) || !scheduler.idle.should_wake() {
            std::thread::yield_now();
        }
        time.advance(Duration::from_secs(3600));
        // The worker has taken a task, and its batch has not begun.
        scheduler.contexts[0].set_batch_len(1);
        let wait = pool.estimated_wait();
        scheduler.contexts[0].set_batch_len(0);
        assert!(wait < Duration::from_secs(1), "{wait:?}");
    }

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
