//! A worker thread.
//!
//! It takes a batch out of the line, as many tasks as should take about 20 us by what the last batch took (one, if
//! steps are long), into its own deque, from which idle workers steal. What is left of a batch that takes much longer
//! than that goes back to where it was in line; its worker sees to that between two steps, and should it be inside a long
//! one, a colleague does. So nobody waits behind a batch.

use crate::desk::Desk;
use crate::hints::{BATCH_MAX, BATCH_NANOS};
use crate::job::Job;
use crate::primitive::{Deque, thread};
use crate::queue::Taken;
use crate::shared::{Look, Shared, steal};
use crate::watches::Watches;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// When a batch is late.
const LATE_NANOS: u64 = 2 * BATCH_NANOS;
/// How often a worker looks for new work before it sleeps, and how long it spins before each look: some 10 us in all, which
/// is what a loop takes to wake up and answer.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 12 };
const SPINS: u32 = 32;
/// Each yield is a system call.
const LOOKS_PER_YIELD: u32 = if cfg!(loom) { 1 } else { 4 };
/// So many times longer it looks, and yields as often, if there are few tasks: then it is in no other worker's way. It does so only if that is
/// worth it ([`Watches`]), and not on a single core, which the loop needs.
const PATIENCE_WITH_FEW: u32 = if cfg!(loom) { 1 } else { 2 };

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) deque: Deque<Taken<dyn Job>>,
}

/// How large the next batch should be.
struct Batch {
    size: usize,
    begun: u64,
    taken: usize,
    /// It has slept or watched, and others rely on its looking everywhere.
    has_slept: bool,
    /// So many tasks it has run since it last found none.
    run: u32,
    watches: Watches,
    /// The colleague to look after next.
    neighbour: usize,
}

impl Batch {
    /// Ends it, and sizes the next by it: at most twice as large. Does nothing if that was done.
    fn end(&mut self, desk: &Desk<'_>) {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            let each = (desk.now().saturating_sub(self.begun) / taken as u64).max(1);
            let fits = usize::try_from(BATCH_NANOS / each).unwrap_or(BATCH_MAX);
            self.size = fits.clamp(1, BATCH_MAX.min(self.size * 2));
            desk.hints.set_pace(each);
        }
    }
}

impl Worker {
    /// Works until the pool is closed and nothing is left.
    pub(crate) fn work(&self) {
        let shared = &*self.shared;
        let desk = shared.worker_desk(self.index);
        let mut batch = Batch {
            size: 1,
            begun: 0,
            taken: 0,
            has_slept: true,
            run: 0,
            watches: Watches::default(),
            neighbour: self.index,
        };
        loop {
            if !desk.is_watching()
                && let Some(job) = self.next(&desk, &mut batch)
            {
                if batch.run == 0 {
                    let are_few = shared.cores > 1 && !desk.hints.is_brisk();
                    let gap = desk.hints.idle_for(desk.now());
                    desk.expects_work.set(are_few && batch.watches.are_worth_it(gap));
                }
                batch.run = batch.run.saturating_add(1);
                if let Some(job) = job.run(&desk) {
                    shared.put_in_line(job);
                }
                desk.set_busy(false);
                desk.pay_old_debts();
                self.return_late(&desk, &batch);
                continue;
            }
            desk.pay_debts();
            if batch.run > 0 {
                batch.end(&desk);
                desk.hints.note_run(std::mem::take(&mut batch.run), desk.now());
            }
            if self.watch(&desk) {
                // Others relied on its looking.
                batch.has_slept = true;
                desk.tick();
                continue;
            }
            // The last reference to a service runs the user's code: not while others rely on this worker's look.
            desk.let_go();
            match shared.enter_sleep() {
                Look::Work => shared.sleep.leave(),
                Look::Nothing => shared.sleep.wait(),
                Look::Gone => break shared.sleep.leave(),
            }
            batch.has_slept = true;
            desk.tick();
        }
    }

    /// The next job: of its own batch, or else of the line, or else of another's batch.
    fn next(&self, desk: &Desk<'_>, batch: &mut Batch) -> Option<Box<dyn Job>> {
        desk.in_deque.set(self.deque.len().saturating_sub(1));
        if let Some(Taken { job, .. }) = self.deque.pop() {
            return Some(job);
        }
        self.relieve(desk, batch);
        let relied_on = std::mem::take(&mut batch.has_slept);
        let job = self
            .take_batch(desk, batch, relied_on)
            .or_else(|| self.steal_any(desk));
        if relied_on && job.is_some() {
            // Also for what lies in a colleague's deque, who woke nobody since this worker was on its way.
            let seats = self.shared.seats.iter();
            let left = seats.map(|seat| seat.stealer.len()).sum();
            self.shared.wake_worker(left, desk.stats);
        }
        job
    }

    /// Looks after a colleague, another each time: puts back what is left of its batch if that is late, and rings what it has owed for long.
    fn relieve(&self, desk: &Desk<'_>, batch: &mut Batch) {
        let seats = &self.shared.seats;
        let next = |of: usize| (of + 1) % seats.len();
        batch.neighbour = next(batch.neighbour);
        if batch.neighbour == self.index {
            batch.neighbour = next(self.index);
        }
        let seat = &seats[batch.neighbour];
        let is_other = batch.neighbour != self.index;
        if is_other && is_late(seat.begun.load(Relaxed), desk) && !seat.stealer.is_empty() {
            self.shared.put_back(|| steal(&seat.stealer));
        }
        // Not when others rely on this worker's look: to wake is the user's code.
        if is_other && !batch.has_slept && seat.debts.are_older_than(BATCH_NANOS, desk.now()) {
            desk.stats.wakes.add(seat.debts.pay());
        }
    }

    /// Takes a batch out of the line, of which the first job is given. Looks into the outboxes if it must.
    fn take_batch(&self, desk: &Desk<'_>, batch: &mut Batch, must: bool) -> Option<Box<dyn Job>> {
        batch.end(desk);
        let mut first = None;
        let (taken, left) = self.shared.take(batch.size, must, |taken| {
            if first.is_none() {
                first = Some(taken.job);
            } else {
                self.deque.push(taken);
            }
        });
        if taken > 0 {
            batch.taken = taken;
            // Not when the last step ended: it may have rung and watched since then.
            batch.begun = desk.tick();
            desk.in_deque.set(taken - 1);
            self.shared.seats[self.index].begun.store(batch.begun, Relaxed);
            desk.stats.batches.add(1);
        }
        self.shared
            .wake_worker(left + taken.saturating_sub(1), desk.stats);
        first
    }

    /// Takes the oldest job of another worker's batch, and wakes a third if there are more.
    fn steal_any(&self, desk: &Desk<'_>) -> Option<Box<dyn Job>> {
        let (Taken { job, .. }, left) = self.shared.steal_any(self.index + 1)?;
        desk.stats.steals.add(1);
        self.shared.wake_worker(left, desk.stats);
        Some(job)
    }

    /// Before it sleeps a worker watches for a moment whether there is new work. True: there is.
    fn watch(&self, desk: &Desk<'_>) -> bool {
        let starts = desk.start_watching();
        let patience = if desk.hints.is_brisk() {
            1
        } else {
            PATIENCE_WITH_FEW
        };
        let period = LOOKS_PER_YIELD * patience;
        // The loop may need this core, and a batch some time to come together. On a single core at once.
        let yields_at = if self.shared.cores > 1 { period - 1 } else { 0 };
        let found = starts
            && (0..LOOKS * patience).any(|look| {
                if look % period == yields_at {
                    thread::yield_now();
                }
                (0..SPINS).for_each(|_| std::hint::spin_loop());
                desk.hints.is_worth_looking()
            });
        desk.stop_watching();
        desk.expects_work.set(false);
        found
    }

    /// Puts back what is left of this worker's batch if that is late.
    fn return_late(&self, desk: &Desk<'_>, batch: &Batch) {
        if is_late(batch.begun, desk) && !self.deque.is_empty() {
            self.shared.put_back(|| self.deque.pop());
        }
    }
}

fn is_late(begun: u64, desk: &Desk<'_>) -> bool {
    desk.now().saturating_sub(begun) > LATE_NANOS
}
