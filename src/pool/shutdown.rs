//! The ways to shut a pool down.

/// How [`ThreadPool::shutdown`](crate::ThreadPool::shutdown) treats the tasks that have been
/// accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Shutdown {
    /// Queued tasks end as `Stopped` and never run. Started tasks are asked to stop, including the
    /// tasks that may outlive their connection.
    #[doc(alias = "lws_threadpool_finish")]
    Cancel,
    /// Every task runs to its end. Queued tasks start. The loops serve parked tasks as before, also
    /// if they park many times. When the last task has ended, the workers end. Timeouts,
    /// [`dequeue`](crate::Service::dequeue) and a closed connection still end tasks. A later
    /// `Cancel` ends the remaining tasks.
    #[doc(alias = "graceful")]
    Drain,
}
