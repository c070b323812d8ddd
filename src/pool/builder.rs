//! The options of a pool, and the start of its threads.

use super::ThreadPool;
use super::overload::Overload;
use crate::clock::{Clock, nanos};
use crate::error::{BuildError, MAX_THREADS};
use crate::panic::{Locations, install_hook, quietly};
use crate::scheduler::admission::Admission;
use crate::scheduler::exits::{Activity, EndOfWorker, Exits};
use crate::scheduler::reentrancy::become_worker_of;
use crate::scheduler::slow_step::{SlowStep, SlowSteps};
use crate::scheduler::worker::Worker;
use crate::scheduler::{Scheduler, Setup};
use crate::sync::{keep_until_thread_end, thread};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Hook = Arc<dyn Fn(usize) + Send + Sync>;

/// The options of a [`ThreadPool`]. Every option has a default.
#[derive(Clone)]
#[must_use]
pub struct ThreadPoolBuilder {
    name: String,
    threads: Option<usize>,
    max_queue_depth: usize,
    max_tasks: usize,
    overload: Overload,
    max_queued_per_connection: Option<usize>,
    max_running_per_connection: Option<usize>,
    time_slice: Duration,
    stack_size: Option<usize>,
    clock: Option<Clock>,
    on_start: Option<Hook>,
    on_stop: Option<Hook>,
    slow_steps: Option<SlowSteps>,
    panic_locations: Locations,
}

impl ThreadPool {
    /// Returns the default options.
    #[doc(alias = "lws_threadpool_create")]
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }
}

impl ThreadPoolBuilder {
    fn new() -> Self {
        Self {
            name: "moored".to_owned(),
            threads: None,
            max_queue_depth: 1024,
            max_tasks: 100_000,
            overload: Overload::default(),
            max_queued_per_connection: None,
            max_running_per_connection: None,
            time_slice: Duration::from_millis(10),
            stack_size: None,
            clock: None,
            on_start: None,
            on_stop: None,
            slow_steps: None,
            panic_locations: Locations::default(),
        }
    }

    /// The name of the pool; its threads are called `<name>-<n>`. Default: `moored`. Linux shows
    /// the first 15 bytes of a thread's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The number of worker threads. Default: one for each core that the process may use. With 0
    /// the loop runs the steps itself, with [`Service::run_pending`](crate::Service::run_pending).
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The largest number of accepted tasks that have not started, of all services together. Each
    /// idle worker adds one more place. Default: 1024. When the queue is full, `enqueue` sheds the
    /// newest waiting task of another connection, or returns `QueueFull`: see
    /// [`overload`](Self::overload).
    #[doc(alias = "backpressure")]
    pub fn max_queue_depth(mut self, tasks: usize) -> Self {
        self.max_queue_depth = tasks;
        self
    }

    /// Sets the behaviour of a pool that gets more tasks than it can run. Default:
    /// [`Overload::ShedFattest`].
    ///
    /// ```
    /// use moored::{BoxTask, Overload, StopReason, TaskReturn, TaskStatus, ThreadPool, task_fn};
    ///
    /// let builder = ThreadPool::builder().threads(0).max_queue_depth(4);
    /// let pool = builder.overload(Overload::ShedFattest).build()?; // the default
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let done = || task_fn(|_| TaskReturn::TaskDone);
    /// let flood: Vec<_> = (0..4).map(|_| service.enqueue(1, done())).collect::<Result<_, _>>()?;
    /// service.enqueue(2, done())?; // takes the place of the newest task of connection 1
    /// let shed = service.task_status(flood[3]);
    /// assert!(matches!(shed, Some(TaskStatus::Stopped(StopReason::Shed, _))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "load shedding")]
    pub fn overload(mut self, overload: Overload) -> Self {
        self.overload = overload;
        self
    }

    /// The largest number of accepted tasks that have not been reaped, of all services together. It
    /// bounds the memory of the pool. Default: 100,000. At the limit, `enqueue` returns
    /// `TooManyTasks`.
    #[doc(alias = "backpressure")]
    pub fn max_tasks(mut self, tasks: usize) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// The largest number of tasks of one connection that were accepted and have not started. It is
    /// a hard limit, in addition to [`overload`](Self::overload). Default: no limit. At the limit,
    /// `enqueue` refuses with `ConnectionFull`. Each service counts
    /// separately. A `reattach` may exceed the limit.
    ///
    /// ```
    /// use moored::{BoxTask, EnqueueError, TaskReturn, ThreadPool, task_fn};
    ///
    /// let pool = ThreadPool::builder().threads(0).max_queued_per_connection(2).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let mut enqueue = |conn| service.enqueue(conn, task_fn(|_| TaskReturn::TaskDone));
    /// (enqueue(1)?, enqueue(1)?);
    /// assert!(matches!(enqueue(1), Err(EnqueueError::ConnectionFull { limit: 2, .. })));
    /// enqueue(2)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// `enqueue` is O(1) amortized. At the limit it also receives the tasks that workers have
    /// returned. With several workers a task may start a short time before an earlier task of its
    /// connection. Then it may count until the earlier task has started.
    #[doc(alias = "backpressure")]
    pub fn max_queued_per_connection(mut self, tasks: usize) -> Self {
        self.max_queued_per_connection = Some(tasks);
        self
    }

    /// The largest number of tasks of one connection that have started and not ended. Default: no
    /// limit. With 1, the tasks of a connection run one after the other, and their ends are
    /// announced in that order. A parked task has not ended, so it delays the next one. A
    /// `reattach` of a started task may exceed the limit. Costs one more lock for each task.
    ///
    /// Without a limit, workers take the tasks of a connection in order, but several workers may
    /// run them at the same time. A task that a worker has taken in a batch may then start up to
    /// about 40 us later than the next task, which another worker has taken.
    pub fn max_running_per_connection(mut self, tasks: usize) -> Self {
        self.max_running_per_connection = Some(tasks);
        self
    }

    /// How long a task that returns `Continue` keeps its worker while other tasks wait. Default: 10
    /// ms.
    pub fn time_slice(mut self, slice: Duration) -> Self {
        self.time_slice = slice;
        self
    }

    /// The stack size of each worker in bytes. Default: 2 MiB, as for `std::thread`. A value below
    /// 64 KiB is raised to 64 KiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes.max(64 * 1024));
        self
    }

    /// The clock of the pool. Default: [`Clock::system`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Calls `hook` on each worker with the number of the worker, before its first step. A panic in
    /// it is contained.
    pub fn on_thread_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_start = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` on each worker with the number of the worker, after its last step. A panic in
    /// it is contained.
    pub fn on_thread_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_stop = Some(Arc::new(hook));
        self
    }

    /// Calls `report` once for each step that takes longer than `threshold` on a worker, while the
    /// step runs.
    ///
    /// ```
    /// use moored::{ThreadPool, call};
    /// use std::time::Duration;
    ///
    /// let builder = ThreadPool::builder().threads(1);
    /// let pool = builder
    ///     .on_slow_step(Duration::from_millis(100), |step| {
    ///         eprintln!("worker {}: task {} runs for {:?}", step.worker, step.id, step.elapsed);
    ///     })
    ///     .build()?;
    /// let mut service = pool.service(|| {});
    /// service.enqueue(7, call(|_| 17))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Another thread of the pool makes this call: a worker before it looks for tasks, or a loop in
    /// [`take_ready`](crate::Service::take_ready) or
    /// [`poll_timeout`](crate::Service::poll_timeout). There is no watchdog thread. So if no other
    /// thread is active, a step is reported late or not at all; to get reports in time, let the
    /// loop wake up at intervals. No lock is held during the call, and a panic in `report` is
    /// contained. Steps that run inside [`run_pending`](crate::Service::run_pending) are not
    /// reported.
    ///
    /// Costs a few nanoseconds for each step. Each check reads the clock and one cache line for
    /// each worker.
    #[doc(alias = "watchdog")]
    #[doc(alias = "stuck")]
    pub fn on_slow_step(
        mut self,
        threshold: Duration,
        report: impl Fn(&SlowStep) + Send + Sync + 'static,
    ) -> Self {
        self.slow_steps = Some(SlowSteps {
            threshold: nanos(threshold),
            report: Arc::new(report),
        });
        self
    }

    /// Records the location of each panic in a step. [`Panic::location`](crate::Panic::location)
    /// and the dump of the last abnormal ends show it.
    ///
    /// ```
    /// use moored::{BoxTask, TaskStatus, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(0).record_panic_locations().build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// let id = service.enqueue(7, task_fn(|_| panic!("no such row")))?;
    /// service.run_pending(Duration::MAX);
    /// let Some(TaskStatus::Panicked(panic)) = service.task_status(id) else { unreachable!() };
    /// assert!(panic.location().is_some_and(|location| location.contains(".rs:")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Rust passes the location of a panic to the panic hook only, and there is one hook for the
    /// whole process. So `build` installs a hook that records the location of a panic inside a
    /// step, and then calls the hook that was installed before. This is done once for the process,
    /// and the hook stays when the pool is dropped. An application with its own hook should install
    /// that hook before this call of `build`. A later hook that does not call the previous one ends
    /// the recording; then locations are `None`. If `build` runs on a thread that panics, it
    /// installs no hook.
    ///
    /// If a step catches a panic and then panics again, the last location counts.
    ///
    /// The cost is a few nanoseconds for each step, and an allocation for each panic.
    #[doc(alias = "hook")]
    pub fn record_panic_locations(mut self) -> Self {
        self.panic_locations = Locations::Record;
        self
    }

    /// Makes the pool and starts its threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if an option is invalid, or if the operating system cannot start a thread.
    /// Threads that were started before the error are stopped and joined.
    #[doc(alias = "lws_threadpool_create")]
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        let threads = self.checked_threads()?;
        if self.panic_locations == Locations::Record {
            install_hook();
        }
        let or_max = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let scheduler = Arc::new(Scheduler::new(Setup {
            name: self.name.clone(),
            clock: self.clock.clone().unwrap_or_default(),
            threads,
            time_slice: nanos(self.time_slice),
            limit: self.max_running_per_connection.map(or_max),
            overload: self.overload,
            max_queued: self.max_queued_per_connection.map(or_max),
            slow_steps: self.slow_steps.clone(),
            panic_locations: self.panic_locations,
            admission: Admission::new(self.max_queue_depth, self.max_tasks),
        }));
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let worker = Worker {
                scheduler: Arc::clone(&scheduler),
                index,
            };
            match self.spawn(worker) {
                Ok(handle) => handles.push(handle),
                Err(source) => {
                    // Stops and joins the threads that have started.
                    drop(ThreadPool::from_parts(scheduler, handles));
                    return Err(BuildError::Spawn {
                        index,
                        stack_size: self.stack_size,
                        source,
                    });
                }
            }
        }
        Ok(ThreadPool::from_parts(scheduler, handles))
    }

    fn checked_threads(&self) -> Result<usize, BuildError> {
        let at_least_one = [
            ("max_queue_depth", Some(self.max_queue_depth)),
            ("max_tasks", Some(self.max_tasks)),
            ("max_queued_per_connection", self.max_queued_per_connection),
            ("max_running_per_connection", self.max_running_per_connection),
        ];
        if let Some((option, _)) = at_least_one.into_iter().find(|&(_, value)| value == Some(0)) {
            return Err(BuildError::Zero(option));
        }
        self.overload.check()?;
        if self.name.contains('\0') {
            return Err(BuildError::NameWithNul(self.name.clone()));
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads.unwrap_or_else(cores) {
            threads if threads > MAX_THREADS => Err(BuildError::TooManyThreads(threads)),
            threads => Ok(threads),
        }
    }

    fn spawn(&self, worker: Worker) -> std::io::Result<thread::JoinHandle<()>> {
        let mut builder = thread::Builder::new().name(format!("{}-{}", self.name, worker.index));
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let (on_start, on_stop) = (self.on_start.clone(), self.on_stop.clone());
        let (index, exits) = (worker.index, Arc::clone(&worker.scheduler.exits));
        builder.spawn(move || {
            // The first value of the thread, so that it is dropped last.
            let _end = keep_until_thread_end(EndOfWorker {
                exits: Arc::clone(&exits),
                worker: index,
            });
            become_worker_of(&*worker.scheduler);
            run_hook(on_start.as_ref(), &exits, index, Activity::StartHook);
            worker.work();
            drop(worker);
            run_hook(on_stop.as_ref(), &exits, index, Activity::StopHook);
            exits.set_activity(index, Activity::ThreadLocals);
        })
    }
}

fn run_hook(hook: Option<&Hook>, exits: &Exits, index: usize, activity: Activity) {
    if let Some(hook) = hook {
        exits.set_activity(index, activity);
        quietly(|| hook(index));
        exits.set_activity(index, Activity::Other);
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("name", &self.name)
            .field("threads", &self.threads)
            .field("max_queue_depth", &self.max_queue_depth)
            .field("max_tasks", &self.max_tasks)
            .field("max_queued_per_connection", &self.max_queued_per_connection)
            .field("max_running_per_connection", &self.max_running_per_connection)
            .field("time_slice", &self.time_slice)
            .field("stack_size", &self.stack_size)
            .field("clock", &self.clock)
            .field("slow_steps", &self.slow_steps)
            .field("panic_locations", &self.panic_locations)
            .finish_non_exhaustive()
    }
}
