//! The worker time that passes before a new task begins.
//!
//! The model assumes that each flow which has tasks now will have tasks until then. Let `F` be the
//! finish tag that the flow of the new task will have when its earlier tasks have been served. Until
//! virtual time reaches `F`, each flow is served up to `F` too. So the workers spend about `F - V`
//! for each unit of weight. If `F < V`, only the flows of the express lane are served before.

use super::{FRACTION, Lanes, is_in_debt, weighted};

/// The flow of a new task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// The account that it had when it was last used.
    pub(crate) account: u32,
    pub(crate) key: super::FlowKey,
    /// The finish tag of its connection, as the loop knows it.
    pub(crate) tag: u64,
    pub(crate) weight: u16,
    /// The number of its tasks that wait.
    pub(crate) waiting: u32,
}

impl Lanes {
    /// The worker time that tasks in the flows get before a new task begins, in nanoseconds. `None`
    /// means a task of a new connection.
    pub(crate) fn time_before(&mut self, flow: Option<Flow>) -> u64 {
        let express = self.time_of(self.in_express);
        let Some(flow) = flow else { return express };
        let known = self.is_account_of(flow.account, flow.key);
        let account = known.then(|| &self.accounts[flow.account as usize]);
        let estimate = account.map_or(self.estimate, |account| account.estimate);
        let begin = account.map_or(0, |account| account.finish).max(flow.tag);
        let is_listed = account.is_some_and(|account| account.lane != super::Lane::Unlisted);
        let own_time = u64::from(estimate).saturating_mul(flow.waiting.into());
        let finish = begin.saturating_add(weighted(own_time, flow.weight));
        if flow.waiting == 0 && finish < self.virtual_time {
            return express;
        }
        let mut virtual_time = self.virtual_time;
        if self.listed == self.in_debt {
            // Virtual time moves to the first flow in debt.
            let first = self.first_debt().map_or(u64::MAX, |(tag, _)| tag);
            virtual_time = virtual_time.max(first.min(begin));
        }
        if flow.waiting == 0 && !is_in_debt(finish, virtual_time) {
            return self.time_of(self.listed - self.in_debt);
        }
        let weights = self.weights + if is_listed { 0 } else { u64::from(flow.weight) };
        let span = finish.saturating_sub(virtual_time) >> FRACTION;
        span.saturating_mul(weights).max(express)
    }

    /// The expected time of one turn of so many flows.
    fn time_of(&self, flows: usize) -> u64 {
        u64::from(self.estimate).saturating_mul(flows as u64)
    }
}
