//! How workers sleep, and are woken one at a time.
//!
//! # The steps
//!
//! A worker that finds nothing: 1. `enter` (it counts as a sleeper); 2. looks again at everything that could hold work,
//! each under its lock; 3. `wait`, or `leave` if it found something.
//!
//! Who has made work available: 1. puts it there, under that place's lock; 2. asks `wants_wake`;
//! 3. if so `wake_one`, which leaves one token. While the token lies there no other wake-up is made. A woken worker takes the token away
//! *before* it looks for work, and if it leaves work behind it wakes the next.
//!
//! # Why nobody sleeps on work
//!
//! The worker's look (2) and the work's arrival (1) hold the same lock, so one comes first. If the work
//! came first, the worker sees it. If the look came first, then `enter`, which precedes the look, happened before the arrival,
//! and so `wants_wake` sees the sleeper, or a token that was left after `enter`. In the latter case a worker
//! is on its way that has not looked yet, since it looks only after it has taken the token away. It will see the
//! work, and wakes the next if there is more than it takes.
//!
//! A token is a state, not an event: a spurious wake-up of the condition variable finds none and waits on.

use crate::primitive::{AtomicUsize, Condvar, Mutex, Ordering, wait};

pub(crate) struct Sleep {
    state: Mutex<State>,
    condvar: Condvar,
    /// The sleepers if there is no token, else 0. Written under the lock.
    wakeable: AtomicUsize,
}

struct State {
    sleepers: usize,
    token: bool,
    closed: bool,
}

impl Sleep {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                sleepers: 0,
                token: false,
                closed: false,
            }),
            condvar: Condvar::new(),
            wakeable: AtomicUsize::new(0),
        }
    }

    fn publish(&self, state: &State) {
        self.wakeable
            .store(if state.token { 0 } else { state.sleepers }, Ordering::Relaxed);
    }

    /// Whether a worker sleeps and nobody is waking one. Ask after the work was put where workers look.
    pub(crate) fn wants_wake(&self) -> bool {
        self.wakeable.load(Ordering::Relaxed) != 0
    }

    /// Wakes one worker, unless none sleeps or one is being woken. True if it did.
    pub(crate) fn wake_one(&self) -> bool {
        let mut state = self.state.lock();
        let wakes = state.sleepers > 0 && !state.token;
        if wakes {
            state.token = true;
            self.publish(&state);
        }
        drop(state);
        if wakes {
            self.condvar.notify_one();
        }
        wakes
    }

    /// Counts the caller as a sleeper. True: the pool is closed, so who finds nothing now may go.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        state.sleepers += 1;
        self.publish(&state);
        state.closed
    }

    /// The caller has found work after all, or goes for good.
    pub(crate) fn leave(&self) {
        let mut state = self.state.lock();
        self.leave_locked(&mut state);
    }

    fn leave_locked(&self, state: &mut State) {
        state.sleepers -= 1;
        if state.sleepers == 0 {
            state.token = false;
        }
        self.publish(state);
    }

    /// Sleeps until there is a token or the pool is closed; the caller is then no sleeper any more.
    pub(crate) fn wait(&self) {
        let mut state = self.state.lock();
        while !state.token && !state.closed {
            wait(&self.condvar, &mut state);
        }
        state.token = false;
        self.leave_locked(&mut state);
    }

    /// Nobody sleeps from now on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.condvar.notify_all();
    }
}
