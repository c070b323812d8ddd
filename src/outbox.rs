//! What a loop has posted and nobody has put in line yet.

use crate::primitive::Mutex;
use std::sync::Arc;

/// A list with a lock of its own, so that posting a task contends with nobody. It is emptied into the fair queue
/// under the queue's lock: lock order is queue, then outbox.
pub(crate) struct Outbox<J: ?Sized>(Mutex<Vec<Arc<J>>>);

impl<J: ?Sized> Outbox<J> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Adds a job; gives how many there are now.
    #[inline]
    pub(crate) fn post(&self, job: Arc<J>) -> usize {
        let mut jobs = self.0.lock();
        jobs.push(job);
        jobs.len()
    }

    pub(crate) fn take_into(&self, jobs: &mut Vec<Arc<J>>) {
        jobs.append(&mut self.0.lock());
    }
}
