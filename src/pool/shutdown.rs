//! How a pool is shut down.

/// How [`ThreadPool::shutdown`](crate::ThreadPool::shutdown) treats the tasks that have been
/// accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Shutdown {
    /// Queued tasks end as `Stopped` and never run. Started tasks are asked to stop, those that
    /// outlive their connection too.
    #[doc(alias = "lws_threadpool_finish")]
    Cancel,
}
