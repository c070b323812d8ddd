//! The connections that have something to run, in the order of their turns.
//!
//! They are linked through their own records, so one is put at either end and taken out of the middle in O(1).

use crate::line::{LineKey, Lines};

pub(crate) struct Round {
    first: LineKey,
    last: LineKey,
    len: usize,
}

impl Round {
    pub(crate) fn new() -> Self {
        Self {
            first: LineKey::NOBODY,
            last: LineKey::NOBODY,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first(&self) -> Option<LineKey> {
        (self.len > 0).then_some(self.first)
    }

    pub(crate) fn push_back<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey) {
        self.insert(lines, key, self.last, LineKey::NOBODY);
    }

    pub(crate) fn push_front<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey) {
        self.insert(lines, key, LineKey::NOBODY, self.first);
    }

    pub(crate) fn remove<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey) {
        let line = lines.get(key);
        let (prev, next) = (line.prev, line.next);
        line.prev = LineKey::AWAY;
        *self.next_of(lines, prev) = next;
        *self.prev_of(lines, next) = prev;
        self.len -= 1;
    }

    fn insert<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey, prev: LineKey, next: LineKey) {
        let line = lines.get(key);
        (line.prev, line.next) = (prev, next);
        *self.next_of(lines, prev) = key;
        *self.prev_of(lines, next) = key;
        self.len += 1;
    }

    /// Where it stands who comes after this line.
    fn next_of<'a, J: ?Sized>(&'a mut self, lines: &'a mut Lines<J>, key: LineKey) -> &'a mut LineKey {
        if key == LineKey::NOBODY {
            &mut self.first
        } else {
            &mut lines.get(key).next
        }
    }

    /// Where it stands who comes before this line.
    fn prev_of<'a, J: ?Sized>(&'a mut self, lines: &'a mut Lines<J>, key: LineKey) -> &'a mut LineKey {
        if key == LineKey::NOBODY {
            &mut self.last
        } else {
            &mut lines.get(key).prev
        }
    }
}
