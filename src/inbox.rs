//! What workers have to tell a loop, until it looks.
//!
//! Events lie in lanes, one for each worker, so that workers do not contend. With a limit per connection the lane
//! goes by connection instead, since then the order of a connection's ends means something. When the loop is woken for
//! them is the matter of its [`Bell`].

use crate::bell::Bell;
use crate::id::TaskId;
use crate::primitive::Mutex;
use crate::wake::Wake;
use crossbeam_utils::CachePadded;
use std::sync::Arc;

/// `syncs` is 0 for the end of the task, else the number of its `Sync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) serial: u64,
    pub(crate) slot: u32,
    pub(crate) syncs: u32,
}

impl Event {
    pub(crate) fn end(id: TaskId) -> Self {
        Self {
            serial: id.serial,
            slot: id.slot,
            syncs: 0,
        }
    }

    pub(crate) fn parked(id: TaskId, syncs: u32) -> Self {
        Self {
            serial: id.serial,
            slot: id.slot,
            syncs,
        }
    }
}

enum Lane {
    Open(Vec<Event>),
    /// The service is gone.
    Closed,
}

pub(crate) struct Inbox {
    lanes: Box<[CachePadded<Mutex<Lane>>]>,
    pub(crate) bell: Arc<Bell>,
}

/// The service is gone, nobody reads this.
pub(crate) struct NobodyReads;

impl Inbox {
    pub(crate) fn new(lanes: usize, wake: Box<dyn Wake>) -> Self {
        let lane = |_| CachePadded::new(Mutex::new(Lane::Open(Vec::new())));
        Self {
            lanes: (0..lanes.max(1)).map(lane).collect(),
            bell: Arc::new(Bell::new(wake)),
        }
    }

    /// Adds an event. The caller rings afterwards.
    #[inline]
    pub(crate) fn add(&self, lane: usize, event: Event) -> Result<(), NobodyReads> {
        match &mut *self.lanes[lane % self.lanes.len()].lock() {
            Lane::Open(events) => {
                events.push(event);
                Ok(())
            }
            Lane::Closed => Err(NobodyReads),
        }
    }

    /// Empties all lanes into `events`. The loop is woken for what comes later.
    pub(crate) fn take(&self, events: &mut Vec<Event>) {
        self.bell.unring();
        self.take_silently(events);
    }

    /// Empties all lanes into `events`. Nothing changes about when the loop is woken.
    pub(crate) fn take_silently(&self, events: &mut Vec<Event>) {
        for lane in &self.lanes {
            if let Lane::Open(lane) = &mut *lane.lock() {
                if events.is_empty() {
                    std::mem::swap(events, lane);
                } else {
                    events.append(lane);
                }
            }
        }
    }

    /// Nobody will read: events are refused from now on.
    pub(crate) fn close(&self) {
        for lane in &self.lanes {
            *lane.lock() = Lane::Closed;
        }
    }
}
