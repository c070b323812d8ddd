//! Stopping a task, the tasks of a connection, or all tasks.

use super::Service;
use super::completions::{Completion, Outcome};
use super::inner::ServiceInner;
use crate::panic::drop_quietly;
use crate::sync::{Ordering, fence};
use crate::task::Task;
use crate::task::header::NO_WORKER;
use crate::task::id::ConnId;
use crate::task::phase::{Phase, Requests};
use crate::task::status::{Dequeued, StopReason, Timeout};

impl<T: Task> Service<T> {
    /// Asks a task to stop.
    pub(super) fn stop(&mut self, slot: u32, reason: StopReason) -> Dequeued {
        // The shutdown of the pool has already asked it to stop.
        let is_shutting_down = self.inner.scheduler.is_shutting_down();
        let reason = if is_shutting_down {
            StopReason::PoolShutdown
        } else {
            reason
        };
        if self.end_unrun(slot, reason) {
            return Dequeued::Removed;
        }
        self.fetch(slot);
        if self.table.phase(slot).is_ended() {
            return Dequeued::AlreadyDone;
        }
        self.request(slot, |requests| requests.with_stop(reason));
        Dequeued::Stopping
    }

    /// The connection has closed. Each of its tasks continues without a connection if it may,
    /// otherwise it is asked to stop. Returns the number of its tasks.
    pub(super) fn detach(&mut self, conn: ConnId) -> usize {
        let mut started = Vec::new();
        let mut count = 0;
        let mut next = self.table.tasks_of(conn).next();
        while let Some(slot) = next {
            count += 1;
            // An ended task stays in the list of its connection until it is reaped.
            next = self.table.task_after(slot);
            let may_stay = self.table.requests(slot).outlives();
            self.table.owner(slot).close_connection();
            if may_stay || !self.end_unrun(slot, StopReason::ConnectionClosed) {
                started.push(slot);
            }
        }
        let now = self.inner.scheduler.clock.now();
        for slot in started {
            self.request(slot, Requests::with_closed_connection);
            // This matters for a task that stays parked.
            self.table.restart_sync(slot, Some(now));
        }
        self.resume_all();
        count
    }

    /// Sets a request of a task. If the task is parked, [`resume_all`](Self::resume_all) resumes it
    /// at the end of this call; if a worker is parking it at this moment, it is resumed when the
    /// loop receives it.
    fn request(&mut self, slot: u32, change: impl Fn(Requests) -> Requests) {
        let requests = self.table.request(slot, change);
        if requests.stop().is_some() && self.inner.cut_delay_short(slot) {
            fence(Ordering::SeqCst);
            self.inner.scheduler.wake_worker(&self.inner.counters);
        }
        self.fetch(slot);
        if requests.must_continue() {
            self.resumed.push(slot);
        }
    }

    /// Submits the parked tasks again that got a request. This is the last action of a call, so
    /// that the order of its other actions does not matter.
    #[inline]
    pub(super) fn resume_all(&mut self) {
        if !self.resumed.is_empty() {
            let mut resumed = std::mem::take(&mut self.resumed);
            for slot in resumed.drain(..) {
                self.resume(slot);
            }
            self.resumed = resumed;
        }
    }

    /// Ends a task that has not started, unless a worker is about to start it. Returns true if it
    /// has ended.
    pub(super) fn end_unrun(&mut self, slot: u32, reason: StopReason) -> bool {
        if self.table.outcome(slot).is_some() || self.table.phase(slot) != Phase::Queued {
            return false;
        }
        let Some(entry) = self.inner.take_out(slot) else {
            return false;
        };
        let now = self.inner.scheduler.clock.now();
        let header = self.table.work(slot);
        header.renew(now.saturating_sub(entry.since));
        header.set(entry.serial, entry.syncs, NO_WORKER, Phase::Stopped);
        let ServiceInner {
            scheduler, counters, ..
        } = &*self.inner;
        let outcome = Outcome::Stopped(reason, entry.task);
        self.inner.note_end(slot, entry.serial, &outcome);
        counters.stopped[reason.index()].add(1);
        scheduler.admission.count_never_ran();
        scheduler.note_room_after_count(counters);
        if self.inner.scheduler.limit.is_some() {
            // Ends of one connection are announced in order.
            self.receive();
        }
        self.table.receive(Completion {
            outcome,
            at: now,
            cost: 0.0,
            syncs: entry.syncs,
            slot,
            flow: entry.flow,
            has_new_deadline: false,
        });
        self.notify_self();
        self.inner.scheduler.check_drain();
        true
    }

    /// The loop must call `take_ready` again, because no worker notifies it of these ends.
    pub(super) fn notify_self(&self) {
        let notifies = self.inner.notifier.notify();
        self.inner.counters.wakes.add(u64::from(notifies));
    }

    /// Stops the tasks whose timeouts are due.
    pub(super) fn stop_late(&mut self) {
        if self.table.timers.next().is_none() {
            return;
        }
        let now = self.inner.scheduler.clock.now();
        while let Some(due) = self.table.timers.due(now) {
            let timeout = self.table.due(due.slot).filter(|&(at, _)| at <= due.at);
            if let Some((_, timeout)) = timeout {
                let reason = StopReason::TimedOut(timeout);
                match timeout {
                    Timeout::Queue if self.end_unrun(due.slot, reason) => {}
                    Timeout::Queue => self.table.note_start(due.slot),
                    Timeout::Sync | Timeout::Deadline => _ = self.stop(due.slot, reason),
                }
            }
            self.table.rearm(due.slot);
        }
        self.resume_all();
    }

    /// The pool is shutting down: asks every task to stop.
    #[cold]
    pub(super) fn see_shutdown(&mut self) {
        self.has_seen_shutdown = true;
        self.receive();
        // In the order in which they were submitted, so that the ends of a connection are announced
        // in that order.
        for slot in self.table.slots_by_age() {
            self.stop(slot, StopReason::PoolShutdown);
        }
        self.resume_all();
    }

    /// The service is being dropped: every task is asked to stop, and is dropped when it has ended.
    pub(super) fn abandon(&mut self) {
        if let Some(mailboxes) = self.inner.mailboxes() {
            mailboxes.close();
        }
        self.inner.notifier.silence();
        if let Some(place) = self.room.take() {
            self.inner.scheduler.room.leave(place);
        }
        if self.alarm.is_some() {
            let number = self.inner.queue_number;
            self.inner.scheduler.set_alarm(number, self.alarm, None);
        }
        self.receive();
        let slots = self.table.slots_by_age();
        for &slot in &slots {
            self.stop(slot, StopReason::ServiceDropped);
        }
        self.resume_all();
        let mut ended = Vec::new();
        for slot in slots {
            if let Some((outcome, has_name)) = self.table.reap(slot) {
                if has_name {
                    self.inner.remove_name(slot);
                }
                self.count_reaped();
                ended.push(outcome);
            }
        }
        self.tell_reaped();
        let (inner, left) = (&self.inner, self.table.len());
        let cx = inner.scheduler.external_context(&inner.counters);
        inner.abandon(
            left,
            self.ends.take().map_or(Vec::new(), |ends| ends.completions),
            &cx,
        );
        ended.into_iter().for_each(drop_quietly);
        inner.scheduler.wake_for_rest(&inner.counters);
        if inner.scheduler.takers_are_gone() {
            inner.scheduler.run_pending(&cx);
        }
    }
}
