//! The expected counters of a pool, counted from the reference.

use crate::calls::Model;
use moored::{PoolDump, Status, StopReason, Timeout};
use std::collections::HashMap;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) queue_full: u64,
    pub(crate) too_many_tasks: u64,
    pub(crate) connection_full: u64,
    pub(crate) refused_shutting_down: u64,
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
            (StopReason::PoolShutdown, stopped.pool_shutdown),
            (StopReason::ServiceDropped, stopped.service_dropped),
            (StopReason::Shed, stopped.shed),
        ];
        Self {
            accepted: counters.accepted,
            queue_full: counters.refused.queue_full,
            too_many_tasks: counters.refused.too_many_tasks,
            connection_full: counters.refused.connection_full,
            refused_shutting_down: counters.refused.shutting_down,
            finished: counters.finished,
            stopped: by_reason.into_iter().filter(|&(_, count)| count > 0).collect(),
            panicked: counters.panicked,
            steps: counters.steps,
            syncs: counters.syncs,
            wakes: counters.wakes,
        }
    }

    pub(crate) fn expected(model: &Model) -> Self {
        let (pool, tasks) = (&model.pool, &model.pool.tasks);
        let ended = |status| tasks.iter().filter(|task| task.status == status).count() as u64;
        let refused = |why| model.refused.get(why).copied().unwrap_or(0);
        let mut stopped = HashMap::new();
        for task in tasks.iter().filter(|task| task.status == Status::Stopped) {
            let why = task.stop.expect("a stopped task has a reason");
            *stopped.entry(why).or_default() += 1;
        }
        Self {
            accepted: tasks.len() as u64,
            queue_full: refused("QueueFull"),
            too_many_tasks: refused("TooManyTasks"),
            connection_full: refused("ConnectionFull"),
            refused_shutting_down: refused("ShuttingDown"),
            finished: ended(Status::Finished),
            stopped,
            panicked: ended(Status::Panicked),
            steps: pool.log.len() as u64,
            syncs: pool.syncs,
            wakes: pool.wakes,
        }
    }

    pub(crate) fn ended(&self) -> u64 {
        self.finished + self.stopped.values().sum::<u64>() + self.panicked
    }
}
