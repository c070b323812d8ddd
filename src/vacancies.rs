//! Which slots of a table are vacant, and which of them is used next.
//!
//! Tasks that come one after the other should lie one after the other: then their memory moves between the loop's core and a worker's as
//! a stream that the processor foresees, and what shares a cache line is on one core at a time. So slots are used page by page, and of a
//! page in their order; a page waits its turn while others are used up, so that it is mostly vacant when it is used again; and
//! some slots are kept vacant, without which each would be used again as soon as it is left.

use std::collections::VecDeque;

/// So many slots are a page, and made at once.
pub(crate) const PAGE: usize = if cfg!(loom) { 2 } else { 64 };

/// The vacant slots of a page, a bit each.
type Page = u64;
const _: () = assert!(PAGE <= Page::BITS as usize);

/// A table gets another page when it has fewer vacant slots than that, and than half of all.
const SLACK: usize = if cfg!(loom) { 1 } else { 512 };

#[derive(Default)]
pub(crate) struct Vacancies {
    /// The page that is being used up, and what is left of it.
    page: usize,
    left: Page,
    /// Those of all pages, without what is left of that one.
    pages: Vec<Page>,
    /// The pages that have some, in the order in which they are used next.
    turns: VecDeque<u32>,
    len: usize,
}

impl Vacancies {
    /// Whether another page should be added first.
    #[inline]
    pub(crate) fn are_few(&self) -> bool {
        self.len < SLACK.min(self.pages.len() * PAGE / 2).max(1)
    }

    /// A page with vacant slots, which follow on those of the last one.
    pub(crate) fn add_page(&mut self) {
        self.turns.push_back(self.pages.len() as u32);
        self.pages.push(Page::MAX >> (Page::BITS as usize - PAGE));
        self.len += PAGE;
    }

    /// Takes a slot. There must be one.
    #[inline]
    pub(crate) fn take(&mut self) -> u32 {
        if self.left == 0 {
            self.page = self.turns.pop_front().expect("there are vacant slots") as usize;
            self.left = std::mem::take(&mut self.pages[self.page]);
        }
        let slot = self.page * PAGE + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        self.len -= 1;
        slot as u32
    }

    /// A slot was left.
    #[inline]
    pub(crate) fn put(&mut self, slot: u32) {
        let page = slot as usize / PAGE;
        let slots = &mut self.pages[page];
        if *slots == 0 {
            self.turns.push_back(page as u32);
        }
        *slots |= 1 << (slot as usize % PAGE);
        self.len += 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn take(vacant: &mut Vacancies, slots: usize) -> Vec<u32> {
        (0..slots).map(|_| vacant.take()).collect()
    }

    fn range(page: usize) -> Vec<u32> {
        let from = page * PAGE;
        (from as u32..).take(PAGE).collect()
    }

    #[test]
    fn slots_are_used_in_their_order_and_page_by_page() {
        let mut vacant = Vacancies::default();
        (0..2).for_each(|_| vacant.add_page());
        assert_eq!([range(0), range(1)].concat(), take(&mut vacant, 2 * PAGE));
        for slot in [range(1), range(0)].concat().into_iter().rev() {
            vacant.put(slot);
        }
        assert_eq!([range(0), range(1)].concat(), take(&mut vacant, 2 * PAGE));
    }

    /// While its others are used up a page's slots may be left again: they wait for its next turn.
    #[test]
    fn a_slot_is_not_used_again_before_the_others() {
        let mut vacant = Vacancies::default();
        (0..2).for_each(|_| vacant.add_page());
        let first = vacant.take();
        vacant.put(first);
        let mut others = take(&mut vacant, 2 * PAGE);
        assert_eq!(others.pop(), Some(first));
        assert_eq!(others, [range(0), range(1)].concat()[1..]);
    }

    #[test]
    fn half_of_all_slots_are_kept_vacant_until_that_are_many() {
        let half = PAGE / 2;
        for (used, pages) in [(1, 1), (half + 1, 1), (half + 2, 2), (PAGE + 1, 2), (PAGE + 2, 3)] {
            assert_eq!(with_in_use(used).pages.len(), pages, "{used} in use");
        }
        let many = 100 * SLACK;
        assert_eq!(with_in_use(many).pages.len(), (many + SLACK) / PAGE);
    }

    fn with_in_use(slots: usize) -> Vacancies {
        let mut vacant = Vacancies::default();
        for _ in 0..slots {
            if vacant.are_few() {
                vacant.add_page();
            }
            vacant.take();
        }
        vacant
    }
}
