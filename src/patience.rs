//! How a loop that finds nothing waits a moment for more: [`Service::take_more`](crate::Service::take_more).
//!
//! While workers are at many tiny steps, a loop that finds nothing and goes to sleep is woken at once. So it pauses and looks again before
//! it says that there is nothing. Not on a single core, which the workers need.

use crate::primitive::may_watch;
use crate::shared::Shared;

/// How often a loop looks before it says that there is nothing.
pub(crate) const LOOKS: u32 = if cfg!(loom) { 2 } else { 3 };
/// A pause: about a microsecond, as processors differ in how long they take for each.
const SPINS: u32 = 32;

/// Gives the workers a moment, if so many tasks of the loop's are away, at least one, and steps are so short that there may be news after
/// it. True: it did.
pub(crate) fn pause(shared: &Shared, away: usize) -> bool {
    let Shared { hints, cores, .. } = shared;
    let pays = away > 0 && *cores > 1 && may_watch() && hints.is_brisk() && hints.are_tiny();
    if pays {
        (0..SPINS).for_each(|_| std::hint::spin_loop());
    }
    pays
}
