//! The fair queue: connections in line, each with its own tasks.
//!
//! What waits in line is *connections*. A worker takes one task of the first connection, which then goes to the
//! back if it has more. Within a connection, tasks that have started and want to go on come before tasks that have not
//! started; both in the order in which they came.
//!
//! A connection is in the [`Round`] if and only if it has something to run. Any task is taken out in O(1), as is any connection.
//!
//! As long as no connection has a second task waiting, the fair order is the order in which tasks came, and most loops have one task per
//! connection. Then nothing is put in line at all: workers take what a service has posted from its [`Outbox`].
//!
//! It is used under one lock, by batches. It owns the tasks that are in it and gives each back; to drop one could run the user's code.
//!
//! # Measured
//!
//! Against this queue with everything put in line, against a plain FIFO injector (crossbeam-deque's, workers steal batches from it;
//! neither fair nor cancellable), and against this queue when workers take one task at a time. Nanoseconds per task or
//! chunk, medians of 7 interleaved rounds on two cores of an AMD EPYC (virtual), 2026-11-25, `peers --quick`:
//!
//! | | told-16 | told-1024 | stream-16 | stream-256 | stream-4096 |
//! |---|---|---|---|---|---|
//! | 2 workers: this queue, by batches | 632 | 264 | 1368 | 232 | 154 |
//! | all in line | 660 | 328 | 1105 | 284 | 149 |
//! | injector | 448 | 256 | 674 | 218 | 146 |
//! | one by one | 771 | 317 | 796 | 308 | 323 |
//! | 8 workers: this queue, by batches | 1397 | 269 | 999 | 194 | 177 |
//! | all in line | 1288 | 264 | 802 | 233 | 169 |
//! | injector | 1226 | 223 | 901 | 209 | 140 |
//! | one by one | 1268 | 276 | 1390 | 299 | 313 |
//!
//! Beside other work; with 16 in flight the rounds are 1:4 apart. Elsewhere an injector is 3 to 6 % faster, with eight workers up to 26 %, most of it noise; one by one takes up to twice as long.

use crate::cell::{HasHead, Head};
use crate::chain::Chains;
use crate::line::{LineKey, Lines, NONE, Place, Ticket};
use crate::outbox::Outbox;
use crate::round::Round;
use crate::state::Phase;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A job that was taken out of the line, and what it needs to be put back.
pub(crate) struct Taken<J: ?Sized> {
    pub(crate) job: Box<J>,
    ticket: Ticket,
}

pub(crate) struct FairQueue<J: ?Sized> {
    chains: Chains<J>,
    lines: Lines<J>,
    /// The connections that have something to run.
    round: Round,
    /// The last one given: numbers turns, so that what is put back finds its place.
    ticket: Ticket,
    /// So many jobs were left where their service had posted them.
    left_posted: usize,
    /// Kept for its memory.
    posted: Vec<Box<J>>,
    /// How many tasks of one connection may be started and not ended.
    limit: Option<u32>,
}

fn has_started<J: HasHead + ?Sized>(job: &J) -> bool {
    job.head().state.phase() == Phase::Ready
}

impl<J: HasHead + ?Sized> FairQueue<J> {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self {
            chains: Chains::new(),
            lines: Lines::new(),
            round: Round::new(),
            ticket: Ticket(0),
            left_posted: 0,
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

    /// How many tasks could be taken, about; 0 only if none, or all are staged.
    pub(crate) fn waiting(&self) -> usize {
        self.worth_taking(1)
    }

    /// The same, but what was posted counts only if it is that much.
    pub(crate) fn worth_taking(&self, batch: usize) -> usize {
        let in_line = (self.round.len() > 0).then(|| self.chains.len());
        let posted = (self.left_posted >= batch).then_some(self.left_posted);
        in_line.unwrap_or(0) + posted.unwrap_or(0)
    }

    /// Sees how much was posted.
    pub(crate) fn look(&mut self) {
        self.left_posted = self.lines.outboxes().map(Outbox::len).sum();
    }

    /// Where nothing was posted yet, what is staged counts as posted.
    pub(crate) fn fill(&mut self) {
        self.lines.outboxes().for_each(Outbox::fill);
    }

    /// Moves what the services have posted into the line.
    pub(crate) fn collect(&mut self) {
        self.left_posted = 0;
        let mut posted = std::mem::take(&mut self.posted);
        for outbox in self.lines.outboxes() {
            outbox.take_all(&mut posted);
        }
        posted.drain(..).for_each(|job| self.push(job));
        self.posted = posted;
    }

    /// Puts a job at the end of its connection's tasks.
    #[inline]
    pub(crate) fn push(&mut self, job: Box<J>) {
        let (key, started) = (job.line(), has_started(&*job));
        let line = self.lines.get(key);
        let prev = if started { line.last_started } else { line.last };
        self.link(key, job, prev, started, Ticket::NONE);
    }

    /// Takes up to `max` jobs, one of each connection in turn; of what was posted only if it `looks` there.
    pub(crate) fn take(&mut self, max: usize, looks: bool, mut sink: impl FnMut(Taken<J>)) -> usize {
        // Nobody in line has a second job, so what was posted comes right after them.
        let in_order =
            self.limit.is_none() && self.round.all_returned() && self.chains.len() == self.round.len();
        if looks && !in_order {
            self.collect();
        }
        let mut taken = self.take_in_line(max, &mut sink);
        if looks && in_order && taken == max {
            self.look();
        } else if looks && in_order {
            taken += self.take_posted(max - taken, &mut sink).unwrap_or_else(|| {
                self.collect();
                self.take_in_line(max - taken, &mut sink)
            });
        }
        self.forget_burst();
        taken
    }

    /// Gives up the memory of a burst that is over.
    fn forget_burst(&mut self) {
        if self.chains.forget_burst() {
            self.round.forget_burst();
        }
    }

    fn take_in_line(&mut self, max: usize, sink: &mut impl FnMut(Taken<J>)) -> usize {
        let (limit, mut taken) = (self.limit(), 0);
        while taken < max
            && let Some(key) = self.round.pop_front()
        {
            let line = self.lines.get(key);
            let own = self
                .chains
                .get(line.first)
                .map_or(Ticket::NONE, |node| node.ticket);
            let ticket = match std::mem::replace(&mut line.place, Place::Away) {
                // Put back with others of its connection, it must stay before them.
                _ if own != Ticket::NONE => own,
                Place::Returned(ticket) => ticket,
                _ => self.ticket.next(),
            };
            let starts = line.last_started == NONE;
            let job = self.chains.unlink(line, line.first);
            if starts && self.limit.is_some() {
                line.running += 1;
                job.head().set_counted(true);
            }
            if line.may_run(limit) {
                line.place = self.round.push_back(key);
            }
            sink(Taken { job, ticket });
            taken += 1;
        }
        taken
    }

    /// Takes jobs that one service has posted and nobody has put in line, if they are all that is posted (not staged), and stand in a
    /// fair order.
    fn take_posted(&mut self, max: usize, sink: &mut impl FnMut(Taken<J>)) -> Option<usize> {
        let mut filled = self.lines.outboxes().filter(|outbox| !outbox.is_empty());
        let Some(outbox) = filled.next() else {
            self.left_posted = 0;
            return Some(0);
        };
        if filled.next().is_some() {
            return None;
        }
        self.left_posted = outbox.take(max, &mut self.posted)?;
        let taken = self.posted.len();
        for job in self.posted.drain(..) {
            let ticket = self.ticket.next();
            sink(Taken { job, ticket });
        }
        Some(taken)
    }

    /// Puts a job that `take` gave back where it came from: it is its connection's next again, and so is its
    /// connection, unless that waits for another turn anyway and would have two before the next. Several that are put back
    /// come in the order in which they were taken.
    pub(crate) fn put_back(&mut self, Taken { job, ticket }: Taken<J>) {
        let (key, started) = (job.line(), has_started(&*job));
        if !started {
            self.uncount(key, job.head());
        }
        let line = self.lines.get(key);
        let place = line.place;
        let mut prev = if started { NONE } else { line.last_started };
        // The started ones among themselves, and so the others.
        while !(started && prev == line.last_started) {
            let next = self.chains.after(line, prev);
            match self.chains.get(next) {
                Some(node) if node.ticket < ticket => prev = next,
                _ => break,
            }
        }
        self.link(key, job, prev, started, ticket);
        let has_its_turn = match place {
            Place::Away => false,
            Place::Ring(_) => true,
            Place::Returned(earlier) => earlier <= ticket,
        };
        if !has_its_turn && self.lines.get(key).place != Place::Away {
            self.round.remove(&mut self.lines, key);
            self.lines.get(key).place = self.round.put_back(key, ticket);
        }
    }

    /// Takes one job out that has not started, wherever it is. `None`: it is not in line (any more).
    pub(crate) fn remove(&mut self, key: LineKey, head: &Head) -> Option<Box<J>> {
        // Who is not its owner may have seen an old phase. Under the lock it is the last one.
        if head.state.phase() != Phase::Queued {
            return None;
        }
        let outbox = self.lines.outbox(key.port);
        let is_it = |job: &J| ptr::eq(job.head(), head);
        let posted = outbox.remove(key.conn, is_it);
        if posted.is_some() {
            // It may have come after `left_posted` was counted, which is rather too large than too small.
            return posted;
        }
        if outbox.is_mixed() || !self.round.all_returned() {
            // It may be in there, or the next of its connection, which takes its place.
            self.collect();
        }
        let job = self.take_out(key, head)?;
        self.settle(key);
        self.forget_burst();
        Some(job)
    }

    /// The same; the caller settles the connection.
    fn take_out(&mut self, key: LineKey, head: &Head) -> Option<Box<J>> {
        let index = head.node.load(Relaxed);
        let node = self.chains.get(index)?;
        ptr::eq(node.job.head(), head).then(|| self.chains.unlink(self.lines.get(key), index))
    }

    /// A task that was started has ended: its connection may start another.
    pub(crate) fn release(&mut self, key: LineKey, head: &Head) {
        if self.uncount(key, head) {
            self.settle(key);
        }
    }

    /// It counts no more among its connection's running tasks. True: it did.
    fn uncount(&mut self, key: LineKey, head: &Head) -> bool {
        let counted = head.is_counted();
        if counted {
            head.set_counted(false);
            self.lines.get(key).running -= 1;
        }
        counted
    }

    /// The task belongs to another connection of its service from now on.
    pub(crate) fn relocate(&mut self, port: u32, head: &Head, to: u32) {
        let key = |conn| LineKey { port, conn };
        let (from, to) = (key(head.conn_slot()), key(to));
        if from == to {
            return;
        }
        let queued = self.take_out(from, head);
        if head.is_counted() {
            self.lines.get(from).running -= 1;
            self.lines.get(to).running += 1;
        }
        head.set_conn_slot(to.conn);
        if let Some(job) = queued {
            self.push(job);
        }
        self.settle(to);
        self.settle(from);
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(u32::MAX)
    }

    /// Gives a connection that has something to run a place at the back of the round, and takes it from one that has not.
    fn settle(&mut self, key: LineKey) {
        let limit = self.limit();
        let line = self.lines.get(key);
        match (line.may_run(limit), line.place) {
            (true, Place::Away) => line.place = self.round.push_back(key),
            (false, Place::Ring(_) | Place::Returned(_)) => self.round.remove(&mut self.lines, key),
            _ => {}
        }
    }

    /// Makes a job the one after `prev` among its connection's, which joins the round if it was away and may run now.
    #[inline]
    fn link(&mut self, key: LineKey, job: Box<J>, prev: u32, started: bool, ticket: Ticket) {
        let limit = self.limit();
        let line = self.lines.get(key);
        let note = |job: &J, index| job.head().node.store(index, Relaxed);
        self.chains.link(line, job, prev, started, ticket, note);
        if line.place == Place::Away && line.may_run(limit) {
            line.place = self.round.push_back(key);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Job(Head);

    impl HasHead for Job {
        fn head(&self) -> &Head {
            &self.0
        }

        fn port(&self) -> u32 {
            0
        }
    }

    impl Job {
        fn new(serial: u64, conn: u32) -> Self {
            let head = Head::vacant();
            head.renew(serial, conn, false, 0);
            Self(head)
        }

        fn started(serial: u64, conn: u32) -> Self {
            let job = Self::new(serial, conn);
            job.0.state.set_phase(Phase::Ready);
            job
        }
    }

    fn queue(limit: Option<u32>) -> FairQueue<Job> {
        let mut queue = FairQueue::new(limit);
        queue.add_port(Arc::new(Outbox::new()));
        queue
    }

    fn post(queue: &FairQueue<Job>, serial: u64, conn: u32) {
        let job = Job::new(serial, conn);
        queue.lines.outbox(0).post(conn, Box::new(job), 1);
    }

    fn take(queue: &mut FairQueue<Job>, max: usize) -> Vec<Taken<Job>> {
        let mut jobs = Vec::new();
        queue.take(max, true, |job| jobs.push(job));
        jobs
    }

    /// So many connections with a job each.
    fn queue_of(jobs: u32, limit: Option<u32>) -> FairQueue<Job> {
        let mut queue = queue(limit);
        (0..jobs).for_each(|n| queue.push(Box::new(Job::new(n.into(), n))));
        queue
    }

    fn put_back(queue: &mut FairQueue<Job>, taken: impl IntoIterator<Item = Taken<Job>>) {
        taken.into_iter().for_each(|taken| queue.put_back(taken));
    }

    fn order(taken: &[Taken<Job>]) -> Vec<u64> {
        taken.iter().map(|taken| taken.job.0.serial()).collect()
    }

    /// Two workers that were late put back what they had, the one with the earlier jobs first: the other's jobs, later in
    /// line, overtook them.
    #[test]
    fn what_is_put_back_comes_in_the_order_in_which_it_was_taken() {
        let mut queue = queue_of(6, Some(1));
        let (early, late) = (take(&mut queue, 2), take(&mut queue, 2));
        put_back(&mut queue, early.into_iter().chain(late));
        // Once more: who was put back keeps its place.
        let again = take(&mut queue, 1);
        put_back(&mut queue, again);
        assert_eq!(queue.waiting(), 6);
        assert_eq!(order(&take(&mut queue, 6)), [0, 1, 2, 3, 4, 5]);
    }

    /// Two workers, each with a batch of one connection's flood, put them back one after the other: the connection had two turns
    /// before another that waited.
    #[test]
    fn what_is_put_back_gives_no_turn_to_a_connection_that_waits_for_one() {
        let mut queue = queue(None);
        (0..3).for_each(|serial| queue.push(Box::new(Job::new(serial, 0))));
        let (first, second) = (take(&mut queue, 1), take(&mut queue, 1));
        queue.push(Box::new(Job::new(9, 1)));
        assert_eq!(order(&take(&mut queue, 1)), [2]);
        put_back(&mut queue, first);
        assert_eq!(order(&take(&mut queue, 1)), [0], "it was first in line");
        queue.push(Box::new(Job::new(3, 0)));
        put_back(&mut queue, second);
        assert_eq!(order(&take(&mut queue, 9)), [9, 1, 3]);
    }

    /// A cancelled job that was put back leaves the queue, and its connection may start another.
    #[test]
    fn what_was_put_back_can_be_taken_out() {
        let mut queue = queue_of(1, Some(1));
        let taken = take(&mut queue, 1).remove(0);
        let key = taken.job.line();
        queue.put_back(taken);
        let line = queue.lines.get(key);
        let job = queue.chains.unlink(line, line.first);
        queue.settle(key);
        assert_eq!(queue.waiting(), 0);
        queue.push(job);
        assert_eq!(take(&mut queue, 1).len(), 1);
    }

    /// A worker that took only what had been put back counted nothing of what was posted, so nobody was woken for it.
    #[test]
    fn what_was_posted_counts_also_behind_what_was_put_back() {
        let mut queue = queue(None);
        post(&queue, 0, 0);
        let taken = take(&mut queue, 1);
        put_back(&mut queue, taken);
        post(&queue, 0, 1);
        assert_eq!(take(&mut queue, 1).len(), 1);
        assert_eq!((queue.waiting(), queue.worth_taking(2)), (1, 0));
        assert_eq!((take(&mut queue, 1).len(), queue.waiting()), (1, 0));
    }

    /// Jobs of one connection, put back in any order, stand as before: also where a later one has an older number, since it was
    /// brought there.
    #[test]
    fn the_jobs_of_a_connection_are_put_back_in_their_order() {
        for turned in [false, true] {
            let mut queue = queue(None);
            let posted = [8, 2, 5].iter();
            posted.for_each(|&serial| queue.push(Box::new(Job::new(serial, 0))));
            queue.push(Box::new(Job::started(9, 0)));
            queue.push(Box::new(Job::started(1, 0)));
            let mut taken: Vec<_> = (0..4).flat_map(|_| take(&mut queue, 1)).collect();
            assert_eq!(order(&taken), [9, 1, 8, 2]);
            if turned {
                taken.reverse();
            }
            put_back(&mut queue, taken);
            let again: Vec<_> = (0..5).flat_map(|_| take(&mut queue, 1)).collect();
            assert_eq!(order(&again), [9, 1, 8, 2, 5], "turned: {turned}");
        }
    }

    /// The first of two that were put back was taken and put back again: with a new ticket, behind the second.
    #[test]
    fn what_is_put_back_again_stays_before_the_others_of_its_connection() {
        let mut queue = queue(None);
        (0..3).for_each(|serial| queue.push(Box::new(Job::new(serial, 0))));
        let back = [(); 2].map(|()| take(&mut queue, 1).remove(0));
        put_back(&mut queue, back);
        let again = take(&mut queue, 1);
        put_back(&mut queue, again);
        assert_eq!(order(&take(&mut queue, 3)), [0, 1, 2]);
    }

    /// Who was put back with two jobs and got both turns before what had been posted meanwhile.
    #[test]
    fn what_was_posted_comes_before_a_second_turn_of_what_was_put_back() {
        let mut queue = queue(None);
        (0..2).for_each(|serial| queue.push(Box::new(Job::new(serial, 0))));
        let back = take(&mut queue, 1).into_iter().chain(take(&mut queue, 1));
        put_back(&mut queue, back);
        post(&queue, 9, 1);
        assert_eq!(order(&take(&mut queue, 3)), [0, 9, 1]);
    }
}
