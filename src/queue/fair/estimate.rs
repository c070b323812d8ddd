//! The worker time that passes before a new task begins.
//!
//! Let `F` be the finish tag that the flow of the new task will have when its earlier tasks have
//! been served. Before the new task begins, each other flow is served until its own finish tag
//! reaches `F`, or until it has no more tasks. The model assumes that no other tasks come, so the
//! time of a flow is never more than its waiting tasks need. If the flow of the new task has no
//! waiting task and no debt, each flow before it has one turn.

use super::{FRACTION, Lane, Level, List, Member, Records, is_in_debt, weighted};
use std::cmp::Reverse;

/// A new task of a member of a level: of a flow or of a group.
pub(crate) struct NewTask {
    /// The record of the member, if it has one.
    pub(crate) member: Option<u32>,
    /// The finish tag of the member, if its loop knows it.
    pub(crate) tag: u64,
    pub(crate) weight: u16,
    /// The worker time that a group itself needs before the new task, in nanoseconds. `None`: the
    /// member is a flow, which needs the time of its waiting tasks.
    pub(crate) own_time: Option<u64>,
}

/// All calls are O(listed members). `work_of_group` returns the work of a member that is a group,
/// and `None` for a flow.
impl Level {
    /// The worker time that other flows get before the first task of a new flow begins, in
    /// nanoseconds.
    pub(crate) fn time_before_new_flow(
        &self,
        members: &Records<Member>,
        work_of_group: impl Fn(&Member) -> Option<u64>,
    ) -> u64 {
        let turns = in_list(members, self.express).map(|member| {
            let work = self.work_of(member, &work_of_group);
            self.turn_of(member).min(work)
        });
        sum(turns)
    }

    /// The worker time that the flows of this level get before a new task begins, in nanoseconds.
    pub(crate) fn time_before(
        &self,
        members: &Records<Member>,
        task: &NewTask,
        work_of_group: impl Fn(&Member) -> Option<u64>,
    ) -> u64 {
        let own = task.member.and_then(|own| members.get(own));
        let own_work = || own.map_or(0, |own| self.work_of(own, |_| None));
        let own_time = task.own_time.unwrap_or_else(own_work);
        let begin = own.map_or(0, |own| own.finish).max(task.tag);
        let finish = begin.saturating_add(weighted(own_time, task.weight));
        if own_time == 0 && finish < self.virtual_time {
            return self.time_before_new_flow(members, work_of_group);
        }
        let is_prompt = own_time == 0 && !is_in_debt(finish, self.virtual_time);
        let others = self
            .listed_members(members)
            .filter(|&member| own.is_none_or(|own| !std::ptr::eq(own, member)));
        let times = others.map(|member| {
            let time = match member.lane {
                Lane::Debt if is_prompt => 0,
                _ if is_prompt => self.turn_of(member),
                _ => self.time_until(finish, member),
            };
            time.min(self.work_of(member, &work_of_group))
        });
        sum(times).saturating_add(own_time)
    }

    /// The time that the waiting tasks of the listed flows of a group need, in nanoseconds.
    pub(crate) fn work(&self, members: &Records<Member>) -> u64 {
        sum(self
            .listed_members(members)
            .map(|member| self.work_of(member, |_| None)))
    }

    pub(super) fn listed_members<'a>(
        &'a self,
        members: &'a Records<Member>,
    ) -> impl Iterator<Item = &'a Member> {
        let debtors = self.debt.iter().map(|Reverse(debtor)| debtor);
        let in_debt = debtors
            .filter(|debtor| debtor.is_current(members, self.group))
            .map(|debtor| &members[debtor.member]);
        in_list(members, self.express)
            .chain(in_list(members, self.ring))
            .chain(in_debt)
    }

    /// The time that the waiting tasks of a member need.
    pub(crate) fn work_of(&self, member: &Member, work_of_group: impl Fn(&Member) -> Option<u64>) -> u64 {
        work_of_group(member).unwrap_or_else(|| self.turn_of(member).saturating_mul(member.waiting.into()))
    }

    /// The expected time of a turn of a member.
    fn turn_of(&self, member: &Member) -> u64 {
        match member.estimate {
            0 => self.estimate.into(),
            known => known.into(),
        }
    }

    /// The time of the turns of a flow until its finish tag reaches `finish`, if it has tasks.
    fn time_until(&self, finish: u64, member: &Member) -> u64 {
        let turn = self.turn_of(member);
        let span = finish.saturating_sub(member.finish);
        let share = (span >> FRACTION).saturating_mul(member.weight.into());
        // A turn that begins before that time is a whole turn.
        share.div_ceil(turn.max(1)).saturating_mul(turn)
    }
}

fn in_list(members: &Records<Member>, list: List) -> impl Iterator<Item = &Member> {
    std::iter::successors(members.get(list.first), move |member| {
        members.get(member.links.next)
    })
}

fn sum(times: impl Iterator<Item = u64>) -> u64 {
    times.fold(0, u64::saturating_add)
}
