//! The behaviour of a pool that gets more tasks than it can run.

use crate::error::BuildError;
use std::time::Duration;

/// The behaviour of a pool that gets more tasks than it can run. The pool refuses tasks in
/// [`enqueue`](crate::Service::enqueue), or it sheds tasks. *To shed* a task means to end it as
/// [`Stopped(Shed)`](crate::StopReason::Shed) before its first step. A shed task is announced to
/// its loop. The loop gets the task by value and answers its client, for example with 503.
///
/// | | when `max_queue_depth` tasks wait to start | a task that has waited too long |
/// |---|---|---|
/// | `Refuse` | the new task is refused | runs |
/// | `ShedFattest` | the newest task of the connection with the most waiting tasks is shed | runs |
/// | `Codel` | the same as `ShedFattest` | is shed |
///
/// The default is `ShedFattest`: one client cannot fill the queue for the others. Use `Codel` if an
/// answer is useless after some time, and many clients can come at once. Then no client has many
/// more waiting tasks than another, and with `ShedFattest` only the length of the queue limits the
/// wait. Use `Refuse` if the pool must not shed an accepted task.
///
/// The limit `max_tasks` does not depend on this option: at that limit, tasks are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
#[doc(alias = "load shedding")]
pub enum Overload {
    /// If `max_queue_depth` tasks wait to start, a new task is refused with `QueueFull`. It does
    /// not matter which connections have filled the queue.
    Refuse,
    /// If `max_queue_depth` tasks wait to start, a new task is accepted if another connection has
    /// at least two more waiting tasks than the connection of the new task. Then the newest waiting
    /// task of the connection with the most waiting tasks is shed. Otherwise the new task is
    /// refused. So a client that fills the queue cannot block other clients.
    ///
    /// A group ([`Service::set_group`](crate::Service::set_group)) counts as one connection. If the
    /// pool sheds a task of a group, it takes it from the connection with the most waiting tasks in
    /// that group. If no other connection or group has enough waiting tasks, the same rule applies
    /// within the group of the new task.
    ///
    /// The choice is approximate: the selected connection has more than half as many waiting tasks
    /// as the connection with the most. The cost is O(1) amortized, under the lock of the queue.
    #[default]
    ShedFattest,
    /// While the pool is overloaded, tasks that have waited too long are shed. At `max_queue_depth`
    /// the pool does the same as with [`ShedFattest`](Self::ShedFattest).
    ///
    /// The pool is overloaded if for a whole `interval` every task that a worker took had waited
    /// for more than `target`, and another task waited at all times. Then a task that has waited
    /// for more than twice the `target` is shed when a worker takes it. So the oldest task of a
    /// connection is shed first. A burst that is over within the interval is not shed. A task is
    /// not shed if no other task waits, or if it has only waited for the end of a running step.
    ///
    /// ```
    /// use moored::{Overload, ThreadPool};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder()
    ///     .overload(Overload::Codel {
    ///         target: Duration::from_millis(50),
    ///         interval: Duration::from_millis(500),
    ///     })
    ///     .build()?;
    /// # drop(pool);
    /// # Ok::<(), moored::BuildError>(())
    /// ```
    ///
    /// In the row `codel` of `benches`, clients come twice as fast as they can be served. With a
    /// target of 20 ms and an interval of 200 ms, half of the served tasks wait for less than
    /// 40 ms, and 99 % wait for less than 140 ms. With `ShedFattest` and a queue of 1,024 tasks, one
    /// of 100 waits for 0.5 to 1.1 s or longer. Both serve about the same number of tasks.
    ///
    /// A new client does not wait behind the queue of other clients. If one came in each interval,
    /// its short wait would hide an overload. So two kinds of tasks are observed separately: the
    /// tasks of connections that had no other task in flight and had not used more than their
    /// share, and all other tasks. A group counts as one connection.
    ///
    /// The wait for a place of
    /// [`max_running_per_connection`](crate::ThreadPoolBuilder::max_running_per_connection) counts
    /// too, even if workers are idle.
    ///
    /// The `interval` should be longer than usual bursts. Ten times the target is a good value. The
    /// rule is that of `CoDel` (Nichols, Jacobson 2012; RFC 8289) in the form for the queues of
    /// servers. The cost is a few nanoseconds for each task. There is no timer: a task is shed when
    /// it would start, and not before.
    #[doc(alias = "controlled delay")]
    Codel {
        /// The wait that is acceptable for a long time. At least 1 ns.
        target: Duration,
        /// The time during which every task must have waited for more than `target` before tasks
        /// are shed. At least `target`.
        interval: Duration,
    },
}

impl Overload {
    /// Whether a new task may replace a waiting one.
    pub(crate) fn sheds_fattest(self) -> bool {
        !matches!(self, Self::Refuse)
    }

    pub(crate) fn check(self) -> Result<(), BuildError> {
        match self {
            Self::Codel { target, interval } if target.is_zero() || interval < target => {
                Err(BuildError::Codel { target, interval })
            }
            _ => Ok(()),
        }
    }
}
