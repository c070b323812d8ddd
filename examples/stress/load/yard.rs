//! What all loops and tasks of a round share: the tasks that exist, and the faults that were seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
pub(crate) struct Yard {
    made: AtomicU64,
    dropped: AtomicU64,
    messages_made: AtomicU64,
    messages_dropped: AtomicU64,
    /// Set before the pool is asked to finish.
    pub(crate) finishing: AtomicBool,
    broken: AtomicBool,
    faults: Mutex<Vec<String>>,
}

impl Yard {
    pub(crate) fn task_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn task_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Tasks that exist, in the pool or outside.
    pub(crate) fn alive(&self) -> u64 {
        let dropped = self.dropped.load(Ordering::Relaxed);
        self.made.load(Ordering::Relaxed).saturating_sub(dropped)
    }

    pub(crate) fn message_made(&self) {
        self.messages_made.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn message_dropped(&self) {
        self.messages_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that exist, in a mailbox or outside.
    pub(crate) fn messages_alive(&self) -> u64 {
        let dropped = self.messages_dropped.load(Ordering::Relaxed);
        self.messages_made.load(Ordering::Relaxed).saturating_sub(dropped)
    }

    /// Whether every promise was kept so far; if not, there is no point in going on.
    pub(crate) fn is_sound(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    /// Notes a broken promise. The first few are enough.
    pub(crate) fn fault(&self, what: String) {
        self.broken.store(true, Ordering::Relaxed);
        let mut faults = self
            .faults
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if faults.len() < 20 {
            faults.push(what);
        }
    }

    pub(crate) fn check(&self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fault(what);
        }
    }

    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(
            &mut *self
                .faults
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}
