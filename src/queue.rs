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
use crate::line::{LineKey, Lines, NONE, NOT_RETURNED};
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
    /// The last one given: numbers turns, so that what is put back finds its place.
    ticket: u32,
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
            ticket: 0,
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
            let ticket = line.returned;
            self.round.remove(&mut self.lines, key);
            let job = self.unlink(key, first);
            if starts && self.limit.is_some() {
                self.lines.get(key).running += 1;
                job.head().counted.store(1, Relaxed);
            }
            self.settle(key);
            job.head().node.store(self.ticket_or(ticket), Relaxed);
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
    /// connection, unless that waits for another turn anyway and would have two before the next. Several that are put back
    /// come in the order in which they were taken. Gives it back if it has ended meanwhile.
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
        let (key, ticket) = (head.line(), head.node.load(Relaxed));
        if !has_started && head.counted.swap(0, Relaxed) != 0 {
            self.lines.get(key).running -= 1;
        }
        let last_started = self.lines.get(key).last_started;
        if has_started {
            let index = self.link(key, job, NONE);
            if last_started == NONE {
                self.lines.get(key).last_started = index;
            }
        } else {
            let prev = self.last_before(key, head.id.serial);
            self.link(key, job, prev);
        }
        self.return_line(key, ticket);
        None
    }

    /// Gives a connection the place in the round that it had before it was taken with this ticket.
    fn return_line(&mut self, key: LineKey, ticket: u32) {
        let limit = self.limit();
        let line = self.lines.get(key);
        let has_that_place = line.is_in_round() && (line.returned == NOT_RETURNED || line.returned <= ticket);
        if has_that_place || !line.may_run(limit) {
            return;
        }
        if line.is_in_round() {
            self.round.remove(&mut self.lines, key);
        }
        self.lines.get(key).returned = ticket;
        let mut next = self.round.first();
        while let Some(other) = next {
            let line = self.lines.get(other);
            if line.returned >= ticket {
                break; // it was not returned, or comes later
            }
            next = Some(line.next).filter(|&key| key != LineKey::NOBODY);
        }
        self.round.insert_before(&mut self.lines, key, next);
    }

    /// The last of a connection's tasks that comes before a fresh one with this serial number at their head: what was put back
    /// before it, and, after a `reattach`, tasks that are older than it.
    fn last_before(&mut self, key: LineKey, serial: u64) -> u32 {
        let line = self.lines.get(key);
        let (mut prev, first) = (line.last_started, line.first);
        loop {
            let next = if prev == NONE {
                first
            } else {
                self.nodes[prev as usize].next
            };
            let comes_before = |node: &Node<J>| node.job.head().id.serial < serial;
            if !self.nodes.get(next as usize).is_some_and(comes_before) {
                return prev;
            }
            prev = next;
        }
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

    /// The ticket that a job already had, or else a new one.
    fn ticket_or(&mut self, ticket: u32) -> u32 {
        if ticket != NOT_RETURNED {
            return ticket;
        }
        self.ticket = (self.ticket + 1) % NOT_RETURNED;
        self.ticket
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::id::{ConnId, TaskId};

    struct Job(Head);

    impl HasHead for Job {
        fn head(&self) -> &Head {
            &self.0
        }
    }

    fn queue(jobs: u32, limit: Option<u32>) -> FairQueue<Job> {
        let mut queue = FairQueue::new(limit);
        let port = queue.add_port(Arc::new(Outbox::new()));
        for n in 0..jobs {
            let id = TaskId {
                serial: n.into(),
                service: 0,
                slot: n,
            };
            let line = LineKey { port, conn: n };
            let head = Head::new(id, ConnId(n.into()), line, false, 0);
            assert!(queue.push(Arc::new(Job(head))).is_none());
        }
        queue
    }

    fn take(queue: &mut FairQueue<Job>, max: usize) -> Vec<Arc<Job>> {
        let mut jobs = Vec::new();
        queue.take(max, |job| jobs.push(job));
        jobs
    }

    /// Two workers that were late put back what they had, the one with the earlier jobs first: the other's jobs, later in
    /// line, overtook them.
    #[test]
    fn what_is_put_back_comes_in_the_order_in_which_it_was_taken() {
        let mut queue = queue(6, Some(1));
        let (early, late) = (take(&mut queue, 2), take(&mut queue, 2));
        for job in early.into_iter().chain(late) {
            assert!(queue.put_back(job).is_none());
        }
        // Once more: who was put back keeps its place.
        let again = take(&mut queue, 1).remove(0);
        assert!(queue.put_back(again).is_none());
        assert_eq!(queue.waiting(), 6);
        let order = |job: &Arc<Job>| job.head().id.serial;
        let all: Vec<_> = take(&mut queue, 6).iter().map(order).collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    /// A cancelled job that was put back leaves the queue, and its connection may start another.
    #[test]
    fn what_was_put_back_can_be_taken_out() {
        let mut queue = queue(1, Some(1));
        let job = take(&mut queue, 1).remove(0);
        assert!(queue.put_back(Arc::clone(&job)).is_none());
        assert!(queue.remove(job.head()).is_some());
        assert!(queue.remove(job.head()).is_none() && !queue.has_work());
        assert!(queue.push(job).is_none());
        assert_eq!(take(&mut queue, 1).len(), 1);
    }
}
