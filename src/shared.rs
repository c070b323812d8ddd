//! What the pool, its workers and its services have in common.

use crate::admission::{Admission, Progress};
use crate::bell::Debts;
use crate::cell::Head;
use crate::clock::Clock;
use crate::desk::{Desk, Seat};
use crate::hints::Hints;
use crate::inside::Inside;
use crate::job::Job;
use crate::line::LineKey;
use crate::outbox::Outbox;
use crate::primitive::{AtomicBool, Mutex, Ordering, Steal, Stealer};
use crate::queue::{FairQueue, Taken};
use crate::registry::Registry;
use crate::sleep::Sleep;
use crate::state::Phase;
use crate::stats::{Stats, Sums};
use crossbeam_utils::CachePadded;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// One worker's part that others may look at.
pub(crate) struct WorkerSeat {
    stats: Stats,
    /// Whether it is inside a step, or about to be.
    busy: std::sync::atomic::AtomicBool,
    /// When it took what it has in its deque.
    pub(crate) begun: AtomicU64,
    /// The loops that it will wake in a moment.
    pub(crate) debts: Debts,
    pub(crate) stealer: Stealer<Taken<dyn Job>>,
}

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    /// When the pool was built, on its clock.
    pub(crate) born: u64,
    /// How many threads can run at once.
    pub(crate) cores: usize,
    time_slice: u64,
    limited: bool,
    /// Written for every task: on a line of its own, as all that is read beside it hardly changes.
    pub(crate) admission: CachePadded<Admission>,
    pub(crate) registry: Registry,
    pub(crate) hints: Hints,
    pub(crate) sleep: CachePadded<Sleep>,
    pub(crate) seats: Box<[CachePadded<WorkerSeat>]>,
    queue: CachePadded<Mutex<FairQueue<dyn Job>>>,
    finishing: AtomicBool,
    /// Who still takes work: the workers that have not gone, or the owner of a pool without threads. Written under the queue's
    /// lock.
    takers: AtomicUsize,
}

pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) time_slice: u64,
    pub(crate) limit: Option<u32>,
    pub(crate) admission: Admission,
    pub(crate) stealers: Vec<Stealer<Taken<dyn Job>>>,
}

/// Takes the oldest of a worker's batch.
pub(crate) fn steal(stealer: &Stealer<Taken<dyn Job>>) -> Option<Taken<dyn Job>> {
    loop {
        match stealer.steal() {
            Steal::Success(taken) => return Some(taken),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
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

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        let seat = |stealer| {
            let busy = std::sync::atomic::AtomicBool::new(false);
            CachePadded::new(WorkerSeat {
                stats: Stats::default(),
                busy,
                begun: AtomicU64::new(0),
                debts: Debts::new(),
                stealer,
            })
        };
        let workers = setup.stealers.len();
        Self {
            name: setup.name,
            born: setup.clock.now(),
            clock: setup.clock,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            time_slice: setup.time_slice,
            limited: setup.limit.is_some(),
            admission: CachePadded::new(setup.admission),
            registry: Registry::new(),
            hints: Hints::new(),
            sleep: CachePadded::new(Sleep::new()),
            seats: setup.stealers.into_iter().map(seat).collect(),
            queue: CachePadded::new(Mutex::new(FairQueue::new(setup.limit))),
            finishing: AtomicBool::new(false),
            takers: AtomicUsize::new(workers.max(1)),
        }
    }

    pub(crate) fn worker_desk(&self, index: usize) -> Desk<'_> {
        let seat = &self.seats[index];
        let worker = Seat {
            index: index as u16,
            busy: &seat.busy,
            debts: &seat.debts,
            sleep: &self.sleep,
        };
        Desk {
            worker: Some(worker),
            ..self.guest_desk(&seat.stats)
        }
    }

    /// For a thread that is no worker; it counts into `stats`, which nobody else may do meanwhile.
    pub(crate) fn guest_desk<'a>(&'a self, stats: &'a Stats) -> Desk<'a> {
        Desk {
            clock: &self.clock,
            hints: &self.hints,
            stats,
            worker: None,
            time_slice: self.time_slice,
            until: u64::MAX,
            limited: self.limited,
            now: Cell::new(self.clock.now()),
            in_deque: Cell::new(0),
            port: RefCell::new(None),
            watches: Cell::new(false),
            expects_work: Cell::new(false),
        }
    }

    /// Uses the queue under its lock.
    #[inline]
    pub(crate) fn with_queue<R>(&self, use_it: impl FnOnce(&mut FairQueue<dyn Job>) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = use_it(&mut queue);
        self.hints.set_in_line(queue.worth_taking(self.hints.batch()));
        result
    }

    /// So many jobs wait in an outbox: see [`Outbox::post`].
    pub(crate) fn note_posted(&self, waiting: usize, batch: usize, stats: &Stats) {
        self.hints.note_posted(waiting < batch);
        self.wake_worker(waiting, stats);
    }

    /// Wakes a worker for what is in line and what was posted, if one should be woken.
    pub(crate) fn wake_for_all(&self, stats: &Stats) {
        let waiting = self.with_queue(|queue| {
            queue.look();
            queue.waiting()
        });
        self.wake_worker(waiting, stats);
    }

    /// Wakes a worker for so many tasks that nobody has taken, if one should be woken.
    #[inline]
    pub(crate) fn wake_worker(&self, waiting: usize, stats: &Stats) {
        if waiting > 0 && self.sleep.should_wake() && self.sleep.wake_one() {
            stats.worker_wakes.add(1);
        }
    }

    /// Takes up to `max` jobs out of the line. Gives how many were taken and how many are
    /// left behind. Looks into the outboxes if it must (after sleep, when others rely on it), if there is mail, if a batch was left
    /// there, or if there is a line: what was posted may be before that.
    pub(crate) fn take(&self, max: usize, must: bool, sink: impl FnMut(Taken<dyn Job>)) -> (usize, usize) {
        self.with_queue(|queue| {
            // Under the lock, so that who comes first finds what was posted first.
            let batch = self.hints.batch();
            let looks = must || self.hints.has_mail() || queue.worth_taking(batch) > 0;
            if looks {
                self.hints.open_mail();
                queue.fill();
            }
            let taken = queue.take(max, looks, sink);
            if queue.waiting() > queue.worth_taking(batch) {
                self.hints.note_left();
            }
            if must && self.sleep.should_wake() {
                // What was staged meanwhile is left behind, too. To look costs the loop a cache line: only if somebody would be woken.
                queue.look();
            }
            (taken, queue.waiting())
        })
    }

    /// A worker counts as a sleeper from now on, and looks once more. If it should go for good, it takes nothing any more.
    pub(crate) fn enter_sleep(&self) -> Look {
        let is_closed = self.sleep.enter();
        self.with_queue(|queue| {
            queue.look();
            if queue.waiting() > 0 || self.seats.iter().any(|seat| !seat.stealer.is_empty()) {
                Look::Work
            } else if is_closed {
                self.takers.fetch_sub(1, Relaxed);
                Look::Gone
            } else {
                Look::Nothing
            }
        })
    }

    /// Takes the oldest of some worker's batch, of this one's or the next that has any; and tells how many it has left.
    pub(crate) fn steal_any(&self, first: usize) -> Option<(Taken<dyn Job>, usize)> {
        let (before, from) = self.seats.split_at(first.min(self.seats.len()));
        let mut seats = from.iter().chain(before);
        seats.find_map(|seat| Some((steal(&seat.stealer)?, seat.stealer.len())))
    }

    /// Runs what was taken and not begun, and what is in line, on a thread that is no worker, until nothing is or the desk's time is up; at least one
    /// turn. Gives the number of turns.
    pub(crate) fn run_pending(&self, desk: &Desk<'_>) -> usize {
        let _inside = Inside::enter(self);
        let mut turns = 0;
        loop {
            let mut next = self.steal_any(0).map(|(taken, _)| taken.job);
            if next.is_none() {
                self.take(1, true, |taken| next = Some(taken.job));
            }
            let Some(job) = next else { break };
            if let Some(job) = job.run(desk) {
                self.put_in_line(job);
            }
            turns += 1;
            // What is left behind is for the workers, if there still are any.
            if desk.is_time_up() && !(self.takers_are_gone() && self.has_pending()) {
                break;
            }
        }
        self.wake_for_all(desk.stats);
        turns
    }

    /// The owner of a pool without threads runs no tasks after those that are in line now.
    pub(crate) fn owner_goes(&self) {
        self.with_queue(|_| self.takers.store(0, Relaxed));
    }

    /// Whether nobody but the caller would run what was posted, because the pool has finished.
    #[inline]
    pub(crate) fn takers_are_gone(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
            && self.with_queue(|queue| {
                queue.look();
                self.takers.load(Relaxed) == 0
            })
    }

    /// Whether there is something in line or posted.
    pub(crate) fn has_pending(&self) -> bool {
        self.with_queue(|queue| {
            queue.look();
            queue.waiting() > 0
        })
    }

    /// Puts a job in line that its worker gives back after its turn.
    pub(crate) fn put_in_line(&self, job: Box<dyn Job>) {
        self.with_queue(|queue| {
            self.hints.clear_mail();
            // What was posted before comes first.
            queue.collect();
            queue.push(job);
        });
    }

    /// Puts jobs back that were taken and not begun. They are taken from where they are under the queue's lock, so that who looks for
    /// one finds it here or there.
    pub(crate) fn put_back(&self, next: impl FnMut() -> Option<Taken<dyn Job>>) {
        self.with_queue(|queue| std::iter::from_fn(next).for_each(|taken| queue.put_back(taken)));
    }

    /// Takes a task that has not started out of the line, also if it was just posted or lies in a worker's batch. `None`: a
    /// worker is about to start it.
    pub(crate) fn recall(&self, key: LineKey, head: &Head) -> Option<Box<dyn Job>> {
        self.with_queue(|queue| {
            let in_line = queue.remove(key, head);
            if in_line.is_some() {
                return in_line;
            }
            self.return_batches(queue);
            queue.remove(key, head)
        })
    }

    /// Puts back what lies in the workers' batches.
    fn return_batches(&self, queue: &mut FairQueue<dyn Job>) {
        self.seats
            .iter()
            .flat_map(|seat| std::iter::from_fn(|| steal(&seat.stealer)))
            .for_each(|taken| queue.put_back(taken));
    }

    /// The task belongs to another connection from now on.
    pub(crate) fn relocate(&self, port: u32, head: &Head, to: u32, stats: &Stats) {
        let waiting = self.with_queue(|queue| {
            // What was posted to that connection before comes first.
            queue.collect();
            if self.limited && head.state.phase() == Phase::Queued {
                // Taken for the connection that it had, it would not count for the limit of the other.
                self.return_batches(queue);
            }
            queue.relocate(port, head, to);
            queue.waiting()
        });
        // With a limit, the task or those that it leaves may be free to run now.
        self.wake_worker(waiting, stats);
    }

    /// Adds a service to the queue; gives its slot there.
    pub(crate) fn add_port(&self, outbox: Arc<Outbox<dyn Job>>) -> u32 {
        self.with_queue(|queue| queue.add_port(outbox))
    }

    pub(crate) fn remove_port(&self, port: u32) {
        self.with_queue(|queue| queue.remove_port(port));
    }

    /// All counters, summed up.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = self.registry.sums();
        self.seats.iter().for_each(|seat| sums.add(&seat.stats));
        sums
    }

    /// How far the pool has come.
    pub(crate) fn progress(&self) -> Progress {
        // In this order: who is not idle any more has counted its task as started.
        let is_idle = |seat: &&CachePadded<WorkerSeat>| !seat.busy.load(Ordering::Acquire);
        let idle = self.seats.iter().filter(is_idle).count() as u64;
        let Sums { started, reaped, .. } = self.sums();
        Progress {
            started,
            reaped,
            idle,
        }
    }

    /// Whether the running tasks of a connection are counted.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// True the first time.
    pub(crate) fn start_finishing(&self) -> bool {
        !self.finishing.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// Workers that have not gone.
    pub(crate) fn workers(&self) -> usize {
        if self.seats.is_empty() {
            0
        } else {
            self.takers.load(Relaxed)
        }
    }
}
