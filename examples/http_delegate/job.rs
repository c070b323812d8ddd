//! What a task does: it computes, gives the loop output, and continues when that is written.

use std::time::{Duration, Instant};

use bytes::Bytes;
use moored::{ConnId, Context, StopReason, Task, TaskReturn};

use crate::events::Events;
use crate::lines;
use crate::work::Work;

/// A request: its connection, and its number there.
pub type Key = (ConnId, u64);

/// How an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Whole,
    Parts,
    Events,
}

#[derive(Debug)]
pub struct Job {
    /// The request that it answers.
    pub key: Key,
    source: Source,
    /// What the loop has to write next.
    output: Bytes,
    /// How long the loop waits before it resumes the job, after the kernel has taken the output.
    pause: Duration,
    outcome: Outcome,
}

/// What the job knows of its writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Writes that the job has given to the loop.
    pub asked: u64,
    /// Writes that the kernel has taken.
    pub written: u64,
    /// Why the job was stopped.
    pub stopped: Option<StopReason>,
}

#[derive(Debug)]
enum Source {
    Work(Work),
    Stream(Stream),
    Events(Events),
}

/// What a job does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Goes on computing.
    Compute,
    /// Writes something, and goes on after a pause.
    Write {
        output: Bytes,
        pause: Duration,
    },
    Done,
}

impl Job {
    pub fn work(work: Work) -> Self {
        Self::new(Source::Work(work))
    }

    pub fn stream(stream: Stream) -> Self {
        Self::new(Source::Stream(stream))
    }

    pub fn events(events: Events) -> Self {
        Self::new(Source::Events(events))
    }

    fn new(source: Source) -> Self {
        Self {
            key: (ConnId(0), 0),
            source,
            output: Bytes::new(),
            pause: Duration::ZERO,
            outcome: Outcome::default(),
        }
    }

    pub fn style(&self) -> Style {
        match self.source {
            Source::Work(_) => Style::Whole,
            Source::Stream(_) => Style::Parts,
            Source::Events(_) => Style::Events,
        }
    }

    /// Takes what is to be written.
    pub fn take_output(&mut self) -> Bytes {
        std::mem::take(&mut self.output)
    }

    /// Tells the job that the kernel has taken its output. Returns how long the job wants to pause.
    pub fn note_written(&mut self) -> Duration {
        self.outcome.written = self.outcome.asked;
        self.pause
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the kernel has a whole answer.
    fn has_answered(&self) -> bool {
        self.style() == Style::Whole && self.outcome.written > 0
    }
}

impl Task for Job {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        // The client has gone, or the time is up, and unwritten output is lost. A client that
        // leaves after it has got a whole answer does not stop the task.
        if let Some(why) = cx.stop_reason()
            && !self.has_answered()
        {
            self.outcome.stopped = Some(why);
            return TaskReturn::Stopped;
        }
        let next = match &mut self.source {
            Source::Work(work) => work.next(),
            Source::Stream(stream) => stream.next(),
            Source::Events(events) => events.next(Instant::now()),
        };
        match next {
            Next::Compute => TaskReturn::Continue,
            // Parks the job, without a thread, until the loop has written the output.
            Next::Write { output, pause } => {
                (self.output, self.pause) = (output, pause);
                self.outcome.asked += 1;
                TaskReturn::Sync
            }
            Next::Done => TaskReturn::TaskDone,
        }
    }
}

/// Numbered lines, in parts.
#[derive(Debug)]
pub struct Stream {
    left: u64,
    size: usize,
    offset: u64,
    pause: Duration,
}

impl Stream {
    pub fn new(parts: u64, size: usize, pause: Duration) -> Self {
        Self {
            left: parts,
            size,
            offset: 0,
            pause,
        }
    }

    fn next(&mut self) -> Next {
        if self.left == 0 {
            return Next::Done;
        }
        let output = lines::part(self.offset, self.size);
        self.offset += self.size as u64;
        self.left -= 1;
        let pause = if self.left > 0 { self.pause } else { Duration::ZERO };
        Next::Write { output, pause }
    }
}
