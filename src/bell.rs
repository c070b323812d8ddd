//! The bell that wakes a loop, and bells that a worker will ring in a moment.
//!
//! # The steps
//!
//! A worker: 1. adds its event to the loop's inbox, under a lock; 2. `ring`: if the bell was not rung, rings it.
//! The loop: 1. `unring`: the bell counts as not rung; 2. empties the inbox, under the same lock.
//!
//! # Why no wake-up is lost, and none is superfluous
//!
//! Event and emptying hold the same lock, so one comes first. If the event came first, the loop has it. If the
//! emptying came first, then `unring`, which precedes it, happened before the event's `ring`: that finds the bell not rung,
//! or rung by another event after `unring`. Either way the loop is woken after it emptied the inbox. Between two
//! `unring`s only the first `ring` wakes.
//!
//! # Owing
//!
//! A wake-up costs more than a short step, and a loop that is woken for each result finds one each time. So a worker
//! that has more to do, with short steps, only *owes* the ring, and rings when that is 20 us old or when it has nothing more to do. Who finds
//! a bell owed need do nothing: it will be rung.
//!
//! It may get into a long step just then, so a ring is owed only while a colleague naps ([`crate::sleep`]), who pays for
//! everybody when it wakes, after 100 us at the latest. The debtor: 1. adds the debt, under a lock; 2. looks whether somebody naps,
//! and pays at once if not. The napper: 1. is none any more; 2. takes the debts, under the same lock. Either the napper
//! finds the debt, or the debtor finds no napper.

use crate::primitive::{AtomicUsize, Mutex, Ordering};
use crate::unwind::{drop_quietly, quietly};
use crate::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const SILENT: usize = 0;
const OWED: usize = 1;
const RUNG: usize = 2;

pub(crate) struct Bell {
    state: AtomicUsize,
    /// `None` only while it is dropped.
    wake: Option<Box<dyn Wake>>,
}

impl Bell {
    pub(crate) fn new(wake: Box<dyn Wake>) -> Self {
        Self {
            state: AtomicUsize::new(SILENT),
            wake: Some(wake),
        }
    }

    /// Wakes the loop unless that was done since it last looked. True if this call did. No lock may be held.
    #[inline]
    pub(crate) fn ring(&self) -> bool {
        let rings =
            self.state.load(Ordering::Relaxed) != RUNG && self.state.swap(RUNG, Ordering::AcqRel) != RUNG;
        if rings {
            self.wake();
        }
        rings
    }

    /// The loop is about to look.
    pub(crate) fn unring(&self) {
        // A swap, not a store: it happens after every ring before it, so a late ringer cannot miss it.
        self.state.swap(SILENT, Ordering::AcqRel);
    }

    /// Owes a ring. True: it was not owed or rung, so the caller must see to it.
    fn owe(&self) -> bool {
        let change = |new| {
            self.state
                .compare_exchange(SILENT, new, Ordering::AcqRel, Ordering::Relaxed)
        };
        self.state.load(Ordering::Relaxed) == SILENT && change(OWED).is_ok()
    }

    /// Rings if that is still owed. True if this call did.
    fn pay(&self) -> bool {
        let pays = self
            .state
            .compare_exchange(OWED, RUNG, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if pays {
            self.wake();
        }
        pays
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            quietly(|| wake.wake());
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // The user's code, perhaps on a worker.
        drop_quietly(self.wake.take());
    }
}

/// The bells that one worker owes a ring.
pub(crate) struct Debts {
    bells: Mutex<Vec<Arc<Bell>>>,
    /// Since when, on the pool's clock; `u64::MAX` if there are none.
    since: AtomicU64,
}

impl Debts {
    pub(crate) fn new() -> Self {
        Self {
            bells: Mutex::new(Vec::new()),
            since: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether there are some, older than that.
    pub(crate) fn are_older_than(&self, nanos: u64, now: u64) -> bool {
        self.since.load(Ordering::Relaxed).saturating_add(nanos) <= now
    }

    /// Owes this bell a ring, unless somebody does or has rung it.
    pub(crate) fn add(&self, bell: &Arc<Bell>, now: u64) {
        if bell.owe() {
            let mut bells = self.bells.lock();
            bells.push(Arc::clone(bell));
            if bells.len() == 1 {
                self.since.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Whether there are some. Exact for the worker itself.
    pub(crate) fn are_some(&self) -> bool {
        self.since.load(Ordering::Relaxed) != u64::MAX
    }

    /// Rings every bell that is still owed. Gives how many.
    pub(crate) fn pay(&self) -> u64 {
        let mut bells = self.bells.lock();
        let owed = std::mem::take(&mut *bells);
        self.since.store(u64::MAX, Ordering::Relaxed);
        drop(bells);
        owed.iter().map(|bell| u64::from(bell.pay())).sum()
    }
}
