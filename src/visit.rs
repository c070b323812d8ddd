//! A visit to a service's table, in which tasks are asked to stop.
//!
//! What that entails, waking somebody, is done when the table is unlocked.

use crate::cell::HasHead;
use crate::desk::Desk;
use crate::line::LineKey;
use crate::port::{Port, TaskCell, TaskTable};
use crate::primitive::MutexGuard;
use crate::state::Phase;
use crate::status::StopReason;
use crate::task::Task;
use std::any::Any;

/// What came of asking a task to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It had not started and never will: it has ended.
    NeverRan,
    /// It has started, and will see the request.
    WillSee,
    /// It had ended before.
    Ended,
}

/// The table under its lock. End it with [`leave`](Self::leave).
pub(crate) struct Visit<'a, T: Task> {
    port: &'a Port<T>,
    desk: &'a Desk<'a>,
    pub(crate) table: MutexGuard<'a, TaskTable<T>>,
    /// Tasks that were parked and go on.
    roused: Vec<Box<TaskCell<T>>>,
    /// Whether the loop must be woken.
    has_news: bool,
}

impl<T: Task> Port<T> {
    pub(crate) fn visit<'a>(&'a self, desk: &'a Desk<'a>) -> Visit<'a, T> {
        Visit {
            port: self,
            desk,
            table: self.table.lock(),
            roused: Vec::new(),
            has_news: false,
        }
    }

    /// The pool winds up: no task comes in any more, and every one is asked to stop.
    pub(crate) fn wind_up(&self, desk: &Desk<'_>) {
        let mut visit = self.visit(desk);
        if visit.table.is_abandoned() {
            return; // everything was asked to stop, and nobody looks any more
        }
        visit.table.closed = true;
        visit.stop_all(StopReason::PoolFinished);
        // The loop may hold a task, and must come round to give it back.
        visit.has_news = true;
        visit.leave();
    }

    /// The service was dropped: nobody looks any more, so every task is stopped and dropped when it has ended.
    pub(crate) fn abandon(&self) {
        self.mailboxes.close();
        let desk = self.shared.guest_desk(&self.stats);
        let mut visit = self.visit(&desk);
        visit.stop_all(StopReason::ServiceDropped);
        // Who ends from now on is dropped by who runs it. What was parked has been asked, and is in line.
        visit.table.receive(|cells| cells.extend(self.inbox.close()));
        let ended = visit.table.abandon();
        visit.has_news = false;
        visit.leave();
        for cell in ended {
            self.discard(cell, &desk);
        }
        self.shared.wake_for_all(&self.stats);
    }
}

impl<T: Task> Visit<'_, T> {
    /// Asks a task to stop.
    pub(crate) fn stop(&mut self, slot: u32, reason: StopReason) -> Stop {
        if self.end_unrun(slot, reason) {
            return Stop::NeverRan;
        }
        self.fetch(slot);
        if self.table.is_here(slot) && self.table.word(slot).has_ended() {
            return Stop::Ended;
        }
        self.table.head(slot).state.ask_to_stop(reason);
        self.rouse(slot);
        Stop::WillSee
    }

    /// Asks every task to stop.
    fn stop_all(&mut self, reason: StopReason) {
        // In the order in which they came: so the ends of a connection are told in theirs.
        let mut slots: Vec<_> = self.table.from(0).collect();
        slots.sort_by_key(|&slot| self.table.head(slot).serial());
        for slot in slots {
            self.stop(slot, reason);
        }
    }

    /// A task's connection has closed: it is asked to stop, or goes on without one if it may.
    pub(crate) fn close_connection(&mut self, slot: u32) {
        let may_stay = self.table.head(slot).state.outlives();
        if may_stay || !self.end_unrun(slot, StopReason::ConnectionClosed) {
            self.table.head(slot).state.close_connection();
            self.rouse(slot);
        }
    }

    /// Ends a task that has not started, if it is still in line. True: it was.
    pub(crate) fn end_unrun(&mut self, slot: u32, reason: StopReason) -> bool {
        let (port, head) = (self.port, self.table.head(slot));
        if self.table.is_here(slot) || head.state.phase() != Phase::Queued {
            return false;
        }
        let line = LineKey {
            port: port.queue_slot,
            conn: head.conn_slot(),
        };
        let Some(job) = port.shared.recall(line, head) else {
            return false;
        };
        let job: Box<dyn Any> = job;
        let cell: Box<TaskCell<T>> = job.downcast().expect("a task of this service");
        cell.end_unrun(reason, self.desk);
        if port.shared.is_limited() {
            // The ends of a connection are told in their order, and one may lie in a lane.
            port.receive(&mut self.table);
        }
        self.table.arrive(cell);
        self.has_news = true;
        true
    }

    /// A task that has been asked something and is parked goes on: see [`crate::state`].
    fn rouse(&mut self, slot: u32) {
        // Only now: it may have parked a moment before it was asked.
        self.fetch(slot);
        let head = self.table.head(slot);
        if head.state.phase() == Phase::Syncing
            && let Some(cell) = self.table.take(slot)
        {
            cell.head().times.left_parking(self.desk.now());
            cell.head().state.set_phase(Phase::Ready);
            self.roused.push(cell);
        }
    }

    /// A task that has parked or ended is in the table after that.
    fn fetch(&mut self, slot: u32) {
        if !self.table.is_here(slot) {
            self.port.receive(&mut self.table);
        }
    }

    /// Unlocks the table, and wakes who must know.
    pub(crate) fn leave(self) {
        drop(self.table);
        for cell in self.roused {
            self.port.put_in_line(cell, self.desk.stats);
        }
        if self.has_news {
            self.desk.ring(&self.port.inbox.bell);
        }
    }
}
