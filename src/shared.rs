//! What the pool, its workers and its services have in common.

use crate::admission::Admission;
use crate::cell::{HasHead, Head};
use crate::clock::Clock;
use crate::desk::Desk;
use crate::outbox::Outbox;
use crate::primitive::{AtomicBool, Mutex, Ordering, Stealer};
use crate::queue::{FairQueue, LineKey};
use crate::sleep::Sleep;
use crate::stats::{Stats, Sums};
use crate::task_dump::TaskDump;
use crossbeam_utils::CachePadded;
use slab::Slab;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// A task as workers see it.
pub(crate) trait Job: HasHead + Send + Sync {
    /// Runs steps until the task has ended, is parked or must give way; then gives itself back, to be put in line.
    fn run(self: Arc<Self>, desk: &Desk<'_>) -> Option<Arc<dyn Job>>;
}

/// A service as the pool sees it.
pub(crate) trait AnyPort: Send + Sync {
    /// Accepts nothing more and stops everything, for `ThreadPool::finish`.
    fn finish(&self, desk: &Desk<'_>);
    /// Copies some tasks, from a slot on; gives the slot to go on with.
    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize>;
}

/// What the pool keeps of a service.
struct Registered {
    port: Weak<dyn AnyPort>,
    stats: Arc<Stats>,
}

/// One worker's part that others may look at.
pub(crate) struct WorkerSeat {
    pub(crate) stats: Stats,
    /// Whether it is inside a step, or about to be.
    pub(crate) busy: std::sync::atomic::AtomicBool,
    pub(crate) stealer: Stealer<Arc<dyn Job>>,
}

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) time_slice: u64,
    pub(crate) limited: bool,
    pub(crate) admission: Admission,
    pub(crate) sleep: Sleep,
    pub(crate) seats: Box<[CachePadded<WorkerSeat>]>,
    queue: Mutex<FairQueue<dyn Job>>,
    /// Connections in line, as of the last time the queue was locked: a hint.
    in_line: CachePadded<AtomicUsize>,
    /// Something was posted since a worker last collected: a hint, so that busy workers look at outboxes too.
    mail: CachePadded<std::sync::atomic::AtomicBool>,
    finishing: AtomicBool,
    /// Workers that may still take work. Written under the queue's lock.
    workers: AtomicUsize,
    services: Mutex<Slab<Registered>>,
    /// What services that are gone had counted.
    retired: Mutex<Sums>,
}

pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) time_slice: u64,
    pub(crate) limit: Option<u32>,
    pub(crate) admission: Admission,
    pub(crate) stealers: Vec<Stealer<Arc<dyn Job>>>,
}

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        let seat = |stealer| {
            let busy = std::sync::atomic::AtomicBool::new(false);
            CachePadded::new(WorkerSeat {
                stats: Stats::default(),
                busy,
                stealer,
            })
        };
        let workers = setup.stealers.len();
        Self {
            name: setup.name,
            clock: setup.clock,
            time_slice: setup.time_slice,
            limited: setup.limit.is_some(),
            admission: setup.admission,
            sleep: Sleep::new(),
            seats: setup.stealers.into_iter().map(seat).collect(),
            queue: Mutex::new(FairQueue::new(setup.limit)),
            in_line: CachePadded::new(AtomicUsize::new(0)),
            mail: CachePadded::new(std::sync::atomic::AtomicBool::new(false)),
            finishing: AtomicBool::new(false),
            workers: AtomicUsize::new(workers),
            services: Mutex::new(Slab::new()),
            retired: Mutex::new(Sums::default()),
        }
    }

    /// Uses the queue under its lock; the jobs that it lets go are dropped after that.
    fn with_queue<R>(&self, use_it: impl FnOnce(&mut FairQueue<dyn Job>, &mut Vec<Arc<dyn Job>>) -> R) -> R {
        let mut stale = Vec::new();
        let mut queue = self.queue.lock();
        let result = use_it(&mut queue, &mut stale);
        self.in_line.store(queue.connections(), Relaxed);
        drop(queue);
        result
    }

    /// A service has a job for the workers. It stays in the outbox as long as nobody would run it sooner elsewhere.
    pub(crate) fn post(&self, outbox: &Outbox<dyn Job>, job: Arc<dyn Job>, stats: &Stats) {
        const BATCH: usize = 64;
        let posted = outbox.post(job);
        if posted == 1 {
            self.mail.store(true, Relaxed);
        }
        if posted >= BATCH || self.sleep.wants_wake() {
            self.collect(stats);
        }
    }

    /// Moves what was posted into the line, and wakes a worker for it if one sleeps.
    pub(crate) fn collect(&self, stats: &Stats) {
        self.mail.store(false, Relaxed);
        let has_work = self.with_queue(|queue, stale| {
            queue.collect(stale);
            queue.has_work()
        });
        if has_work {
            self.wake_worker(stats);
        }
    }

    pub(crate) fn wake_worker(&self, stats: &Stats) {
        if self.sleep.wants_wake() && self.sleep.wake_one() {
            stats.worker_wakes.add(1);
        }
    }

    /// Takes up to `max` jobs out of the line, at most this worker's share. True: work is left behind.
    pub(crate) fn take(&self, max: usize, sink: impl FnMut(Arc<dyn Job>)) -> (usize, bool) {
        let mail = self.mail.load(Relaxed);
        if mail {
            self.mail.store(false, Relaxed);
        }
        self.with_queue(|queue, stale| {
            if mail {
                queue.collect(stale);
            }
            let share = queue.len().div_ceil(self.seats.len().max(1));
            let taken = queue.take(max.min(share), sink);
            (taken, queue.has_work())
        })
    }

    /// Whether a worker that is about to sleep should not. If it should go for good (`closed`), it is no worker any more.
    pub(crate) fn look_before_sleep(&self, closed: bool) -> Look {
        self.with_queue(|queue, stale| {
            queue.collect(stale);
            if queue.has_work() || self.seats.iter().any(|seat| !seat.stealer.is_empty()) {
                Look::Work
            } else if closed {
                self.workers.fetch_sub(1, Relaxed);
                Look::Gone
            } else {
                Look::Nothing
            }
        })
    }

    /// Whether nobody but the caller would run what was posted, because the pool has finished.
    pub(crate) fn workers_are_gone(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
            && self.with_queue(|queue, stale| {
                queue.collect(stale);
                self.workers.load(Relaxed) == 0
            })
    }

    /// Whether there is something in line or posted.
    pub(crate) fn has_pending(&self) -> bool {
        self.with_queue(|queue, stale| {
            queue.collect(stale);
            queue.has_work()
        })
    }

    /// About: whether another connection waits for a worker.
    pub(crate) fn others_wait(&self) -> bool {
        self.in_line.load(Relaxed) > 0 || self.mail.load(Relaxed)
    }

    /// Puts a job in line that its worker gives back after its turn.
    pub(crate) fn put_in_line(&self, job: Arc<dyn Job>) {
        self.with_queue(|queue, stale| stale.extend(queue.push(job)));
    }

    /// Puts jobs back that were taken and not begun, the last one taken first.
    pub(crate) fn put_back(&self, jobs: impl Iterator<Item = Arc<dyn Job>>) {
        self.with_queue(|queue, stale| jobs.for_each(|job| stale.extend(queue.put_back(job))));
    }

    /// Takes a cancelled job out of the line.
    pub(crate) fn remove(&self, head: &Head) {
        self.with_queue(|queue, stale| stale.extend(queue.remove(head)));
    }

    /// A task of its connection has ended, if those are counted.
    pub(crate) fn release(&self, head: &Head, stats: &Stats) {
        if self.limited {
            let has_work = self.with_queue(|queue, _| {
                queue.release(head);
                queue.has_work()
            });
            if has_work {
                self.wake_worker(stats);
            }
        }
    }

    pub(crate) fn relocate(&self, head: &Head, to: LineKey) {
        self.with_queue(|queue, stale| stale.extend(queue.relocate(head, to)));
    }

    /// Adds a service; gives its slots in the queue and here.
    pub(crate) fn register(&self, outbox: Arc<Outbox<dyn Job>>) -> u32 {
        self.with_queue(|queue, _| queue.add_port(outbox))
    }

    pub(crate) fn announce(&self, port: Weak<dyn AnyPort>, stats: Arc<Stats>) -> usize {
        self.services.lock().insert(Registered { port, stats })
    }

    pub(crate) fn unregister(&self, port: u32, service: usize) {
        self.with_queue(|queue, _| queue.remove_port(port));
        let registered = self.services.lock().remove(service);
        self.retire(&registered.stats);
    }

    pub(crate) fn retire(&self, stats: &Stats) {
        self.retired.lock().add(stats);
    }

    pub(crate) fn ports(&self) -> Vec<Arc<dyn AnyPort>> {
        let services: Vec<_> = self.services.lock().iter().map(|(_, s)| s.port.clone()).collect();
        services.iter().filter_map(Weak::upgrade).collect()
    }

    /// All counters, summed up.
    pub(crate) fn sums(&self) -> Sums {
        let services = self.services.lock();
        let mut sums = *self.retired.lock();
        self.seats.iter().for_each(|seat| sums.add(&seat.stats));
        services.iter().for_each(|(_, service)| sums.add(&service.stats));
        sums
    }

    /// How many tasks have started and how many workers are idle.
    pub(crate) fn progress(&self) -> (u64, usize) {
        let idle = self.seats.iter().filter(|seat| !seat.busy.load(Relaxed)).count();
        (self.sums().started, idle)
    }

    /// True the first time.
    pub(crate) fn start_finishing(&self) -> bool {
        !self.finishing.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }
}

/// What a worker found when it looked once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    Work,
    Nothing,
    /// Nothing, and the pool is closed: the worker has signed off.
    Gone,
}
