//! How a loop that finds little waits a moment for more: [`Service::take_more`](crate::Service::take_more).
//!
//! While workers are at many tiny steps, a loop that looks at once again finds few tasks each time and takes the lanes' cache lines from
//! the workers, or finds none and goes to sleep, to be woken at once. So if it has found few it pauses before the next look;
//! and if it finds none, it pauses and looks again before it says so. Not on a single core, which the workers need.

use crate::primitive::may_watch;
use crate::shared::Shared;

/// Fewer than that are few, if they are also fewer than one of so many that are away.
const MANY: usize = 32;
const AWAY_PER_FOUND: usize = 16;
/// How often a loop looks before it says that there is nothing.
pub(crate) const LOOKS: u32 = if cfg!(loom) { 2 } else { 3 };
/// A pause: about a microsecond, as processors differ in how long they take for each.
const SPINS: u32 = 32;

/// What a loop's last look brought.
#[derive(Default)]
pub(crate) struct Patience {
    found_few: bool,
    /// So many tasks had still to come from the workers.
    away: usize,
}

impl Patience {
    pub(crate) fn note_look(&mut self, found: usize, away: usize) {
        self.found_few = found > 0 && found < MANY.min(away / AWAY_PER_FOUND);
        self.away = away;
    }

    pub(crate) fn has_found_few(&self) -> bool {
        self.found_few
    }

    /// Gives the workers a moment, if they have tasks of this service and steps are so short that there may be news after it. True: it did.
    pub(crate) fn pause(&self, shared: &Shared) -> bool {
        let Shared { hints, cores, .. } = shared;
        let pays = self.away > 0 && *cores > 1 && may_watch() && hints.is_brisk() && hints.are_tiny();
        if pays {
            (0..SPINS).for_each(|_| std::hint::spin_loop());
        }
        pays
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn few_are_less_than_a_batch_and_than_a_part_of_those_that_are_away() {
        let mut patience = Patience::default();
        for (found, away, are_few) in [
            (0, 1000, false),
            (1, 15, false),
            (1, 32, true),
            (2, 32, false),
            (31, 1000, true),
            (32, 1000, false),
        ] {
            patience.note_look(found, away);
            assert_eq!(patience.has_found_few(), are_few, "{found} of {away}");
        }
    }
}
