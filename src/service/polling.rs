//! Decides when a loop polls: it sleeps for a short time only, and then looks without a
//! notification. A loop polls as long as it finds something after each sleep and more will come
//! soon. Workers may defer notifications of such a loop ([`crate::wake::notifier`]).

/// The longest sleep of a loop that polls, in nanoseconds. A shorter sleep costs the kernel a timer
/// that fires. (Rows: `stream-256`, `work-64k` beside a foreign thread.)
const POLL_MAX: u64 = 5_000_000;
/// No sleep is in progress.
const NEVER: u64 = u64::MAX;

pub(crate) struct Polling {
    /// Whether the loop has found something since it last slept.
    has_found: bool,
    /// The time at which the loop must look again.
    until: u64,
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            has_found: false,
            until: NEVER,
        }
    }
}

impl Polling {
    /// The loop is about to look. It may have slept.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.until, NEVER) != NEVER {
            self.has_found = false;
        }
    }

    pub(crate) fn note_found(&mut self, tasks: usize) {
        self.has_found |= tasks > 0;
    }

    /// Whether the loop has found something since it last slept.
    pub(crate) fn has_found(&self) -> bool {
        self.has_found
    }

    /// How long the loop may sleep from now on. Later calls return less, until the loop looks.
    pub(crate) fn left(&mut self, now: u64) -> u64 {
        self.until = self.until.min(now.saturating_add(POLL_MAX));
        self.until.saturating_sub(now)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_loop_polls_after_it_has_found_something_and_once_after_it_has_found_nothing() {
        let mut polling = Polling::default();
        assert!(!polling.has_found());
        polling.note_found(1);
        polling.note_found(0);
        assert!(polling.has_found());
        polling.left(0);
        polling.end();
        assert!(!polling.has_found(), "it has slept and found nothing");
    }

    #[test]
    fn a_loop_that_looks_again_without_sleep_has_still_found_something() {
        let mut polling = Polling::default();
        for found in [1, 0] {
            polling.end();
            polling.note_found(found);
        }
        assert!(polling.has_found());
    }

    /// A sleep that began again with each call never ended for a loop that calls often.
    #[test]
    fn a_sleep_gets_shorter_while_time_goes_by() {
        let mut polling = Polling::default();
        let left = [10, 10, POLL_MAX, 10 + POLL_MAX, 99 + POLL_MAX].map(|now| polling.left(now));
        assert_eq!(left, [POLL_MAX, POLL_MAX, 10, 0, 0]);
        polling.end();
        assert_eq!(polling.left(99 + POLL_MAX), POLL_MAX);
    }
}
