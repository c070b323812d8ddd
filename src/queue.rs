//! The fair queue: connections in line, each with its own tasks.
//!
//! What waits in line is *connections*. A worker takes one task of the first connection, which then goes to the
//! back if it has more. Within a connection, tasks that have started and want to go on come before tasks that have not
//! started; both in the order in which they came.
//!
//! A task sits in a node of a slab and is linked to its neighbours, so any task is taken out in O(1); so does a
//! connection in the round. No tombstones: a connection is in the round if and only if it has something to run.
//!
//! The queue is used under one lock, by batches. Jobs that it must let go are returned, never dropped here: dropping
//! one may run code that takes the lock.

use crate::cell::HasHead;
use crate::outbox::Outbox;
use crate::round::{NO_SEAT, Round};
use crate::state::Phase;
use slab::Slab;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const NONE: u32 = u32::MAX;
/// An empty queue keeps the memory of so many tasks.
const KEPT: usize = 4096;

/// Names a connection's line: the port's slot and the connection's slot in that port's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineKey {
    pub(crate) port: u32,
    pub(crate) conn: u32,
}

impl LineKey {
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.port) << 32 | u64::from(self.conn)
    }

    fn unpack(packed: u64) -> Self {
        Self {
            port: (packed >> 32) as u32,
            conn: packed as u32,
        }
    }
}

struct Node<J: ?Sized> {
    job: Arc<J>,
    prev: u32,
    next: u32,
    fresh: bool,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    fn is_empty(self) -> bool {
        self.first == NONE
    }
}

/// One connection's tasks.
#[derive(Clone, Copy)]
struct Line {
    /// Not started yet.
    fresh: List,
    /// Started, in line for the next step.
    resumed: List,
    /// Started and not ended. Only counted when there is a limit.
    running: u32,
    /// Its seat in the round, if it has one.
    seat: u32,
}

impl Line {
    const EMPTY: Self = Self {
        fresh: List::EMPTY,
        resumed: List::EMPTY,
        running: 0,
        seat: NO_SEAT,
    };

    fn list(&mut self, fresh: bool) -> &mut List {
        if fresh { &mut self.fresh } else { &mut self.resumed }
    }
}

/// What the queue keeps of a service.
struct Port<J: ?Sized> {
    lines: Vec<Line>,
    outbox: Arc<Outbox<J>>,
}

pub(crate) struct FairQueue<J: ?Sized> {
    nodes: Slab<Node<J>>,
    ports: Slab<Port<J>>,
    /// The connections that have something to run.
    round: Round<LineKey>,
    /// Kept for its memory.
    posted: Vec<Arc<J>>,
    /// How many tasks of one connection may be started and not ended.
    limit: Option<u32>,
}

impl<J: HasHead + ?Sized> FairQueue<J> {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self {
            nodes: Slab::new(),
            ports: Slab::new(),
            round: Round::new(),
            posted: Vec::new(),
            limit,
        }
    }

    pub(crate) fn add_port(&mut self, outbox: Arc<Outbox<J>>) -> u32 {
        self.ports.insert(Port {
            lines: Vec::new(),
            outbox,
        }) as u32
    }

    /// The port's tasks are all gone: nothing that is in line names it.
    pub(crate) fn remove_port(&mut self, port: u32) {
        self.ports.remove(port as usize);
    }

    /// Tasks in line.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
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
        for (_, port) in &self.ports {
            port.outbox.take_into(&mut posted);
        }
        for job in posted.drain(..) {
            stale.extend(self.push(job));
        }
        self.posted = posted;
    }

    /// Puts a job at the end of its connection's tasks. Gives it back if it has ended meanwhile.
    pub(crate) fn push(&mut self, job: Arc<J>) -> Option<Arc<J>> {
        let head = job.head();
        let fresh = match head.state.load().phase() {
            Phase::Queued => true,
            Phase::Ready => false,
            _ => return Some(job),
        };
        let key = LineKey::unpack(head.line.load(Relaxed));
        let index = self.nodes.vacant_key() as u32;
        head.node.store(index, Relaxed);
        let list = self.line(key).list(fresh);
        let prev = std::mem::replace(&mut list.last, index);
        if prev == NONE {
            list.first = index;
        } else {
            self.nodes[prev as usize].next = index;
        }
        self.nodes.insert(Node {
            job,
            prev,
            next: NONE,
            fresh,
        });
        self.settle(key);
        None
    }

    /// Takes up to `max` jobs, one of each connection in turn.
    pub(crate) fn take(&mut self, max: usize, mut sink: impl FnMut(Arc<J>)) -> usize {
        let mut taken = 0;
        while taken < max
            && let Some(key) = self.round.pop_front()
        {
            let line = self.line(key);
            line.seat = NO_SEAT;
            let fresh = line.resumed.is_empty();
            let first = line.list(fresh).first;
            let job = self.unlink(key, first);
            if fresh {
                self.count(key, &job);
            }
            self.settle(key);
            sink(job);
            taken += 1;
        }
        if self.nodes.is_empty() && self.nodes.capacity() > KEPT {
            // A burst is over: parked tasks should not pay for it.
            self.nodes = Slab::new();
            self.round = Round::new();
        }
        taken
    }

    /// Puts a job that `take` gave back where it came from: it is its connection's next again, and so is its
    /// connection, unless that waits for another turn anyway and would have two before the next.
    #[allow(clippy::needless_pass_by_value, reason = "it takes the job over")]
    pub(crate) fn put_back(&mut self, job: Arc<J>) -> Option<Arc<J>> {
        let key = LineKey::unpack(job.head().line.load(Relaxed));
        let was_in_round = self.line(key).seat != NO_SEAT;
        self.uncount_fresh(&job);
        if let Some(stale) = self.push(Arc::clone(&job)) {
            return Some(stale);
        }
        self.move_to_front(key, job.head().node.load(Relaxed));
        let seat = self.line(key).seat;
        if !was_in_round && seat != NO_SEAT {
            self.round.remove(seat);
            self.line(key).seat = self.round.push_front(key);
        }
        None
    }

    /// Takes one job out, wherever it is. `None`: it is not in line (any more, or yet).
    pub(crate) fn remove(&mut self, head: &crate::cell::Head) -> Option<Arc<J>> {
        let job = self.take_out(head)?;
        self.settle(LineKey::unpack(head.line.load(Relaxed)));
        Some(job)
    }

    /// The same; the caller settles the connection.
    fn take_out(&mut self, head: &crate::cell::Head) -> Option<Arc<J>> {
        let index = head.node.load(Relaxed);
        let node = self.nodes.get(index as usize)?;
        if !std::ptr::eq(node.job.head(), head) {
            return None;
        }
        Some(self.unlink(LineKey::unpack(head.line.load(Relaxed)), index))
    }

    /// A task that was started has ended: its connection may start another.
    pub(crate) fn release(&mut self, head: &crate::cell::Head) {
        if self.limit.is_some() && head.counted.swap(0, Relaxed) != 0 {
            let key = LineKey::unpack(head.line.load(Relaxed));
            self.line(key).running -= 1;
            self.settle(key);
        }
    }

    /// The task belongs to another connection from now on.
    pub(crate) fn relocate(&mut self, head: &crate::cell::Head, to: LineKey) -> Option<Arc<J>> {
        if head.line.load(Relaxed) == to.pack() {
            return None;
        }
        let from = LineKey::unpack(head.line.load(Relaxed));
        let queued = self.take_out(head);
        if head.counted.load(Relaxed) != 0 {
            self.line(from).running -= 1;
            self.line(to).running += 1;
        }
        head.line.store(to.pack(), Relaxed);
        let stale = queued.and_then(|job| self.push(job));
        self.settle(to);
        self.settle(from);
        stale
    }

    fn line(&mut self, key: LineKey) -> &mut Line {
        let lines = &mut self.ports[key.port as usize].lines;
        let conn = key.conn as usize;
        if conn >= lines.len() {
            lines.resize(conn + 1, Line::EMPTY);
        }
        &mut lines[conn]
    }

    fn may_run(&mut self, key: LineKey) -> bool {
        let limit = self.limit.unwrap_or(u32::MAX);
        let line = self.line(key);
        !line.resumed.is_empty() || !line.fresh.is_empty() && line.running < limit
    }

    /// Gives a connection that has something to run a seat at the back of the round, and takes it from one that has not.
    fn settle(&mut self, key: LineKey) {
        let may_run = self.may_run(key);
        let seat = self.line(key).seat;
        if may_run && seat == NO_SEAT {
            self.line(key).seat = self.round.push_back(key);
        } else if !may_run && seat != NO_SEAT {
            self.round.remove(seat);
            self.line(key).seat = NO_SEAT;
        }
    }

    fn count(&mut self, key: LineKey, job: &J) {
        if self.limit.is_some() {
            self.line(key).running += 1;
            job.head().counted.store(1, Relaxed);
        }
    }

    /// A job that goes back without having started no longer counts.
    fn uncount_fresh(&mut self, job: &J) {
        if job.head().state.load().phase() != Phase::Ready {
            self.release(job.head());
        }
    }

    fn unlink(&mut self, key: LineKey, index: u32) -> Arc<J> {
        let Node {
            job,
            prev,
            next,
            fresh,
        } = self.nodes.remove(index as usize);
        if prev != NONE {
            self.nodes[prev as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        let list = self.line(key).list(fresh);
        if list.first == index {
            list.first = next;
        }
        if list.last == index {
            list.last = prev;
        }
        job
    }

    /// Moves the last of a connection's list to its front.
    fn move_to_front(&mut self, key: LineKey, index: u32) {
        let Node { prev, fresh, .. } = self.nodes[index as usize];
        if prev == NONE {
            return;
        }
        let list = self.line(key).list(fresh);
        let first = std::mem::replace(&mut list.first, index);
        list.last = prev;
        self.nodes[prev as usize].next = NONE;
        self.nodes[first as usize].prev = index;
        let node = &mut self.nodes[index as usize];
        (node.prev, node.next) = (NONE, first);
    }
}
