//! How workers sleep, and are woken: as seldom as possible, one at a time.
//!
//! # The steps
//!
//! A worker that finds nothing: 1. `enter` (it counts as a sleeper); 2. looks again at everything that could hold work,
//! each under its lock; 3. `wait`, or `leave` if it found something.
//!
//! Who has made work available: 1. puts it there, under that place's lock; 2. asks whether it `should_wake` somebody;
//! 3. if so, `wake_one`, which leaves one token. While the token lies there no other wake-up is made. A woken
//! worker takes the token away *before* it looks for work, and if it leaves work behind it wakes the next.
//!
//! # Why nobody sleeps on work
//!
//! The worker's look (2) and the work's arrival (1) hold the same lock, so one comes first. If the work
//! came first, the worker sees it. If the look came first, then `enter`, which precedes the look, happened before the
//! arrival, and so `should_wake` sees the sleeper, or a token that was left after `enter`. In the latter case a worker
//! is on its way that has not looked yet, since it looks only after it has taken the token away. It will see the
//! work, and wakes the next if there is more than it takes.
//!
//! What is staged in an outbox arrives under the lock of its stage, which that look takes, too. Only who stages the *first* job asks whether
//! to wake somebody: by the above somebody looks after that. Who looks moves the whole stage, after which the next job is a first one again; or leaves
//! it, and then wakes the next, as for anything that is left behind. So while a stage is filled a look is still to come.
//!
//! A token is a state, not an event: a spurious wake-up of the condition variable finds none and waits on.
//!
//! # Watching
//!
//! While steps are short, a worker that has nothing more to do *watches* for a moment before it sleeps, one worker at a time: it looks
//! again and again, without a lock, whether there may be something, and yields in between. A loop that was just told
//! something often answers within that time. A watcher is as good as a token: nobody else is woken meanwhile, and it
//! stops watching *before* it looks in earnest, so the argument above holds for it word by word. It runs no code of the user's
//! in between, which could take any time: it begins when it has rung the loop. It watches for some 10 us; 20 if
//! there are few tasks, and then only if that is worth it ([`crate::watches`]).
//!

use crate::primitive::{AtomicBool, Condvar, Mutex, Ordering, wait};

pub(crate) struct Sleep {
    state: Mutex<State>,
    condvar: Condvar,
    /// Written under the lock.
    should_wake: AtomicBool,
}

#[derive(Default)]
struct State {
    sleepers: usize,
    watching: bool,
    token: bool,
    closed: bool,
}

impl Sleep {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            condvar: Condvar::new(),
            should_wake: AtomicBool::new(false),
        }
    }

    fn publish(&self, state: &State) {
        let should_wake = state.sleepers > 0 && !state.token && !state.watching;
        self.should_wake.store(should_wake, Ordering::Relaxed);
    }

    /// Whether a worker should be woken: one sleeps, and none watches or is being woken. Ask after the work was put where workers look.
    #[inline]
    pub(crate) fn should_wake(&self) -> bool {
        self.should_wake.load(Ordering::Relaxed)
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

    /// The caller watches for work from now on, unless somebody does. True: it does.
    pub(crate) fn start_watching(&self) -> bool {
        let mut state = self.state.lock();
        let starts = !state.watching;
        state.watching = true;
        self.publish(&state);
        starts
    }

    /// The caller does not watch any more, and must look for work now.
    pub(crate) fn stop_watching(&self) {
        let mut state = self.state.lock();
        state.watching = false;
        self.publish(&state);
    }

    /// Counts the caller as a sleeper. The caller does not watch. True: the pool is closed, and who finds nothing now may go.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        state.sleepers += 1;
        self.publish(&state);
        state.closed
    }

    /// The caller has found work after all, or goes for good.
    pub(crate) fn leave(&self) {
        self.leave_locked(&mut self.state.lock());
    }

    fn leave_locked(&self, state: &mut State) {
        state.sleepers -= 1;
        if state.sleepers == 0 {
            state.token = false;
        }
        self.publish(state);
    }

    /// Sleeps until there is a token or the pool is closed. The caller is then no sleeper any more.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// S7: a token is a state, so a second one would be lost.
    #[test]
    fn one_wake_up_is_under_way_at_most() {
        let sleep = Sleep::new();
        assert!(!sleep.wake_one(), "nobody sleeps");
        assert_eq!([sleep.enter(), sleep.enter()], [false; 2], "not closed");
        assert!(sleep.should_wake());
        assert_eq!([sleep.wake_one(), sleep.wake_one()], [true, false]);
        assert!(!sleep.should_wake());
        // Who takes the token away is awake; the other can be woken now.
        sleep.wait();
        assert!(sleep.should_wake());
        assert_eq!([sleep.wake_one(), sleep.wake_one()], [true, false]);
    }

    #[test]
    fn nobody_is_woken_while_somebody_watches() {
        let sleep = Sleep::new();
        sleep.enter();
        assert_eq!([sleep.start_watching(), sleep.start_watching()], [true, false]);
        assert!(!sleep.should_wake());
        sleep.stop_watching();
        assert!(sleep.should_wake());
    }
}
