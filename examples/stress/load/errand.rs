//! What the tasks do: each checks what it is told, and notes what its loop will check.

use std::sync::Arc;

use moored::{Context, Task, TaskReturn};

use super::yard::Yard;

/// How a task lives, if nobody stops it: so many steps, and then an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Parks after every step, with one more chunk for its client.
    Stream,
    /// Computes, and finishes.
    Compute,
    /// Computes, and panics.
    Panics,
    /// Computes, and stops by itself.
    Quits,
    /// Computes to its end, whoever asks it to stop.
    Deaf,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::Stream, Kind::Compute, Kind::Panics, Kind::Quits, Kind::Deaf];

pub(crate) struct Errand {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) steps: u64,
    /// How many steps it has in mind.
    pub(crate) length: u64,
    /// The chunks it has made; each has the next number.
    pub(crate) chunks: u64,
    /// The last chunk that its loop has answered.
    pub(crate) answered: u64,
    /// Whether it has seen that it must stop.
    pub(crate) told: bool,
    /// A task that goes on without a connection is not answered.
    pub(crate) outlives: bool,
    yard: Arc<Yard>,
}

impl Errand {
    pub(crate) fn new(number: u64, kind: Kind, length: u64, outlives: bool, yard: &Arc<Yard>) -> Self {
        yard.task_made();
        Self {
            number,
            kind,
            steps: 0,
            length,
            chunks: 0,
            answered: 0,
            told: false,
            outlives,
            yard: Arc::clone(yard),
        }
    }

    fn check(&self, cx: &Context<'_>) {
        if self.told && !cx.is_stopping() {
            self.yard
                .fault(format!("{}: no longer asked to stop", cx.task_id()));
        }
        let unanswered = self.answered != self.chunks;
        if unanswered && !cx.is_stopping() && !self.outlives {
            let (chunk, answered) = (self.chunks, self.answered);
            self.yard.fault(format!(
                "{}: runs with chunk {chunk}, answered {answered}",
                cx.task_id()
            ));
        }
    }
}

impl Task for Errand {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        self.check(cx);
        self.steps += 1;
        self.told |= cx.is_stopping();
        if self.told && self.kind != Kind::Deaf {
            return TaskReturn::Stopped;
        }
        // A few microseconds at most.
        for _ in 0..(self.number * 31 + self.steps) % 300 {
            std::hint::spin_loop();
        }
        if self.steps < self.length {
            return match self.kind {
                Kind::Stream => {
                    self.chunks += 1;
                    TaskReturn::Sync
                }
                _ => TaskReturn::Continue,
            };
        }
        match self.kind {
            // Not `panic!`: its messages would hide the verdict.
            Kind::Panics => std::panic::resume_unwind(Box::new(self.number)),
            Kind::Quits => TaskReturn::Stopped,
            Kind::Stream | Kind::Compute | Kind::Deaf => TaskReturn::TaskDone,
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.yard.task_dropped();
    }
}
