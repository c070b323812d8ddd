//! A thread pool for event loops whose tasks belong to connections.
//!
//! A server has one or more *service loops*: threads that own sockets and do all the I/O. A loop
//! submits work that would block it to a pool, as a task of a connection. Worker threads run the
//! task step by step. Between steps the pool wakes the loop, and the loop sends the output of the
//! task and resumes it. When the client disconnects, the loop cancels the task.
//!
//! # In three steps
//!
//! 1. Implement [`Task`] for your type. A step does a bounded piece of work and returns
//!    [`Continue`](TaskReturn::Continue), [`Sync`](TaskReturn::Sync),
//!    [`TaskDone`](TaskReturn::TaskDone) or [`Stopped`](TaskReturn::Stopped).
//! 2. Build a [`ThreadPool`], and make a [`Service`] for each loop. The service needs a [`Wake`]:
//!    an object or a closure that wakes the loop.
//! 3. Call [`take_ready`](Service::take_ready) when the loop is woken, and
//!    [`task_status`](Service::task_status) for each id. Call
//!    [`connection_closed`](Service::connection_closed) when a client disconnects.
//!
//! ```
//! use moored::{Context, Task, TaskReturn, TaskStatus, ThreadPool};
//! use std::sync::mpsc;
//!
//! /// Counts to five, and waits for the client after each line.
//! struct Count {
//!     line: u32,
//! }
//!
//! impl Task for Count {
//!     fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
//!         if cx.is_stopping() {
//!             return TaskReturn::Stopped;
//!         }
//!         self.line += 1;
//!         if self.line == 5 { TaskReturn::TaskDone } else { TaskReturn::Sync }
//!     }
//! }
//!
//! let pool = ThreadPool::builder().threads(2).build()?;
//! let (wake, woken) = mpsc::channel();
//! let mut service = pool.service(move || wake.send(()).unwrap_or(()));
//! let client = 7;
//! service.enqueue(client, Count { line: 0 })?;
//!
//! let mut sent = Vec::new();
//! while !service.is_empty() {
//!     woken.recv()?;
//!     for ready in service.take_ready() {
//!         match service.task_status(ready.id) {
//!             Some(TaskStatus::Syncing(count)) => {
//!                 sent.push(count.line); // a borrow of the task: no channel, no copy
//!                 count.resume();
//!             }
//!             Some(TaskStatus::Finished(count)) => sent.push(count.line),
//!             other => panic!("{other:?}"),
//!         }
//!     }
//! }
//! assert_eq!(sent, [1, 2, 3, 4, 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it is for
//!
//! - **A waiting task holds no thread.** `Sync` parks the *task*, and its worker runs another one.
//!   Two workers serve 65,536 streams whose clients are all slow.
//! - **The hand-off is typed.** While a task is parked the loop borrows it; when it has ended the
//!   loop gets it by value.
//! - **The queue is fair between connections**, in worker time. A client with 10,000 tasks, or with
//!   long steps, does not starve a client with a single short task. A client with 10,000
//!   connections has one share if they are in one [group](Service::set_group).
//! - **One client cannot fill the queue for the others.** A full queue sheds the newest task of the
//!   connection with the most waiting tasks: see [`Overload`]. [`Service::estimated_wait`] computes
//!   the time for `Retry-After`.
//! - **Every accepted task ends exactly once**, as finished, stopped or panicked, and its end is
//!   announced once.
//! - **Any thread can send to any connection.** [`Service::mailbox`] gives a bounded [`Sender`] to
//!   other threads. It uses the same wake-up.
//! - **Any loop.** See [`pairing`] for mio, tokio, a plain channel, and `poll(2)`.
//!
//! # Tests
//!
//! With `threads(0)` and [`Clock::manual`] a test runs tasks on its own thread and needs no
//! waiting: [`Clock`] has an example.
//!
//! # Threads
//!
//! Steps run on workers. They also run on a loop's thread: inside
//! [`run_pending`](Service::run_pending), and in calls of a service whose pool was shut down. A
//! [`Service`] is used by one thread at a time, the thread of its loop. A [`ThreadPool`] can be
//! used by any thread. User code (a step, a `Drop`, a wake-up, a hook) never runs under a lock of
//! the pool, so it may call everything that it can reach.
//!
//! # Panics
//!
//! A panic in a step ends its task as [`TaskStatus::Panicked`]; the worker continues. This needs
//! `panic = "unwind"`, the default. The panic hook prints the panic as usual. With
//! [`record_panic_locations`](ThreadPoolBuilder::record_panic_locations), the status and the dump
//! also show the place of the panic.
//!
//! # Fork
//!
//! Build the pool after a `fork` (a call that makes the process a daemon forks, too). The child
//! process has no threads of the pool, and locks that these threads held stay locked. In the child
//!
//! - [`Service::enqueue`] refuses with [`EnqueueError::Forked`]. If no worker slept at the moment
//!   of the fork, it checks for a fork only once in 64 tasks. So a busy pool may accept up to 64
//!   tasks of each service that never run.
//! - The drop of a pool and of a service returns at once, and so do
//!   [`shutdown`](ThreadPool::shutdown) and [`join_timeout`](ThreadPool::join_timeout). The parent
//!   is not affected.
//! - `estimated_wait` returns zero.
//! - Other calls do not detect a fork, and may wait for ever.
//!
//! A pool without threads (`threads(0)`) may be used in the child. `Command` is safe, because it
//! executes another program immediately after its fork.
//!
//! # Features
//!
//! - `mio` (default): [`Wake`] for `mio::Waker`.
//! - `serde`: `Serialize` for [`PoolDump`] and the types in it.
//!
//! # Where it comes from
//!
//! The idea, the statuses and the names are those of libwebsockets' `lws_threadpool`. The search of
//! this documentation finds items by the names that their counterparts have there.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod clock;
mod dump;
mod error;
mod mailbox;
mod panic;
mod pool;
mod queue;
mod scheduler;
mod service;
mod sync;
mod task;
mod wake;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("pairing.md")]
#[cfg(any(doc, doctest))]
pub mod pairing {}

pub use clock::{Clock, ManualClock};
pub use dump::end::{EndDump, EndReason};
pub use dump::task::TaskDump;
pub use dump::{Counters, Counts, PoolDump, RefusedCounters, StoppedCounters};
pub use error::{BuildError, EnqueueError, JoinError, RefusedTask};
pub use mailbox::{Drain, LoopFn, Mailbox, MailboxDump, Recipient, SendError, Sender};
pub use pool::ThreadPool;
pub use pool::builder::ThreadPoolBuilder;
pub use pool::overload::Overload;
pub use pool::shutdown::Shutdown;
pub use scheduler::slow_step::SlowStep;
pub use service::Service;
pub use service::ready::{Ready, ReadyTasks};
pub use service::sync_point::{SyncPoint, TaskStatus};
pub use task::boxed::{BoxTask, task_fn};
pub use task::call::{Call, call};
pub use task::id::{ConnId, GroupId, ParseTaskIdError, TaskId};
pub use task::options::TaskOptions;
pub use task::panicked::Panic;
pub use task::status::{Dequeued, Resume, Status, StopReason, Timeout};
pub use task::{Context, Task, TaskReturn};
pub use wake::Wake;

/// `Send` and `Sync` of the public types are a part of the interface.
const _: () = {
    const fn is_send<S: Send>() {}
    const fn is_shared<S: Send + Sync>() {}
    const fn of_tasks<T: Task>() {
        is_send::<Service<T>>();
        is_shared::<EnqueueError<T>>();
        is_shared::<RefusedTask<T>>();
    }
    of_tasks::<BoxTask>();
    is_shared::<ThreadPool>();
    is_shared::<ThreadPoolBuilder>();
    is_shared::<ReadyTasks>();
    is_shared::<TaskOptions>();
    is_shared::<Panic>();
    is_shared::<PoolDump>();
    is_shared::<(EndDump, EndReason, SlowStep)>();
    is_shared::<(Clock, ManualClock)>();
    is_shared::<(BuildError, JoinError, ParseTaskIdError)>();
    is_shared::<(ConnId, GroupId, TaskId, Ready)>();
};

/// For loom models only: workers search from now on.
#[cfg(loom)]
#[doc(hidden)]
pub fn let_workers_search() {
    sync::set_search(sync::Search::On);
}

/// For loom models only: undoes `let_workers_search`.
#[cfg(loom)]
#[doc(hidden)]
pub fn keep_workers_from_searching() {
    sync::set_search(sync::Search::Off);
}

/// For loom models only: the virtual time up to which the connection with the most worker time was
/// served.
#[cfg(loom)]
#[doc(hidden)]
pub fn largest_finish_tag(pool: &ThreadPool) -> std::time::Duration {
    std::time::Duration::from_nanos(pool.largest_finish_tag())
}
