//! The flow with the most tasks that have not started: a full queue sheds a task of it.
//!
//! Flows are sorted by the logarithm of that number, so that each change is O(1).

use super::{FlowKey, Level};

impl Level {
    /// The place of a flow in `by_size`.
    pub(super) fn size_of(&self, queued: u32) -> Option<usize> {
        (queued >= self.size_min).then(|| queued.ilog2() as usize)
    }

    /// Sets the number of waiting tasks of a flow that have not started.
    pub(crate) fn set_queued(&mut self, at: u32, queued: u32) {
        let before = std::mem::replace(&mut self.accounts[at as usize].queued, queued);
        let (from, to) = (self.size_of(before), self.size_of(queued));
        if from != to {
            if let Some(from) = from {
                self.leave_size(at, from);
            }
            if let Some(to) = to {
                if self.by_size.len() <= to {
                    self.by_size.resize_with(to + 1, Vec::new);
                }
                self.accounts[at as usize].place = self.by_size[to].len() as u32;
                self.by_size[to].push(at);
            }
        }
    }

    fn leave_size(&mut self, at: u32, size: usize) {
        let place = self.accounts[at as usize].place;
        self.by_size[size].swap_remove(place as usize);
        if let Some(&moved) = self.by_size[size].get(place as usize) {
            self.accounts[moved as usize].place = place;
        }
    }

    /// Returns a flow with the most tasks that have not started, within a factor of two, if it has
    /// at least `least` of them. In the root, `least` is 2 or more.
    pub(crate) fn fattest(&self, least: u32) -> Option<FlowKey> {
        let flows = self.by_size.iter().rfind(|flows| !flows.is_empty())?;
        let fattest = &self.accounts[*flows.last()? as usize];
        (fattest.queued >= least).then_some(fattest.key)
    }
}
