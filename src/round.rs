//! The connections that have something to run, in the order of their turns.
//!
//! They are linked through their own records, so one is put anywhere and taken out of anywhere in O(1).

use crate::line::{LineKey, Lines, NOT_RETURNED};

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
        self.insert_before(lines, key, None);
    }

    /// `None`: at the end.
    #[inline]
    pub(crate) fn insert_before<J: ?Sized>(
        &mut self,
        lines: &mut Lines<J>,
        key: LineKey,
        next: Option<LineKey>,
    ) {
        let next = next.unwrap_or(LineKey::NOBODY);
        let prev = std::mem::replace(self.prev_of(lines, next), key);
        *self.next_of(lines, prev) = key;
        let line = lines.get(key);
        (line.prev, line.next) = (prev, next);
        self.len += 1;
    }

    pub(crate) fn remove<J: ?Sized>(&mut self, lines: &mut Lines<J>, key: LineKey) {
        let line = lines.get(key);
        let (prev, next) = (line.prev, line.next);
        line.prev = LineKey::AWAY;
        line.returned = NOT_RETURNED;
        *self.next_of(lines, prev) = next;
        *self.prev_of(lines, next) = prev;
        self.len -= 1;
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
