//! What `take_ready` gives.

use crate::task::id::TaskId;

/// The tasks that have something to tell: an owned iterator, so that the loop can use its service meanwhile.
///
/// What is not looked at is not lost: the tasks keep their status, but they are not announced again.
#[derive(Default, Debug)]
#[must_use = "a task is announced once: look at each with `task_status`"]
pub struct Ready(std::vec::IntoIter<TaskId>);

impl Ready {
    pub(crate) fn new(ids: Vec<TaskId>) -> Self {
        Self(ids.into_iter())
    }

    /// Whether none is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl Iterator for Ready {
    type Item = TaskId;

    #[inline]
    fn next(&mut self) -> Option<TaskId> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Ready {}
impl std::iter::FusedIterator for Ready {}
