//! The worker time that passes before a new task begins.
//!
//! Let `F` be the finish tag that the flow of the new task will have when its earlier tasks have
//! been served. Before the new task begins, each other flow is served until its own finish tag
//! reaches `F`, or until it has no more tasks. The model assumes that no other tasks come, so the
//! time of a flow is never more than its waiting tasks need. If the flow of the new task has no
//! waiting task and no debt, each flow before it has one turn.

use super::{Account, FRACTION, FlowKey, Lane, Level, List, is_in_debt, weighted};
use std::cmp::Reverse;

/// The data about a member of a level, a flow or a group, for the estimate of a wait.
pub(crate) struct Member {
    /// Its account, if it has one.
    pub(crate) account: Option<u32>,
    /// Its finish tag, if its loop knows it.
    pub(crate) tag: u64,
    pub(crate) weight: u16,
    /// The worker time that a group itself needs before the new task, in nanoseconds. `None`: the
    /// member is a flow, which needs the time of its waiting tasks.
    pub(crate) own_time: Option<u64>,
}

/// All calls are O(listed accounts). `work_of_group` returns the work of the group with this key,
/// and `None` if it is the key of a flow.
impl Level {
    /// The worker time that other flows get before the first task of a new flow begins, in
    /// nanoseconds.
    pub(crate) fn time_before_new_flow(&self, work_of_group: impl Fn(FlowKey) -> Option<u64>) -> u64 {
        let turns = self.in_list(self.express).map(|account| {
            let work = self.work_of(account, &work_of_group);
            self.turn_of(account).min(work)
        });
        sum(turns)
    }

    /// The worker time that the flows of this level get before a new task begins, in nanoseconds.
    pub(crate) fn time_before(&self, member: &Member, work_of_group: impl Fn(FlowKey) -> Option<u64>) -> u64 {
        let account = member.account.and_then(|own| self.accounts.get(own as usize));
        let own_work = || account.map_or(0, |account| self.work_of(account, |_| None));
        let own_time = member.own_time.unwrap_or_else(own_work);
        let begin = account.map_or(0, |account| account.finish).max(member.tag);
        let finish = begin.saturating_add(weighted(own_time, member.weight));
        if own_time == 0 && finish < self.virtual_time {
            return self.time_before_new_flow(work_of_group);
        }
        let is_prompt = own_time == 0 && !is_in_debt(finish, self.virtual_time);
        let own_key = account.map(|account| account.key);
        let others = self
            .listed_accounts()
            .filter(|account| Some(account.key) != own_key);
        let times = others.map(|account| {
            let time = match account.lane {
                Lane::Debt if is_prompt => 0,
                _ if is_prompt => self.turn_of(account),
                _ => self.time_until(finish, account),
            };
            time.min(self.work_of(account, &work_of_group))
        });
        sum(times).saturating_add(own_time)
    }

    /// The time that the waiting tasks of the listed flows of a group need, in nanoseconds.
    pub(crate) fn work(&self) -> u64 {
        sum(self
            .listed_accounts()
            .map(|account| self.work_of(account, |_| None)))
    }

    /// The same, with the flows that may not run because of a limit.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn work_of_all(&self) -> u64 {
        let accounts = self.accounts.iter().map(|(_, account)| account);
        sum(accounts.map(|account| self.work_of(account, |_| None)))
    }

    pub(super) fn listed_accounts(&self) -> impl Iterator<Item = &Account> {
        let debtors = self.debt.iter().map(|Reverse(debtor)| debtor);
        let in_debt = debtors
            .filter(|debtor| debtor.is_current(&self.accounts))
            .map(|debtor| &self.accounts[debtor.account as usize]);
        self.in_list(self.express)
            .chain(self.in_list(self.ring))
            .chain(in_debt)
    }

    fn in_list(&self, list: List) -> impl Iterator<Item = &Account> {
        let at = |at: u32| self.accounts.get(at as usize);
        std::iter::successors(at(list.first), move |account| at(account.next))
    }

    /// The time that the waiting tasks of an account need.
    fn work_of(&self, account: &Account, work_of_group: impl Fn(FlowKey) -> Option<u64>) -> u64 {
        work_of_group(account.key)
            .unwrap_or_else(|| self.turn_of(account).saturating_mul(account.waiting.into()))
    }

    /// The expected time of a turn of an account.
    fn turn_of(&self, account: &Account) -> u64 {
        match account.estimate {
            0 => self.estimate.into(),
            known => known.into(),
        }
    }

    /// The time of the turns of a flow until its finish tag reaches `finish`, if it has tasks.
    fn time_until(&self, finish: u64, account: &Account) -> u64 {
        let turn = self.turn_of(account);
        let span = finish.saturating_sub(account.finish);
        let share = (span >> FRACTION).saturating_mul(account.weight.into());
        // A turn that begins before that time is a whole turn.
        share.div_ceil(turn.max(1)).saturating_mul(turn)
    }
}

fn sum(times: impl Iterator<Item = u64>) -> u64 {
    times.fold(0, u64::saturating_add)
}
