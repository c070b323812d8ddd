//! What threads tell each other without a lock: hints, from which only effort follows, never correctness.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a wake-up of a worker costs, about: work that takes less is not worth one if somebody will look soon.
const LONG_NANOS: u64 = 20_000;

/// A worker that found fewer tasks than that, and then no more, serves a loop that has few in flight.
const SOME: u32 = if cfg!(loom) { 1 } else { 3 };

#[derive(Debug)]
pub(crate) struct Hints {
    in_line: CachePadded<AtomicUsize>,
    mail: CachePadded<AtomicBool>,
    pace: CachePadded<AtomicU64>,
    sparse: CachePadded<AtomicBool>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self {
            in_line: CachePadded::new(AtomicUsize::new(0)),
            mail: CachePadded::new(AtomicBool::new(false)),
            // Unknown counts as long.
            pace: CachePadded::new(AtomicU64::new(u64::MAX)),
            sparse: CachePadded::new(AtomicBool::new(false)),
        }
    }

    /// So many tasks are in line, or were seen in an outbox.
    pub(crate) fn set_in_line(&self, tasks: usize) {
        self.in_line.store(tasks, Relaxed);
    }

    /// Something was posted that is not in line yet, so that busy workers look at the outboxes too.
    pub(crate) fn set_mail(&self) {
        self.mail.store(true, Relaxed);
    }

    /// Whether there is mail. There is none any more: the caller collects it.
    pub(crate) fn take_mail(&self) -> bool {
        let mail = self.mail.load(Relaxed);
        if mail {
            self.mail.store(false, Relaxed);
        }
        mail
    }

    /// Whether somebody waits for a worker.
    pub(crate) fn somebody_waits(&self) -> bool {
        self.in_line.load(Relaxed) > 0 || self.mail.load(Relaxed)
    }

    /// A worker's last batch took so long per task. Written only when it is news, since every worker reads it.
    pub(crate) fn set_pace(&self, nanos: u64) {
        let pace = self.pace.load(Relaxed);
        if nanos > pace.saturating_mul(2) || nanos < pace / 2 {
            self.pace.store(nanos, Relaxed);
        }
    }

    /// A worker ran so many tasks before it found no more. Written only when it is news.
    pub(crate) fn note_run(&self, tasks: u32) {
        let is_sparse = tasks < SOME;
        if tasks > 0 && is_sparse != self.sparse.load(Relaxed) {
            self.sparse.store(is_sparse, Relaxed);
        }
    }

    /// Whether there is so much to do, and in so short pieces, that it pays to stay awake for what comes next. With one
    /// task in flight it does not: who waits for its answer on a core keeps that from the loop.
    pub(crate) fn is_brisk(&self) -> bool {
        self.are_brisk(1) && !self.sparse.load(Relaxed)
    }

    /// Whether so many tasks take so little time that a worker is sooner back than another is woken.
    pub(crate) fn are_brisk(&self, tasks: usize) -> bool {
        self.pace.load(Relaxed).saturating_mul(tasks as u64) < LONG_NANOS
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn somebody_waits_while_there_is_mail_or_a_line() {
        let hints = Hints::new();
        assert!(!hints.somebody_waits() && !hints.take_mail());
        hints.set_mail();
        assert!(hints.somebody_waits());
        assert_eq!([hints.take_mail(), hints.take_mail()], [true, false]);
        assert!(!hints.somebody_waits());
        hints.set_in_line(1);
        assert!(hints.somebody_waits());
        hints.set_in_line(0);
        assert!(!hints.somebody_waits());
    }

    #[test]
    fn tasks_are_brisk_when_all_of_them_take_less_than_a_wake_up() {
        let hints = Hints::new();
        assert!(!hints.is_brisk(), "unknown counts as long");
        hints.set_pace(LONG_NANOS / 4);
        assert!(hints.is_brisk());
        assert_eq!([3, 4].map(|tasks| hints.are_brisk(tasks)), [true, false]);
    }

    #[test]
    fn one_task_at_a_time_is_not_brisk() {
        let hints = Hints::new();
        hints.set_pace(1);
        for (run, is_brisk) in [(0, true), (SOME - 1, false), (0, false), (SOME, true), (1, false)] {
            hints.note_run(run);
            assert_eq!(hints.is_brisk(), is_brisk, "after a run of {run}");
        }
    }

    #[test]
    fn a_pace_is_news_when_it_is_more_than_twice_as_fast_or_slow() {
        for (before, now, is_news) in [
            (8, 4, false),
            (8, 3, true),
            (8, 16, false),
            (8, 17, true),
            (u64::MAX, u64::MAX / 2, false),
            (u64::MAX, 1, true),
        ] {
            let hints = Hints::new();
            hints.pace.store(before, Relaxed);
            hints.set_pace(now);
            let expected = if is_news { now } else { before };
            assert_eq!(hints.pace.load(Relaxed), expected, "{now} after {before}");
        }
    }
}
