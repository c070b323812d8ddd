//! Tasks and services without their types: what the pool deals in.

use crate::cell::HasHead;
use crate::desk::Desk;
use crate::mailbox::dump::MailboxDump;
use crate::task_dump::TaskDump;
use std::any::Any;

/// A task as workers see it.
pub(crate) trait Job: HasHead + Any + Send {
    /// Runs steps until the task has ended, is parked or must give way; then gives itself back, to be put in line.
    fn run(self: Box<Self>, desk: &Desk<'_>) -> Option<Box<dyn Job>>;
}

/// A service as the pool sees it.
pub(crate) trait AnyPort: Send + Sync {
    /// Accepts nothing more and stops everything, for `ThreadPool::finish`.
    fn finish(&self, desk: &Desk<'_>);
    /// Copies some tasks, from a slot on; gives the slot to go on with.
    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize>;
    fn dump_mailboxes(&self) -> Vec<MailboxDump>;
}
