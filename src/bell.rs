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
//! that has more to do, with short steps, only *owes* the ring, and rings after the step in which that gets 20 us old, or when it has nothing
//! more to do; or a colleague rings for it that passes by. Who finds a bell owed need do nothing: somebody sees to it.
//!
//! The debtor may get into a long step just then, so a ring is owed only to a loop that *naps* ([`crate::naps`]): it has just been told to look
//! again after a millisecond at the latest, and the bell says so (`NAPPING`) until it `unring`s. Who owes a ring changes the same word, so it
//! has seen what the loop does now.

use crate::primitive::{AtomicUsize, Mutex, Ordering};
use crate::unwind::{drop_quietly, quietly};
use crate::wake::Wake;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

const SILENT: usize = 0;
const OWED: usize = 1;
const RUNG: usize = 2;
/// As `SILENT`, but the loop will look by itself in a moment.
const NAPPING: usize = 3;

/// On cache lines of its own: workers look at it for every task.
#[repr(align(128))]
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

    /// Whether the loop has been woken and has not looked since. Ask after the event was added.
    #[inline]
    pub(crate) fn has_rung(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNG
    }

    /// Wakes the loop unless that was done since it last looked. True if this call did. No lock may be held.
    #[inline]
    pub(crate) fn ring(&self) -> bool {
        let rings = !self.has_rung() && self.state.swap(RUNG, Ordering::AcqRel) != RUNG;
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

    /// Allows the next notification after one that was sent. One that is deferred stays deferred: it is for tasks, at which
    /// the caller does not look.
    pub(crate) fn rearm(&self) {
        self.change(RUNG, SILENT);
    }

    /// Nobody is to be woken any more.
    pub(crate) fn silence(&self) {
        self.state.swap(RUNG, Ordering::AcqRel);
    }

    /// The loop is about to sleep, and naps if it `may`. True: it naps, since some worker may rely on it.
    pub(crate) fn nap(&self, may: bool) -> bool {
        let begins = may && self.change(SILENT, NAPPING) == SILENT;
        // Only a loop that naps is owed a ring.
        begins || matches!(self.state.load(Ordering::Relaxed), NAPPING | OWED)
    }

    /// Changes the state if it is `from`. Gives what it was.
    fn change(&self, from: usize, to: usize) -> usize {
        let change = self
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        change.unwrap_or_else(|other| other)
    }

    /// Rings if that is still owed. True if this call did.
    fn pay(&self) -> bool {
        let pays = self.change(OWED, RUNG) == OWED;
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
    /// Not kept: when a service goes, so does its wake-up.
    bells: Mutex<Vec<Weak<Bell>>>,
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

    /// Owes this bell a ring if its loop naps. True: this worker or another owes it. Ask after the event was added.
    pub(crate) fn add(&self, bell: &Arc<Bell>, now: u64) -> bool {
        let before = bell.change(NAPPING, OWED);
        if before == NAPPING {
            let mut bells = self.bells.lock();
            bells.push(Arc::downgrade(bell));
            if bells.len() == 1 {
                self.since.store(now, Ordering::Relaxed);
            }
        }
        matches!(before, NAPPING | OWED)
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
        let owed = owed.iter().filter_map(Weak::upgrade);
        owed.map(|bell| u64::from(bell.pay())).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LATER: u64 = 100;

    /// A bell, and how often it has rung.
    fn bell() -> (Arc<Bell>, impl Fn() -> u64) {
        let rings = Arc::new(AtomicU64::new(0));
        let total = Arc::clone(&rings);
        let wake = move || drop(rings.fetch_add(1, Ordering::Relaxed).to_string());
        (Arc::new(Bell::new(Box::new(wake))), move || {
            total.load(Ordering::Relaxed)
        })
    }

    #[test]
    fn a_bell_rings_once_until_the_loop_looks() {
        let (bell, rings) = bell();
        assert_eq!((bell.ring(), bell.ring(), rings()), (true, false, 1));
        bell.unring();
        assert_eq!((bell.ring(), rings()), (true, 2));
    }

    #[test]
    fn what_is_owed_is_rung_when_it_is_paid_and_once() {
        let debts = Debts::new();
        let bells = [bell(), bell()];
        for (bell, _) in &bells {
            bell.nap(true);
            assert!(debts.add(bell, 0));
            assert!(debts.add(bell, 0), "once is enough");
        }
        assert_eq!([bells[0].1(), bells[1].1()], [0, 0]);
        assert_eq!((debts.pay(), debts.pay()), (2, 0));
        assert_eq!([bells[0].1(), bells[1].1()], [1, 1]);
        assert!(!bells[0].0.ring(), "the loop has not looked yet");
    }

    #[test]
    fn what_is_rung_or_was_looked_at_is_owed_no_more() {
        let (debts, (bell, rings)) = (Debts::new(), bell());
        let owe = || {
            bell.unring();
            bell.nap(true);
            assert!(debts.add(&bell, 0));
        };
        owe();
        assert!(bell.ring(), "who does not owe rings at once");
        assert_eq!((debts.pay(), rings()), (0, 1));
        owe();
        bell.unring();
        assert_eq!((debts.pay(), rings()), (0, 1), "the loop has looked meanwhile");
    }

    /// A service that goes while its ring is owed takes its wake-up along.
    #[test]
    fn what_is_owed_to_a_loop_that_has_gone_is_not_paid() {
        let (debts, (bell, rings)) = (Debts::new(), bell());
        bell.nap(true);
        debts.add(&bell, 0);
        bell.silence();
        assert_eq!((debts.pay(), rings()), (0, 0));
        bell.unring();
        bell.nap(true);
        debts.add(&bell, 0);
        let gone = Arc::downgrade(&bell);
        drop(bell);
        assert!(gone.upgrade().is_none());
        assert_eq!((debts.pay(), rings()), (0, 0));
    }

    #[test]
    fn a_loop_that_naps_is_rung_later_or_looks_by_itself() {
        let (debts, (bell, rings)) = (Debts::new(), bell());
        assert!(!bell.nap(false));
        assert!(!debts.add(&bell, 0), "it does not look by itself");
        assert!(bell.nap(true));
        assert!(debts.add(&bell, 0));
        assert!(bell.nap(false), "somebody relies on it");
        assert_eq!((debts.pay(), bell.nap(true), rings()), (1, false, 1));
        assert!(!debts.add(&bell, 0), "it has rung");
        bell.unring();
        assert!(!bell.nap(false) && !debts.add(&bell, 0), "it has looked");
    }

    /// A drain of a mailbox that cancelled a deferred notification would lose what a worker has to tell.
    #[test]
    fn a_rearm_keeps_a_deferred_notification() {
        let (debts, (bell, rings)) = (Debts::new(), bell());
        assert!(bell.ring());
        bell.rearm();
        assert!(bell.ring(), "the next one after a re-arm");
        bell.unring();
        bell.nap(true);
        bell.rearm();
        assert!(debts.add(&bell, 0), "the loop still looks by itself");
        bell.rearm();
        assert_eq!((debts.pay(), rings()), (1, 3));
    }

    #[test]
    fn debts_are_as_old_as_the_first_of_them() {
        let (debts, [(first, _), (second, _)]) = (Debts::new(), [bell(), bell()]);
        assert!(!debts.are_some() && !debts.are_older_than(0, u64::MAX - 1));
        for (bell, now) in [(&first, LATER), (&second, 2 * LATER)] {
            bell.nap(true);
            debts.add(bell, now);
        }
        assert!(debts.are_some());
        let old = [LATER, 2 * LATER - 1, 2 * LATER].map(|now| debts.are_older_than(LATER, now));
        assert_eq!(old, [false, false, true]);
        debts.pay();
        assert!(!debts.are_some() && !debts.are_older_than(0, u64::MAX - 1));
    }
}
