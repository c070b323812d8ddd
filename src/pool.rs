//! The pool's owner.

use crate::clock::nanos;
use crate::dump::{Counts, PoolDump};
use crate::error::JoinError;
use crate::inside::{Inside, is_inside, is_worker_of};
use crate::port::Port;
use crate::primitive::{Condvar, Mutex, thread, wait_until};
use crate::service::Service;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::task::Task;
use crate::task_dump::TaskDump;
use crate::wake::Wake;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads that run tasks moored to connections, for one or more service loops.
///
/// Build it with [`builder`](Self::builder), give each loop a [`service`](Self::service). It can be shared between threads.
///
/// Dropping it is [`finish`](Self::finish) and a wait for the workers, however long their steps take, except on one of its own
/// workers, which cannot wait for itself. Services may be dropped before or after.
#[doc(alias = "lws_threadpool")]
#[must_use = "dropping it ends it"]
pub struct ThreadPool {
    shared: Arc<Shared>,
    exits: Arc<Exits>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

/// What must come to its end before the pool has ended: the workers, and `finish`.
pub(crate) struct Exits {
    running: Mutex<usize>,
    changed: Condvar,
}

impl Exits {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            running: Mutex::new(workers + 1),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn one_less(&self) {
        *self.running.lock() -= 1;
        self.changed.notify_all();
    }

    /// True: all have ended.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut running = self.running.lock();
        while *running > 0 {
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => wait_until(&self.changed, &mut running, deadline),
                None => crate::primitive::wait(&self.changed, &mut running),
            }
        }
        true
    }
}

impl ThreadPool {
    pub(crate) fn from_parts(
        shared: Arc<Shared>,
        exits: Arc<Exits>,
        threads: Vec<thread::JoinHandle<()>>,
    ) -> Self {
        Self {
            shared,
            exits,
            threads: Mutex::new(threads),
        }
    }

    /// A loop's end of the pool, for tasks of type `T`. `wake` is called, on any thread, when the loop should call
    /// [`take_ready`](Service::take_ready): an `Arc<mio::Waker>`, or a closure. See [`Wake`].
    ///
    /// After [`finish`](Self::finish) it refuses every task. From any thread; make one for each loop, not one for each client.
    pub fn service<T: Task>(&self, wake: impl Wake) -> Service<T> {
        Service::new(Port::new(Arc::clone(&self.shared), Box::new(wake)))
    }

    /// How many tasks stand how. O(threads + services), about a microsecond; stops nobody.
    #[doc(alias = "lws_threadpool_diagnose")]
    pub fn counts(&self) -> Counts {
        Counts::of(&self.shared)
    }

    /// Everything about the pool and its tasks, as a value.
    ///
    /// Callable from any thread, a step included. Copies the tasks in batches of 512, each under its service's
    /// lock; workers go on meanwhile. About 100 ns per task.
    #[doc(alias = "lws_threadpool_dump")]
    pub fn dump(&self) -> PoolDump {
        PoolDump::of(&self.shared)
    }

    /// Winds the pool up, without waiting: nothing more is accepted, queued tasks end as `Stopped`, started ones are
    /// asked to stop, outliving ones too. The ends are announced as usual. Calling it again does nothing. From any thread, a
    /// step included; O(tasks).
    #[doc(alias = "lws_threadpool_finish")]
    pub fn finish(&self) {
        if !self.shared.start_finishing() {
            return;
        }
        // Its wake-ups must not wait for it.
        let _inside = Inside::enter(&*self.shared);
        let stats = Stats::default();
        let desk = self.shared.guest_desk(&stats);
        for port in self.shared.registry.ports() {
            port.finish(&desk);
        }
        self.shared.wake_for_all(&stats);
        self.shared.registry.retire(&stats);
        self.shared.sleep.close();
        self.exits.one_less();
    }

    /// [`finish`](Self::finish), then waits until every worker has ended, at most for `timeout`. Without threads
    /// (`threads(0)`) it runs what is pending here. A parked task that a loop holds at that moment ends when that loop
    /// gives it back, on the loop's thread; a step that a loop runs itself, in `run_pending`, is not waited for.
    ///
    /// A timeout of this call is none of the pool's: who drops the pool then waits for the steps that do not return. To leave
    /// without them, `std::mem::forget` the pool, or end the process.
    ///
    /// # Errors
    ///
    /// The names of the tasks whose steps have not returned. The workers go on; it can be called again. On one of the
    /// pool's own workers, inside a step that a loop runs itself, and in a wake-up that `finish` makes: `OnWorker`, at once.
    #[doc(alias = "lws_threadpool_destroy")]
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.finish();
        if self.is_own_worker() || is_inside(&*self.shared) {
            return Err(JoinError::OnWorker);
        }
        let begun = Instant::now();
        let mut ends = self.exits.wait(begun.checked_add(timeout));
        if ends && self.shared.seats.is_empty() {
            ends = self.run_leftovers(timeout.saturating_sub(begun.elapsed()));
        }
        if !ends {
            return Err(JoinError::StillRunning(self.running_tasks()));
        }
        self.close();
        Ok(())
    }

    /// Names what keeps workers; without any, what has not ended.
    fn running_tasks(&self) -> Vec<String> {
        let tasks = self.dump().tasks;
        let on_workers = tasks.iter().any(|task| task.worker.is_some());
        let keeps_the_pool = |task: &&TaskDump| {
            if on_workers {
                task.worker.is_some()
            } else {
                !task.status.is_ended()
            }
        };
        let named = tasks.iter().filter(keeps_the_pool);
        named
            .map(|task| match &task.name {
                Some(name) => format!("{} ({name})", task.id),
                None => task.id.to_string(),
            })
            .collect()
    }

    /// What a pool without workers has left is run by who ends it. False: `budget` was not enough.
    fn run_leftovers(&self, budget: Duration) -> bool {
        if self.shared.has_pending() {
            let stats = Stats::default();
            self.shared
                .run_pending(&self.shared.guest_desk(&stats).with_budget(nanos(budget)));
            self.shared.registry.retire(&stats);
        }
        !self.shared.has_pending()
    }

    /// Nothing is pending: what a loop still holds ends where that gives it back.
    fn close(&self) {
        if self.shared.seats.is_empty() {
            self.shared.owner_goes();
            self.run_leftovers(Duration::MAX);
        } else {
            self.join();
        }
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A worker does not panic: the user's panics are contained.
            let _ = thread.join();
        }
    }

    fn is_own_worker(&self) -> bool {
        is_worker_of(&*self.shared)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.finish();
        if !self.is_own_worker() {
            self.close();
        }
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.shared.name)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
