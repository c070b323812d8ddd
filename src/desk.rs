//! Where a thread runs tasks: a worker's own place, or a loop's inside `run_pending`.

use crate::bell::{Bell, Debts};
use crate::cell::Head;
use crate::clock::Clock;
use crate::hints::{BATCH_NANOS, Hints};
use crate::primitive::may_watch;
use crate::sleep::Sleep;
use crate::state::NO_WORKER;
use crate::stats::Stats;
use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};

/// What a worker has and a guest has not.
pub(crate) struct Seat<'a> {
    pub(crate) index: u16,
    pub(crate) busy: &'a AtomicBool,
    pub(crate) debts: &'a Debts,
    pub(crate) sleep: &'a Sleep,
}

/// One thread's view of the pool while it runs tasks.
pub(crate) struct Desk<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) hints: &'a Hints,
    /// Written by this thread only.
    pub(crate) stats: &'a Stats,
    /// `None` for a guest.
    pub(crate) worker: Option<Seat<'a>>,
    /// How long a task may keep the thread while others wait.
    pub(crate) time_slice: u64,
    /// When every task must give way: a guest's budget.
    pub(crate) until: u64,
    /// Whether the running tasks of a connection are counted.
    pub(crate) limited: bool,
    /// The clock as last read: at the end of the last step.
    pub(crate) now: Cell<u64>,
    /// What a worker has in its own deque, about.
    pub(crate) in_deque: Cell<usize>,
    /// The service whose task it runs, or ran last: what it hands over to a loop may be gone at once, and its service with it.
    pub(crate) port: Held,
    /// It watches for work: nobody need wake another worker until it has looked.
    pub(crate) watches: Cell<bool>,
    /// Work comes again soon enough to watch for it, though there are few tasks.
    pub(crate) expects_work: Cell<bool>,
}

/// A service that stays as long as it is held.
pub(crate) type Held = RefCell<Option<Arc<dyn Any + Send + Sync>>>;

impl Desk<'_> {
    /// Holds a service until another is held, or `let_go`. Costs nothing if it is held already.
    #[inline]
    pub(crate) fn hold<P: Send + Sync + 'static>(&self, port: &Arc<P>) -> Ref<'_, P> {
        let is_held =
            |held: &Arc<dyn Any + Send + Sync>| std::ptr::addr_eq(Arc::as_ptr(held), Arc::as_ptr(port));
        if !self.port.borrow().as_ref().is_some_and(is_held) {
            let before = self.port.replace(Some(Arc::clone(port) as _));
            drop(before);
        }
        Ref::map(self.port.borrow(), |held| {
            let held = held.as_ref().and_then(|held| held.downcast_ref());
            held.expect("it is held now")
        })
    }

    /// Holds no service any more. Call it before sleep.
    pub(crate) fn let_go(&self) {
        drop(self.port.take());
    }

    /// For a guest: tasks give way when `budget` is used up.
    pub(crate) fn with_budget(mut self, nanos: u64) -> Self {
        self.until = self.now().saturating_add(nanos);
        self
    }

    pub(crate) fn worker(&self) -> Option<u16> {
        self.worker.as_ref().map(|seat| seat.index)
    }

    pub(crate) fn number(&self) -> u16 {
        self.worker().unwrap_or(NO_WORKER)
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        self.now.set(self.clock.now());
        self.now.get()
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn is_time_up(&self) -> bool {
        self.now() >= self.until
    }

    #[inline]
    pub(crate) fn set_busy(&self, busy: bool) {
        if let Some(seat) = &self.worker {
            seat.busy.store(busy, Release);
        }
    }

    /// Whether a task that has been running since `started` must let others run.
    #[inline]
    pub(crate) fn must_yield(&self, started: u64) -> bool {
        let slice_over = self.now().saturating_sub(started) >= self.time_slice;
        self.is_time_up() || slice_over && (self.in_deque.get() > 0 || self.hints.anybody_waits())
    }

    /// Wakes a loop: now, or when the batch is done if that is soon and the loop naps.
    #[inline]
    pub(crate) fn ring(&self, bell: &Arc<Bell>) {
        let owes = || {
            let seat = self.worker.as_ref().filter(|_| self.may_owe());
            seat.is_some_and(|seat| seat.debts.add(bell, self.now()))
        };
        if !bell.has_rung() && !owes() {
            self.stats.wakes.add(u64::from(bell.ring()));
        }
        // Not sooner: wake-ups are the user's code, and who watches must look soon.
        if !self.has_more_to_do() {
            self.pay_debts();
            self.start_watching();
        }
    }

    /// Before it sleeps a worker watches for new work, one worker at a time, and only while steps are short, since then
    /// the loop will answer sooner than it could wake somebody. If there are few tasks, only while they come soon. True: it watches.
    #[inline]
    pub(crate) fn start_watching(&self) -> bool {
        if let Some(seat) = &self.worker
            && !self.watches.get()
            && (self.hints.is_brisk() || self.expects_work.get() && self.hints.are_short())
            && may_watch()
        {
            self.watches.set(seat.sleep.start_watching());
        }
        self.watches.get()
    }

    /// It does not watch any more, and must look for work now.
    pub(crate) fn stop_watching(&self) {
        if let Some(seat) = &self.worker
            && self.watches.take()
        {
            seat.sleep.stop_watching();
        }
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watches.get()
    }

    /// Whether there is more to do, in no time.
    fn may_owe(&self) -> bool {
        self.has_more_to_do() && self.hints.is_brisk()
    }

    #[inline]
    fn has_more_to_do(&self) -> bool {
        self.in_deque.get() > 0 || self.hints.is_worth_looking()
    }

    /// Rings what is owed. Call it before sleep.
    pub(crate) fn pay_debts(&self) {
        if let Some(seat) = &self.worker
            && seat.debts.are_some()
        {
            self.stats.wakes.add(seat.debts.pay());
        }
    }

    /// Rings what was owed for as long as a batch should take. Call it after each step.
    #[inline]
    pub(crate) fn pay_old_debts(&self) {
        if let Some(seat) = &self.worker
            && seat.debts.are_older_than(BATCH_NANOS, self.now())
        {
            self.pay_debts();
        }
    }

    /// The lane of a loop's inbox for news of this task.
    #[inline]
    pub(crate) fn lane(&self, head: &Head) -> usize {
        if self.limited {
            head.conn_slot() as usize
        } else {
            self.worker().map_or(0, usize::from)
        }
    }
}
