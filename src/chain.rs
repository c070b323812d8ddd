//! The jobs that are in line, linked to their neighbours: those of each connection in a chain of its own.
//!
//! A job sits in a node of a slab, so any is taken out in O(1).

use crate::line::{Line, NONE, Ticket};
use slab::Slab;

/// An empty slab keeps the memory of so many jobs.
const KEPT: usize = 4096;

pub(crate) struct Node<J: ?Sized> {
    pub(crate) job: Box<J>,
    prev: u32,
    next: u32,
    /// Of a job that was put back: such jobs are in the order of their tickets.
    pub(crate) ticket: Ticket,
}

pub(crate) struct Chains<J: ?Sized>(Slab<Node<J>>);

impl<J: ?Sized> Chains<J> {
    pub(crate) fn new() -> Self {
        Self(Slab::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Node<J>> {
        self.0.get(index as usize)
    }

    /// The job behind `prev` in a line; the first for `NONE`.
    #[inline]
    pub(crate) fn after(&self, line: &Line, prev: u32) -> u32 {
        if prev == NONE {
            line.first
        } else {
            self.0[prev as usize].next
        }
    }

    /// Where it stands which job comes after `prev`.
    fn link_after<'a>(&'a mut self, line: &'a mut Line, prev: u32) -> &'a mut u32 {
        if prev == NONE {
            &mut line.first
        } else {
            &mut self.0[prev as usize].next
        }
    }

    /// Where it stands which job comes before `next`.
    fn link_before<'a>(&'a mut self, line: &'a mut Line, next: u32) -> &'a mut u32 {
        if next == NONE {
            &mut line.last
        } else {
            &mut self.0[next as usize].prev
        }
    }

    /// Makes a job the one after `prev` in a line; `note` is told its number. With `started` it is one that has
    /// started.
    #[inline]
    pub(crate) fn link(
        &mut self,
        line: &mut Line,
        job: Box<J>,
        prev: u32,
        started: bool,
        ticket: Ticket,
        note: impl FnOnce(&J, u32),
    ) {
        let next = self.after(line, prev);
        let entry = self.0.vacant_entry();
        let index = entry.key() as u32;
        note(&job, index);
        entry.insert(Node {
            job,
            prev,
            next,
            ticket,
        });
        *self.link_after(line, prev) = index;
        *self.link_before(line, next) = index;
        if started && prev == line.last_started {
            line.last_started = index;
        }
    }

    #[inline]
    pub(crate) fn unlink(&mut self, line: &mut Line, index: u32) -> Box<J> {
        let Node { job, prev, next, .. } = self.0.remove(index as usize);
        *self.link_after(line, prev) = next;
        *self.link_before(line, next) = prev;
        if line.last_started == index {
            line.last_started = prev;
        }
        job
    }

    /// Gives up the memory of a burst that is over. True: one was.
    pub(crate) fn forget_burst(&mut self) -> bool {
        let is_over = self.0.is_empty() && self.0.capacity() > KEPT;
        if is_over {
            self.0 = Slab::new();
        }
        is_over
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::line::Place;

    #[test]
    fn the_memory_of_a_burst_is_given_up_with_its_last_job() {
        for (jobs, is_burst) in [(KEPT, false), (KEPT + 1, true)] {
            let mut line = Line {
                first: NONE,
                last_started: NONE,
                last: NONE,
                running: 0,
                place: Place::Away,
            };
            let mut chains = Chains(Slab::with_capacity(jobs));
            for job in 0..jobs {
                let last = line.last;
                chains.link(&mut line, Box::new(job), last, false, Ticket::NONE, |_, _| {});
            }
            for job in 0..jobs {
                assert!(!chains.forget_burst(), "it is not over");
                let first = line.first;
                assert_eq!(*chains.unlink(&mut line, first), job);
            }
            assert_eq!(chains.forget_burst(), is_burst, "{jobs} jobs");
            assert_eq!(chains.0.capacity(), if is_burst { 0 } else { KEPT });
        }
    }
}
