//! The handle of a pool.

pub(crate) mod builder;
pub(crate) mod overload;
pub(crate) mod shutdown;
mod still_running;

use crate::clock::nanos;
use crate::dump::{Counts, PoolDump};
use crate::error::JoinError;
use crate::queue::fair::WEIGHT_MAX;
use crate::scheduler::Scheduler;
use crate::scheduler::counters::ThreadCounters;
use crate::scheduler::reentrancy::{ReentrancyGuard, is_inside, is_worker_of};
use crate::service::Service;
use crate::sync::{Mutex, thread};
use crate::task::Task;
use crate::task::id::GroupId;
use crate::wake::Wake;
use shutdown::Shutdown;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use still_running::still_running;

/// A pool of threads that run the tasks of connections, for one or more service loops.
///
/// Build it with [`builder`](Self::builder), and make a [`service`](Self::service) for each loop.
/// Threads can share it by reference or in an `Arc`.
///
/// Dropping it calls [`shutdown`](Self::shutdown) with [`Shutdown::Cancel`] and waits until every
/// worker has ended. A worker ends after its current step. A drop in a step or in a wake-up of the
/// pool does not wait. In async code drop the pool inside `spawn_blocking`. Services may be dropped
/// before the pool or after it.
#[doc(alias = "lws_threadpool")]
#[must_use = "dropping the pool shuts it down"]
pub struct ThreadPool {
    scheduler: Arc<Scheduler>,
    /// The workers, and the thread that notifies the loops of a cancellation.
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl ThreadPool {
    fn from_parts(scheduler: Arc<Scheduler>, threads: Vec<thread::JoinHandle<()>>) -> Self {
        Self {
            scheduler,
            threads: Mutex::new(threads),
        }
    }

    /// Makes a service for one loop, with tasks of type `T`. The pool calls `wake`, on any thread,
    /// when the loop should call [`take_ready`](Service::take_ready). `wake` is an
    /// `Arc<mio::Waker>`, a closure, or another [`Wake`].
    ///
    /// After [`shutdown`](Self::shutdown) the service refuses every task. This can be called from
    /// any thread. Make one service for each loop, not one for each client.
    pub fn service<T: Task>(&self, wake: impl Wake) -> Service<T> {
        Service::new(&self.scheduler, wake)
    }

    /// Sets the weight of a group of connections. The groups that have tasks, and the connections
    /// that have tasks and no group, get shares of worker time in proportion to their weights. The
    /// default is 1. A weight of 0 counts as 1, and a weight of more than 256 counts as 256. The
    /// number of connections in the group does not matter.
    ///
    /// ```
    /// # use moored::{BoxTask, ThreadPool};
    /// use moored::GroupId;
    ///
    /// # let pool = ThreadPool::builder().threads(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// service.set_group(7, GroupId(1));
    /// service.set_group(8, GroupId(1));
    /// pool.set_group_weight(GroupId(1), 2); // twice the share of a connection without a group
    /// # Ok::<(), moored::BuildError>(())
    /// ```
    ///
    /// The weight applies to turns that begin or end after the call, whether the group has
    /// connections or not. A weight other than 1 uses memory until it is set to 1 again. The call
    /// is O(1), with the lock of the queue. It can be called from any thread, and inside a step.
    #[doc(alias = "tenant")]
    #[doc(alias = "priority")]
    #[doc(alias = "share")]
    pub fn set_group_weight(&self, group: GroupId, weight: u16) {
        let weight = weight.clamp(1, WEIGHT_MAX);
        self.scheduler.queue.lock().lanes.set_group_weight(group, weight);
    }

    /// The number of tasks in each state, from counters. It can be called from any thread and
    /// blocks no worker. O(threads + services).
    #[doc(alias = "lws_threadpool_diagnose")]
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::of(&self.scheduler)
    }

    /// Estimates the time until the first task of a new connection has its first step, if the task
    /// is enqueued now. The result is zero if the task could start at once.
    ///
    /// ```
    /// use moored::ThreadPool;
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// assert_eq!(pool.estimated_wait(), Duration::ZERO);
    /// # Ok::<(), moored::BuildError>(())
    /// ```
    ///
    /// A new connection waits for the running steps and for other new connections. It does not wait
    /// for the waiting tasks of connections that have used their share. For a connection that has
    /// or had tasks, call [`Service::estimated_wait`]. Its documentation names the assumptions of
    /// the estimate, and the cost of both calls. It can be called from any thread.
    #[doc(alias = "Retry-After")]
    #[doc(alias = "backpressure")]
    #[must_use]
    pub fn estimated_wait(&self) -> Duration {
        self.scheduler.estimated_wait(None)
    }

    /// Everything about the pool and its tasks, as a value.
    ///
    /// It can be called from any thread, and inside a step. It reads the headers of the tasks
    /// without a lock. Loops and workers continue during the dump, so it is not a snapshot.
    /// O(tasks).
    #[doc(alias = "lws_threadpool_dump")]
    #[must_use]
    pub fn dump(&self) -> PoolDump {
        PoolDump::of(&self.scheduler)
    }

    /// Shuts the pool down, without waiting. The pool accepts no more tasks, and `how` says what
    /// happens to the accepted ones. Their ends are announced as usual. A second call has an effect
    /// only if it is `Cancel` after `Drain`.
    ///
    /// ```
    /// use moored::{BoxTask, EnqueueError, Shutdown, StopReason, TaskReturn, TaskStatus};
    /// use moored::{ThreadPool, task_fn};
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
    /// It notifies every loop, because parked and queued tasks end in the next call that their loop
    /// makes on its service. It can be called from any thread, and inside a step. O(services).
    #[doc(alias = "lws_threadpool_finish")]
    #[doc(alias = "finish")]
    #[doc(alias = "stop")]
    pub fn shutdown(&self, how: Shutdown) {
        if self.scheduler.is_forked() {
            return;
        }
        match how {
            Shutdown::Cancel => {
                if self.scheduler.start_cancel() {
                    notify_cancel(&self.scheduler);
                }
            }
            Shutdown::Drain => self.scheduler.start_drain(),
        }
    }

    #[cfg(loom)]
    pub(crate) fn largest_finish_tag(&self) -> u64 {
        self.scheduler.queue.lock().lanes.root.largest_finish_tag()
    }

    /// Cancels the tasks. If the pool has threads, a separate thread notifies the loops, so that a
    /// wake that blocks does not block the calling thread.
    fn cancel_in_time(&self) {
        if !self.scheduler.start_cancel() {
            return;
        }
        let scheduler = Arc::clone(&self.scheduler);
        let notifier = thread::Builder::new().name(format!("end of {}", scheduler.name));
        if scheduler.has_workers()
            && let Ok(thread) = notifier.spawn(move || notify_cancel(&scheduler))
        {
            self.threads.lock().push(thread);
        } else {
            notify_cancel(&self.scheduler);
        }
    }

    /// Waits until every worker has ended, at most for `timeout`. Before it waits, it calls
    /// [`shutdown`](Self::shutdown) with [`Shutdown::Cancel`] unless the pool is being shut down
    /// already. Without threads (`threads(0)`) it runs the pending tasks on the calling thread.
    ///
    /// The timeout limits this call only: a drop of the pool still waits for every step. To end
    /// without waiting, call `std::mem::forget(pool)`, or end the process.
    ///
    /// # Errors
    ///
    /// [`StillRunning`](JoinError::StillRunning) when the timeout is over, with the names of the
    /// tasks whose steps have not returned. The workers continue, and the call can be repeated.
    /// [`OnWorker`](JoinError::OnWorker) immediately, if the call is made on a worker of the pool,
    /// inside a step that a loop runs, or inside a wake-up that `shutdown` calls.
    #[doc(alias = "lws_threadpool_destroy")]
    #[doc(alias = "wait")]
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        if self.scheduler.is_forked() {
            return Ok(());
        }
        if self.scheduler.is_open() {
            self.cancel_in_time();
        }
        if is_worker_of(&*self.scheduler) || is_inside(&*self.scheduler) {
            return Err(JoinError::OnWorker);
        }
        let begun = Instant::now();
        if self.scheduler.is_draining() && !self.scheduler.has_workers() {
            self.run_leftovers(timeout);
        }
        let mut ends = self.scheduler.exits.wait(begun.checked_add(timeout));
        if ends && !self.scheduler.has_workers() {
            ends = self.run_leftovers(timeout.saturating_sub(begun.elapsed()));
        }
        if !ends {
            return Err(JoinError::StillRunning(still_running(&self.scheduler)));
        }
        self.close();
        Ok(())
    }

    /// In a pool without workers, the thread that ends the pool runs the pending tasks. Returns
    /// false if `budget` was not enough.
    fn run_leftovers(&self, budget: Duration) -> bool {
        let scheduler = &*self.scheduler;
        if scheduler.has_tasks() || scheduler.hints.is_due(scheduler.clock.now()) {
            let counters = ThreadCounters::default();
            scheduler.run_pending(&scheduler.external_context(&counters).with_budget(nanos(budget)));
            scheduler.registry.retire(&counters);
            scheduler.check_drain();
        }
        !scheduler.has_tasks()
    }

    /// Nothing is pending. A parked task ends when its loop answers it.
    fn close(&self) {
        if !self.scheduler.has_workers() {
            self.scheduler.owner_goes();
            self.run_leftovers(Duration::MAX);
            return;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // The threads do not panic, because panics in user code are contained.
            let _ = thread.join();
        }
    }

    /// Whether the current thread is one of those that [`close`](Self::close) waits for.
    fn is_own_thread(&self) -> bool {
        let current = thread::current().id();
        self.threads
            .lock()
            .iter()
            .any(|thread| thread.thread().id() == current)
    }
}

/// Notifies the loops of a pool that was cancelled, then lets the workers end.
fn notify_cancel(scheduler: &Scheduler) {
    // The wakes that this thread calls must not wait for this pool.
    let _guard = ReentrancyGuard::new(scheduler);
    let counters = ThreadCounters::default();
    for service in scheduler.registry.services() {
        counters.wakes.add(u64::from(service.wake_loop()));
    }
    // Every task is asked to stop, so no task is delayed any more. The loops have been notified.
    drop(scheduler.end_delays(u64::MAX, usize::MAX));
    scheduler.wake_for_rest(&counters);
    scheduler.registry.retire(&counters);
    scheduler.idle.close();
    scheduler.exits.note_shutdown();
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if self.scheduler.is_forked() {
            // The join handles name threads that this process does not have.
            std::mem::forget(std::mem::take(&mut *self.threads.lock()));
            return;
        }
        self.shutdown(Shutdown::Cancel);
        if !self.is_own_thread() {
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
