//! The errors of pools and of `enqueue`.

use crate::scheduler::admission::Refused;
use crate::task::id::ConnId;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why [`Service::enqueue`](crate::Service::enqueue) refused a task, with the task.
///
/// After `QueueFull` or `TooManyTasks` the loop is notified once when there is room. Any service of
/// the pool can make this room. After the notification the loop calls
/// [`take_ready`](crate::Service::take_ready) and enqueues the task again. It is accepted, unless
/// another loop has taken the room first: then it is refused, and the loop is notified again.
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
    /// `max_queue_depth` tasks wait for their first step, no worker is idle, and the pool can shed
    /// no task for this one (see [`Overload`](crate::Overload)). Answer "busy" (HTTP 503, with
    /// [`estimated_wait`](crate::Service::estimated_wait) as `Retry-After`), or try again after the
    /// next wake-up.
    QueueFull(RefusedTask<T>),
    /// `max_tasks` tasks are accepted and not reaped. Reap the tasks that `take_ready` announces,
    /// or try again later.
    TooManyTasks(RefusedTask<T>),
    /// `max_queued_per_connection` tasks of the connection wait for their first step. Answer
    /// "busy", or try again when one of them is announced. There is no separate notification.
    #[non_exhaustive]
    ConnectionFull {
        /// The task, unchanged.
        task: RefusedTask<T>,
        /// The connection of the task.
        connection: ConnId,
        /// The number of tasks of the connection that have not started.
        queued: usize,
        /// The limit, `max_queued_per_connection`.
        limit: usize,
    },
    /// The pool is shutting down and accepts nothing more.
    ShuttingDown(RefusedTask<T>),
    /// This process was forked after the pool was built: the threads of the pool exist in the
    /// parent only. Build the pool after the fork. See the [crate](crate#fork) for the calls that
    /// detect a fork.
    Forked(RefusedTask<T>),
}

/// The refused task, unchanged, in an [`EnqueueError`].
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
            Refused::ConnectionFull {
                connection,
                queued,
                limit,
            } => Self::ConnectionFull {
                task,
                connection,
                queued: queued as usize,
                limit: limit as usize,
            },
            Refused::ShuttingDown => Self::ShuttingDown(task),
            Refused::Forked => Self::Forked(task),
        }
    }

    /// Returns the refused task, unchanged.
    pub fn into_task(self) -> T {
        match self {
            Self::QueueFull(task)
            | Self::TooManyTasks(task)
            | Self::ConnectionFull { task, .. }
            | Self::ShuttingDown(task)
            | Self::Forked(task) => task.into_inner(),
        }
    }

    /// Whether a limit caused the refusal, so that a later call can succeed. If it is false, every
    /// later call fails, because the pool is shutting down or the process was forked.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::QueueFull(_) | Self::TooManyTasks(_) | Self::ConnectionFull { .. }
        )
    }
}

impl<T> fmt::Debug for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull(_) => "QueueFull(..)",
            Self::TooManyTasks(_) => "TooManyTasks(..)",
            Self::ConnectionFull { .. } => "ConnectionFull(..)",
            Self::ShuttingDown(_) => "ShuttingDown(..)",
            Self::Forked(_) => "Forked(..)",
        })
    }
}

impl<T> fmt::Display for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull(_) => f.write_str(
                "queue full: `max_queue_depth` tasks wait to start; try again when the loop is notified",
            ),
            Self::TooManyTasks(_) => f.write_str(
                "too many tasks: `max_tasks` tasks are not reaped; reap the tasks that have ended",
            ),
            Self::ConnectionFull {
                connection,
                queued,
                limit,
                ..
            } => write!(
                f,
                "connection {connection} has {queued} tasks that wait to start, and \
                 `max_queued_per_connection` is {limit}; try again when one of them is announced"
            ),
            Self::Forked(_) => f.write_str(
                "forked: the threads of the pool are in the parent process; build the pool after the fork",
            ),
            Self::ShuttingDown(_) => f.write_str("the pool is shutting down and accepts no tasks"),
        }
    }
}

impl<T> std::error::Error for EnqueueError<T> {}

/// Why [`ThreadPoolBuilder::build`](crate::ThreadPoolBuilder::build) failed. No thread remains.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The named option is 0 but must be at least 1.
    Zero(&'static str),
    /// More threads than a pool can have (65,000).
    TooManyThreads(usize),
    /// [`Overload::Codel`](crate::Overload::Codel) has a `target` of zero, or an `interval` that is
    /// shorter than the target.
    #[non_exhaustive]
    Codel {
        /// The target.
        target: Duration,
        /// The interval.
        interval: Duration,
    },
    /// The name contains a NUL byte, which is not allowed in the name of a thread.
    NameWithNul(String),
    /// The operating system could not start thread number `index`. Use fewer threads or a smaller
    /// stack, or raise the limit (`ulimit -u`, cgroup `pids.max`).
    #[non_exhaustive]
    Spawn {
        /// The number of the thread, counted from 0.
        index: usize,
        /// The option `stack_size`, in bytes.
        stack_size: Option<usize>,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(option) => write!(f, "`{option}` is 0: give at least 1"),
            Self::TooManyThreads(asked) => {
                write!(f, "`threads` is {asked}: give at most {MAX_THREADS}")
            }
            Self::Codel { target, interval } => write!(
                f,
                "`Overload::Codel` has target {target:?} and interval {interval:?}: give a target of more \
                 than 0, and an interval of at least the target"
            ),
            Self::NameWithNul(name) => write!(f, "the name {name:?} contains a NUL byte: leave it out"),
            // The text does not contain the source, because an error report prints the source
            // itself.
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

/// The largest number of threads of one pool.
pub(crate) const MAX_THREADS: usize = 65_000;

/// Why [`ThreadPool::join_timeout`](crate::ThreadPool::join_timeout) returned before the workers
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
/// // Waits until the thread is in the hook.
/// while pool.join_timeout(Duration::ZERO).is_err_and(|error| error.to_string() != hook) {}
/// end.wait();
/// pool.join_timeout(Duration::from_secs(60))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The timeout is over. Contains the tasks and the threads for which the pool waits, as text. A
    /// task is in the list if its step has not returned, or if it returns `Continue` although it
    /// was asked to stop. A thread is in the list if it runs a hook, a wake-up, or a destructor. If
    /// the pool drains or has no threads, the list has every task that has not ended.
    StillRunning(Vec<String>),
    /// The call was made inside a step, inside a wake-up that `shutdown` calls, or on a worker of
    /// the pool. There it would wait for itself.
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
