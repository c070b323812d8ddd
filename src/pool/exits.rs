//! Waiting for the end of a pool.

use crate::sync::{Condvar, Mutex, wait, wait_until};
use std::time::Instant;

/// The pool has ended when all of these have: its workers, and the first call of `shutdown`.
pub(super) struct Exits {
    running: Mutex<usize>,
    changed: Condvar,
}

impl Exits {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            running: Mutex::new(workers + 1),
            changed: Condvar::new(),
        }
    }

    pub(super) fn one_less(&self) {
        *self.running.lock() -= 1;
        self.changed.notify_all();
    }

    /// Returns true if all of them have ended.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut running = self.running.lock();
        while *running > 0 {
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => wait_until(&self.changed, &mut running, deadline),
                None => wait(&self.changed, &mut running),
            }
        }
        true
    }
}
