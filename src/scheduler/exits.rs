//! The end of a pool, for those that wait for it.

use crate::sync::{Condvar, Mutex, wait, wait_until};
use std::time::Instant;

/// What must come to its end before the pool has ended.
pub(crate) struct Exits {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The workers that have not ended.
    running: usize,
    /// Whether the shutdown is complete: every loop has been notified of the cancellation, or the
    /// last task of a pool that drains has ended.
    is_shut_down: bool,
}

impl Exits {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            state: Mutex::new(State {
                running: workers,
                is_shut_down: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn note_end_of_worker(&self) {
        self.state.lock().running -= 1;
        self.changed.notify_all();
    }

    pub(crate) fn note_shutdown(&self) {
        self.state.lock().is_shut_down = true;
        self.changed.notify_all();
    }

    /// True: all has ended.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.running > 0 || !state.is_shut_down {
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => wait_until(&self.changed, &mut state, deadline),
                None => wait(&self.changed, &mut state),
            }
        }
        true
    }
}
