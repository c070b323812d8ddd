//! What can be refused, and what to do about it.

use crate::scheduler::admission::Refused;
use parking_lot::Mutex;
use std::fmt;
use std::io;

/// Why [`Service::enqueue`](crate::Service::enqueue) refused a task, with the task.
///
/// It is `Send + Sync` for every task, so that `?` converts it into `anyhow::Error` and
/// `Box<dyn Error + Send + Sync>`.
///
/// ```
/// use moored::{BoxTask, EnqueueError, TaskReturn, ThreadPool, task_fn};
///
/// let pool = ThreadPool::builder().threads(0).max_queue_depth(1).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// service.enqueue(1, task_fn(|_| TaskReturn::TaskDone))?;
/// match service.enqueue(1, task_fn(|_| TaskReturn::TaskDone)) {
///     Err(EnqueueError::QueueFull(task)) => drop(task.into_inner()), // or keep it for later
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[non_exhaustive]
#[doc(alias = "backpressure")]
pub enum EnqueueError<T> {
    /// `max_queue_depth` tasks wait for their first step and no worker is idle. Answer "busy" (HTTP
    /// 503) or try again after the next wake-up.
    QueueFull(RefusedTask<T>),
    /// `max_tasks` tasks are accepted and not reaped. Reap what `take_ready` announces, or try
    /// again later.
    TooManyTasks(RefusedTask<T>),
    /// The pool is shutting down and accepts nothing more.
    ShuttingDown(RefusedTask<T>),
    /// This process was forked after the pool was built: the threads of the pool exist in the parent
    /// only. Build the pool after the fork. See the [crate](crate#fork) for what is detected.
    Forked(RefusedTask<T>),
}

/// The task in an [`EnqueueError`], untouched.
///
/// It is `Sync` although a task need not be: nothing of the task can be reached through a shared
/// reference.
pub struct RefusedTask<T>(
    // Never locked.
    Mutex<T>,
);

impl<T> RefusedTask<T> {
    /// The task.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T> fmt::Debug for RefusedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusedTask")
    }
}

impl<T> EnqueueError<T> {
    pub(crate) fn new(refused: Refused, task: T) -> Self {
        let task = RefusedTask(Mutex::new(task));
        match refused {
            Refused::QueueFull => Self::QueueFull(task),
            Refused::TooManyTasks => Self::TooManyTasks(task),
            Refused::ShuttingDown => Self::ShuttingDown(task),
            Refused::Forked => Self::Forked(task),
        }
    }

    /// The task that was refused, untouched.
    pub fn into_task(self) -> T {
        match self {
            Self::QueueFull(task)
            | Self::TooManyTasks(task)
            | Self::ShuttingDown(task)
            | Self::Forked(task) => task.into_inner(),
        }
    }

    /// Whether the refusal is for now (a limit) and not for good (the pool is shutting down, or in
    /// another process).
    pub fn is_full(&self) -> bool {
        matches!(self, Self::QueueFull(_) | Self::TooManyTasks(_))
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull(_) => {
                "queue full: max_queue_depth tasks wait to start; try again after a wake-up"
            }
            Self::TooManyTasks(_) => "too many tasks: max_tasks are not reaped; reap ended ones first",
            Self::Forked(_) => {
                "forked: the threads of the pool are in the parent process; build the pool after the fork"
            }
            Self::ShuttingDown(_) => "the pool is shutting down and accepts no tasks",
        }
    }

    fn variant(&self) -> &'static str {
        match self {
            Self::QueueFull(_) => "QueueFull",
            Self::TooManyTasks(_) => "TooManyTasks",
            Self::ShuttingDown(_) => "ShuttingDown",
            Self::Forked(_) => "Forked",
        }
    }
}

impl<T> fmt::Debug for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.variant())
    }
}

impl<T> fmt::Display for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl<T> std::error::Error for EnqueueError<T> {}

/// Why [`ThreadPoolBuilder::build`](crate::ThreadPoolBuilder::build) made no pool. Nothing is left
/// behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An option that must be at least 1 is 0; names the option.
    Zero(&'static str),
    /// More threads than a pool can number (65,000).
    TooManyThreads(usize),
    /// The name contains a NUL byte, which no thread's name may.
    NameWithNul(String),
    /// The operating system refused thread number `index`. Ask for fewer threads, a smaller
    /// stack, or raise the limit (`ulimit -u`, cgroup `pids.max`).
    #[non_exhaustive]
    Spawn {
        /// Counted from 0.
        index: usize,
        /// The option `stack_size`, in bytes.
        stack_size: Option<usize>,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(option) => write!(f, "`{option}` is 0: give at least 1"),
            Self::TooManyThreads(asked) => {
                write!(
                    f,
                    "{asked} threads: a pool has at most {}",
                    crate::error::MAX_THREADS
                )
            }
            Self::NameWithNul(name) => write!(f, "the name {name:?} contains a NUL byte: leave it out"),
            // Without the source, which an error report prints by itself.
            Self::Spawn {
                index, stack_size, ..
            } => {
                write!(f, "thread {index} of the pool could not be started")?;
                match stack_size {
                    Some(bytes) => write!(
                        f,
                        " with `stack_size` {bytes}: use a smaller stack or fewer threads"
                    ),
                    None => f.write_str(": use fewer threads"),
                }
            }
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The most threads that one pool can have.
pub(crate) const MAX_THREADS: usize = 65_000;

/// Why [`ThreadPool::join_timeout`](crate::ThreadPool::join_timeout) came back before the workers
/// had ended.
///
/// ```
/// use moored::ThreadPool;
/// use std::sync::{Arc, Barrier};
/// use std::time::Duration;
///
/// let end = Arc::new(Barrier::new(2));
/// let waits = Arc::clone(&end);
/// let builder = ThreadPool::builder().threads(1);
/// let pool = builder.on_thread_start(move |_| drop(waits.wait())).build()?;
/// let hook = "still running: worker 0, in on_thread_start";
/// // Until the thread has come so far.
/// while pool.join_timeout(Duration::ZERO).is_err_and(|error| error.to_string() != hook) {}
/// end.wait();
/// pool.join_timeout(Duration::from_secs(60))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// Time is up. Names, in words, each task and each thread that keeps the pool, and where it is:
    ///
    /// - tasks that are on a worker or wait for their next turn there: their steps do not return,
    ///   or answer `Continue` although `is_stopping` says otherwise; if the pool drains or has no
    ///   threads, also those that are parked or have not started;
    /// - workers that are in a wake-up of a loop, in a thread hook, or drop their thread-locals;
    /// - a shutdown that is in a wake-up of a loop.
    StillRunning(Vec<String>),
    /// Called from inside a step or a wake-up of `shutdown`, on whatever thread, or on one of the
    /// pool's own threads: none of these can wait for itself.
    OnWorker,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StillRunning(names) => write!(f, "still running: {}", names.join("; ")),
            Self::OnWorker => f.write_str(
                "a step or worker cannot join its own pool: call this from outside or from another thread",
            ),
        }
    }
}

impl std::error::Error for JoinError {}
