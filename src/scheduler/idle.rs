//! How workers search for work, sleep and are woken. The protocol and the argument that nothing is
//! lost are in `scheduler/README.md`.

use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, fence, wait};

pub(crate) struct Idle {
    state: Mutex<State>,
    condvar: Condvar,
    /// Written while `state` is locked.
    should_wake: AtomicBool,
}

#[derive(Default)]
struct State {
    sleeping: usize,
    searching: usize,
    /// A wake-up is pending: a worker was woken and has not looked for work yet.
    token: bool,
    is_closed: bool,
}

/// Whether the pool still accepts tasks, for a worker that is about to sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gate {
    Open,
    Closed,
}

impl Idle {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            condvar: Condvar::new(),
            should_wake: AtomicBool::new(false),
        }
    }

    fn publish(&self, state: &State) {
        let should_wake = state.sleeping > 0 && !state.token && state.searching == 0;
        self.should_wake.store(should_wake, Ordering::Relaxed);
    }

    /// Whether a worker should be woken: one sleeps, none searches, and no wake-up is pending. Call
    /// it after the work is visible, and after a fence.
    #[inline]
    pub(crate) fn should_wake(&self) -> bool {
        self.should_wake.load(Ordering::Relaxed)
    }

    /// Wakes one worker, unless none sleeps or a wake-up is pending. Returns true if it woke one.
    #[cold]
    pub(crate) fn wake_one(&self) -> bool {
        let mut state = self.state.lock();
        let wakes = state.sleeping > 0 && !state.token;
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

    /// The caller searches for work. Until its search ends, no other worker is woken.
    pub(crate) fn start_search(&self) {
        let mut state = self.state.lock();
        state.searching += 1;
        self.publish(&state);
    }

    /// The caller ends its search. After this it must look at everything that can hold work.
    pub(crate) fn end_search(&self) {
        let mut state = self.state.lock();
        state.searching -= 1;
        self.publish(&state);
        drop(state);
        fence(Ordering::SeqCst);
    }

    /// Counts the caller as sleeping. After this it must look at everything that can hold work.
    pub(crate) fn start_sleep(&self) -> Gate {
        let mut state = self.state.lock();
        state.sleeping += 1;
        self.publish(&state);
        let gate = if state.is_closed { Gate::Closed } else { Gate::Open };
        drop(state);
        fence(Ordering::SeqCst);
        gate
    }

    /// The caller does not sleep: it has found work, or it ends.
    pub(crate) fn end_sleep(&self) {
        self.end_sleep_locked(&mut self.state.lock());
    }

    fn end_sleep_locked(&self, state: &mut State) {
        state.sleeping -= 1;
        if state.sleeping == 0 {
            state.token = false;
        }
        self.publish(state);
    }

    /// Sleeps until there is a token or the pool is closed. After this the caller does not count as
    /// sleeping, and must look at everything that can hold work.
    pub(crate) fn wait(&self) {
        let mut state = self.state.lock();
        while !state.token && !state.is_closed {
            wait(&self.condvar, &mut state);
        }
        state.token = false;
        self.end_sleep_locked(&mut state);
        drop(state);
        fence(Ordering::SeqCst);
    }

    /// From now on no worker sleeps.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.condvar.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// S7: a token is a state, so a second one would be lost.
    #[test]
    fn at_most_one_wake_up_is_pending() {
        let idle = Idle::new();
        assert!(!idle.wake_one(), "no worker sleeps");
        assert_eq!([idle.start_sleep(), idle.start_sleep()], [Gate::Open; 2]);
        assert!(idle.should_wake());
        assert_eq!([idle.wake_one(), idle.wake_one()], [true, false]);
        assert!(!idle.should_wake());
        // The worker that takes the token is awake; the other one can be woken now.
        idle.wait();
        assert!(idle.should_wake());
        assert_eq!([idle.wake_one(), idle.wake_one()], [true, false]);
    }

    #[test]
    fn no_worker_is_woken_while_another_searches() {
        let idle = Idle::new();
        idle.start_sleep();
        idle.start_search();
        idle.start_search();
        idle.end_search();
        assert!(!idle.should_wake());
        idle.end_search();
        assert!(idle.should_wake());
    }
}
