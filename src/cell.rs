//! One allocation per task: its state, its times and its body.

use crate::id::{ConnId, TaskId};
use crate::line::LineKey;
use crate::primitive::Mutex;
use crate::state::State;
use crate::times::Times;
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Everything about a task that does not depend on its type. The first fields are the ones that change hands.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) state: State,
    pub(crate) times: Times,
    /// The connection's line in the fair queue. Changed by `reattach` only, under the queue's lock.
    line: AtomicU64,
    pub(crate) id: TaskId,
    conn: AtomicU64,
    /// Its node in the fair queue, or the ticket with which it was taken. Written and read under the queue's lock only.
    pub(crate) node: AtomicU32,
    /// What it counts for in `max_running_per_connection`. Under the queue's lock only.
    pub(crate) counted: AtomicU32,
}

impl Head {
    #[inline]
    pub(crate) fn new(id: TaskId, conn: ConnId, line: LineKey, outlives: bool, now: u64) -> Self {
        Self {
            state: State::new(outlives),
            times: Times::new(now),
            line: AtomicU64::new(line.pack()),
            id,
            conn: AtomicU64::new(conn.0),
            node: AtomicU32::new(u32::MAX),
            counted: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn line(&self) -> LineKey {
        LineKey::unpack(self.line.load(Relaxed))
    }

    pub(crate) fn set_line(&self, line: LineKey) {
        self.line.store(line.pack(), Relaxed);
    }

    pub(crate) fn connection(&self) -> ConnId {
        ConnId(self.conn.load(Relaxed))
    }

    pub(crate) fn set_connection(&self, conn: ConnId) {
        self.conn.store(conn.0, Relaxed);
    }
}

/// Anything with a head: what the queue and the tables need to know of a task.
pub(crate) trait HasHead {
    fn head(&self) -> &Head;
}

/// What is in the cell.
pub(crate) enum Body<T> {
    Task(T),
    /// The task itself is gone, this is what its step threw.
    Panicked(Box<dyn Any + Send>),
    Taken,
}

impl<T> Body<T> {
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Taken)
    }
}

/// A task as the pool keeps it. `P` is the port of its service.
#[repr(C)]
pub(crate) struct Cell<T, P> {
    pub(crate) head: Head,
    /// Never contended: `head.state` says who may take it.
    pub(crate) body: Mutex<Body<T>>,
    pub(crate) port: std::sync::Arc<P>,
}

impl<T, P> Cell<T, P> {
    pub(crate) fn new(head: Head, task: T, port: std::sync::Arc<P>) -> Self {
        Self {
            head,
            body: Mutex::new(Body::Task(task)),
            port,
        }
    }
}

impl<T, P> HasHead for Cell<T, P> {
    fn head(&self) -> &Head {
        &self.head
    }
}
