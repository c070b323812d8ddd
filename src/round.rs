//! The connections that have something to run, in the order of their turns.
//!
//! A ring of keys; each line knows its place, so it is taken out of anywhere in O(1) and leaves a hole. Holes at the ends go at
//! once, and the ring is closed up when most of it is holes, so it is never more than about twice as long as it must be.
//! Before the ring come the few that were taken and put back, by their tickets.

use crate::line::{LineKey, Lines, Place, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// An empty ring keeps the memory of so many connections, and so many holes are nothing.
const KEPT: usize = 4096;
const FEW_HOLES: usize = 64;

const HOLE: LineKey = LineKey {
    port: u32::MAX,
    conn: u32::MAX,
};

pub(crate) struct Round {
    returned: BTreeMap<Ticket, LineKey>,
    ring: VecDeque<LineKey>,
    /// The number of the ring's first place.
    begin: u32,
    holes: usize,
}

impl Round {
    pub(crate) fn new() -> Self {
        Self {
            returned: BTreeMap::new(),
            ring: VecDeque::new(),
            begin: 0,
            holes: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.returned.len() + self.ring.len() - self.holes
    }

    /// Whether all that is in it was put back.
    #[inline]
    pub(crate) fn all_returned(&self) -> bool {
        self.ring.is_empty()
    }

    /// A line that is away joins at the end; gives its place.
    #[inline]
    pub(crate) fn push_back(&mut self, key: LineKey) -> Place {
        let place = self.begin.wrapping_add(self.ring.len() as u32);
        self.ring.push_back(key);
        Place::Ring(place)
    }

    /// A line that is away gets the place again that it had before it was taken with this ticket.
    pub(crate) fn put_back(&mut self, key: LineKey, ticket: Ticket) -> Place {
        self.returned.insert(ticket, key);
        Place::Returned(ticket)
    }

    /// Takes the line whose turn it is.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<LineKey> {
        if !self.returned.is_empty() {
            return self.returned.pop_first().map(|(_, key)| key);
        }
        let key = self.ring.pop_front()?;
        self.begin = self.begin.wrapping_add(1);
        if self.holes > 0 {
            self.trim();
        }
        Some(key)
    }

    /// A line leaves the round.
    pub(crate) fn remove<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey) {
        match std::mem::replace(&mut lines.get(key).place, Place::Away) {
            Place::Away => {}
            Place::Returned(ticket) => drop(self.returned.remove(&ticket)),
            Place::Ring(place) => {
                self.ring[place.wrapping_sub(self.begin) as usize] = HOLE;
                self.holes += 1;
                self.trim();
                if self.holes > FEW_HOLES && self.holes > self.ring.len() / 2 {
                    self.close_up(lines);
                }
            }
        }
    }

    /// No hole at either end, so that the first is the next.
    fn trim(&mut self) {
        while self.ring.front() == Some(&HOLE) {
            self.ring.pop_front();
            self.begin = self.begin.wrapping_add(1);
            self.holes -= 1;
        }
        while self.ring.back() == Some(&HOLE) {
            self.ring.pop_back();
            self.holes -= 1;
        }
    }

    fn close_up<J: ?Sized>(&mut self, lines: &mut Lines<J>) {
        self.ring.retain(|&key| key != HOLE);
        self.holes = 0;
        for (place, key) in (0..).zip(&self.ring) {
            lines.get(*key).place = Place::Ring(self.begin.wrapping_add(place));
        }
    }

    /// Gives up the memory of a burst that is over.
    pub(crate) fn forget_burst(&mut self) {
        if self.ring.is_empty() && self.ring.capacity() > KEPT {
            self.ring = VecDeque::new();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::outbox::Outbox;
    use std::sync::Arc;

    fn key(conn: u32) -> LineKey {
        LineKey { port: 0, conn }
    }

    /// A round of so many connections.
    fn round_of(conns: u32) -> (Round, Lines<()>) {
        let (mut round, mut lines) = (Round::new(), Lines::new());
        lines.add_port(Arc::new(Outbox::new()));
        for conn in 0..conns {
            lines.get(key(conn)).place = round.push_back(key(conn));
        }
        (round, lines)
    }

    fn order(round: &mut Round) -> Vec<u32> {
        std::iter::from_fn(|| round.pop_front().map(|key| key.conn)).collect()
    }

    #[test]
    fn who_leaves_the_round_counts_no_more_wherever_it_was() {
        for (leaves, left) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
            let (mut round, mut lines) = round_of(3);
            round.remove(&mut lines, key(leaves));
            round.remove(&mut lines, key(leaves));
            assert_eq!(round.len(), 2);
            assert_eq!(order(&mut round), left);
            assert_eq!(round.len(), 0);
        }
    }

    /// The holes of connections that have left do not pile up, and those that stay keep their order.
    #[test]
    fn a_round_with_holes_is_closed_up() {
        const CONNS: u32 = 10_000;
        let (mut round, mut lines) = round_of(CONNS);
        let stays = |n: &u32| n.is_multiple_of(100);
        (0..CONNS)
            .filter(|n| !stays(n))
            .for_each(|conn| round.remove(&mut lines, key(conn)));
        assert_eq!(round.len(), 100);
        assert!(round.ring.len() <= 2 * 100 + 100, "{}", round.ring.len());
        // They have new places now.
        round.remove(&mut lines, key(500));
        let left: Vec<_> = (0..CONNS).filter(|n| stays(n) && *n != 500).collect();
        assert_eq!(order(&mut round), left);
    }
}
