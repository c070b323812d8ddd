//! Counters since the start of the pool.

use crate::task::status::StopReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts up. One thread at a time writes, so this is a plain load and store, not a locked
/// instruction; any thread reads.
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

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one worker or one service, on cache lines of their own.
        #[derive(Default, Debug)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
            /// Ended as `Stopped`, by the reason's index.
            pub(crate) stopped: [Counter; StopReason::ALL.len()],
        }

        /// The sums over several of them.
        #[derive(Clone, Copy, Default, Debug)]
        pub(crate) struct Sums {
            $(pub(crate) $name: u64,)*
            pub(crate) stopped: [u64; StopReason::ALL.len()],
        }

        impl Sums {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
                for (sum, counter) in self.stopped.iter_mut().zip(&counters.stopped) {
                    *sum += counter.get();
                }
            }
        }
    };
}

counters! {
    /// Tasks that have started.
    started,
    /// Steps run.
    steps,
    /// Times a task parked.
    parked,
    /// Times a parked task was resumed.
    unparked,
    finished,
    /// Ended tasks that were taken out of their table.
    reaped,
    panicked,
    /// Tasks that have ignored the request to stop for too long.
    ignored_stops,
    refused_queue,
    refused_tasks,
    refused_shutting_down,
    /// Notifications of loops.
    wakes,
    /// Wake-ups of workers.
    worker_wakes,
    /// Batches taken from the run queue.
    batches,
    /// Tasks taken from the batches of other workers.
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
