//! What a pool is told at the start, and what it has counted at the end.

use moored::{PoolDump, StopReason, Timeout};
use std::collections::HashMap;

#[derive(Clone, Default, Debug)]
pub(crate) struct Rules {
    pub(crate) max_queue_depth: usize,
    pub(crate) max_tasks: usize,
    pub(crate) max_running_per_connection: Option<usize>,
    /// In ticks.
    pub(crate) time_slice: u64,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) queue_full: u64,
    pub(crate) too_many_tasks: u64,
    pub(crate) refused_finished: u64,
    pub(crate) finished: u64,
    pub(crate) stopped: HashMap<StopReason, u64>,
    pub(crate) panicked: u64,
    pub(crate) steps: u64,
    pub(crate) syncs: u64,
    pub(crate) wakes: u64,
}

impl Tally {
    pub(crate) fn of(dump: &PoolDump) -> Self {
        let counters = &dump.counters;
        let stopped = &counters.stopped;
        let by_reason = [
            (StopReason::Returned, stopped.returned),
            (StopReason::Dequeued, stopped.dequeued),
            (StopReason::ConnectionClosed, stopped.connection_closed),
            (StopReason::TimedOut(Timeout::Queue), stopped.queue_timeout),
            (StopReason::TimedOut(Timeout::Sync), stopped.sync_timeout),
            (StopReason::TimedOut(Timeout::Deadline), stopped.deadline),
            (StopReason::PoolFinished, stopped.pool_finished),
            (StopReason::ServiceDropped, stopped.service_dropped),
        ];
        Self {
            accepted: counters.accepted,
            queue_full: counters.refused.queue_full,
            too_many_tasks: counters.refused.too_many_tasks,
            refused_finished: counters.refused.finished,
            finished: counters.finished,
            stopped: by_reason.into_iter().filter(|&(_, count)| count > 0).collect(),
            panicked: counters.panicked,
            steps: counters.steps,
            syncs: counters.syncs,
            wakes: counters.wakes,
        }
    }

    pub(crate) fn ended(&self) -> u64 {
        self.finished + self.stopped.values().sum::<u64>() + self.panicked
    }
}
