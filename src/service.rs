//! The service: a loop's handle of the pool.

mod cancel;
pub(crate) mod completions;
pub(crate) mod connections;
pub(crate) mod inner;
mod polling;
pub(crate) mod ready;
mod run;
pub(crate) mod submissions;
pub(crate) mod sync_point;
mod table;
mod timers;

use crate::clock::nanos;
use crate::error::EnqueueError;
use crate::queue::fair::WEIGHT_MAX;
use crate::queue::{Entry, FlowData, RefusedFlow};
use crate::scheduler::admission::Refused;
use crate::scheduler::room::Place;
use crate::scheduler::{BATCH_MAX, SKIPPED_SEARCHES, SPINS, Scheduler};
use crate::sync::{Ordering, fence, may_search, thread};
use crate::task::Task;
use crate::task::id::{ConnId, GroupId, TaskId};
use crate::task::options::TaskOptions;
use crate::task::panicked::Panic;
use crate::task::phase::{Phase, Requests};
use crate::task::status::{Dequeued, Resume, Status, StopReason};
use crate::wake::Wake;
use cancel::Stop;
use completions::Outcome;
use inner::{LoopEnds, ServiceInner};
use polling::Polling;
use ready::{Ready, ReadyTasks, Unread};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use sync_point::{SyncPoint, TaskStatus};
use table::Table;
use timers::Timing;

/// While all workers are busy, `enqueue` checks for a fork once in this number of submissions.
const FORK_CHECKS: usize = 64;
/// The number of looks of `take_ready` before it returns nothing.
const LOOKS: u32 = if cfg!(loom) { 2 } else { 3 };

/// The pool's handle for one service loop. It enqueues tasks for connections, announces tasks that
/// have parked or ended, and lets the loop look at them, resume them and reap them. *To reap* an
/// ended task is to take it, and its value, out of the service.
///
/// Made by [`ThreadPool::service`](crate::ThreadPool::service). It owns its tasks: only this
/// service announces them. It belongs to one loop at a time: it is `Send`, and its calls take
/// `&mut self`.
///
/// Dropping it stops its tasks. Queued tasks are dropped. Tasks that have started, parked ones and
/// those that may outlive their connection included, are asked to stop, and a worker drops each of
/// them when it has ended. The drop does not wait for them.
///
/// After a shutdown of the pool, the next call of the service ends its queued tasks as `Stopped`
/// and asks its parked tasks to stop. If the workers have ended by then, a parked task runs its
/// last steps on the loop's own thread, inside that call.
#[doc(alias = "lws_threadpool")]
#[must_use = "dropping the service stops its tasks"]
pub struct Service<T: Task> {
    pub(crate) inner: Arc<ServiceInner<T>>,
    table: Table<T>,
    /// The submission ring and the completion rings; `None` before the first task.
    ends: Option<LoopEnds<T>>,
    /// The number of submissions.
    submitted: usize,
    /// How many of the ids that were announced last were not looked at or answered yet.
    unread: usize,
    /// The ids that were dropped unseen; `None` before the first announcement.
    unseen: Option<Arc<Unread>>,
    polling: Polling,
    /// The number of calls of `take_ready` that do not spin, because the last spin found nothing.
    skipped_spins: u32,
    /// Tasks that are resumed at the end of the current call. Kept for its memory.
    resumed: Vec<u32>,
    /// The place of the service in the list of services that wait for room, until `take_ready` has
    /// seen room.
    room: Option<Place>,
    /// The number of reaped tasks that were not reported to the pool.
    untold: u64,
    /// Whether the loop has ever called `poll_timeout`. If so, it calls `poll_timeout` before it
    /// blocks.
    calls_poll_timeout: bool,
    has_seen_shutdown: bool,
    /// Whether the loop has called `poll_timeout` since it last called `take_ready`.
    has_polled: bool,
    /// The time at which an idle worker notifies the loop because a timeout runs out.
    alarm: Option<u64>,
}

/// A task that the loop submits.
struct Work<T> {
    task: T,
    serial: u64,
    since: u64,
    slot: u32,
    flow: u32,
    syncs: u8,
    has_started: bool,
}

impl<T: Task> Service<T> {
    pub(crate) fn new(scheduler: &Arc<Scheduler>, wake: impl Wake) -> Self {
        let has_seen_shutdown = scheduler.is_shutting_down();
        let inner = ServiceInner::new(scheduler, Box::new(wake));
        Self {
            inner,
            table: Table::new(),
            ends: None,
            submitted: 0,
            unread: 0,
            unseen: None,
            polling: Polling::default(),
            skipped_spins: 0,
            resumed: Vec::new(),
            room: None,
            untold: 0,
            calls_poll_timeout: false,
            has_seen_shutdown,
            has_polled: false,
            alarm: None,
        }
    }

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
                Ok(self.start(slot, task, now))
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
        Ok(self.start(slot, task, now))
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
        let queued = self.table.queued_of(connection, limit);
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

    #[inline]
    fn start(&mut self, slot: u32, task: T, now: u64) -> TaskId {
        let own = self.table.slot(slot);
        let (serial, flow) = (own.serial, own.connection);
        self.submit(Work {
            task,
            serial,
            since: now,
            slot,
            flow,
            syncs: 0,
            has_started: false,
        });
        self.inner.task_id(slot, serial)
    }

    /// Submits a task. It is published at once, unless many announced ids are unread: then more
    /// submissions will follow, and a whole batch is published to busy workers at once.
    #[inline]
    fn submit(&mut self, work: Work<T>) {
        let Self { inner, table, .. } = self;
        let virtual_time = inner.scheduler.virtual_time();
        let FlowData { state, weight } = table.connections.submit(work.flow, virtual_time);
        let submitted = inner.submissions.submitted();
        let ends = self.ends.as_mut().expect("a task was accepted");
        ends.submissions.push(Entry {
            task: work.task,
            serial: work.serial,
            since: work.since,
            slot: work.slot,
            flow: work.flow,
            state,
            weight,
            syncs: work.syncs,
            has_started: work.has_started,
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
    fn publish(&self) {
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

    /// Called at the start of every call of the loop.
    #[inline]
    fn check_shutdown(&mut self) {
        if self.inner.scheduler.is_shutting_down() && !self.has_seen_shutdown {
            self.see_shutdown();
        }
    }

    /// Takes the tasks that have parked or ended since the last call. Each is announced once. The
    /// call also acts on timeouts that have run out, and allows the next notification.
    ///
    /// Call it when the loop is notified, and when the time of [`poll_timeout`](Self::poll_timeout)
    /// is over. The simplest way is to call it in every iteration of the loop. Tasks that the loop
    /// does not take out of the iterator are announced again, so a loop that only needs the effect
    /// on timeouts can drop the iterator: `drop(service.take_ready())`.
    ///
    /// ```
    /// use moored::{BoxTask, TaskReturn, TaskStatus, ThreadPool, task_fn};
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let this = std::thread::current();
    /// let mut service = pool.service::<BoxTask>(move || this.unpark());
    /// service.enqueue(7, task_fn(|_| TaskReturn::TaskDone))?;
    /// while !service.is_empty() {
    ///     match service.poll_timeout() {
    ///         Some(timeout) => std::thread::park_timeout(timeout),
    ///         None => std::thread::park(),
    ///     }
    ///     for ready in service.take_ready() {
    ///         if let Some(TaskStatus::Finished(_)) = service.task_status(ready.id) {
    ///             println!("a task of connection {:?} has finished", ready.connection);
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The call may spin for up to two microseconds before it returns nothing, if tasks of this
    /// service are queued or running and steps are very short. That costs less than to block and be
    /// woken. It never spins on a single core. O(number of tasks announced + number of workers).
    #[doc(alias = "LWS_CALLBACK_SERVER_WRITEABLE")]
    #[doc(alias = "wait")]
    #[doc(alias = "poll")]
    pub fn take_ready(&mut self) -> ReadyTasks {
        self.check_shutdown();
        self.polling.end();
        self.tell_reaped();
        self.publish();
        self.inner.scheduler.report_slow_steps(|| ());
        self.stop_late();
        self.receive();
        if !self.table.has_unannounced() {
            self.spin();
        }
        self.rearm();
        self.room = self
            .room
            .filter(|&place| !self.inner.scheduler.room.has_come(place));
        self.receive();
        self.resume_all();
        self.take_back_unseen();
        let ready = self.announce();
        let has_polled = std::mem::take(&mut self.has_polled);
        if !has_polled && self.table.timers.next().is_some() {
            self.set_alarm();
        }
        ready
    }

    /// For a loop that does not call `poll_timeout`: an idle worker notifies it when the next
    /// timeout runs out, or earlier.
    #[cold]
    fn set_alarm(&mut self) {
        let scheduler = &self.inner.scheduler;
        let now = scheduler.clock.now();
        let next = self.table.timers.next();
        let is_early = self.alarm.is_some_and(|at| at > now && Some(at) <= next);
        if scheduler.has_workers() && !is_early {
            scheduler.set_alarm(self.inner.queue_number, self.alarm, next);
            self.alarm = next;
        }
    }

    /// Allows the next notification. The caller must look after this at everything that may have
    /// used the notification before it.
    fn rearm(&mut self) {
        self.inner.notifier.rearm();
        self.check_shutdown();
    }

    /// Looks a few more times, with pauses, if tasks may return during this time.
    fn spin(&mut self) {
        let scheduler = &self.inner.scheduler;
        let pays = self.table.away() > 0 && scheduler.cores > 1 && scheduler.has_very_short_steps();
        if !pays || !may_search() {
            return;
        }
        if self.skipped_spins > 0 {
            self.skipped_spins -= 1;
            return;
        }
        for _ in 1..LOOKS {
            (0..SPINS).for_each(|_| std::hint::spin_loop());
            self.receive();
            if self.table.has_unannounced() {
                return;
            }
        }
        self.skipped_spins = SKIPPED_SEARCHES;
    }

    /// Announces the tasks again that were announced and not taken out of the iterator.
    fn take_back_unseen(&mut self) {
        if let Some((tasks, wakes)) = self.unseen.as_deref().and_then(Unread::take) {
            self.inner.counters.wakes.add(wakes);
            let tasks: Vec<_> = tasks.into_iter().filter_map(|id| self.find(id)).collect();
            self.table.announce_again(&tasks);
        }
    }

    /// Announces the tasks that have arrived.
    fn announce(&mut self) -> ReadyTasks {
        let mut tasks = Vec::new();
        let inner = &self.inner;
        self.table
            .announce(&inner.scheduler.clock, |slot, serial, connection| {
                tasks.push(Ready {
                    id: inner.task_id(slot, serial),
                    connection,
                });
            });
        self.polling.note_found(tasks.len());
        self.unread = tasks.len();
        let unseen = || Unread::new(Arc::clone(&inner.notifier));
        let unseen = (!tasks.is_empty()).then(|| self.unseen.get_or_insert_with(unseen));
        ReadyTasks::new(tasks, unseen.cloned())
    }

    /// Receives the tasks that workers have returned. A task that has parked and must not is
    /// resumed at the end of this call.
    fn receive(&mut self) {
        let Self {
            inner,
            ends,
            table,
            resumed,
            has_seen_shutdown,
            ..
        } = self;
        for ring in ends.iter_mut().flat_map(|ends| &mut ends.completions) {
            ring.pop_each(usize::MAX, |completion| {
                let (slot, is_parked) = (completion.slot, completion.outcome.is_parked());
                table.receive(completion);
                if std::mem::take(&mut table.slot_mut(slot).was_moved) {
                    inner.forget_move(slot);
                }
                if is_parked && (*has_seen_shutdown || table.slot(slot).must_continue) {
                    resumed.push(slot);
                }
            });
        }
    }

    /// Receives a task that a worker has returned, or is returning at this moment.
    #[inline]
    fn fetch(&mut self, slot: u32) {
        while self.table.outcome(slot).is_none() && self.table.phase(slot).is_returned() {
            self.receive();
            if self.table.outcome(slot).is_none() {
                // The worker has written the phase, and is about to add the task to the completion
                // ring.
                thread::yield_now();
            }
        }
    }

    /// Submits a parked task again. Returns false if the task is not parked, or not in the table.
    #[inline]
    fn resume(&mut self, slot: u32) -> bool {
        let now = self.inner.scheduler.clock.now();
        let Some((task, parked)) = self.table.take_parked(slot, now) else {
            return false;
        };
        self.inner.counters.unparked.add(1);
        let owner = self.table.owner(slot);
        owner.add_parked(parked);
        owner.set_phase(Phase::Waiting);
        let own = self.table.slot(slot);
        let (serial, flow, syncs) = (own.serial, own.connection, own.syncs);
        self.submit(Work {
            task,
            serial,
            since: now,
            slot,
            flow,
            syncs,
            has_started: true,
        });
        true
    }

    /// Answers a parked task that is in the table. Returns false if it is not.
    fn answer(&mut self, slot: u32, resume: Resume) -> bool {
        if !self.table.outcome(slot).is_some_and(Outcome::is_parked) {
            return false;
        }
        match resume {
            Resume::Continue => self.resume(slot),
            Resume::Stop => {
                let stop = self.stop(slot, StopReason::Dequeued);
                self.resume_all();
                stop == Stop::WillSee
            }
        }
    }

    /// The slot of a task of this service that has not been reaped.
    #[inline]
    fn find(&self, id: TaskId) -> Option<u32> {
        self.table.find(id).filter(|_| id.service == self.inner.number)
    }

    fn id_of(&self, slot: u32) -> TaskId {
        self.inner.task_id(slot, self.table.slot(slot).serial)
    }

    fn requests_of(&self, slot: u32) -> Requests {
        let serial = self.table.slot(slot).serial;
        self.inner.requests(self.table.page(slot), slot, serial)
    }

    /// Returns the status of a task. If the task has ended, it is reaped: the status contains its
    /// value, and its id is unknown from then on (call [`connection_of`](Self::connection_of)
    /// before, if you need its connection). If the task is parked, the status contains a
    /// [`SyncPoint`] that borrows it; a drop of the `SyncPoint` leaves it parked.
    ///
    /// Returns `None` if no task has this id, or if it was reaped. O(1).
    #[doc(alias = "lws_threadpool_task_status")]
    #[doc(alias = "lws_threadpool_task_status_wsi")]
    #[doc(alias = "reap")]
    #[must_use = "an ended task is reaped and dropped with the status; a parked task waits for an answer"]
    pub fn task_status(&mut self, id: TaskId) -> Option<TaskStatus<'_, T>> {
        self.check_shutdown();
        self.unread = self.unread.saturating_sub(1);
        let slot = self.find(id)?;
        if self.table.outcome(slot).is_none() {
            self.fetch(slot);
            self.resume_all();
        }
        match self.table.outcome(slot) {
            // A worker may have returned it in the meantime. For this call it is still running.
            None => Some(match self.table.phase(slot) {
                _ if self.requests_of(slot).stop().is_some() => TaskStatus::Stopping,
                Phase::Queued => TaskStatus::Queued,
                _ => TaskStatus::Running,
            }),
            Some(Outcome::Parked(_)) => Some(TaskStatus::Syncing(SyncPoint::new(self, slot))),
            Some(_) => self.reap(slot),
        }
    }

    fn reap(&mut self, slot: u32) -> Option<TaskStatus<'_, T>> {
        let (outcome, has_name) = self.table.reap(slot)?;
        if has_name {
            self.inner.remove_name(slot);
        }
        self.count_reaped();
        match outcome {
            Outcome::Finished(task) => Some(TaskStatus::Finished(task)),
            Outcome::Stopped(reason, task) => Some(TaskStatus::Stopped(reason, task)),
            Outcome::Panicked(caught) => Some(TaskStatus::Panicked(Panic::new(*caught))),
            Outcome::Parked(_) => None,
        }
    }

    /// Counts a reaped task. If the loop calls `poll_timeout` before it blocks, it reports several
    /// tasks to the pool together, because each report costs a locked instruction. Otherwise it
    /// reports each task at once.
    #[inline]
    fn count_reaped(&mut self) {
        self.inner.counters.reaped.add(1);
        self.untold += 1;
        let is_full = self.untold >= BATCH_MAX as u64;
        if !self.calls_poll_timeout || is_full || self.inner.scheduler.room.is_waited() {
            self.tell_reaped();
        }
    }

    fn tell_reaped(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        if untold > 0 {
            self.inner.tell_reaped(untold, &self.inner.counters);
        }
    }

    /// Returns the status of a task without reaping it. O(1).
    #[doc(alias = "lws_threadpool_task_status_noreap")]
    #[must_use]
    pub fn peek(&self, id: TaskId) -> Option<Status> {
        let slot = self.find(id)?;
        Some(self.table.phase(slot).status(self.requests_of(slot)))
    }

    /// Answers a parked task. Returns true if the task was parked; it now waits for its next turn.
    /// Returns false, and does nothing, if it was not parked. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn task_sync(&mut self, id: TaskId, resume: Resume) -> bool {
        self.check_shutdown();
        self.unread = self.unread.saturating_sub(1);
        let Some(slot) = self.find(id) else { return false };
        self.fetch(slot);
        self.resume_all();
        self.answer(slot, resume)
    }

    /// Cancels a task. A task that has not started never runs; a task that has started is asked to
    /// stop. Its end is announced in both cases. O(1).
    #[doc(alias = "lws_threadpool_dequeue_task")]
    #[doc(alias = "cancel")]
    pub fn dequeue(&mut self, id: TaskId) -> Dequeued {
        self.check_shutdown();
        let Some(slot) = self.find(id) else {
            return Dequeued::Unknown;
        };
        let stop = self.stop(slot, StopReason::Dequeued);
        self.resume_all();
        match stop {
            Stop::NeverRan => Dequeued::Removed,
            Stop::WillSee => Dequeued::Stopping,
            Stop::Ended => Dequeued::AlreadyDone,
        }
    }

    /// Cancels the tasks of a client that has disconnected: each is dequeued, except that a task
    /// that may outlive its connection continues without one. Their ends are announced. Returns the
    /// number of tasks of the connection that had not been reaped. O(that number), for any number
    /// of other tasks. Messages to the connection in a [`Mailbox`](crate::Mailbox) are dropped,
    /// also those that are sent later: see [`drain`](crate::Mailbox::drain).
    #[doc(alias = "lws_threadpool_dequeue")]
    #[doc(alias = "disconnect")]
    #[doc(alias = "cancel")]
    pub fn connection_closed(&mut self, conn: impl Into<ConnId>) -> usize {
        self.check_shutdown();
        let conn = conn.into();
        let tasks: Vec<u32> = self.table.tasks_of(conn).collect();
        self.detach(&tasks);
        self.table.close_connection(conn);
        if let Some(mailboxes) = self.inner.mailboxes() {
            mailboxes.note_closed(conn);
        }
        tasks.len()
    }

    /// Moves a task to the connection `conn`, for a client that has connected again. Returns false
    /// if there is no such task. O(1).
    ///
    /// A task that was asked to stop still stops.
    pub fn reattach(&mut self, id: TaskId, conn: impl Into<ConnId>) -> bool {
        self.check_shutdown();
        let conn = conn.into();
        let Some(slot) = self.find(id) else { return false };
        // A turn that has ended is charged to the connection that the task had.
        self.fetch(slot);
        self.resume_all();
        let serial = self.table.slot(slot).serial;
        let requests = self.table.work(slot).request(serial, Requests::attached);
        self.table.slot_mut(slot).must_continue = requests.must_continue();
        let virtual_time = self.inner.scheduler.virtual_time();
        let is_detached = self.table.connection_of(slot).is_none();
        if let Some(to) = self.table.reattach(slot, conn, virtual_time) {
            self.inner.relocate(slot, to);
        }
        if is_detached && self.table.outcome(slot).is_some_and(Outcome::is_parked) {
            self.table.restart_sync(slot, None);
            self.table.announce_again(&[slot]);
            self.notify_self();
        }
        fence(Ordering::SeqCst);
        // With a limit, this task or other tasks of its old connection may be free to start now.
        self.inner.scheduler.wake_for_rest(&self.inner.counters);
        true
    }

    /// Adds a connection to a group, or removes it from its group with `None`. Worker time is first
    /// divided between the groups and the connections without a group, and then between the
    /// connections of each group. So a client that opens 10,000 connections has one share, if they
    /// are in one group.
    ///
    /// ```
    /// # use moored::{BoxTask, ThreadPool};
    /// use moored::GroupId;
    /// # use std::net::{IpAddr, Ipv4Addr};
    ///
    /// # let pool = ThreadPool::builder().threads(1).build()?;
    /// # let mut service = pool.service::<BoxTask>(|| {});
    /// # let (tenant, client_address) = (3, IpAddr::from(Ipv4Addr::LOCALHOST));
    /// service.set_group(7, GroupId(tenant));
    /// service.set_group(8, GroupId::from(client_address));
    /// service.set_group(8, None);
    /// # Ok::<(), moored::BuildError>(())
    /// ```
    ///
    /// The group includes connections of other services of the pool.
    /// [`ThreadPool::set_group_weight`](crate::ThreadPool::set_group_weight) sets the weight of the
    /// group. The connections of a group divide its share in proportion to their own weights.
    /// Where [`Overload`](crate::Overload) compares connections, a group counts as one connection.
    ///
    /// The group applies to all tasks of the connection, until the connection is closed. Waiting
    /// tasks move to the group at once, as tasks of a connection that is new in the group. A turn
    /// that has begun is charged to the old group.
    ///
    /// A connection with a group uses memory until [`connection_closed`](Self::connection_closed).
    /// Even while steps are very short, each task of the connection is sorted into its group. This
    /// costs about 0.2 us more for each task than without a group. The call is O(1). If tasks of
    /// the connection are queued or running, it takes the lock of the queue and moves all
    /// submissions into the queue, which is O(1) for each task.
    #[doc(alias = "tenant")]
    #[doc(alias = "client")]
    #[doc(alias = "address")]
    pub fn set_group(&mut self, conn: impl Into<ConnId>, group: impl Into<Option<GroupId>>) {
        self.check_shutdown();
        let (conn, group) = (conn.into(), group.into());
        if let Some(flow) = self.table.connections.set_group(conn, group) {
            self.inner.set_group(flow, group);
        }
    }

    /// Sets the weight of a connection. While several connections have tasks, their shares of
    /// worker time are in proportion to their weights. In a group, the share of the group is
    /// divided in this way. The default is 1; 0 counts as 1, and more than 256 as 256. The weight
    /// applies to tasks that are submitted or resumed after the call, until the connection is
    /// closed.
    ///
    /// ```
    /// # use moored::{BoxTask, ThreadPool};
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// service.set_weight(7, 3); // three times the share of another connection
    /// # Ok::<(), moored::BuildError>(())
    /// ```
    ///
    /// A connection with a weight other than 1 uses memory until
    /// [`connection_closed`](Self::connection_closed). O(1).
    #[doc(alias = "priority")]
    #[doc(alias = "share")]
    pub fn set_weight(&mut self, conn: impl Into<ConnId>, weight: u16) {
        self.check_shutdown();
        let weight = weight.clamp(1, WEIGHT_MAX);
        self.table.connections.set_weight(conn.into(), weight);
    }

    /// The tasks of a connection that have not been reaped, in the order in which they were
    /// enqueued or attached. O(their number).
    #[doc(alias = "lws_threadpool_foreach_task_wsi")]
    #[doc(alias = "lws_threadpool_get_task_wsi")]
    #[must_use]
    pub fn tasks_of(&self, conn: impl Into<ConnId>) -> Vec<TaskId> {
        let slots = self.table.tasks_of(conn.into());
        slots.map(|slot| self.id_of(slot)).collect()
    }

    /// The connection of a task. `None` if the connection has closed, if there is no such task, or
    /// if the task was reaped. O(1).
    #[doc(alias = "lws_threadpool_get_wsi")]
    #[must_use]
    pub fn connection_of(&self, id: TaskId) -> Option<ConnId> {
        let slot = self.find(id)?;
        self.table.connection_of(slot)
    }

    /// Returns how long the loop may block before it must call [`take_ready`](Self::take_ready).
    /// `None` means: until the loop is notified. Call it right before the loop blocks, in every
    /// iteration.
    ///
    /// ```
    /// use moored::{BoxTask, TaskOptions, TaskReturn, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// assert_eq!(service.poll_timeout(), None);
    /// let parks = task_fn(|cx| if cx.is_stopping() { TaskReturn::Stopped } else { TaskReturn::Sync });
    /// let options = TaskOptions::new().deadline(Duration::from_secs(2));
    /// service.enqueue_with(7, parks, options)?;
    /// assert!(service.poll_timeout().is_some_and(|timeout| timeout <= Duration::from_secs(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The result is the time until the next timeout of a task. It is zero while
    ///
    /// - a task has parked or ended, was not announced, and no notification of it is outstanding;
    /// - a [`Mailbox`](crate::Mailbox) holds messages;
    /// - steps are pending and the pool has no threads (`threads(0)`).
    ///
    /// It is at most 5 ms while workers may defer notifications. They may do so while the loop has
    /// found something in each iteration, steps are short, and tasks of this service are queued or
    /// running. A worker that has more tasks to run then notifies the loop at most every 20 us. If
    /// a step takes long, the loop must look again without a notification, after the time that
    /// `poll_timeout` returned. So a loop that has called `poll_timeout`, and later blocks for
    /// longer or without another call, may be notified late by the length of a step. A loop that
    /// never calls it is always notified at once.
    ///
    /// O(number of workers + number of tasks returned since the last call).
    #[doc(alias = "timeout")]
    #[doc(alias = "wait")]
    #[must_use = "the loop must not block for longer"]
    pub fn poll_timeout(&mut self) -> Option<Duration> {
        self.check_shutdown();
        self.has_polled = true;
        self.calls_poll_timeout = true;
        self.tell_reaped();
        self.publish();
        self.inner.scheduler.report_slow_steps(|| ());
        let scheduler = &self.inner.scheduler;
        if self.polling.has_found() && self.table.away() > 0 && scheduler.has_short_steps() {
            self.inner.notifier.start_polling();
        } else {
            self.inner.notifier.stop_polling();
        }
        if self.room.is_some() {
            scheduler.note_room(&self.inner.counters);
        }
        if self.has_unseen() {
            return Some(Duration::ZERO);
        }
        if self.inner.notifier.is_notified() {
            // The wake may be over already, and the loop may have found its cause without
            // `take_ready`.
            self.rearm();
            if self.has_unseen() {
                return Some(Duration::ZERO);
            }
        }
        let scheduler = &self.inner.scheduler;
        let now = scheduler.clock.now();
        let poll = self.inner.notifier.is_polling().then(|| self.polling.left(now));
        let due = self.table.timers.next();
        // With threads, an idle worker has its own timer.
        let moment = if scheduler.has_workers() {
            None
        } else {
            scheduler.time_to_next_moment()
        };
        let left = [due.map(|due| due.saturating_sub(now)), poll, moment];
        left.into_iter().flatten().min().map(Duration::from_nanos)
    }

    /// Whether there is something for the loop of which it may not be notified again.
    fn has_unseen(&mut self) -> bool {
        self.take_back_unseen();
        if !self.inner.notifier.is_polling() {
            // Otherwise the worker will notify the loop of the task that it has returned.
            self.receive();
            self.resume_all();
        }
        let scheduler = &self.inner.scheduler;
        let has_messages = self
            .inner
            .mailboxes()
            .is_some_and(|mailboxes| mailboxes.are_undrained());
        let has_room = self.room.is_some_and(|place| scheduler.room.has_come(place));
        let has_pending = || !scheduler.has_workers() && scheduler.has_runnable();
        has_room || self.table.has_unannounced() || has_messages || has_pending()
    }

    /// Estimates the time until a task that is enqueued now for this connection has its first step.
    /// The result is zero if the task could start at once. It is meant for the header `Retry-After`
    /// of an answer 503.
    ///
    /// ```
    /// use moored::{BoxTask, TaskReturn, ThreadPool, task_fn};
    ///
    /// let pool = ThreadPool::builder().threads(1).max_queue_depth(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// if let Err(refused) = service.enqueue(7, task_fn(|_| TaskReturn::TaskDone)) {
    ///     let seconds = service.estimated_wait(7).as_secs() + 1;
    ///     println!("503, Retry-After: {seconds}, because of: {refused}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The estimate uses the place of the connection in the fair order, its waiting tasks, the
    /// recent times of steps, and the number of workers. It assumes that each connection which has
    /// tasks now will have tasks until then, and that the steps of a connection take about as long
    /// as its last few steps. Before the first step of the pool has ended, the time of a step is
    /// not known, and the estimate is too low. The estimate does not consider a limit of running
    /// tasks. Without threads (`threads(0)`) it does not consider the time between the calls of
    /// [`run_pending`](Self::run_pending).
    ///
    /// In a process that was forked after the pool was built, the result is zero. The cost is
    /// O(threads × log threads), one system call, and the lock of the queue. The call also moves
    /// all submissions into the queue, which is O(1) for each task.
    #[doc(alias = "Retry-After")]
    #[doc(alias = "backpressure")]
    #[must_use]
    pub fn estimated_wait(&self, conn: impl Into<ConnId>) -> Duration {
        let own = &self.table.connections;
        let flow = own.find(conn.into());
        let known = flow.and_then(|flow| own[flow].known_flow(self.inner.queue_number, flow));
        self.inner.scheduler.estimated_wait(known)
    }

    /// Runs pending steps on this thread until none is pending or `budget` is over. Returns the
    /// number of turns that tasks got. Without threads (`threads(0)`) tasks run only in this call;
    /// with threads, the calling thread helps the workers.
    ///
    /// It runs tasks of the whole pool, in the same fair order as the workers. Tasks that a worker
    /// has taken and not begun come first. A step is not interrupted, so the call can exceed the
    /// budget by one step; with a budget of zero one task runs one step.
    pub fn run_pending(&mut self, budget: Duration) -> usize {
        self.check_shutdown();
        let inner = Arc::clone(&self.inner);
        let ServiceInner {
            scheduler, counters, ..
        } = &*inner;
        let cx = scheduler.external_context(counters).with_budget(nanos(budget));
        let mut turns = scheduler.run_pending(&cx);
        if scheduler.is_shutting_down() && !self.has_seen_shutdown {
            // A step has shut the pool down: parked tasks run their last steps now.
            self.see_shutdown();
            turns += scheduler.run_pending(&cx);
        }
        turns
    }

    /// The number of tasks that have not been reaped. O(1).
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether every task has been reaped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Task> Drop for Service<T> {
    fn drop(&mut self) {
        if !self.inner.scheduler.is_forked() {
            self.abandon();
        }
        self.inner.notifier.arc_fence.pass();
    }
}

impl<T: Task> fmt::Debug for Service<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("pool", &self.inner.scheduler.name)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{TaskReturn, ThreadPool, task_fn};

    /// Parked tasks were counted as tasks that will return soon, so a loop with only parked tasks
    /// spun after each look.
    #[test]
    fn parked_and_ended_tasks_do_not_count_as_in_flight() {
        let pool = ThreadPool::builder().threads(0).build().expect("no thread");
        let mut service = pool.service(|| {});
        let away = |service: &mut Service<_>| {
            let ready: Vec<_> = service.take_ready().map(|ready| ready.id).collect();
            (service.table.away(), ready)
        };
        let parks = service.enqueue(
            1,
            task_fn(|cx| {
                if cx.is_stopping() {
                    TaskReturn::Stopped
                } else {
                    TaskReturn::Sync
                }
            }),
        );
        let ends = service.enqueue(2, task_fn(|_| TaskReturn::TaskDone));
        let (parks, ends) = (parks.expect("room"), ends.expect("room"));
        assert_eq!(away(&mut service), (2, vec![]));
        service.run_pending(Duration::MAX);
        assert_eq!(away(&mut service), (0, vec![parks, ends]));
        drop(service.task_status(ends));
        drop(service.task_status(parks));
        assert_eq!(away(&mut service).0, 0, "the parked task was not answered");
        assert!(service.task_sync(parks, Resume::Continue));
        assert_eq!(away(&mut service).0, 1);
        service.run_pending(Duration::MAX);
        assert_eq!(away(&mut service), (0, vec![parks]));
        service.dequeue(parks);
        assert_eq!(away(&mut service).0, 1, "the parked task was asked to stop");
    }
}
