//! What the workers run: the checksum of a body, a piece in each step.

use std::thread;
use std::time::Duration;

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
    /// The loop puts it here while the job is parked, and drops it there: memory that another thread
    /// gives back costs more.
    piece: Bytes,
    /// The piece is part of the digest.
    is_added: bool,
    /// Nothing comes after the piece.
    is_whole: bool,
    /// Simulated work that is left.
    work: Duration,
}

impl Job {
    /// A job whose body comes later, in pieces.
    pub fn new(origin: Origin, work: Duration) -> Self {
        Self {
            origin,
            digest: crc32fast::Hasher::new(),
            length: 0,
            piece: Bytes::new(),
            is_added: true,
            is_whole: false,
            work,
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
        self.piece = piece.bytes;
        self.is_added = false;
        self.is_whole = piece.is_last;
    }

    /// Frees the memory of the piece that the digest has.
    pub fn drop_piece(&mut self) {
        self.piece = Bytes::new();
    }

    pub fn crc32(&self) -> u32 {
        self.digest.clone().finalize()
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    fn take_step(&mut self) -> TaskReturn {
        if !self.is_added {
            self.digest.update(&self.piece);
            self.length += self.piece.len() as u64;
            self.is_added = true;
        }
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
        self.take_step()
    }
}
