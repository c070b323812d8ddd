//! What workers have to tell a loop, and the bell that wakes it.
//!
//! # The steps
//!
//! A worker: 1. adds its event to a lane, under that lane's lock; 2. `ring`: if the bell was not rung, rings it.
//! The loop: 1. `unring`: the bell counts as not rung; 2. empties every lane, under its lock.
//!
//! # Why no wake-up is lost, and none is superfluous
//!
//! Event and emptying hold the same lock, so one comes first. If the event came first, the loop has it. If the
//! emptying came first, then `unring`, which precedes it, happened before the event's `ring`: that finds the bell not rung, or
//! rung by another event after `unring`. Either way the loop is woken after it emptied the lane. Between two `unring`s only
//! the first `ring` wakes.
//!
//! # Lanes
//!
//! One for each worker, so that workers do not contend. With a limit per connection the lane goes by
//! connection instead, since then the order of a connection's ends means something.

use crate::id::TaskId;
use crate::primitive::{AtomicBool, Mutex, Ordering};
use crate::unwind::{drop_quietly, quietly};
use crate::wake::Wake;
use crossbeam_utils::CachePadded;

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
    rung: CachePadded<AtomicBool>,
    /// `None` only while it is dropped.
    wake: Option<Box<dyn Wake>>,
}

/// The service is gone, nobody reads this.
pub(crate) struct NobodyReads;

impl Inbox {
    pub(crate) fn new(lanes: usize, wake: Box<dyn Wake>) -> Self {
        let lane = |_| CachePadded::new(Mutex::new(Lane::Open(Vec::new())));
        Self {
            lanes: (0..lanes.max(1)).map(lane).collect(),
            rung: CachePadded::new(AtomicBool::new(false)),
            wake: Some(wake),
        }
    }

    /// Adds an event. The caller rings afterwards.
    pub(crate) fn add(&self, lane: usize, event: Event) -> Result<(), NobodyReads> {
        match &mut *self.lanes[lane % self.lanes.len()].lock() {
            Lane::Open(events) => {
                events.push(event);
                Ok(())
            }
            Lane::Closed => Err(NobodyReads),
        }
    }

    /// Wakes the loop unless that was done since it last looked. True if this call did. No lock may be held.
    pub(crate) fn ring(&self) -> bool {
        let rings = !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::AcqRel);
        if let (true, Some(wake)) = (rings, &self.wake) {
            quietly(|| wake.wake());
        }
        rings
    }

    /// Empties all lanes into `events`.
    pub(crate) fn take(&self, events: &mut Vec<Event>) {
        // A swap, not a store: it happens after every ring before it, so a late ringer cannot miss it.
        self.rung.swap(false, Ordering::AcqRel);
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

impl Drop for Inbox {
    fn drop(&mut self) {
        // The user's code, perhaps on a worker.
        drop_quietly(self.wake.take());
    }
}
