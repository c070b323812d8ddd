//! Whether a worker that is given one short task at a time watches for the next before it sleeps.
//!
//! To be woken costs more than such a task, so watching pays if the next comes meanwhile. But it may be in the loop's way: where the system would
//! have run that on the worker's core it now wakes another core for it, which may take longer than all the rest; and where others need the
//! cores, what a watcher finds waits until it has one. Nobody can tell beforehand, so it is tried. A worker compares how long it was
//! from one run of tasks to the next with watching and without, and does what was faster; and now and then the other for a while. Where
//! tasks come at a rate of their own neither is, and it does not watch.

/// So many tasks are a trial, and one of so many trials is of what was slower.
const TRIAL: u32 = 128;
const TRIALS: u32 = 64;
/// A longer gap counts as one of that: it says that somebody was away, not how long one waits for a core.
const GAP_MAX: u64 = 1_000_000;

pub(crate) struct Watches {
    /// The mean gaps of the last trials without watching and with it.
    means: [u64; 2],
    /// Whether it watches in this trial.
    is_on: bool,
    /// The gaps of this trial, all together, and their number.
    sum: u64,
    tasks: u32,
    trials: u32,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            // Unknown counts as slow.
            means: [GAP_MAX; 2],
            is_on: false,
            sum: 0,
            tasks: 0,
            trials: 0,
        }
    }
}

impl Watches {
    /// A task came so long after the last. True: watch for the next one.
    pub(crate) fn are_worth_it(&mut self, gap: u64) -> bool {
        self.sum += gap.min(GAP_MAX);
        self.tasks += 1;
        if self.tasks == TRIAL {
            self.end_trial();
        }
        self.is_on
    }

    fn end_trial(&mut self) {
        self.means[usize::from(self.is_on)] = self.sum / u64::from(TRIAL);
        (self.sum, self.tasks) = (0, 0);
        self.trials = (self.trials + 1) % TRIALS;
        let [without, with] = self.means;
        let is_clearly_faster = with + with / 8 < without;
        let tries_the_other = self.trials == 1;
        self.is_on = is_clearly_faster != tries_the_other;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// How many of so many trials it watches in, if tasks come so soon without watching and with it.
    fn watched(watches: &mut Watches, trials: u32, gaps: [u64; 2]) -> u32 {
        let is_watched = |_: &u32| watches.are_worth_it(gaps[usize::from(watches.is_on)]);
        let tasks = (0..trials * TRIAL).filter(is_watched).count() as u32;
        assert_eq!(tasks % TRIAL, 0);
        tasks / TRIAL
    }

    #[test]
    fn a_worker_does_what_is_faster_and_now_and_then_tries_the_other() {
        // Not aligned to the trials' ends: the last task of one says what the next is.
        let mut watches = Watches::default();
        (1..TRIAL).for_each(|_| assert!(!watches.are_worth_it(9_000)));
        for (gaps, expected) in [
            ([9_000, 20_000], 1),
            ([9_000, 8_000], 1),
            ([20_000, 9_000], TRIALS - 1),
            ([9_000, 20_000], 1),
            ([110_000, 9_000], TRIALS - 1),
        ] {
            let total = watched(&mut watches, TRIALS, gaps);
            // What was faster before it tries anew.
            watched(&mut watches, TRIALS, gaps);
            let again = watched(&mut watches, TRIALS, gaps);
            assert_eq!(again, expected, "{gaps:?}");
            assert!(total.abs_diff(expected) <= 2, "{gaps:?}: {total}");
        }
    }

    /// Gaps beyond some limit were left out, as if nobody had waited.
    #[test]
    fn a_watcher_that_loses_its_core_now_and_then_does_not_pay() {
        let mut watches = Watches::default();
        let mut total = 0;
        for task in 0..4 * TRIALS * TRIAL {
            let gap = match watches.is_on {
                false => 20_000,
                true if task % 20 == 0 => 4_000_000,
                true => 10_000,
            };
            total += u32::from(watches.are_worth_it(gap));
        }
        assert_eq!(total, 4 * TRIAL, "trials only");
    }
}
