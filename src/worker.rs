//! A worker thread.
//!
//! It takes a batch out of the line, as many tasks as should take about 20 us by what the last batch took (one, if
//! steps are long), into its own deque, from which idle workers steal. What is left of a batch that took much longer
//! than that goes back to where it was in line, so that nobody waits behind a batch.

use crate::desk::Desk;
use crate::primitive::{Deque, Steal};
use crate::shared::{Job, Look, Shared};
use std::sync::Arc;

/// What a batch should take.
const BATCH_NANOS: u64 = 20_000;
const BATCH_MAX: usize = 32;

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) deque: Deque<Arc<dyn Job>>,
}

/// How large the next batch should be.
struct Batch {
    size: usize,
    begun: u64,
    taken: usize,
}

impl Batch {
    /// Ends one batch, and sizes the next by it: at most twice as large.
    fn adapt(&mut self, now: u64) {
        if self.taken > 0 {
            let each = (now.saturating_sub(self.begun) / self.taken as u64).max(1);
            let fits = usize::try_from(BATCH_NANOS / each).unwrap_or(BATCH_MAX);
            self.size = fits.clamp(1, BATCH_MAX.min(self.size * 2));
        }
        self.taken = 0;
    }
}

impl Worker {
    /// Works until the pool is closed and nothing is left.
    pub(crate) fn work(&self) {
        let shared = &*self.shared;
        let desk = Desk::of_worker(shared, self.index);
        let mut batch = Batch {
            size: 1,
            begun: 0,
            taken: 0,
        };
        loop {
            let job = self
                .deque
                .pop()
                .or_else(|| self.take_batch(&desk, &mut batch))
                .or_else(|| self.steal(&desk));
            if let Some(job) = job {
                self.run(job, &desk);
                self.return_late(&desk, &batch);
                continue;
            }
            let closed = shared.sleep.enter();
            match shared.look_before_sleep(closed) {
                Look::Work => shared.sleep.leave(),
                Look::Nothing => shared.sleep.wait(),
                Look::Gone => break shared.sleep.leave(),
            }
            desk.tick();
        }
    }

    fn run(&self, job: Arc<dyn Job>, desk: &Desk<'_>) {
        desk.set_busy(true);
        if let Some(job) = job.run(desk) {
            self.shared.put_in_line(job);
        }
        desk.set_busy(false);
    }

    fn take_batch(&self, desk: &Desk<'_>, batch: &mut Batch) -> Option<Arc<dyn Job>> {
        batch.adapt(desk.now());
        let mut first = None;
        let (taken, more) = self.shared.take(batch.size, |job| {
            if first.is_none() {
                first = Some(job);
            } else {
                self.deque.push(job);
            }
        });
        if taken > 0 {
            batch.taken = taken;
            batch.begun = desk.now();
            desk.stats.batches.add(1);
        }
        if more || taken > 1 {
            self.shared.wake_worker(desk.stats);
        }
        first
    }

    fn steal(&self, desk: &Desk<'_>) -> Option<Arc<dyn Job>> {
        let seats = self.shared.seats.len();
        for seat in (self.index + 1..seats).chain(0..self.index) {
            loop {
                match self.shared.seats[seat].stealer.steal() {
                    Steal::Success(job) => {
                        desk.stats.steals.add(1);
                        return Some(job);
                    }
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        None
    }

    /// Puts back what is left of a batch that is late.
    fn return_late(&self, desk: &Desk<'_>, batch: &Batch) {
        let late = desk.now().saturating_sub(batch.begun) > 2 * BATCH_NANOS;
        if late && !self.deque.is_empty() {
            let mut left: Vec<_> = std::iter::from_fn(|| self.deque.pop()).collect();
            left.reverse();
            self.shared.put_back(left.into_iter());
        }
    }
}
