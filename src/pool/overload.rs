//! The behaviour of a pool when its queue is full.

/// The behaviour of [`enqueue`](crate::Service::enqueue) when `max_queue_depth` tasks wait to
/// start.
///
/// Both treat `max_tasks` in the same way: at that limit, tasks are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Overload {
    /// The task is refused with `QueueFull`. It does not matter which connections have filled the
    /// queue.
    #[default]
    Refuse,
    /// The task is accepted if another connection has at least two more waiting tasks than its
    /// connection. Then the newest waiting task of the connection with the most waiting tasks ends
    /// as [`Stopped(Shed)`](crate::StopReason::Shed), without a step. It is announced to its loop,
    /// which gets the task by value. Otherwise the task is refused. So a client that fills the
    /// queue cannot block other clients.
    ///
    /// A group ([`Service::set_group`](crate::Service::set_group)) counts as one connection: the
    /// task that is shed is of the connection with the most waiting tasks in that group. If no
    /// other connection or group has enough waiting tasks, the same rule applies within the group
    /// of the new task.
    ///
    /// The loop must answer the clients of shed tasks, for example with 503. "The most" is exact
    /// within a factor of two. O(1) amortized, under the lock of the queue.
    #[doc(alias = "load shedding")]
    ShedFattest,
}
