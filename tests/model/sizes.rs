//! The connection whose task is shed in the reference pool. It has the rule of `src/queue/fair.rs`:
//! connections with about the same number of waiting tasks are not compared.

use crate::task::Line;
use std::collections::HashMap;

#[derive(Clone, Default, Debug)]
pub(crate) struct Sizes {
    /// The number of tasks of each connection that wait and have not started.
    counts: HashMap<Line, usize>,
    /// The connections with two or more of them, grouped by the logarithm of that number.
    groups: Vec<Vec<Line>>,
}

fn group_of(count: usize) -> usize {
    count.max(1).ilog2() as usize
}

impl Sizes {
    pub(crate) fn count(&self, line: Line) -> usize {
        self.counts.get(&line).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, line: Line, count: usize) {
        let (from, to) = (group_of(self.count(line)), group_of(count));
        self.counts.insert(line, count);
        if from != to {
            self.groups.resize(self.groups.len().max(to + 1), Vec::new());
            if let Some(place) = self.groups[from].iter().position(|&other| other == line) {
                self.groups[from].swap_remove(place);
            }
            if to > 0 {
                self.groups[to].push(line);
            }
        }
    }

    /// A connection with the most tasks, if it has at least `least`.
    pub(crate) fn fattest(&self, least: usize) -> Option<Line> {
        let line = *self.groups.iter().rfind(|group| !group.is_empty())?.last()?;
        (self.count(line) >= least).then_some(line)
    }
}
