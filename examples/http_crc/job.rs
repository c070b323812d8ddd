//! What the workers run: the checksum of a body, a piece in each step.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use examples::http::Piece;
use moored::{ConnId, Context, Task, TaskReturn};

/// The longest step of simulated work. A task whose client has left ends after it.
const WORK_STEP: Duration = Duration::from_millis(10);

/// Which request the job is for, and how to answer it.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub id: ConnId,
    pub request: u64,
    pub form: Form,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"crc32":"1a2b3c4d","length":N}`
    Json,
    /// Eight hexadecimal digits.
    Digits,
}

#[derive(Debug)]
pub struct Job {
    pub origin: Origin,
    digest: crc32fast::Hasher,
    length: u64,
    /// What the next step adds to the digest. The loop puts it here while the job is parked.
    next: Bytes,
    /// Nothing comes after `next`.
    is_whole: bool,
    /// Simulated work that is left.
    work: Duration,
    /// Time that the steps have taken.
    cost: Duration,
}

impl Job {
    /// A job whose body comes later, in pieces.
    pub fn new(origin: Origin, work: Duration) -> Self {
        Self {
            origin,
            digest: crc32fast::Hasher::new(),
            length: 0,
            next: Bytes::new(),
            is_whole: false,
            work,
            cost: Duration::ZERO,
        }
    }

    /// A job that has all of its body, and needs one step for it.
    pub fn with_body(origin: Origin, work: Duration, body: Bytes) -> Self {
        let mut job = Self::new(origin, work);
        job.add(Piece {
            bytes: body,
            is_last: true,
        });
        job
    }

    /// Adds the piece that the job waits for.
    pub fn add(&mut self, piece: Piece) {
        self.next = piece.bytes;
        self.is_whole = piece.is_last;
    }

    pub fn crc32(&self) -> u32 {
        self.digest.clone().finalize()
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn cost(&self) -> Duration {
        self.cost
    }

    fn take_step(&mut self) -> TaskReturn {
        // The memory of the piece is free when this returns.
        let piece = std::mem::take(&mut self.next);
        self.digest.update(&piece);
        self.length += piece.len() as u64;
        if !self.is_whole {
            return TaskReturn::Sync;
        }
        if !self.work.is_zero() {
            let step = self.work.min(WORK_STEP);
            thread::sleep(step);
            self.work -= step;
            if !self.work.is_zero() {
                return TaskReturn::Continue;
            }
        }
        TaskReturn::TaskDone
    }
}

impl Task for Job {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if cx.is_stopping() {
            return TaskReturn::Stopped;
        }
        let begun = Instant::now();
        let next = self.take_step();
        self.cost += begun.elapsed();
        next
    }
}
