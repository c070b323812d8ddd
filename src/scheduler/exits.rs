//! The end of a pool: a wait for it, and the code that each thread is in during that wait.

use crate::sync::{Condvar, Mutex, wait, wait_until};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Instant;

/// What a worker does. User code other than steps is named, because it can block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    /// A step, or code of the pool.
    Other,
    Wake,
    StartHook,
    StopHook,
    ThreadLocals,
    /// The thread has ended.
    Gone,
}

impl Activity {
    const ALL: [Self; 6] = [
        Self::Other,
        Self::Wake,
        Self::StartHook,
        Self::StopHook,
        Self::ThreadLocals,
        Self::Gone,
    ];
}

/// The threads and the shutdown that must end before the pool has ended. Does not own the pool.
pub(crate) struct Exits {
    state: Mutex<State>,
    changed: Condvar,
    /// For each worker, an [`Activity`].
    activities: Box<[CachePadded<AtomicU8>]>,
}

struct State {
    /// The number of workers that have not ended.
    running: usize,
    /// Whether the shutdown is complete: every loop has been notified of the cancellation, or the
    /// last task of a pool that drains has ended.
    is_shut_down: bool,
}

impl Exits {
    pub(super) fn new(workers: usize) -> Self {
        let other = |_| CachePadded::new(AtomicU8::new(Activity::Other as u8));
        Self {
            state: Mutex::new(State {
                running: workers,
                is_shut_down: false,
            }),
            changed: Condvar::new(),
            activities: (0..workers).map(other).collect(),
        }
    }

    pub(crate) fn activity(&self, worker: usize) -> Activity {
        Activity::ALL[usize::from(self.activities[worker].load(Relaxed))]
    }

    /// Returns the previous value.
    pub(crate) fn set_activity(&self, worker: usize, activity: Activity) -> Activity {
        let before = self.activity(worker);
        self.activities[worker].store(activity as u8, Relaxed);
        before
    }

    fn note_end_of_worker(&self) {
        self.state.lock().running -= 1;
        self.changed.notify_all();
    }

    pub(crate) fn note_shutdown(&self) {
        self.state.lock().is_shut_down = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.state.lock().is_shut_down
    }

    /// Returns true if all threads and the shutdown have ended.
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

/// Its drop records the end of a worker. This is the last action of the thread.
pub(crate) struct EndOfWorker {
    pub(crate) exits: Arc<Exits>,
    pub(crate) worker: usize,
}

impl Drop for EndOfWorker {
    fn drop(&mut self) {
        self.exits.set_activity(self.worker, Activity::Gone);
        self.exits.note_end_of_worker();
    }
}
