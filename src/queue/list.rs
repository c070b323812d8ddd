//! Records that have numbers, and lists whose links are in such records.

use slab::Slab;
use std::ops::{Deref, Index, IndexMut};

/// Means "no record".
pub(crate) const NONE: u32 = u32::MAX;

/// The records of one type, by number.
pub(crate) struct Records<T>(Slab<T>);

impl<T> Records<T> {
    pub(super) const fn new() -> Self {
        Self(Slab::new())
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.0.get(at as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.0.get_mut(at as usize)
    }

    #[inline]
    pub(super) fn insert(&mut self, record: T) -> u32 {
        self.0.insert(record) as u32
    }

    #[inline]
    pub(super) fn remove(&mut self, at: u32) -> T {
        self.0.remove(at as usize)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.0.retain(|_, record| stays(record));
    }
}

impl<T> Deref for Records<T> {
    type Target = Slab<T>;

    fn deref(&self) -> &Slab<T> {
        &self.0
    }
}

impl<T> Index<u32> for Records<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        &self.0[at as usize]
    }
}

impl<T> IndexMut<u32> for Records<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.0[at as usize]
    }
}

/// The numbers of the records before and behind a record in its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Links {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self {
        prev: NONE,
        next: NONE,
    };
}

/// A record that can be in a list.
pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// The numbers of the first and of the last record of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    /// The links of a record at the end.
    #[inline]
    pub(super) fn links_at_end(self) -> Links {
        Links {
            prev: self.last,
            next: NONE,
        }
    }

    /// Adds a record that has these links.
    #[inline]
    pub(super) fn add<T: Linked>(&mut self, records: &mut Records<T>, at: u32, links: Links) {
        let Links { prev, next } = links;
        match records.get_mut(prev) {
            Some(prev) => prev.links().next = at,
            None => self.first = at,
        }
        match records.get_mut(next) {
            Some(next) => next.links().prev = at,
            None => self.last = at,
        }
    }

    /// Removes a record that has these links.
    #[inline]
    pub(super) fn remove<T: Linked>(&mut self, records: &mut Records<T>, links: Links) {
        let Links { prev, next } = links;
        match records.get_mut(prev) {
            Some(prev) => prev.links().next = next,
            None => self.first = next,
        }
        match records.get_mut(next) {
            Some(next) => next.links().prev = prev,
            None => self.last = prev,
        }
    }
}
