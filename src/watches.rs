//! Whether a worker that is given one short task at a time watches for the next before it sleeps.
//!
//! To be woken costs more than such a task, so watching pays if the next comes meanwhile. But it may be in the loop's way: where the system would
//! have run that on the worker's core it now wakes another core for it, which may take longer than all the rest; and where others need the
//! cores, what a watcher finds waits until it has one. Nobody can tell beforehand, so it is tried. A worker compares how soon tasks come
//! with watching and without, and does what was faster; and now and then the other for a while.

/// A task that comes later than that after the last is not watched for, which takes some 20 us.
const SOON_NANOS: u64 = 100_000;
/// So many tasks are a trial, and one of so many trials is of what was slower.
const TRIAL: u32 = 64;
const TRIALS: u32 = 128;

#[derive(Default)]
pub(crate) struct Watches {
    /// How soon tasks came without watching and with it: the medians, about.
    gaps: [u64; 2],
    /// Whether it watched for the last one.
    watched: bool,
    /// So many came soon.
    tasks: u32,
}

impl Watches {
    /// A task came so long after the last. True: watch for the next one.
    pub(crate) fn are_worth_it(&mut self, gap: u64) -> bool {
        let is_soon = gap < SOON_NANOS;
        if is_soon {
            self.note(gap);
        }
        self.watched = is_soon && self.pay() != self.is_trial();
        self.watched
    }

    /// Goes up for what is above the median, and down for what is below, by as much.
    fn note(&mut self, gap: u64) {
        let median = &mut self.gaps[usize::from(self.watched)];
        let step = *median / 16 + 1;
        *median = if gap > *median {
            *median + step
        } else {
            median.saturating_sub(step)
        };
        self.tasks = self.tasks.wrapping_add(1);
    }

    /// Whether tasks come clearly sooner with watching.
    fn pay(&self) -> bool {
        let [without, with] = self.gaps;
        with + with / 8 < without
    }

    fn is_trial(&self) -> bool {
        self.tasks / TRIAL % TRIALS == 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// How many of so many tasks it watches for, if they come so soon without watching and with it.
    fn watched(watches: &mut Watches, tasks: u32, gaps: [u64; 2]) -> u32 {
        let is_watched = |_: &u32| watches.are_worth_it(gaps[usize::from(watches.watched)]);
        (0..tasks).filter(is_watched).count() as u32
    }

    #[test]
    fn a_worker_does_what_is_faster_and_now_and_then_tries_the_other() {
        let mut watches = Watches::default();
        let few = 3 * TRIAL;
        let many = 4 * TRIAL * TRIALS;
        assert!(
            watched(&mut watches, many, [5_000, 20_000]) <= many / TRIALS + few,
            "slower"
        );
        assert!(
            watched(&mut watches, many, [20_000, 5_000]) >= many - many / TRIALS - few - TRIAL * TRIALS,
            "faster"
        );
        let same = watched(&mut watches, many, [5_000, 5_000]);
        assert!(same <= many / TRIALS + few + TRIAL * TRIALS, "{same}: no faster");
    }

    #[test]
    fn a_task_that_comes_late_is_not_watched_for() {
        let mut watches = Watches::default();
        let many = 2 * TRIAL * TRIALS;
        assert_eq!(watched(&mut watches, many, [SOON_NANOS; 2]), 0);
        assert!(watched(&mut watches, many, [20_000, 5_000]) > many / 2);
        assert!(!watches.are_worth_it(SOON_NANOS));
    }
}
