//! A worker thread.

use super::context::WorkerContext;
use super::{BATCH_MAX, LATE, LastLook, QUANTUM, SKIPPED_SEARCHES, SPINS, Scheduler, ServiceRef};
use crate::queue::Taken;
use crate::sync::{may_search, thread};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How often a worker looks for work before it sleeps: with the pauses, about 10 us in all, which
/// is what a loop takes to wake up and answer. (Rows: `told-16`, `stream-16`.)
const LOOKS: u32 = if cfg!(loom) { 1 } else { 12 };
/// Each yield is a system call.
const LOOKS_PER_YIELD: u32 = 4;

/// Whether a search yields before this look.
fn is_yield_due(look: u32) -> bool {
    cfg!(loom) || look % LOOKS_PER_YIELD == LOOKS_PER_YIELD - 1
}

pub(crate) struct Worker {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) index: usize,
}

/// What a worker remembers from one batch to the next.
struct Pacing {
    /// The size of the next batch.
    size: usize,
    /// Others may rely on its next look: it must look at everything.
    must_look: bool,
    /// So many searches are skipped, since the last one found nothing.
    skipped: u32,
    /// The other worker whose batch is looked at next.
    neighbour: usize,
}

impl Pacing {
    /// Runs a batch of so many tasks, and sizes the next by it.
    fn run_batch(&mut self, cx: &WorkerContext<'_>, service: &ServiceRef, count: usize) {
        let begun = cx.begin_batch();
        let turns = service.run_batch(cx);
        if turns > 0 {
            let each = (cx.now().saturating_sub(begun) / turns as u64).max(1);
            let fit = usize::try_from(QUANTUM / each).unwrap_or(BATCH_MAX);
            self.size = fit.clamp(1, BATCH_MAX.min(2 * count.max(self.size)));
            cx.scheduler.set_pace(each);
        }
    }
}

impl Worker {
    /// Works until the pool is closed and nothing is left.
    pub(crate) fn work(&self) {
        let scheduler = &*self.scheduler;
        let cx = WorkerContext::of_worker(scheduler, self.index);
        let mut pacing = Pacing {
            size: 1,
            must_look: true,
            skipped: 0,
            neighbour: self.index,
        };
        let mut has_searched = false;
        loop {
            if let Some(Taken { service, count }) = self.next_batch(&cx, &mut pacing) {
                pacing.run_batch(&cx, &service, count);
                has_searched = false;
                continue;
            }
            cx.flush();
            if !has_searched && self.search(&mut pacing) {
                has_searched = true;
                pacing.must_look = true;
                continue;
            }
            has_searched = false;
            // The last reference to a service is user code: not while others rely on this worker.
            let held = scheduler.contexts[self.index].service.lock().take();
            drop(held);
            match scheduler.enter_sleep() {
                LastLook::Work => scheduler.idle.end_sleep(),
                LastLook::Nothing => {
                    let next_moment = || scheduler.hints.next_moment();
                    scheduler.idle.wait(&scheduler.clock, next_moment);
                    cx.note_timer();
                }
                LastLook::End => break scheduler.idle.end_sleep(),
            }
            pacing.must_look = true;
            cx.tick();
        }
    }

    /// Takes the next batch from the queue, or a part of another worker's.
    fn next_batch(&self, cx: &WorkerContext<'_>, pacing: &mut Pacing) -> Option<Taken<ServiceRef>> {
        let scheduler = cx.scheduler;
        scheduler.report_slow_steps();
        let must_look = std::mem::take(&mut pacing.must_look);
        if let Some(victim) = self.late_neighbour(cx, pacing) {
            scheduler.return_batch_of(victim);
        }
        let mut counter = &cx.counters.batches;
        let mut taken = None;
        let is_due = scheduler.end_due_delays(cx.now(), cx.counters);
        if must_look || is_due || scheduler.hints.has_published() {
            taken = scheduler.take(self.index, pacing.size);
        }
        let mut count = 1;
        if taken.is_none() {
            taken = scheduler.steal(self.index, pacing.size);
            counter = &cx.counters.steals;
            count = taken.as_ref()?.count;
        }
        let taken = taken?;
        counter.add(count as u64);
        scheduler.wake_for_rest_beside(self.index, taken.count, cx.counters);
        Some(taken)
    }

    /// Another worker, a different one each time, if its batch is late.
    fn late_neighbour(&self, cx: &WorkerContext<'_>, pacing: &mut Pacing) -> Option<usize> {
        let workers = cx.scheduler.workers().len();
        let next = |of: usize| (of + 1) % workers;
        pacing.neighbour = next(pacing.neighbour);
        if pacing.neighbour == self.index {
            pacing.neighbour = next(self.index);
        }
        let begun = cx.scheduler.contexts[pacing.neighbour].batch_begun.load(Relaxed);
        let is_late = cx.now().saturating_sub(begun) > LATE;
        (pacing.neighbour != self.index && is_late && cx.scheduler.contexts[pacing.neighbour].has_batch())
            .then_some(pacing.neighbour)
    }

    /// Looks for a while whether something is published. True: it has searched, with or without
    /// success, and must look at everything now.
    fn search(&self, pacing: &mut Pacing) -> bool {
        let scheduler = &*self.scheduler;
        if !may_search() || scheduler.cores == 1 || !scheduler.has_short_steps() {
            return false;
        }
        if pacing.skipped > 0 {
            pacing.skipped -= 1;
            return false;
        }
        scheduler.idle.start_search();
        let has_found = (0..LOOKS).any(|look| {
            if is_yield_due(look) {
                // The loop may need this core.
                thread::yield_now();
            }
            (0..SPINS).for_each(|_| std::hint::spin_loop());
            scheduler.hints.has_published()
        });
        scheduler.idle.end_search();
        if !has_found {
            pacing.skipped = SKIPPED_SEARCHES;
        }
        true
    }
}

impl Scheduler {
    /// The worker has taken so many tasks, and begins with the first: wakes another if there are
    /// more.
    fn wake_for_rest_beside(&self, worker: usize, taken: usize, counters: &super::counters::Counters) {
        if !self.idle.should_wake() {
            return;
        }
        let others = || {
            self.workers()
                .iter()
                .enumerate()
                .filter(|&(other, _)| other != worker)
        };
        if taken > 1 || others().any(|(_, other)| other.has_batch()) || self.queue.lock().has_tasks() {
            self.wake_worker(counters);
        }
    }
}
