//! How long a thread that has nothing to do searches before it sleeps, and which searches it skips.

/// The length of a pause between two looks of a search, in spins. (Rows: `latency`, `told-16`.)
const SPINS: u32 = 32;
/// The number of looks of a worker before it sleeps. With the pauses they take about 10 us, the
/// time that a loop needs to wake up and answer. (Rows: `told-16`, `stream-16`.)
pub(crate) const WORKER_LOOKS: u32 = if cfg!(loom) { 1 } else { 12 };
/// The number of looks of a loop before `take_ready` returns nothing. With the pauses they take at
/// most 2 us. (Rows: `told-16`, `latency`.)
pub(crate) const LOOP_LOOKS: u32 = if cfg!(loom) { 2 } else { 3 };
/// The largest number of searches that a thread skips. (Rows: `latency`, `work-64k` beside a
/// foreign thread.)
const SKIPPED_MAX: u32 = 16;

/// A pause between two looks.
pub(crate) fn pause() {
    (0..SPINS).for_each(|_| std::hint::spin_loop());
}

/// Skips searches of a thread while its searches find nothing: one after the first search in vain,
/// then twice as many after each further one.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// The number of searches that are still skipped.
    left: u32,
    /// The number of searches that were skipped last. Zero after a search that found something.
    last: u32,
}

impl Backoff {
    /// Whether the next search is skipped.
    pub(crate) fn skips(&mut self) -> bool {
        let skips = self.left > 0;
        self.left = self.left.saturating_sub(1);
        skips
    }

    pub(crate) fn note_found(&mut self) {
        self.last = 0;
    }

    pub(crate) fn note_nothing(&mut self) {
        self.last = (2 * self.last).clamp(1, SKIPPED_MAX);
        self.left = self.last;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The number of searches that are skipped now.
    fn skipped(backoff: &mut Backoff) -> usize {
        std::iter::from_fn(|| backoff.skips().then_some(())).count()
    }

    #[test]
    fn each_search_in_vain_doubles_the_number_of_skipped_searches() {
        let mut backoff = Backoff::default();
        let numbers = [0; 7].map(|_| {
            let number = skipped(&mut backoff);
            backoff.note_nothing();
            number
        });
        assert_eq!(numbers, [0, 1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn a_search_that_finds_something_ends_the_doubling() {
        let mut backoff = Backoff::default();
        (0..3).for_each(|_| backoff.note_nothing());
        assert_eq!(skipped(&mut backoff), 4);
        backoff.note_found();
        assert_eq!(skipped(&mut backoff), 0);
        backoff.note_nothing();
        assert_eq!(skipped(&mut backoff), 1);
    }
}
