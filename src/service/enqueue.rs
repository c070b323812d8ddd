//! The way of a task from the loop to the workers: its admission and its submission.

use super::Service;
use super::inner::ServiceInner;
use super::timers::Timing;
use crate::clock::nanos;
use crate::error::EnqueueError;
use crate::queue::{Entry, FlowData, RefusedFlow};
use crate::scheduler::BATCH_MAX;
use crate::scheduler::admission::Refused;
use crate::sync::{Ordering, fence};
use crate::task::Task;
use crate::task::id::{ConnId, TaskId};
use crate::task::options::TaskOptions;
use crate::task::phase::{Phase, Requests};
use std::sync::atomic::Ordering::Relaxed;

/// While all workers are busy, `enqueue` checks for a fork once in this number of submissions.
const FORK_CHECKS: usize = 64;

impl<T: Task> Service<T> {
    /// Submits a task to the pool for a connection. Wakes a worker, if one sleeps and no wake-up of
    /// a worker is pending. O(1).
    ///
    /// # Errors
    ///
    /// The error contains the task. The queue is full, too many tasks have not been reaped, or the
    /// pool is shutting down. If the queue is full, the call may shed a task of another connection
    /// instead: see [`Overload`](crate::Overload).
    #[doc(alias = "lws_threadpool_enqueue")]
    #[doc(alias = "submit")]
    #[inline]
    pub fn enqueue(&mut self, conn: impl Into<ConnId>, task: T) -> Result<TaskId, EnqueueError<T>> {
        // Before anything is counted, since the conversion is user code and may panic.
        let conn = conn.into();
        match self.admit(conn) {
            Ok(now) => {
                let slot = self.accept(conn, now);
                Ok(self.submit(slot, task, now, Phase::Queued))
            }
            Err(refused) => Err(EnqueueError::new(refused, task)),
        }
    }

    /// Submits a task like [`enqueue`](Self::enqueue), with a name, with timeouts, or so that it
    /// may outlive its connection.
    ///
    /// # Errors
    ///
    /// The same as those of `enqueue`.
    #[doc(alias = "lws_threadpool_enqueue")]
    #[doc(alias = "submit")]
    pub fn enqueue_with(
        &mut self,
        conn: impl Into<ConnId>,
        task: T,
        options: TaskOptions,
    ) -> Result<TaskId, EnqueueError<T>> {
        let conn = conn.into();
        let now = match self.admit(conn) {
            Ok(now) => now,
            Err(refused) => return Err(EnqueueError::new(refused, task)),
        };
        let slot = self.accept(conn, now);
        let serial = self.table.slot(slot).serial;
        if options.stays_parked {
            self.table.work(slot).request(serial, Requests::staying_parked);
        } else if options.outlives {
            self.table.work(slot).request(serial, Requests::outliving);
        }
        let at = |timeout| now.saturating_add(nanos(timeout));
        let (queue, deadline) = (options.queue_timeout.map(at), options.deadline.map(at));
        if queue.is_some() || deadline.is_some() {
            self.table.page(slot).set_limits(slot, serial, queue, deadline);
        }
        if queue.is_some() || deadline.is_some() || options.sync_timeout.is_some() {
            self.table
                .set_timing(slot, Timing::new(queue, options.sync_timeout));
        }
        if let Some(name) = options.name {
            self.table.note_name(slot);
            self.inner.set_name(slot, serial, name);
        }
        Ok(self.submit(slot, task, now, Phase::Queued))
    }

    /// Reserves a place for a task. Returns the time.
    #[inline]
    fn admit(&mut self, conn: ConnId) -> Result<u64, Refused> {
        self.check_shutdown();
        let scheduler = &self.inner.scheduler;
        // This check is a system call. So it is made when a worker sleeps, because waking it is a
        // system call too, and otherwise at intervals.
        let checks_fork = scheduler.idle.should_wake() || self.submitted.is_multiple_of(FORK_CHECKS);
        let admitted = if checks_fork && scheduler.is_forked() {
            Err(Refused::Forked)
        } else if let Some(full) = self.full_connection(conn)
            && self.inner.scheduler.is_open()
        {
            Err(full)
        } else {
            self.inner.scheduler.admit()
        };
        let admitted = admitted
            .or_else(|refused| self.make_room(conn, refused))
            .or_else(|refused| self.wait_for_room(refused));
        match admitted {
            Ok(()) => Ok(self.inner.scheduler.clock.now()),
            Err(refused) => {
                let counters = &self.inner.counters;
                let counter = match refused {
                    Refused::QueueFull => &counters.refused_queue,
                    Refused::TooManyTasks => &counters.refused_tasks,
                    Refused::ConnectionFull { .. } => &counters.refused_connection,
                    Refused::ShuttingDown | Refused::Forked => &counters.refused_shutting_down,
                };
                counter.add(1);
                Err(refused)
            }
        }
    }

    /// Sheds tasks of other connections while the queue is full. One shed task is enough, unless a
    /// worker was idle, so that it added a place, and is busy now.
    #[cold]
    fn make_room(&mut self, conn: ConnId, refused: Refused) -> Result<(), Refused> {
        let ServiceInner {
            scheduler, counters, ..
        } = &*self.inner;
        if !scheduler.overload.sheds_fattest() {
            return Err(refused);
        }
        let known = self.table.connections.find(conn);
        let flow = RefusedFlow {
            service: self.inner.queue_number,
            flow: known.filter(|_| self.ends.is_some()),
            group: known.and_then(|slot| self.table.connections[slot].group()),
        };
        let cx = scheduler.external_context(counters);
        let mut refused = refused;
        while matches!(refused, Refused::QueueFull) && scheduler.shed(flow, &cx) {
            match scheduler.admit() {
                Ok(()) => return Ok(()),
                Err(again) => refused = again,
            }
        }
        Err(refused)
    }

    /// The refusal of a task if its connection has reached `max_queued_per_connection`.
    #[inline]
    fn full_connection(&mut self, connection: ConnId) -> Option<Refused> {
        let limit = self.inner.scheduler.max_queued?;
        let mut queued = self.table.queued_of(connection, limit);
        if queued >= limit {
            // Tasks may have ended in another order than that of their submission.
            self.receive();
            self.resume_all();
            queued = self.table.queued_of(connection, limit);
        }
        (queued >= limit).then_some(Refused::ConnectionFull {
            connection,
            queued,
            limit,
        })
    }

    /// Requests a notification when there is room. Checks once more, so that room which is made now
    /// is not missed.
    #[cold]
    fn wait_for_room(&mut self, refused: Refused) -> Result<(), Refused> {
        if !matches!(refused, Refused::QueueFull | Refused::TooManyTasks) {
            return Err(refused);
        }
        self.tell_reaped();
        let scheduler = &self.inner.scheduler;
        if self.room.is_some_and(|place| !scheduler.room.has_come(place)) {
            return scheduler.admit();
        }
        let place = scheduler.room.join(&self.inner.notifier);
        self.room = Some(place);
        scheduler.admit().inspect(|()| {
            scheduler.room.leave(place);
            self.room = None;
        })
    }

    /// Makes a slot for a task.
    #[inline]
    fn accept(&mut self, conn: ConnId, now: u64) -> u32 {
        if !self.table.has_room() {
            let inner = &self.inner;
            self.ends.get_or_insert_with(|| inner.open());
            self.table.add_page(|number| inner.pages.add(number));
        }
        self.table.insert(conn, now)
    }

    /// Submits a task that is queued, or that waits for its next turn after a park. The task is
    /// published at once, unless many announced ids are unread. In that case more submissions will
    /// follow, and busy workers get a whole batch at once.
    #[inline]
    pub(super) fn submit(&mut self, slot: u32, task: T, since: u64, phase: Phase) -> TaskId {
        let Self { inner, table, .. } = self;
        let virtual_time = inner.scheduler.virtual_time();
        let own = table.slot(slot);
        let id = inner.task_id(slot, own.serial);
        let (serial, flow, syncs) = (own.serial, own.connection, own.syncs);
        let FlowData { state, weight } = table.connections.submit(flow, virtual_time);
        let submitted = inner.submissions.submitted();
        let ends = self.ends.as_mut().expect("a task was accepted");
        ends.submissions.push(Entry {
            task,
            serial,
            since,
            slot,
            flow,
            state,
            weight,
            syncs,
            has_started: phase == Phase::Waiting,
            has_new_deadline: false,
        });
        self.submitted = self.submitted.wrapping_add(1);
        let unpublished = self.submitted.wrapping_sub(submitted.published.load(Relaxed));
        let is_published = self.unread < BATCH_MAX || unpublished >= BATCH_MAX;
        if is_published {
            submitted.published.store(self.submitted, Relaxed);
        }
        submitted.count.store(self.submitted, Ordering::Release);
        // After this fence the task is visible to a worker that is about to sleep.
        fence(Ordering::SeqCst);
        if !inner.submissions.is_listed() {
            inner.list();
        }
        let scheduler = &inner.scheduler;
        scheduler.hints.note_submitted();
        if is_published {
            scheduler.hints.note_published();
        }
        scheduler.wake_worker(&inner.counters);
        if scheduler.takers_are_gone() {
            self.run_leftovers();
        }
        id
    }

    /// The workers have ended, so this thread runs the submitted tasks.
    #[cold]
    fn run_leftovers(&self) {
        let ServiceInner {
            scheduler, counters, ..
        } = &*self.inner;
        scheduler.run_pending(&scheduler.external_context(counters));
    }

    /// Publishes all submissions to busy workers.
    pub(super) fn publish(&self) {
        if self.ends.is_none() {
            return;
        }
        let published = &self.inner.submissions.submitted().published;
        if published.load(Relaxed) != self.submitted {
            published.store(self.submitted, Relaxed);
            fence(Ordering::SeqCst);
            self.inner.scheduler.hints.note_published();
        }
    }
}
