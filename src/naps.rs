//! When a loop sleeps for a moment only, and then looks by itself: as long as it finds something after each nap, and more will come soon.
//! Then workers can put off to wake it ([`crate::bell`]).

use crate::hints::Hints;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A loop's nap, in nanoseconds. Loops that count milliseconds cannot sleep for less.
const NAP: u64 = 1_000_000;
/// No nap has begun.
const NEVER: u64 = u64::MAX;

pub(crate) struct Naps {
    /// Something was found since the loop last napped.
    found: bool,
    /// When it must look again. It is the loop's alone; atomic, since that asks through `&self`.
    until: AtomicU64,
}

impl Default for Naps {
    fn default() -> Self {
        Self {
            found: false,
            until: AtomicU64::new(NEVER),
        }
    }
}

impl Naps {
    /// The loop is about to look, perhaps after sleep.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(self.until.get_mut(), NEVER) != NEVER {
            self.found = false;
        }
    }

    pub(crate) fn note_found(&mut self, tasks: usize) {
        self.found |= tasks > 0;
    }

    /// Whether the loop's next sleep may be a nap: something was found, and some of its tasks are away, in short steps.
    pub(crate) fn may_begin(&self, away: usize, hints: &Hints) -> bool {
        self.found && away > 0 && hints.is_brisk()
    }

    /// The loop naps. Gives for how long, from now on, however often it asks.
    pub(crate) fn left(&self, now: u64) -> u64 {
        let until = self.until.load(Relaxed).min(now.saturating_add(NAP));
        self.until.store(until, Relaxed);
        until.saturating_sub(now)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Of a pool with much to do in short steps.
    fn brisk() -> Hints {
        let hints = Hints::new();
        hints.set_pace(1);
        hints
    }

    #[test]
    fn a_loop_naps_after_it_has_found_something_and_once_in_vain() {
        let (mut naps, hints) = (Naps::default(), brisk());
        assert!(!naps.may_begin(9, &hints), "it has found nothing");
        for found in [[1, 0], [0, 1]] {
            naps.end();
            for tasks in found {
                naps.note_found(tasks);
            }
            assert!([(); 2].iter().all(|()| naps.may_begin(9, &hints)), "{found:?}");
            naps.left(0);
        }
        naps.end();
        naps.note_found(0);
        assert!(!naps.may_begin(9, &hints), "it has napped and found nothing");
    }

    #[test]
    fn a_loop_that_looks_again_without_sleep_has_still_found_something() {
        let mut naps = Naps::default();
        for found in [1, 0] {
            naps.end();
            naps.note_found(found);
        }
        assert!(naps.may_begin(9, &brisk()));
    }

    #[test]
    fn a_loop_naps_only_if_more_will_come_soon() {
        let mut naps = Naps::default();
        naps.note_found(1);
        assert!(!naps.may_begin(0, &brisk()), "nothing is away");
        assert!(
            !naps.may_begin(1, &Hints::new()),
            "steps are not known to be short"
        );
        assert!(naps.may_begin(1, &brisk()));
    }

    /// A nap that began anew with each question never ended for a loop that asks often.
    #[test]
    fn a_nap_gets_shorter_while_time_goes_by() {
        let mut naps = Naps::default();
        let left = [10, 10, NAP, 10 + NAP, 99 + NAP].map(|now| naps.left(now));
        assert_eq!(left, [NAP, NAP, 10, 0, 0]);
        naps.end();
        assert_eq!(naps.left(99 + NAP), NAP);
    }
}
