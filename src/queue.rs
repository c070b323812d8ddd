//! The fair queue: connections in line, each with its own tasks.
//!
//! What waits in line is *connections*. A worker takes one task of the first connection, which then goes to the
//! back if it has more. Within a connection, tasks that have started and want to go on come before tasks that have not
//! started; both in the order in which they came.
//!
//! A task sits in a node of a slab and is linked to its neighbours, so any task is taken out in O(1), as is any
//! connection from the round. No tombstones: a connection is in the round if and only if it has something to run.
//!
//! The queue is used under one lock, by batches. Jobs that it must let go are returned, never dropped here: dropping
//! one may run code that takes the lock.
//!
//! # Measured
//!
//! Against a plain FIFO injector (crossbeam-deque's, workers steal batches from it, nobody has an outbox: neither fair nor
//! cancellable) and against this queue when workers take one task at a time. Nanoseconds per task or chunk, medians of 9
//! interleaved rounds on two cores of an AMD EPYC (virtual), 2026-11-24:
//!
//! | | told-16 | told-1024 | stream-16 | stream-256 | stream-4096 |
//! |---|---|---|---|---|---|
//! | 2 workers: this queue, by batches | 221 | 111 | 400 | 153 | 108 |
//! | injector | 300 | 134 | 403 | 139 | 116 |
//! | this queue, one by one | 807 | 318 | 800 | 408 | 355 |
//! | 8 workers: this queue, by batches | 202 | 109 | 192 | 134 | 113 |
//! | injector | 170 | 132 | 187 | 131 | 115 |
//! | this queue, one by one | 319 | 236 | 352 | 239 | 231 |
//!
//! Fairness costs nothing: one lock per batch is as cheap as an injector's atomics per task.

use crate::cell::{HasHead, Head};
use crate::line::{LineKey, Lines, NONE};
use crate::outbox::Outbox;
use crate::round::Round;
use crate::state::Phase;
use slab::Slab;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// An empty queue keeps the memory of so many tasks.
const KEPT: usize = 4096;

struct Node<J: ?Sized> {
    job: Arc<J>,
    prev: u32,
    next: u32,
}

pub(crate) struct FairQueue<J: ?Sized> {
    nodes: Slab<Node<J>>,
    lines: Lines<J>,
    /// The connections that have something to run.
    round: Round,
    /// Kept for its memory.
    posted: Vec<Arc<J>>,
    /// How many tasks of one connection may be started and not ended.
    limit: Option<u32>,
}

impl<J: HasHead + ?Sized> FairQueue<J> {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self {
            nodes: Slab::new(),
            lines: Lines::new(),
            round: Round::new(),
            posted: Vec::new(),
            limit,
        }
    }

    pub(crate) fn add_port(&mut self, outbox: Arc<Outbox<J>>) -> u32 {
        self.lines.add_port(outbox)
    }

    /// The port's tasks are all gone: nothing that is in line names it.
    pub(crate) fn remove_port(&mut self, port: u32) {
        self.lines.remove_port(port);
    }

    /// Connections that have something to run.
    pub(crate) fn connections(&self) -> usize {
        self.round.len()
    }

    /// Whether `take` would give anything.
    pub(crate) fn has_work(&self) -> bool {
        self.round.len() > 0
    }

    /// How many tasks could be taken, about; 0 only if none.
    pub(crate) fn waiting(&self) -> usize {
        if self.has_work() { self.nodes.len() } else { 0 }
    }

    /// Moves what the services have posted into the line. What was cancelled meanwhile goes to `stale`.
    pub(crate) fn collect(&mut self, stale: &mut Vec<Arc<J>>) {
        let mut posted = std::mem::take(&mut self.posted);
        for outbox in self.lines.outboxes() {
            outbox.take_into(&mut posted);
        }
        for job in posted.drain(..) {
            stale.extend(self.push(job));
        }
        self.posted = posted;
    }

    /// Puts a job at the end of its connection's tasks. Gives it back if it has ended meanwhile.
    pub(crate) fn push(&mut self, job: Arc<J>) -> Option<Arc<J>> {
        let head = job.head();
        let has_started = match head.state.load().phase() {
            Phase::Queued => false,
            Phase::Ready => true,
            _ => return Some(job),
        };
        let key = head.line();
        let line = self.lines.get(key);
        let after = if has_started { line.last_started } else { line.last };
        let index = self.link(key, job, after);
        if has_started {
            self.lines.get(key).last_started = index;
        }
        self.settle(key);
        None
    }

    /// Takes up to `max` jobs, one of each connection in turn.
    pub(crate) fn take(&mut self, max: usize, mut sink: impl FnMut(Arc<J>)) -> usize {
        let mut taken = 0;
        while taken < max
            && let Some(key) = self.round.first()
        {
            let line = self.lines.get(key);
            let (first, starts) = (line.first, line.last_started == NONE);
            self.round.remove(&mut self.lines, key);
            let job = self.unlink(key, first);
            if starts && self.limit.is_some() {
                self.lines.get(key).running += 1;
                job.head().counted.store(1, Relaxed);
            }
            self.settle(key);
            sink(job);
            taken += 1;
        }
        if self.nodes.is_empty() && self.nodes.capacity() > KEPT {
            // A burst is over: parked tasks should not pay for it.
            self.nodes = Slab::new();
        }
        taken
    }

    /// Puts a job that `take` gave back where it came from: it is its connection's next again, and so is its
    /// connection, unless that waits for another turn anyway and would have two before the next.
    pub(crate) fn put_back(&mut self, job: Arc<J>) -> Option<Arc<J>> {
        let head = job.head();
        let has_started = match head.state.load().phase() {
            Phase::Queued => false,
            Phase::Ready => true,
            _ => {
                self.release(head);
                return Some(job);
            }
        };
        let key = head.line();
        if !has_started && head.counted.swap(0, Relaxed) != 0 {
            self.lines.get(key).running -= 1;
        }
        let line = self.lines.get(key);
        let (last_started, was_in_round) = (line.last_started, line.is_in_round());
        let index = self.link(key, job, if has_started { NONE } else { last_started });
        let limit = self.limit();
        let line = self.lines.get(key);
        if has_started && last_started == NONE {
            line.last_started = index;
        }
        if !was_in_round && line.may_run(limit) {
            self.round.push_front(&mut self.lines, key);
        }
        None
    }

    /// Takes one job out, wherever it is. `None`: it is not in line (any more, or yet).
    pub(crate) fn remove(&mut self, head: &Head) -> Option<Arc<J>> {
        let job = self.take_out(head)?;
        self.settle(head.line());
        Some(job)
    }

    /// The same; the caller settles the connection.
    fn take_out(&mut self, head: &Head) -> Option<Arc<J>> {
        let index = head.node.load(Relaxed);
        let node = self.nodes.get(index as usize)?;
        if !std::ptr::eq(node.job.head(), head) {
            return None;
        }
        Some(self.unlink(head.line(), index))
    }

    /// A task that was started has ended: its connection may start another.
    pub(crate) fn release(&mut self, head: &Head) {
        if self.limit.is_some() && head.counted.swap(0, Relaxed) != 0 {
            let key = head.line();
            self.lines.get(key).running -= 1;
            self.settle(key);
        }
    }

    /// The task belongs to another connection from now on.
    pub(crate) fn relocate(&mut self, head: &Head, to: LineKey) -> Option<Arc<J>> {
        let from = head.line();
        if from == to {
            return None;
        }
        let queued = self.take_out(head);
        if head.counted.load(Relaxed) != 0 {
            self.lines.get(from).running -= 1;
            self.lines.get(to).running += 1;
        }
        head.set_line(to);
        let stale = queued.and_then(|job| self.push(job));
        self.settle(to);
        self.settle(from);
        stale
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(u32::MAX)
    }

    /// Gives a connection that has something to run a place at the back of the round, and takes it from one that has not.
    fn settle(&mut self, key: LineKey) {
        let limit = self.limit();
        let line = self.lines.get(key);
        match (line.may_run(limit), line.is_in_round()) {
            (true, false) => self.round.push_back(&mut self.lines, key),
            (false, true) => self.round.remove(&mut self.lines, key),
            _ => {}
        }
    }

    /// Makes a job the one after `prev` among its connection's. Gives its number.
    fn link(&mut self, key: LineKey, job: Arc<J>, prev: u32) -> u32 {
        let line = self.lines.get(key);
        let index = self.nodes.vacant_key() as u32;
        job.head().node.store(index, Relaxed);
        let next = if prev == NONE {
            std::mem::replace(&mut line.first, index)
        } else {
            std::mem::replace(&mut self.nodes[prev as usize].next, index)
        };
        if next == NONE {
            line.last = index;
        } else {
            self.nodes[next as usize].prev = index;
        }
        self.nodes.insert(Node { job, prev, next });
        index
    }

    fn unlink(&mut self, key: LineKey, index: u32) -> Arc<J> {
        let Node { job, prev, next } = self.nodes.remove(index as usize);
        let line = self.lines.get(key);
        if prev == NONE {
            line.first = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NONE {
            line.last = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if line.last_started == index {
            line.last_started = prev;
        }
        job
    }
}
