//! The owner of a pool.

pub(crate) mod builder;
mod exits;
pub(crate) mod shutdown;

use crate::clock::nanos;
use crate::dump::task::TaskDump;
use crate::dump::{Counts, PoolDump};
use crate::error::JoinError;
use crate::scheduler::Scheduler;
use crate::scheduler::counters::Counters;
use crate::scheduler::reentrancy::{ReentrancyGuard, is_inside, is_worker_of};
use crate::service::Service;
use crate::sync::{Mutex, thread};
use crate::task::Task;
use crate::wake::Wake;
use exits::Exits;
use shutdown::Shutdown;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads that run the tasks of connections, for one or more service loops.
///
/// Build it with [`builder`](Self::builder), give each loop a [`service`](Self::service). It can be
/// shared between threads.
///
/// Dropping it calls [`shutdown`](Self::shutdown) with [`Shutdown::Cancel`] and waits for the
/// workers, however long their steps take; on one of its own workers it does not wait. Services may
/// be dropped before or after.
#[doc(alias = "lws_threadpool")]
#[must_use = "dropping it ends it"]
pub struct ThreadPool {
    scheduler: Arc<Scheduler>,
    exits: Arc<Exits>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl ThreadPool {
    fn from_parts(
        scheduler: Arc<Scheduler>,
        exits: Arc<Exits>,
        threads: Vec<thread::JoinHandle<()>>,
    ) -> Self {
        Self {
            scheduler,
            exits,
            threads: Mutex::new(threads),
        }
    }

    /// A loop's end of the pool, for tasks of type `T`. `wake` wakes the loop: it is called, on any
    /// thread, when the loop should call [`take_ready`](Service::take_ready): an `Arc<mio::Waker>`,
    /// or a closure. See [`Wake`].
    ///
    /// After [`shutdown`](Self::shutdown) it refuses every task. From any thread. Make one for each
    /// loop, not one for each client.
    pub fn service<T: Task>(&self, wake: impl Wake) -> Service<T> {
        Service::new(&self.scheduler, wake)
    }

    /// The number of tasks in each state, by counters. From any thread. O(threads + services);
    /// blocks no worker.
    #[doc(alias = "lws_threadpool_diagnose")]
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::of(&self.scheduler)
    }

    /// Everything about the pool and its tasks, as a value.
    ///
    /// From any thread, a step included. It reads the headers of the tasks without a lock; loops
    /// and workers continue meanwhile, so it is not a snapshot. O(tasks).
    #[doc(alias = "lws_threadpool_dump")]
    #[must_use]
    pub fn dump(&self) -> PoolDump {
        PoolDump::of(&self.scheduler)
    }

    /// Shuts the pool down, without waiting: it accepts nothing more, and `how` says what becomes
    /// of the tasks that it has accepted. Their ends are announced as usual. Calling it again does
    /// nothing.
    ///
    /// ```
    /// use moored::{BoxTask, EnqueueError, Shutdown, StopReason, TaskReturn, TaskStatus, ThreadPool, task_fn};
    ///
    /// let pool = ThreadPool::builder().threads(0).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let id = service.enqueue(7, task_fn(|_| TaskReturn::TaskDone))?;
    /// pool.shutdown(Shutdown::Cancel);
    /// let refused = service.enqueue(7, task_fn(|_| TaskReturn::TaskDone));
    /// assert!(matches!(refused, Err(EnqueueError::ShuttingDown(_))));
    /// let end = service.task_status(id);
    /// assert!(matches!(end, Some(TaskStatus::Stopped(StopReason::PoolShutdown, _))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It notifies every loop, because the tasks that a loop holds end in its next call of the
    /// service. From any thread, a step included. O(services).
    #[doc(alias = "lws_threadpool_finish")]
    #[doc(alias = "finish")]
    #[doc(alias = "stop")]
    pub fn shutdown(&self, how: Shutdown) {
        match how {
            Shutdown::Cancel => self.cancel(),
        }
    }

    fn cancel(&self) {
        if !self.scheduler.start_shutdown() {
            return;
        }
        // The wakes that it makes must not wait for it.
        let _guard = ReentrancyGuard::new(&*self.scheduler);
        let counters = Counters::default();
        for service in self.scheduler.registry.services() {
            service.notify_loop_of(&counters);
        }
        // Every task is asked to stop: none waits for a moment any more.
        self.scheduler.end_delays(u64::MAX, usize::MAX, &counters);
        self.scheduler.wake_for_rest(&counters);
        self.scheduler.registry.retire(&counters);
        self.scheduler.idle.close();
        self.exits.one_less();
    }

    /// Calls [`shutdown`](Self::shutdown) with [`Shutdown::Cancel`], then waits until every worker
    /// has ended, at most for `timeout`. Without threads (`threads(0)`) it runs what is pending on
    /// this thread. A parked task that a loop holds at that moment ends when that loop gives it
    /// back, on the loop's thread; a step that a loop runs itself, in `run_pending`, is not waited
    /// for.
    ///
    /// The timeout bounds this call only: dropping the pool still waits for the steps that do not
    /// return. To leave without them, `std::mem::forget` the pool, or end the process.
    ///
    /// # Errors
    ///
    /// The names of the tasks whose steps have not returned. The workers continue; it can be called
    /// again. On one of the pool's own workers, inside a step that a loop runs itself, and in a
    /// wake-up that `shutdown` makes: `OnWorker`, at once.
    #[doc(alias = "lws_threadpool_destroy")]
    #[doc(alias = "wait")]
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.shutdown(Shutdown::Cancel);
        if self.is_own_worker() || is_inside(&*self.scheduler) {
            return Err(JoinError::OnWorker);
        }
        let begun = Instant::now();
        let mut ends = self.exits.wait(begun.checked_add(timeout));
        if ends && !self.scheduler.has_workers() {
            ends = self.run_leftovers(timeout.saturating_sub(begun.elapsed()));
        }
        if !ends {
            return Err(JoinError::StillRunning(self.running_tasks()));
        }
        self.close();
        Ok(())
    }

    /// The tasks that keep workers; if there are none, those that have not ended.
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

    /// In a pool without workers, the thread that ends it runs what is left. False: `budget` was
    /// not enough.
    fn run_leftovers(&self, budget: Duration) -> bool {
        let scheduler = &*self.scheduler;
        if scheduler.has_tasks() {
            let counters = Counters::default();
            scheduler.run_pending(&scheduler.external_context(&counters).with_budget(nanos(budget)));
            scheduler.registry.retire(&counters);
        }
        !scheduler.has_tasks()
    }

    /// Nothing is pending: a task that a loop still holds ends where the loop gives it back.
    fn close(&self) {
        if self.scheduler.has_workers() {
            self.join();
        } else {
            self.scheduler.owner_goes();
            self.run_leftovers(Duration::MAX);
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
        is_worker_of(&*self.scheduler)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Cancel);
        if !self.is_own_worker() {
            self.close();
        }
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.scheduler.name)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
