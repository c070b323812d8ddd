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
    /// Every task runs to its end: queued tasks start, and parked ones are served by their loops as
    /// before, however often they park. When the last one has ended, the workers end. Timeouts,
    /// [`dequeue`](crate::Service::dequeue) and a closed connection still end tasks; `Cancel`,
    /// afterwards, ends those that are left.
    #[doc(alias = "graceful")]
    Drain,
}
