//! The connection whose task is shed in the reference pool. It has the rule of `src/queue/fair.rs`:
//! connections with about the same number of waiting tasks are not compared. A group counts as one
//! connection.

use crate::lanes::Member;
use crate::task::Line;
use std::collections::HashMap;
use std::hash::Hash;

/// Members by the number of their tasks that wait and have not started.
#[derive(Clone, Debug)]
struct Ranks<M> {
    counts: HashMap<M, usize>,
    /// The members with at least `least` of them, by the logarithm of that number.
    by_rank: Vec<Vec<M>>,
    least: usize,
}

impl<M: Copy + Eq + Hash> Ranks<M> {
    fn new(least: usize) -> Self {
        Self {
            counts: HashMap::new(),
            by_rank: Vec::new(),
            least,
        }
    }

    fn count(&self, member: M) -> usize {
        self.counts.get(&member).copied().unwrap_or(0)
    }

    fn rank_of(&self, count: usize) -> Option<usize> {
        (count >= self.least).then(|| count.ilog2() as usize)
    }

    fn set(&mut self, member: M, count: usize) {
        let (from, to) = (self.rank_of(self.count(member)), self.rank_of(count));
        self.counts.insert(member, count);
        if from == to {
            return;
        }
        if let Some(from) = from {
            let place = self.by_rank[from].iter().position(|&other| other == member);
            self.by_rank[from].swap_remove(place.expect("it has a rank"));
        }
        if let Some(to) = to {
            self.by_rank.resize(self.by_rank.len().max(to + 1), Vec::new());
            self.by_rank[to].push(member);
        }
    }

    /// A member with the most tasks, if it has at least `least`.
    fn fattest(&self, least: usize) -> Option<M> {
        let member = *self.by_rank.iter().rfind(|rank| !rank.is_empty())?.last()?;
        (self.count(member) >= least).then_some(member)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    root: Ranks<Member>,
    groups: HashMap<u64, Ranks<Line>>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            root: Ranks::new(2),
            groups: HashMap::new(),
        }
    }
}

impl Sizes {
    /// Sets the number of waiting tasks of a connection in this group.
    pub(crate) fn set(&mut self, line: Line, group: Option<u64>, count: usize) {
        let Some(group) = group else {
            return self.root.set(Member::Lone(line), count);
        };
        let ranks = self.groups.entry(group).or_insert_with(|| Ranks::new(1));
        let others = self.root.count(Member::Group(group)) - ranks.count(line);
        ranks.set(line, count);
        self.root.set(Member::Group(group), others + count);
    }

    /// The connection whose newest task is shed for a new task of `line`, which has this group.
    pub(crate) fn fattest(&self, line: Line, group: Option<u64>) -> Option<Line> {
        let ranks = group.and_then(|group| self.groups.get(&group));
        let own = ranks.map_or_else(|| self.root.count(Member::Lone(line)), |ranks| ranks.count(line));
        let size = group.map_or(own, |group| self.root.count(Member::Group(group)));
        match self.root.fattest(size + 2) {
            Some(Member::Lone(line)) => Some(line),
            Some(Member::Group(group)) => self.groups[&group].fattest(1),
            None => ranks?.fattest(own + 2),
        }
    }
}
