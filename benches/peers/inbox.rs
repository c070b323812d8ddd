//! How a pool without a loop of its own reaches a mio loop: a list of ended jobs and a notifier.
//!
//! The loop is fast, and a notification is a system call. A worker that notifies for each job finds
//! the loop asleep again at the next one; rayon then needs 1,400 ns a task instead of 240. So a
//! worker defers the notification while more jobs wait, for `HOLD` or one step, whichever is
//! longer. Every peer profits from that.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;

use crate::job::Job;
use crate::notifier::{Notifier, Sleeper};

const HOLD: Duration = Duration::from_micros(20);
/// So many results at most are kept back by a worker.
const BATCH: usize = 32;

/// Before it sleeps the loop pauses so often, as moored's does, and looks again: half a microsecond
/// to one and a half each time.
const PAUSES: u32 = 2;
const SPINS: u32 = 32;
/// After pauses that brought nothing it does not pause so many times, so that they cost nothing
/// where they do not pay.
const VAIN: u32 = 16;

/// What the workers have done and the loop has not yet seen.
pub(crate) struct Done<J> {
    list: Mutex<List<J>>,
    submitted: AtomicUsize,
    threads: usize,
    notifier: Arc<Notifier>,
}

struct List<J> {
    jobs: VecDeque<J>,
    /// When the oldest of them came.
    since: Instant,
    /// How many have ever been put here.
    total: usize,
}

impl<J> Done<J> {
    /// Rings at once.
    pub(crate) fn put_now(&self, job: J) {
        self.list.lock().jobs.push_back(job);
        self.notifier.notify();
    }

    /// Rings at once, for all of them.
    pub(crate) fn put_all(&self, jobs: &mut Vec<J>) {
        self.list.lock().jobs.extend(jobs.drain(..));
        self.notifier.notify();
    }

    /// Leaves the notification to a later job if one waits. Only for jobs whose submission has been
    /// noted.
    pub(crate) fn put(&self, job: J) {
        let mut list = self.list.lock();
        if list.jobs.is_empty() {
            list.since = Instant::now();
        }
        list.jobs.push_back(job);
        list.total += 1;
        let unfinished = self.submitted.load(Ordering::Relaxed).saturating_sub(list.total);
        let since = list.since;
        drop(list);
        // More than can be running: at least one has not started, and will come here.
        let another_follows = unfinished > self.threads;
        if self.notifier.is_wanted() && (!another_follows || since.elapsed() > HOLD) {
            self.notifier.notify();
        }
    }

    /// What a worker of a channel does: receives a job, and after it those that are there.
    pub(crate) fn work(&self, receive: impl Fn() -> Option<J>, try_receive: impl Fn() -> Option<J>)
    where
        J: Job,
    {
        let mut ended = Vec::with_capacity(BATCH);
        while let Some(mut job) = receive() {
            let start = Instant::now();
            loop {
                job.run();
                ended.push(job);
                if ended.len() == BATCH || start.elapsed() > HOLD {
                    break;
                }
                let Some(another) = try_receive() else { break };
                job = another;
            }
            self.put_all(&mut ended);
        }
    }
}

/// The loop's end: takes the whole list under one lock, then works through it.
pub(crate) struct Inbox<J> {
    done: Arc<Done<J>>,
    taken: VecDeque<J>,
    sleeper: Sleeper,
    submitted: usize,
    /// How many came together last.
    together: usize,
    /// So many sleeps come without a pause before.
    impatient: u32,
}

impl<J> Inbox<J> {
    pub(crate) fn new(threads: usize) -> Self {
        let sleeper = Sleeper::new();
        let list = List {
            jobs: VecDeque::new(),
            since: Instant::now(),
            total: 0,
        };
        let (list, submitted) = (Mutex::new(list), AtomicUsize::new(0));
        let done = Arc::new(Done {
            list,
            submitted,
            threads,
            notifier: sleeper.notifier(),
        });
        Self {
            done,
            taken: VecDeque::new(),
            sleeper,
            submitted: 0,
            together: 0,
            impatient: 0,
        }
    }

    pub(crate) fn done(&self) -> Arc<Done<J>> {
        self.done.clone()
    }

    /// Call before a job is handed over that will come back by `put`.
    pub(crate) fn note_submitted(&mut self) {
        // Nobody else writes it, so it needs no read-modify-write.
        self.submitted += 1;
        self.done.submitted.store(self.submitted, Ordering::Relaxed);
    }

    pub(crate) fn next(&mut self) -> Option<J> {
        if self.taken.is_empty() {
            mem::swap(&mut self.taken, &mut self.done.list.lock().jobs);
            if !self.taken.is_empty() {
                self.together = self.taken.len();
            }
        }
        self.taken.pop_front()
    }

    /// Pauses, if more than one job is in flight and that paid lately. True: there is something.
    fn pause(&mut self) -> bool {
        if self.together < 2 {
            return false;
        }
        if self.impatient > 0 {
            self.impatient -= 1;
            return false;
        }
        for _ in 0..PAUSES {
            (0..SPINS).for_each(|_| std::hint::spin_loop());
            if !self.done.list.lock().jobs.is_empty() {
                return true;
            }
        }
        self.impatient = VAIN;
        false
    }

    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) {
        if self.pause() {
            return;
        }
        let done = &self.done;
        self.sleeper.sleep(timeout, || !done.list.lock().jobs.is_empty());
    }
}
