//! A worker thread.

use super::any_service::ServiceRef;
use super::context::WorkerContext;
use super::search::{Backoff, WORKER_LOOKS, pause};
use super::{BATCH_MAX, LATE, LastLook, QUANTUM, Scheduler};
use crate::clock::nanos;
use crate::queue::Batch;
use crate::queue::fair::{Debt, WAIT_PART};
use crate::sync::{may_search, thread};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Each yield is a system call.
const LOOKS_PER_YIELD: u32 = 4;

/// Whether a search yields before this look.
fn is_yield_due(look: u32) -> bool {
    cfg!(loom) || look % LOOKS_PER_YIELD == LOOKS_PER_YIELD - 1
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

pub(crate) struct Worker {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) index: usize,
}

/// The state that a worker keeps from one batch to the next.
struct Pacing {
    /// The size of the next batch.
    size: usize,
    /// The time of a turn in the last batch, in nanoseconds.
    last: u64,
    /// Other threads may rely on the next look of the worker. Then it must look at everything.
    must_look: bool,
    /// Decides which searches of the worker are skipped.
    backoff: Backoff,
    /// The other worker whose batch is checked next.
    neighbour: usize,
    /// How long the worker may still wait before it takes a flow in debt, in nanoseconds. It is
    /// negative after a wait that took longer because other threads used the core.
    wait_max: i64,
    /// How long the worker waits now, in nanoseconds.
    wait: u64,
}

impl Pacing {
    /// Runs a batch, and sets the size of the next batch by its time.
    fn run_batch(&mut self, cx: &WorkerContext<'_>, batch: &Batch<ServiceRef>) {
        let count = batch.count;
        let each = if self.last == u64::MAX { QUANTUM } else { self.last };
        let time = batch.time.unwrap_or(each.saturating_mul(count as u64));
        let begun = cx.begin_batch(time);
        let steps = cx.counters.steps.get();
        let turns = batch.service.run_batch(cx);
        let time = cx.now().saturating_sub(begun);
        // Each batch permits a wait of this part of its time, and unused waits do not add up. So
        // all waits of the worker take at most this part of its time.
        let permitted = signed(time / WAIT_PART);
        self.wait_max = self
            .wait_max
            .max(permitted.min(self.wait_max.saturating_add(permitted)));
        // Tasks that ended without a step say nothing about the time of a step.
        if turns > 0 && cx.counters.steps.get() != steps {
            let each = (time / turns as u64).max(1);
            let fit = usize::try_from(QUANTUM / each).unwrap_or(BATCH_MAX);
            self.size = fit.clamp(1, BATCH_MAX.min(2 * count.max(self.size)));
            // The shorter of two, since the kernel may have interrupted one batch.
            cx.scheduler.set_pace(each.min(self.last));
            self.last = each;
        }
    }
}

impl Worker {
    /// Works until the pool is closed and there is no task.
    pub(crate) fn work(&self) {
        let scheduler = &*self.scheduler;
        let cx = WorkerContext::of_worker(scheduler, self.index);
        let mut pacing = Pacing {
            size: 1,
            last: u64::MAX,
            must_look: true,
            backoff: Backoff::default(),
            neighbour: self.index,
            wait_max: 0,
            wait: 0,
        };
        let mut has_searched = false;
        loop {
            if let Some(batch) = self.next_batch(&cx, &mut pacing) {
                pacing.run_batch(&cx, &batch);
                has_searched = false;
                continue;
            }
            cx.flush();
            // Dropping the last reference to a service runs user code. It must not run while other
            // threads rely on this worker.
            let held = scheduler.contexts[self.index].service.lock().take();
            if held.is_some() {
                cx.set_timer();
                drop(held);
            }
            if pacing.wait > 0 {
                self.wait_before_debt(&cx, &mut pacing);
                continue;
            }
            if !has_searched && self.search(&mut pacing) {
                has_searched = true;
                pacing.must_look = true;
                continue;
            }
            has_searched = false;
            scheduler.check_drain();
            cx.forget_batch();
            match scheduler.enter_sleep(&cx) {
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

    /// Takes the next batch from the queue, or steals a part of another worker's batch.
    fn next_batch(&self, cx: &WorkerContext<'_>, pacing: &mut Pacing) -> Option<Batch<ServiceRef>> {
        let scheduler = cx.scheduler;
        scheduler.report_slow_steps(|| {
            cx.set_timer();
            // This worker may have taken the token of a wake-up, and looks only after the report.
            scheduler.wake_for_rest(cx.counters);
        });
        let must_look = std::mem::take(&mut pacing.must_look);
        if let Some(victim) = self.late_neighbour(cx, pacing) {
            scheduler.return_batch_of(victim, cx);
        }
        let mut counter = &cx.counters.batches;
        let mut taken = None;
        let is_due = scheduler.end_due_delays(cx);
        if must_look || is_due || scheduler.hints.has_published() {
            taken = scheduler.take(cx, pacing.size, Debt::Leave);
        }
        let mut count = 1;
        if taken.is_none()
            && let Some(stolen) = scheduler.steal(cx, pacing.size)
        {
            counter = &cx.counters.steals;
            count = stolen.count;
            taken = Some(stolen);
        }
        // Flows in debt come last: their steps may be long, and no other task should wait behind
        // such a step.
        if taken.is_none() && scheduler.hints.has_published() {
            pacing.wait = self.time_before_debt(cx, pacing);
            if pacing.wait > 0 {
                return None;
            }
            taken = scheduler.take(cx, pacing.size, Debt::Take);
        }
        let taken = taken?;
        counter.add(count as u64);
        scheduler.wake_for_rest_beside(self.index, taken.count, cx.counters);
        Some(taken)
    }

    /// Another worker whose batch is late, if any. Each call checks a different worker.
    fn late_neighbour(&self, cx: &WorkerContext<'_>, pacing: &mut Pacing) -> Option<usize> {
        let workers = cx.scheduler.workers().len();
        let next = |of: usize| (of + 1) % workers;
        pacing.neighbour = next(pacing.neighbour);
        if pacing.neighbour == self.index {
            pacing.neighbour = next(self.index);
        }
        let begun = cx.scheduler.contexts[pacing.neighbour]
            .batch_times
            .begun
            .load(Relaxed);
        let is_late = cx.now().saturating_sub(begun) > LATE;
        (pacing.neighbour != self.index && is_late && cx.scheduler.contexts[pacing.neighbour].has_batch())
            .then_some(pacing.neighbour)
    }

    /// Searches for a while for published tasks. Returns true if it has searched, with or without
    /// success; then the worker must look at everything now.
    fn search(&self, pacing: &mut Pacing) -> bool {
        let scheduler = &*self.scheduler;
        if !self.may_search() || !scheduler.has_short_steps() || pacing.backoff.skips() {
            return false;
        }
        if self.look_until(|look| look == WORKER_LOOKS, || scheduler.hints.has_published()) {
            pacing.backoff.note_found();
        } else {
            pacing.backoff.note_nothing();
        }
        true
    }

    fn may_search(&self) -> bool {
        may_search() && self.scheduler.cores > 1
    }

    /// How long the worker waits before it takes a flow in debt, in nanoseconds.
    fn time_before_debt(&self, cx: &WorkerContext<'_>, pacing: &Pacing) -> u64 {
        let max = u64::try_from(pacing.wait_max).unwrap_or(0);
        // A shorter wait is not worth the lock.
        if max > QUANTUM / WAIT_PART && self.may_search() && cx.scheduler.is_open() {
            cx.scheduler.time_before_debt(cx).min(max)
        } else {
            0
        }
    }

    /// Waits until something is submitted, but not for longer than `pacing` allows. Afterwards the
    /// worker must look at everything.
    #[cold]
    fn wait_before_debt(&self, cx: &WorkerContext<'_>, pacing: &mut Pacing) {
        let scheduler = &*self.scheduler;
        // Another worker may take the flow in debt.
        scheduler.wake_worker(cx.counters);
        let time = scheduler.clock.real_time(std::mem::take(&mut pacing.wait));
        let begun = Instant::now();
        // In a model, a wait is one look.
        let elapsed = || {
            if cfg!(loom) {
                Duration::MAX
            } else {
                begun.elapsed()
            }
        };
        let has_work = || scheduler.hints.has_submitted() || scheduler.hints.is_due(cx.tick());
        let has_found = self.look_until(|_| elapsed() >= time, has_work);
        let rest = pacing.wait_max.saturating_sub(signed(nanos(elapsed())));
        // After a wait in vain, the flow in debt has its turn.
        pacing.wait_max = if has_found { rest } else { rest.min(0) };
        pacing.must_look = true;
    }

    /// Looks at the hints until there is work or the search is over. Returns whether there is work.
    /// Meanwhile the worker counts as searching.
    fn look_until(&self, is_over: impl Fn(u32) -> bool, has_work: impl Fn() -> bool) -> bool {
        self.scheduler.idle.start_search();
        let mut look = 0;
        let has_found = loop {
            if is_yield_due(look) {
                // The loop may need the core of this worker.
                thread::yield_now();
            }
            pause();
            look += 1;
            if has_work() {
                break true;
            }
            if is_over(look) {
                break false;
            }
        };
        self.scheduler.idle.end_search();
        has_found
    }
}

impl Scheduler {
    /// The worker has taken `taken` tasks, and begins the first. Wakes another worker if there are
    /// more tasks.
    fn wake_for_rest_beside(&self, worker: usize, taken: usize, counters: &super::counters::ThreadCounters) {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::scheduler::Scheduler;
    use crate::{Status, TaskReturn, ThreadPool, task_fn};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::thread::yield_now;

    /// The wake-up of a service. Its destructor counts itself, and notes whether a worker that runs
    /// it has taken tasks that it has not begun.
    struct Probe {
        scheduler: Arc<Scheduler>,
        drops: Arc<AtomicUsize>,
        drops_with_batch: Arc<AtomicUsize>,
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let has_batch = self.scheduler.workers().iter().any(|worker| worker.has_batch());
            self.drops_with_batch.fetch_add(usize::from(has_batch), SeqCst);
            self.drops.fetch_add(1, SeqCst);
        }
    }

    /// The destructor of a service can block. The searching worker held the last reference to a
    /// service, and dropped it after it had found a task of another service. No other worker was
    /// woken for this task, because a worker searched.
    #[test]
    fn a_worker_that_searches_holds_no_service() {
        let pool = ThreadPool::builder().threads(1).build().unwrap();
        let mut other = pool.service(|| {});
        let scheduler = Arc::clone(&other.inner.scheduler);
        let [drops, drops_with_batch] = [0; 2].map(|_| Arc::new(AtomicUsize::new(0)));
        let done = || task_fn(|_| TaskReturn::TaskDone);
        for round in 1..=2_000 {
            let probe = Probe {
                scheduler: Arc::clone(&scheduler),
                drops: Arc::clone(&drops),
                drops_with_batch: Arc::clone(&drops_with_batch),
            };
            let mut service = pool.service(move || _ = &probe.drops);
            let [is_running, may_end] = [false; 2].map(|flag| Arc::new(AtomicBool::new(flag)));
            let gates = [Arc::clone(&is_running), Arc::clone(&may_end)];
            let task = task_fn(move |_| {
                gates[0].store(true, SeqCst);
                while !gates[1].load(SeqCst) {
                    yield_now();
                }
                TaskReturn::TaskDone
            });
            service.enqueue(1, task).expect("room");
            while !is_running.load(SeqCst) {
                yield_now();
            }
            drop(service);
            may_end.store(true, SeqCst);
            while !scheduler.idle.is_searched() && drops.load(SeqCst) < round {}
            let id = other.enqueue(1, done()).expect("room");
            while drops.load(SeqCst) < round || !other.peek(id).is_some_and(Status::is_ended) {
                yield_now();
            }
            other
                .take_ready()
                .for_each(|ready| drop(other.task_status(ready.id)));
        }
        assert_eq!(drops_with_batch.load(SeqCst), 0);
    }
}
