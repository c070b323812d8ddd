//! The flow with the most tasks that have not started: a full queue sheds a task of it.
//!
//! Flows are sorted by the logarithm of that number, so that each change is O(1).

use super::{Level, Member, Records};

/// Whether a member of the root may have another place in `by_size` now.
#[inline]
pub(crate) fn has_other_size(before: u32, queued: u32) -> bool {
    before.max(queued) > 1 && before.leading_zeros() != queued.leading_zeros()
}

impl Level {
    /// The place of a flow in `by_size`.
    pub(super) fn size_of(&self, queued: u32) -> Option<usize> {
        (queued >= self.size_min).then(|| queued.ilog2() as usize)
    }

    /// Records that the number of waiting tasks of a flow that have not started was `before`.
    pub(crate) fn note_size(&mut self, members: &mut Records<Member>, at: u32, before: u32) {
        let (from, to) = (self.size_of(before), self.size_of(members[at].queued));
        if from == to {
            return;
        }
        if let Some(from) = from {
            let place = members[at].place;
            self.by_size[from].swap_remove(place as usize);
            if let Some(&moved) = self.by_size[from].get(place as usize) {
                members[moved].place = place;
            }
        }
        if let Some(to) = to {
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
