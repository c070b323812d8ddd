//! A pool made by hand of work-stealing deques: one injector, a deque for each worker, and a
//! condition variable for workers without work.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::thread;
use std::time::Duration;

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use parking_lot::{Condvar, Mutex};

use crate::inbox::Inbox;
use crate::job::Job;
use crate::pool::{Family, PlainThread, Pool};

/// Before it sleeps a worker yields so often, and looks again, as crossbeam's channels do.
const YIELDS: u32 = 10;

pub(crate) struct Deques;

impl Family for Deques {
    type Pool<J: Job> = Stealing<J>;
}

struct Shared<J> {
    injector: Injector<J>,
    stealers: Vec<Stealer<J>>,
    sleeping: AtomicUsize,
    /// Held from a worker's last look to its sleep, and by whoever wakes it.
    lock: Mutex<()>,
    condvar: Condvar,
}

impl<J> Shared<J> {
    fn submit(&self, job: J) {
        self.injector.push(job);
        self.wake();
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) > 0 {
            drop(self.lock.lock());
            self.condvar.notify_one();
        }
    }

    /// The worker's own jobs first, then a batch of the injector, then half of another worker's.
    fn find(&self, own: &Worker<J>) -> Option<J> {
        own.pop().or_else(|| {
            let steal = || {
                let others = || self.stealers.iter().map(|other| other.steal_batch_and_pop(own));
                self.injector
                    .steal_batch_and_pop(own)
                    .or_else(|| others().collect())
            };
            let job = iter::repeat_with(steal)
                .find(|stolen| !stolen.is_retry())
                .and_then(Steal::success);
            if job.is_some() && !own.is_empty() {
                self.wake();
            }
            job
        })
    }

    fn receive(&self, own: &Worker<J>) -> J {
        for _ in 0..YIELDS {
            if let Some(job) = self.find(own) {
                return job;
            }
            thread::yield_now();
        }
        loop {
            let mut lock = self.lock.lock();
            self.sleeping.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let has_work = !self.injector.is_empty() || self.stealers.iter().any(|other| !other.is_empty());
            if !has_work {
                self.condvar.wait(&mut lock);
            }
            self.sleeping.fetch_sub(1, Ordering::Relaxed);
            drop(lock);
            if let Some(job) = self.find(own) {
                return job;
            }
        }
    }
}

pub(crate) struct Stealing<J> {
    shared: Arc<Shared<J>>,
    inbox: Inbox<J>,
}

impl<J: Job> Pool<J> for Stealing<J> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        let inbox = Inbox::new(threads);
        let workers: Vec<_> = (0..threads).map(|_| Worker::new_fifo()).collect();
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            stealers: workers.iter().map(Worker::stealer).collect(),
            sleeping: AtomicUsize::new(0),
            lock: Mutex::new(()),
            condvar: Condvar::new(),
        });
        for own in workers {
            let (shared, done) = (Arc::clone(&shared), inbox.done());
            thread::spawn(move || done.work(|| Some(shared.receive(&own)), || shared.find(&own)));
        }
        (Self { shared, inbox }, PlainThread)
    }

    fn submit(&mut self, job: J) {
        self.shared.submit(job);
    }

    fn next(&mut self) -> Option<J> {
        self.inbox.next()
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        self.inbox.sleep(timeout);
    }
}
