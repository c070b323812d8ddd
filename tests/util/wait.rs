//! Waiting for facts: counts, gates, and a time limit for code that may hang.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The time limit of a wait. A correct program never needs so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `fact` is true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        // There is no notification of some facts, such as the number of threads of a process.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Runs `code` on a new thread. If it hangs, the test fails.
#[track_caller]
pub(crate) fn within_patience<R: Send + 'static>(what: &str, code: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // Fails if the test has stopped waiting.
        let _ = done.send(code());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("the thread has sent its result");
            result
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread ended without a result and without a panic"),
        },
    }
}

/// A number behind a lock, with waits for its value.
#[derive(Default)]
pub(crate) struct Count {
    value: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.value
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> usize {
        *self.lock()
    }

    pub(crate) fn add(&self, n: usize) {
        *self.lock() += n;
        self.changed.notify_all();
    }

    /// Sets it to 0 and returns the value before.
    pub(crate) fn take(&self) -> usize {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until it is 1 or more, and subtracts 1.
    #[track_caller]
    pub(crate) fn take_one(&self) {
        let enough = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |value| *value == 0);
        let mut value = enough.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        assert!(*value > 0, "waited for 1, but it stays 0");
        *value -= 1;
    }

    /// Waits until it is `n` or more.
    #[track_caller]
    pub(crate) fn wait_for(&self, n: usize) {
        let enough = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |value| *value < n);
        let value = *enough.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        assert!(value >= n, "waited for {n}, but it stays {value}");
    }
}

/// Blocks steps until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    arrived: Arc<Count>,
    open: Arc<Count>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Called by a step: waits until the gate is open.
    pub(crate) fn pass(&self) {
        self.arrived.add(1);
        self.open.wait_for(1);
    }

    /// Waits until `n` steps have reached the gate.
    #[track_caller]
    pub(crate) fn wait_for(&self, n: usize) {
        self.arrived.wait_for(n);
    }

    /// The number of steps that have reached the gate.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.get()
    }

    pub(crate) fn open(&self) {
        self.open.add(1);
    }

    /// A gate with its guard. Declare it after the pool.
    pub(crate) fn guarded() -> GateGuard {
        GateGuard(Self::new())
    }

    /// Declare it after the pool: it opens the gate before the pool is dropped, also if the test
    /// panics.
    pub(crate) fn guard(&self) -> GateGuard {
        GateGuard(self.clone())
    }
}

/// Opens its gate when it is dropped, so that a failed test does not hang in the drop of the pool.
pub(crate) struct GateGuard(Gate);

impl Deref for GateGuard {
    type Target = Gate;
    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.0.open();
    }
}
