//! A thread pool for event loops whose tasks belong to connections.
//!
//! A server has one or more *service loops*: threads that own sockets and do all the I/O. Work that
//! would block a loop is submitted to a pool, for a connection; worker threads run it step by step;
//! the loop is woken, checks each task's status, sends what it has produced, resumes it, or cancels
//! it when the client has disconnected.
//!
//! # In three steps
//!
//! 1. Implement [`Task`] for your type. A step does a bounded piece of work and returns
//!    [`Continue`](TaskReturn::Continue), [`Sync`](TaskReturn::Sync),
//!    [`TaskDone`](TaskReturn::TaskDone) or [`Stopped`](TaskReturn::Stopped).
//! 2. Build a [`ThreadPool`], and for each loop a [`Service`] with something that wakes the loop: a
//!    [`Wake`].
//! 3. In the loop, when it is woken: [`take_ready`](Service::take_ready), and
//!    [`task_status`](Service::task_status) for each id. When a client disconnects:
//!    [`connection_closed`](Service::connection_closed).
//!
//! ```
//! use moored::{Context, Task, TaskReturn, TaskStatus, ThreadPool};
//! use std::sync::mpsc;
//!
//! /// Counts to five, a line at a time, waiting for the client after each.
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
//!                 sent.push(count.line); // the task itself: no channel, no copy
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
//! - **A task that waits holds no thread.** `Sync` parks the *task*. Two workers serve 65,536
//!   streams whose clients are all slow.
//! - **The hand-off is typed.** While a task is parked the loop borrows it; when it has ended the
//!   loop gets it back by value.
//! - **It is fair between connections.** A client with 10,000 tasks does not starve one with a
//!   single task.
//! - **Every accepted task ends exactly once**, as finished, stopped or panicked, and is announced
//!   once.
//! - **Any thread reaches any connection.** [`Service::mailbox`] gives a bounded [`Sender`] for
//!   other threads, with the same wake-up.
//! - **Any loop.** See [`pairing`] for mio, tokio, a plain channel, and `poll(2)`.
//!
//! # Threads
//!
//! Steps run on workers; and on a loop's thread inside [`run_pending`](Service::run_pending), or
//! when the loop answers a task after the pool was shut down. A [`Service`] is used by one thread
//! at a time, its loop's. [`ThreadPool`] may be used by any thread. No code of yours (step, `Drop`,
//! wake-up, hook) is ever run under a lock that a call of yours takes, so from a step or a `Drop`
//! everything that is reachable may be called.
//!
//! # Panics
//!
//! A panic in a step ends its task as [`TaskStatus::Panicked`]; the worker continues. It needs
//! `panic = "unwind"`, the default.
//!
//! # Features
//!
//! - `mio` (default): [`Wake`] for `mio::Waker`.
//! - `serde`: `Serialize` for [`PoolDump`] and all that is in it.
//!
//! # Where it comes from
//!
//! The idea, the statuses and the names are those of libwebsockets' `lws_threadpool`; each item
//! that has a counterpart there can be found in this documentation by its lws name.

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
pub use pool::shutdown::Shutdown;
pub use scheduler::slow_step::SlowStep;
pub use service::Service;
pub use service::ready::{Ready, ReadyTasks};
pub use service::sync_point::{SyncPoint, TaskStatus};
pub use task::boxed::{BoxTask, task_fn};
pub use task::call::{Call, call};
pub use task::id::{ConnId, ParseTaskIdError, TaskId};
pub use task::options::TaskOptions;
pub use task::panicked::Panic;
pub use task::status::{Dequeued, Resume, Status, StopReason, Timeout};
pub use task::{Context, Task, TaskReturn};
pub use wake::Wake;

/// What may move to other threads and be shared with them is part of the interface.
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
    is_shared::<(ConnId, TaskId, Ready)>();
};

/// For models only: workers search from now on.
#[cfg(loom)]
#[doc(hidden)]
pub fn let_workers_search() {
    sync::set_search(sync::Search::On);
}

/// For models only: ends what `let_workers_search` has begun.
#[cfg(loom)]
#[doc(hidden)]
pub fn keep_workers_from_searching() {
    sync::set_search(sync::Search::Off);
}
