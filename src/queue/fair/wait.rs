//! The worker time that passes before a new task begins.
//!
//! The model assumes that each flow which has tasks now will have tasks until then. Let `F` be the
//! finish tag that the flow of the new task will have when its earlier tasks have been served.
//! Until virtual time reaches `F`, each flow is served up to `F` too. So the workers spend about
//! `F - V` for each unit of weight. If `F < V`, only the flows of the express lane are served
//! before the new task.

use super::{Account, FRACTION, Lane, Level, is_in_debt, weighted};

/// The data about a member of a level, a flow or a group, for the estimate of a wait.
pub(crate) struct Member {
    /// Its account, if it has one.
    pub(crate) account: Option<u32>,
    /// Its finish tag, if its loop knows it.
    pub(crate) tag: u64,
    pub(crate) weight: u16,
    /// The worker time that the member itself needs before the new task, in nanoseconds.
    pub(crate) own_time: u64,
}

impl Level {
    /// The worker time that other flows get before the first task of a new flow begins, in
    /// nanoseconds.
    pub(crate) fn time_before_new_flow(&self) -> u64 {
        self.time_of(self.in_express)
    }

    /// The worker time that the flows of this level get before a new task begins, in nanoseconds.
    pub(crate) fn time_before(&mut self, member: &Member) -> u64 {
        let account = self.account_at(member.account);
        let begin = account.map_or(0, |account| account.finish).max(member.tag);
        let is_listed = account.is_some_and(|account| account.lane != Lane::Unlisted);
        let finish = begin.saturating_add(weighted(member.own_time, member.weight));
        if member.own_time == 0 && finish < self.virtual_time {
            return self.time_before_new_flow();
        }
        let mut virtual_time = self.virtual_time;
        if self.listed == self.in_debt {
            // Virtual time moves to the first flow in debt.
            let first = self.first_debt().map_or(u64::MAX, |(tag, _)| tag);
            virtual_time = virtual_time.max(first.min(begin));
        }
        if member.own_time == 0 && !is_in_debt(finish, virtual_time) {
            // One turn of each flow in the express lane and in the ring.
            return self.time_of(self.listed - self.in_debt);
        }
        let weights = self.weights + if is_listed { 0 } else { u64::from(member.weight) };
        let span = finish.saturating_sub(virtual_time) >> FRACTION;
        span.saturating_mul(weights).max(self.time_before_new_flow())
    }

    /// The expected time of a turn of a flow.
    pub(crate) fn expected_turn(&self, account: Option<u32>) -> u64 {
        let estimate = self
            .account_at(account)
            .map_or(self.estimate, |account| account.estimate);
        estimate.into()
    }

    fn account_at(&self, account: Option<u32>) -> Option<&Account> {
        self.accounts.get(account? as usize)
    }

    /// The expected time of one turn of each of this number of flows.
    fn time_of(&self, flows: usize) -> u64 {
        u64::from(self.estimate).saturating_mul(flows as u64)
    }
}
