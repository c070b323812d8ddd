//! The end of a pool, for those that wait for it.

use crate::sync::{Condvar, Mutex, wait, wait_until};
use std::time::Instant;

/// What must come to its end before the pool has ended: the workers, and `shutdown`.
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

    /// True: all have ended.
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
