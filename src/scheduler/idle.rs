//! How workers search for work, sleep and are woken. The protocol and the argument that nothing is
//! lost are in `scheduler/README.md`.

use crate::clock::Clock;
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, fence, wait, wait_until};
use std::time::Instant;

pub(crate) struct Idle {
    state: Mutex<State>,
    condvar: Condvar,
    /// For the worker that sleeps with a time limit.
    timed: Condvar,
    /// Written while `state` is locked.
    should_wake: AtomicBool,
}

#[derive(Default)]
struct State {
    sleeping: usize,
    /// The number of workers that sleep without a time limit.
    untimed: usize,
    /// The time until which one worker sleeps.
    until: Option<u64>,
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
            timed: Condvar::new(),
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
        let has_untimed = state.untimed > 0;
        drop(state);
        if wakes {
            // The worker with a time limit stays asleep if possible: it must wake up at the
            // earliest time.
            let condvar = if has_untimed { &self.condvar } else { &self.timed };
            condvar.notify_one();
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

    /// Sleeps until there is a token, the pool is closed, or the earliest time has come, which
    /// `next_moment` returns. One worker at a time sleeps until that time; the others sleep without
    /// a time limit. Afterwards the caller does not count as sleeping, and must check every place
    /// that can hold work.
    pub(crate) fn wait(&self, clock: &Clock, next_moment: impl Fn() -> Option<u64>) {
        let mut state = self.state.lock();
        while !state.token && !state.is_closed {
            let moment = next_moment();
            let (Some(moment), None) = (moment, state.until) else {
                if moment < state.until {
                    self.timed.notify_one();
                }
                state.untimed += 1;
                wait(&self.condvar, &mut state);
                state.untimed -= 1;
                continue;
            };
            let now = clock.now();
            if moment <= now {
                break;
            }
            state.until = Some(moment);
            match Instant::now().checked_add(clock.real_time(moment - now)) {
                Some(until) => wait_until(&self.timed, &mut state, until),
                None => wait(&self.timed, &mut state),
            }
            state.until = None;
        }
        state.token = false;
        self.end_sleep_locked(&mut state);
        drop(state);
        fence(Ordering::SeqCst);
    }

    /// Wakes a sleeping worker if none sleeps until `moment`, the earliest time for which a task
    /// waits. That worker then sleeps until `moment`.
    #[cold]
    pub(crate) fn watch(&self, moment: Option<u64>) {
        let Some(moment) = moment else { return };
        let state = self.state.lock();
        let condvar = match state.until {
            Some(until) if until <= moment => return,
            Some(_) => &self.timed,
            None => &self.condvar,
        };
        drop(state);
        condvar.notify_one();
    }

    /// From now on no worker sleeps.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.condvar.notify_all();
        self.timed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
impl Idle {
    pub(super) fn is_searched(&self) -> bool {
        self.state.lock().searching > 0
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
        idle.wait(&Clock::system(), || None);
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
