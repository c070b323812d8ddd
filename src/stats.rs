//! Counters since the pool's start.

use crate::status::StopReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts up. One thread at a time writes, so it is a plain load and store (1 ns), not a locked
/// instruction (5 ns); any thread reads.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one desk: of one worker, of one service, or of the pool's own thread. On cache lines of their own.
        #[derive(Default, Debug)]
        #[repr(align(128))]
        pub(crate) struct Stats {
            $($(#[$doc])* pub(crate) $name: Counter,)*
            /// Ended as `Stopped`, by the reason's index.
            pub(crate) stopped: [Counter; StopReason::ALL.len()],
        }

        /// The sum over some desks.
        #[derive(Clone, Copy, Default, Debug)]
        pub(crate) struct Sums {
            $(pub(crate) $name: u64,)*
            pub(crate) stopped: [u64; StopReason::ALL.len()],
        }

        impl Sums {
            pub(crate) fn add(&mut self, stats: &Stats) {
                $(self.$name += stats.$name.get();)*
                for (sum, counter) in self.stopped.iter_mut().zip(&stats.stopped) {
                    *sum += counter.get();
                }
            }
        }
    };
}

stats! {
    /// Tasks whose first step began here.
    started,
    /// Steps run.
    steps,
    /// Times a task parked.
    parked,
    /// Times a parked task was put in line again.
    unparked,
    finished,
    /// Tasks whose end has been seen: their loop has them back.
    reaped,
    panicked,
    refused_queue,
    refused_tasks,
    refused_finished,
    /// Wake-ups of loops.
    wakes,
    /// Wake-ups of workers.
    worker_wakes,
    /// Batches taken from the fair queue.
    batches,
    /// Tasks taken from another worker.
    steals,
}

impl Sums {
    pub(crate) fn stopped_total(&self) -> u64 {
        self.stopped.iter().sum()
    }

    pub(crate) fn ended(&self) -> u64 {
        self.finished + self.panicked + self.stopped_total()
    }
}
