//! The worker time that passes before a new task begins.
//!
//! The model assumes that each flow which has tasks now will have tasks until then. Let `F` be the
//! finish tag that the flow of the new task will have when its earlier tasks have been served. Until
//! virtual time reaches `F`, each flow is served up to `F` too. So the workers spend about `F - V`
//! for each unit of weight. If `F < V`, only the flows of the express lane are served before.

use super::{FRACTION, FlowKey, Lane, Lanes, is_in_debt, weighted};

/// The flow of a task that could be enqueued now, as its loop knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTask {
    pub(crate) key: FlowKey,
    pub(crate) tag: u64,
    pub(crate) weight: u16,
}

impl Lanes {
    /// The worker time that waiting tasks get before the first task of a new flow begins, in
    /// nanoseconds.
    pub(crate) fn time_before_new_flow(&self) -> u64 {
        self.time_of(self.in_express)
    }

    /// The worker time that waiting tasks get before a new task begins, in nanoseconds. `at` is the
    /// account that its flow had when it was last used, and `waiting` the number of tasks that wait
    /// in this flow.
    pub(crate) fn time_before(&mut self, task: NewTask, at: u32, waiting: u32) -> u64 {
        let account = if self.is_account_of(at, task.key) {
            self.accounts.get(at as usize)
        } else {
            None
        };
        let estimate = account.map_or(self.estimate, |account| account.estimate);
        let begin = account.map_or(0, |account| account.finish).max(task.tag);
        let is_listed = account.is_some_and(|account| account.lane != Lane::Unlisted);
        let own_time = u64::from(estimate).saturating_mul(waiting.into());
        let finish = begin.saturating_add(weighted(own_time, task.weight));
        if waiting == 0 && finish < self.virtual_time {
            return self.time_before_new_flow();
        }
        let mut virtual_time = self.virtual_time;
        if self.listed == self.in_debt {
            // Virtual time moves to the first flow in debt.
            let first = self.first_debt().map_or(u64::MAX, |(tag, _)| tag);
            virtual_time = virtual_time.max(first.min(begin));
        }
        if waiting == 0 && !is_in_debt(finish, virtual_time) {
            // One turn of each flow in the express lane and in the ring.
            return self.time_of(self.listed - self.in_debt);
        }
        let weights = self.weights + if is_listed { 0 } else { u64::from(task.weight) };
        let span = finish.saturating_sub(virtual_time) >> FRACTION;
        span.saturating_mul(weights).max(self.time_before_new_flow())
    }

    /// The expected time of one turn of so many flows.
    fn time_of(&self, flows: usize) -> u64 {
        u64::from(self.estimate).saturating_mul(flows as u64)
    }
}
