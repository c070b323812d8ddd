//! What a task consists of: a head that anybody may read, and a cell with the task's value, which has one owner.

use crate::id::ConnId;
use crate::line::LineKey;
use crate::state::State;
use crate::times::Times;
use crate::vacancies::PAGE;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The part of a task that is seen from everywhere. Heads lie side by side in the table of their service and are used
/// again and again. Each is one cache line, which a worker and the loop hand to and fro.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Head {
    pub(crate) state: State,
    /// Its node in the fair queue. Under the queue's lock only.
    pub(crate) node: AtomicU32,
    pub(crate) times: Times,
    /// Its connection's slot, and in the lowest bit whether it counts for `max_running_per_connection`. Changed under the queue's
    /// lock only.
    line: AtomicU32,
    serial: AtomicU64,
}

impl Head {
    pub(crate) fn vacant() -> Self {
        Self {
            state: State::new(),
            node: AtomicU32::new(u32::MAX),
            times: Times::new(),
            line: AtomicU32::new(0),
            serial: AtomicU64::new(0),
        }
    }

    /// The head of another task from now on. Nobody but the table may see it meanwhile.
    #[inline]
    pub(crate) fn renew(&self, serial: u64, conn_slot: u32, outlives: bool, now: u64) {
        self.state.renew(outlives);
        self.node.store(u32::MAX, Relaxed);
        self.times.renew(now);
        self.line.store(conn_slot << 1, Relaxed);
        self.serial.store(serial, Relaxed);
    }

    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.serial.load(Relaxed)
    }

    #[inline]
    pub(crate) fn conn_slot(&self) -> u32 {
        self.line.load(Relaxed) >> 1
    }

    pub(crate) fn set_conn_slot(&self, slot: u32) {
        self.line.store(slot << 1 | u32::from(self.is_counted()), Relaxed);
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.line.load(Relaxed) & 1 != 0
    }

    pub(crate) fn set_counted(&self, counted: bool) {
        self.line
            .store(self.conn_slot() << 1 | u32::from(counted), Relaxed);
    }
}

const _: () = assert!(cfg!(loom) || size_of::<Head>() == 64, "a head is one cache line");

/// The shared parts of a page of tasks.
#[derive(Debug)]
pub(crate) struct Chunk {
    heads: [Head; PAGE],
    /// The connection of each. Hardly ever read by a worker.
    conns: [AtomicU64; PAGE],
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self {
            heads: std::array::from_fn(|_| Head::vacant()),
            conns: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    #[inline]
    pub(crate) fn head(&self, slot: u32) -> &Head {
        &self.heads[slot as usize % PAGE]
    }

    pub(crate) fn connection(&self, slot: u32) -> ConnId {
        ConnId(self.conns[slot as usize % PAGE].load(Relaxed))
    }

    #[inline]
    pub(crate) fn set_connection(&self, slot: u32, conn: ConnId) {
        self.conns[slot as usize % PAGE].store(conn.0, Relaxed);
    }
}

/// Anything with a head: what the queue and the tables need to know of a task.
pub(crate) trait HasHead {
    fn head(&self) -> &Head;
    /// The number of its service in the fair queue.
    fn port(&self) -> u32;

    #[inline]
    fn line(&self) -> LineKey {
        LineKey {
            port: self.port(),
            conn: self.head().conn_slot(),
        }
    }
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

/// A task as it is handed round: in a box, which is used again when the task has been reaped. `P` is the port of
/// its service.
pub(crate) struct Cell<T, P> {
    /// Where its head is.
    chunk: Arc<Chunk>,
    /// Its slot in the table, and in its chunk.
    pub(crate) slot: u32,
    /// The number of its service in the fair queue.
    queue_slot: u32,
    pub(crate) port: Arc<P>,
    pub(crate) body: Body<T>,
}

impl<T, P> Cell<T, P> {
    pub(crate) fn new(chunk: Arc<Chunk>, slot: u32, queue_slot: u32, port: Arc<P>) -> Self {
        Self {
            chunk,
            slot,
            queue_slot,
            port,
            body: Body::Taken,
        }
    }

    pub(crate) fn connection(&self) -> ConnId {
        self.chunk.connection(self.slot)
    }

    /// What is shared of it beside its body, for a step.
    #[inline]
    pub(crate) fn split(&mut self) -> (&Chunk, &mut Body<T>) {
        (&self.chunk, &mut self.body)
    }
}

impl<T, P> HasHead for Cell<T, P> {
    #[inline]
    fn head(&self) -> &Head {
        self.chunk.head(self.slot)
    }

    fn port(&self) -> u32 {
        self.queue_slot
    }
}
