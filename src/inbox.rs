//! What workers have to tell a loop, until it looks: the tasks themselves.
//!
//! They lie in lanes, one for each worker, so that workers do not contend. With a limit per connection the lane
//! goes by connection instead, since then the order of a connection's ends means something. When the loop is woken for
//! them is the matter of its [`Bell`].

use crate::bell::Bell;
use crate::primitive::Mutex;
use crate::wake::Wake;
use crossbeam_utils::CachePadded;
use std::sync::Arc;

enum Lane<C> {
    Open(Vec<Box<C>>),
    /// The service is gone.
    Closed,
}

pub(crate) struct Inbox<C> {
    lanes: Box<[CachePadded<Mutex<Lane<C>>>]>,
    pub(crate) bell: Arc<Bell>,
}

impl<C> Inbox<C> {
    pub(crate) fn new(lanes: usize, wake: Box<dyn Wake>) -> Self {
        let lane = |_| CachePadded::new(Mutex::new(Lane::Open(Vec::new())));
        Self {
            lanes: (0..lanes.max(1)).map(lane).collect(),
            bell: Arc::new(Bell::new(wake)),
        }
    }

    /// Gives a task to the loop, if `agrees` says so under the lane's lock; the caller rings afterwards. Else, or if the service is
    /// gone, it comes back. `agrees` is asked in any case.
    #[inline]
    pub(crate) fn add_if(
        &self,
        lane: usize,
        cell: Box<C>,
        agrees: impl FnOnce(&C) -> bool,
    ) -> Result<(), Box<C>> {
        let mut lane = self.lanes[lane % self.lanes.len()].lock();
        let agrees = agrees(&cell);
        match &mut *lane {
            Lane::Open(cells) if agrees => {
                cells.push(cell);
                Ok(())
            }
            _ => Err(cell),
        }
    }

    /// Empties all lanes. Nothing changes about when the loop is woken.
    pub(crate) fn take_into(&self, cells: &mut Vec<Box<C>>) {
        for lane in &self.lanes {
            if let Lane::Open(lane) = &mut *lane.lock() {
                if cells.is_empty() {
                    std::mem::swap(cells, lane);
                } else {
                    cells.append(lane);
                }
            }
        }
    }

    /// Nobody will read: tasks are refused from now on, and nobody need be woken. Gives those that are there.
    pub(crate) fn close(&self) -> Vec<Box<C>> {
        self.bell.silence();
        let mut left = Vec::new();
        for lane in &self.lanes {
            if let Lane::Open(cells) = std::mem::replace(&mut *lane.lock(), Lane::Closed) {
                left.extend(cells);
            }
        }
        left
    }
}
