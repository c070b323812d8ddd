//! The flow with the most tasks that have not started: a full queue sheds a task of it.
//!
//! Flows are sorted by the logarithm of that number, so that each change is O(1).

use super::{Level, Member, Records};

impl Level {
    /// The place of a flow in `by_size`.
    pub(super) fn size_of(&self, queued: u32) -> Option<usize> {
        (queued >= self.size_min).then(|| queued.ilog2() as usize)
    }

    /// Changes the number of waiting tasks of a flow that have not started.
    #[inline]
    pub(crate) fn change_queued(&mut self, members: &mut Records<Member>, at: u32, change: i32) {
        let member = &mut members[at];
        let before = member.queued;
        member.queued = before.wrapping_add_signed(change);
        let most = before.max(member.queued);
        if most >= self.size_min && before.leading_zeros() != member.queued.leading_zeros() {
            self.move_between_sizes(members, at, before);
        }
    }

    fn move_between_sizes(&mut self, members: &mut Records<Member>, at: u32, before: u32) {
        if let Some(from) = self.size_of(before) {
            let place = members[at].place;
            self.by_size[from].swap_remove(place as usize);
            if let Some(&moved) = self.by_size[from].get(place as usize) {
                members[moved].place = place;
            }
        }
        if let Some(to) = self.size_of(members[at].queued) {
            if self.by_size.len() <= to {
                self.by_size.resize_with(to + 1, Vec::new);
            }
            members[at].place = self.by_size[to].len() as u32;
            self.by_size[to].push(at);
        }
    }

    /// Returns a flow with the most tasks that have not started, within a factor of two, if it has
    /// at least `least` of them. In the root, `least` is 2 or more.
    pub(crate) fn fattest<'a>(&self, members: &'a Records<Member>, least: u32) -> Option<&'a Member> {
        let flows = self.by_size.iter().rfind(|flows| !flows.is_empty())?;
        let fattest = &members[*flows.last()?];
        (fattest.queued >= least).then_some(fattest)
    }
}
