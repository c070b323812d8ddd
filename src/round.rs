//! A queue from whose middle can be taken, in O(1): who is in it knows its seat.

use slab::Slab;

/// No seat has this number.
pub(crate) const NO_SEAT: u32 = u32::MAX;

struct Seat<K> {
    key: K,
    prev: u32,
    next: u32,
}

pub(crate) struct Round<K> {
    seats: Slab<Seat<K>>,
    first: u32,
    last: u32,
}

impl<K: Copy> Round<K> {
    pub(crate) fn new() -> Self {
        Self {
            seats: Slab::new(),
            first: NO_SEAT,
            last: NO_SEAT,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Gives the seat, good until it is taken away.
    pub(crate) fn push_back(&mut self, key: K) -> u32 {
        self.insert(key, self.last, NO_SEAT)
    }

    pub(crate) fn push_front(&mut self, key: K) -> u32 {
        self.insert(key, NO_SEAT, self.first)
    }

    pub(crate) fn pop_front(&mut self) -> Option<K> {
        (self.first != NO_SEAT).then(|| self.remove(self.first))
    }

    pub(crate) fn remove(&mut self, seat: u32) -> K {
        let Seat { key, prev, next } = self.seats.remove(seat as usize);
        *self.next_of(prev) = next;
        *self.prev_of(next) = prev;
        key
    }

    fn insert(&mut self, key: K, prev: u32, next: u32) -> u32 {
        let seat = self.seats.insert(Seat { key, prev, next }) as u32;
        *self.next_of(prev) = seat;
        *self.prev_of(next) = seat;
        seat
    }

    /// Where it stands who comes after this seat.
    fn next_of(&mut self, seat: u32) -> &mut u32 {
        if seat == NO_SEAT {
            &mut self.first
        } else {
            &mut self.seats[seat as usize].next
        }
    }

    /// Where it stands who comes before this seat.
    fn prev_of(&mut self, seat: u32) -> &mut u32 {
        if seat == NO_SEAT {
            &mut self.last
        } else {
            &mut self.seats[seat as usize].prev
        }
    }
}
