//! A service as its pool sees it.

use super::context::WorkerContext;
use crate::dump::task::TaskDump;
use crate::mailbox::dump::MailboxDump;
use crate::queue::Source;
use crate::sync::ArcFence;
use crate::task::id::{ConnId, TaskId};
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// The id, the name and the connection of a task.
pub(crate) type Description = (TaskId, Option<Cow<'static, str>>, Option<ConnId>);

/// A service as its pool sees it.
pub(crate) trait AnyService: Source {
    /// Runs the batch of this context. Returns the number of turns.
    fn run_batch(&self, cx: &WorkerContext<'_>) -> usize;
    /// Notifies the loop because the pool is shutting down, or because a timeout has run out.
    /// Returns whether the call has woken the loop.
    fn wake_loop(&self) -> bool;
    /// Notifies the loop because a task of this service was shed. The caller has released the lock
    /// of the queue.
    fn notify_shed(&self, cx: &WorkerContext<'_>);
    /// Copies some tasks, from a slot on. Returns the slot to continue with.
    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize>;
    /// The id, the name and the connection of a task that was not reaped.
    fn describe(&self, slot: u32, serial: u64) -> Option<Description>;
    fn dump_mailboxes(&self) -> Vec<MailboxDump>;
    /// Every thread calls `pass` on it before it drops a reference to the service.
    fn arc_fence(&self) -> &ArcFence;
}

/// A reference to a service.
#[derive(Clone)]
pub(crate) struct ServiceRef(Arc<dyn AnyService>);

impl ServiceRef {
    pub(crate) fn new(service: Arc<dyn AnyService>) -> Self {
        Self(service)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

impl Deref for ServiceRef {
    type Target = dyn AnyService;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for ServiceRef {
    fn drop(&mut self) {
        self.0.arc_fence().pass();
    }
}
