//! Tasks that record their steps, their order, and whether they are still alive.

use super::Gate;
use moored::{Context, ManualClock, StopReason, Task, TaskReturn};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The notes of steps, in order.
pub(crate) struct Log<N>(Arc<Mutex<Vec<N>>>);

impl<N: Clone> Log<N> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, note: N) {
        self.0.lock().expect("no code panics under this lock").push(note);
    }

    pub(crate) fn notes(&self) -> Vec<N> {
        self.0.lock().expect("no code panics under this lock").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("no code panics under this lock").len()
    }
}

impl<N> Clone for Log<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Counts values that are alive.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

/// Counts as alive until it is dropped.
pub(crate) struct Token(Alive);

impl Alive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn token(&self) -> Token {
        self.0.fetch_add(1, SeqCst);
        Token(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

type Body = Box<dyn FnMut(&mut Context<'_>, u32) -> TaskReturn + Send>;

/// A task whose step is a closure. It counts its steps and remembers a request to stop.
pub(crate) struct Work {
    /// The number of steps, including those with a request to stop.
    pub(crate) steps: u32,
    /// The first request to stop that a step has seen.
    pub(crate) told: Option<StopReason>,
    body: Body,
    token: Option<Token>,
}

impl Work {
    /// The closure gets the number of the step, from 1. When the task is asked to stop, the closure
    /// is not called, and the step returns `Stopped`.
    pub(crate) fn new(mut body: impl FnMut(&mut Context<'_>, u32) -> TaskReturn + Send + 'static) -> Self {
        Self::stubborn(move |cx, step| {
            if cx.is_stopping() {
                TaskReturn::Stopped
            } else {
                body(cx, step)
            }
        })
    }

    /// The closure is also called when the task is asked to stop.
    pub(crate) fn stubborn(body: impl FnMut(&mut Context<'_>, u32) -> TaskReturn + Send + 'static) -> Self {
        Self {
            steps: 0,
            told: None,
            body: Box::new(body),
            token: None,
        }
    }

    /// Finishes in its first step.
    pub(crate) fn done() -> Self {
        Self::new(|_, _| TaskReturn::TaskDone)
    }

    /// Finishes in its first step, which takes this time on the clock of the pool.
    pub(crate) fn takes(time: &ManualClock, cost: Duration) -> Self {
        let time = time.clone();
        Self::new(move |_, _| {
            time.advance(cost);
            TaskReturn::TaskDone
        })
    }

    /// Parks in each step, for ever.
    pub(crate) fn parks() -> Self {
        Self::new(|_, _| TaskReturn::Sync)
    }

    /// Parks `times` times, then finishes.
    pub(crate) fn parks_times(times: u32) -> Self {
        Self::new(move |_, step| {
            if step > times {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Sync
            }
        })
    }

    /// Waits at the gate in its first step, then finishes.
    pub(crate) fn at(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |_, _| {
            gate.pass();
            TaskReturn::TaskDone
        })
    }

    /// Waits at the gate, and must not be asked to stop before. Then it returns `then`, even if it
    /// was asked to stop during the wait.
    pub(crate) fn at_and_then(
        gate: &Gate,
        mut then: impl FnMut(&mut Context<'_>) -> TaskReturn + Send + 'static,
    ) -> Self {
        let gate = gate.clone();
        Self::stubborn(move |cx, _| {
            assert!(!cx.is_stopping(), "not asked to stop yet");
            gate.pass();
            then(cx)
        })
    }

    /// Notes something in its first step, then finishes.
    pub(crate) fn notes<N: Clone + Send + 'static>(log: &Log<N>, note: N) -> Self {
        let log = log.clone();
        Self::new(move |_, _| {
            log.add(note.clone());
            TaskReturn::TaskDone
        })
    }

    /// Drops `token` when the task is dropped.
    pub(crate) fn holding(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }
}

impl Task for Work {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        self.steps += 1;
        self.told = self.told.or(cx.stop_reason());
        let returned = (self.body)(cx, self.steps);
        if returned == TaskReturn::Stopped {
            // The request may have come between the two checks.
            self.told = self.told.or(cx.stop_reason());
        }
        returned
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("steps", &self.steps)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

/// Panics without a message on stderr, because many tests panic on purpose.
pub(crate) fn panic_silently() -> ! {
    std::panic::resume_unwind(Box::new("silent"))
}

/// Finishes in its second step. It is not a closure, for tests of boxes.
#[derive(Default)]
pub(crate) struct Twice(u32);

impl Task for Twice {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        self.0 += 1;
        if self.0 == 2 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    }
}
