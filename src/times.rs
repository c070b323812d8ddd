//! Where a task's time went.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds, in three accounts, and when the present entry began.
///
/// Only the task's owner writes, so there is one writer at a time;
/// readers (dumps) may see an entry half booked, never garbage.
#[derive(Debug)]
pub(crate) struct Times {
    since: AtomicU64,
    in_line: AtomicU64,
    on_worker: AtomicU64,
    parked: AtomicU64,
}

/// A copy of the accounts at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) since: u64,
    pub(crate) in_line: u64,
    pub(crate) on_worker: u64,
    pub(crate) parked: u64,
}

impl Times {
    pub(crate) fn new() -> Self {
        Self {
            since: AtomicU64::new(0),
            in_line: AtomicU64::new(0),
            on_worker: AtomicU64::new(0),
            parked: AtomicU64::new(0),
        }
    }

    /// Those of another task, which gets in line now.
    #[inline]
    pub(crate) fn renew(&self, now: u64) {
        self.since.store(now, Relaxed);
        for account in [&self.in_line, &self.on_worker, &self.parked] {
            account.store(0, Relaxed);
        }
    }

    #[inline]
    fn book(&self, account: &AtomicU64, now: u64) {
        let spent = now.saturating_sub(self.since.load(Relaxed));
        account.store(account.load(Relaxed).saturating_add(spent), Relaxed);
        self.since.store(now, Relaxed);
    }

    #[inline]
    pub(crate) fn left_line(&self, now: u64) {
        self.book(&self.in_line, now);
    }

    #[inline]
    pub(crate) fn left_worker(&self, now: u64) {
        self.book(&self.on_worker, now);
    }

    #[inline]
    pub(crate) fn left_parking(&self, now: u64) {
        self.book(&self.parked, now);
    }

    /// Since when it has its present status.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    pub(crate) fn account(&self) -> Account {
        Account {
            since: self.since(),
            in_line: self.in_line.load(Relaxed),
            on_worker: self.on_worker.load(Relaxed),
            parked: self.parked.load(Relaxed),
        }
    }
}
