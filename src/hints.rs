//! What threads tell each other without a lock: hints, from which only effort follows, never correctness.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a wake-up of a worker costs, about: work that takes less is not worth one if somebody will look soon.
const LONG_NANOS: u64 = 20_000;

#[derive(Debug)]
pub(crate) struct Hints {
    in_line: CachePadded<AtomicUsize>,
    mail: CachePadded<AtomicBool>,
    pace: CachePadded<AtomicU64>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self {
            in_line: CachePadded::new(AtomicUsize::new(0)),
            mail: CachePadded::new(AtomicBool::new(false)),
            // Unknown counts as long.
            pace: CachePadded::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// So many connections are in line.
    pub(crate) fn set_in_line(&self, connections: usize) {
        self.in_line.store(connections, Relaxed);
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

    /// Whether a task takes so little time that a worker is sooner back than another is woken.
    pub(crate) fn is_brisk(&self) -> bool {
        self.are_brisk(1)
    }

    /// The same for several tasks.
    pub(crate) fn are_brisk(&self, tasks: usize) -> bool {
        self.pace.load(Relaxed).saturating_mul(tasks as u64) < LONG_NANOS
    }
}
