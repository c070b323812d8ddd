//! When a loop sleeps for a moment only, and then looks by itself: while it finds something each time, and more will come soon. Then
//! workers can put off to wake it ([`crate::bell`]).

use crate::hints::Hints;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A loop's nap. Loops that count milliseconds cannot sleep for less.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// What a loop has found, and whether it can be expected to nap if it is told to.
#[derive(Default)]
pub(crate) struct Naps {
    /// Something was found since the loop last asked to be woken.
    found: bool,
    /// Something was found before that, and the loop has not slept since then.
    found_before: bool,
    /// So many tasks had still to come from the workers.
    away: usize,
    /// The loop has asked how long it may sleep, since it last asked to be woken; and whether it ever did.
    asked: AtomicBool,
    asks: bool,
}

impl Naps {
    pub(crate) fn note_look(&mut self, found: usize, away: usize) {
        self.found |= found > 0;
        self.away = away;
    }

    /// The loop asks to be woken. True: its next sleep is a nap.
    pub(crate) fn rest(&mut self, hints: &Hints) -> bool {
        let has_slept = std::mem::take(self.asked.get_mut());
        self.asks |= has_slept;
        self.found_before = std::mem::take(&mut self.found) || self.found_before && !has_slept;
        self.asks && self.may_nap(self.away, hints)
    }

    /// The loop asks how long it may sleep. True: its next sleep may be a nap.
    pub(crate) fn note_asked(&self, away: usize, hints: &Hints) -> bool {
        self.asked.store(true, Relaxed);
        self.may_nap(away, hints)
    }

    fn may_nap(&self, away: usize, hints: &Hints) -> bool {
        (self.found || self.found_before) && away > 0 && hints.is_brisk()
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
    fn a_loop_naps_while_it_finds_something() {
        let (mut naps, hints) = (Naps::default(), brisk());
        // What `take_ready` does; and the loop asks before it sleeps.
        let mut turn = |found| {
            let rest = naps.rest(&hints);
            naps.note_look(found, 9);
            (rest, naps.note_asked(9, &hints))
        };
        assert_eq!(turn(1), (false, true), "it has never asked before");
        assert_eq!(turn(1), (true, true));
        assert_eq!(turn(0), (true, true));
        assert_eq!(turn(0), (false, false), "twice in vain");
    }

    #[test]
    fn a_loop_that_takes_more_naps_once_in_vain() {
        let (mut naps, hints) = (Naps::default(), brisk());
        naps.note_asked(9, &hints);
        naps.note_look(1, 9);
        assert_eq!(
            [(); 2].map(|()| naps.rest(&hints)),
            [true; 2],
            "it has not slept meanwhile"
        );
        assert!(naps.note_asked(9, &hints));
        naps.note_look(0, 9);
        assert!(!naps.rest(&hints));
        assert!(!naps.note_asked(9, &hints));
    }

    #[test]
    fn a_loop_naps_only_if_more_will_come_soon() {
        let mut naps = Naps::default();
        naps.note_look(1, 0);
        assert!(!naps.note_asked(0, &brisk()), "nothing is away");
        assert!(
            !naps.note_asked(1, &Hints::new()),
            "steps are not known to be short"
        );
        assert!(naps.note_asked(1, &brisk()), "posted since it looked");
        assert!(!naps.rest(&brisk()), "nothing was away when it looked");
    }
}
