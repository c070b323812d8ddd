//! Whether a worker that is given one short task at a time watches for the next before it sleeps.
//!
//! To be woken costs more than such a task, so watching pays if the next comes meanwhile. How soon that would be cannot be seen while the worker
//! sleeps, since the loop then answers later, too. So it watches whenever tasks come soon; but the more often that was in vain, one time after
//! the other, the longer it leaves it alone, as where others need its core.

/// So soon after the last. A watch takes some 20 us; one that takes so long had to wait for its core.
const SOON_NANOS: u64 = 40_000;
/// After so many times in vain, and more, it is left alone 31 times.
const VAIN_MAX: u32 = 5;

#[derive(Default)]
pub(crate) struct Watches {
    /// So often it was in vain, one time after the other.
    vain: u32,
    /// So many tasks more that come soon are not watched for.
    skips: u32,
}

impl Watches {
    /// A task came so long after the last. True: watch for the next one.
    pub(crate) fn are_worth_it(&mut self, gap: u64) -> bool {
        let is_soon = gap < SOON_NANOS;
        let skips = is_soon && self.skips > 0;
        self.skips -= u32::from(skips);
        is_soon && !skips
    }

    /// It has watched for one, for so long in all. While others have its core nobody else is woken for what it finds.
    pub(crate) fn note(&mut self, found: bool, took: u64) {
        let pays = found && took < SOON_NANOS;
        self.vain = if pays { 0 } else { (self.vain + 1).min(VAIN_MAX) };
        self.skips = (1 << self.vain) - 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// How often it watches in so many gaps, each time for so long and with this outcome.
    fn total(watches: &mut Watches, gaps: usize, found: bool, took: u64) -> usize {
        let watch = |_: &usize| {
            let watches_now = watches.are_worth_it(SOON_NANOS - 1);
            if watches_now {
                watches.note(found, took);
            }
            watches_now
        };
        (0..gaps).filter(watch).count()
    }

    #[test]
    fn a_worker_that_watches_in_vain_does_so_less_and_less() {
        let mut watches = Watches::default();
        assert_eq!(total(&mut watches, 100, true, 0), 100);
        assert_eq!(
            total(&mut watches, 63, false, 0),
            6,
            "left alone 1, 3, 7, 15, 31 times"
        );
        assert_eq!(
            total(&mut watches, 320, true, SOON_NANOS),
            10,
            "it had no core meanwhile"
        );
        assert_eq!(total(&mut watches, 32, true, 0), 1);
        assert_eq!(total(&mut watches, 100, true, SOON_NANOS - 1), 100);
    }

    #[test]
    fn a_task_that_comes_late_is_not_watched_for() {
        let mut watches = Watches::default();
        assert!(!watches.are_worth_it(SOON_NANOS));
        assert!(watches.are_worth_it(0));
    }
}
