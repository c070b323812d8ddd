//! Counters since the start of the pool.

use crate::task::status::StopReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Increments the counter. Only one thread at a time writes it, so this is a plain load and store
/// instead of a locked instruction. Any thread may read it.
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
        /// The counters of one worker or one service, on their own cache lines.
        #[derive(Default, Debug)]
        pub(crate) struct ThreadCounters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
            /// Tasks that ended as `Stopped`, by the index of the reason.
            pub(crate) stopped: [Counter; StopReason::ALL.len()],
        }

        /// The sums of several sets of counters.
        #[derive(Clone, Copy, Default, Debug)]
        pub(crate) struct Sums {
            $(pub(crate) $name: u64,)*
            pub(crate) stopped: [u64; StopReason::ALL.len()],
        }

        impl Sums {
            pub(crate) fn add(&mut self, counters: &ThreadCounters) {
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
    /// Steps that were run.
    steps,
    /// How many times a task parked.
    parked,
    /// How many times a parked task was resumed.
    unparked,
    finished,
    /// Ended tasks that were reaped.
    reaped,
    panicked,
    /// The number of tasks that have ignored the request to stop for too many steps.
    ignored_stops,
    refused_queue,
    refused_tasks,
    refused_connection,
    refused_shutting_down,
    /// Notifications of loops.
    wakes,
    /// Wake-ups of workers.
    worker_wakes,
    /// Batches taken from the run queue.
    batches,
    /// Tasks stolen from the batches of other workers.
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
