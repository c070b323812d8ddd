//! The loop's handle of a pool.

mod cancel;
pub(crate) mod completions;
mod connections;
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
use crate::queue::Entry;
use crate::queue::ring::{Consumer, Producer};
use crate::scheduler::admission::Refused;
use crate::scheduler::{BATCH_MAX, SKIPPED_SEARCHES, SPINS, Scheduler};
use crate::sync::{Ordering, fence, may_search, thread};
use crate::task::Task;
use crate::task::id::{ConnId, TaskId};
use crate::task::options::TaskOptions;
use crate::task::panicked::Panic;
use crate::task::phase::{Phase, Requests};
use crate::task::status::{Dequeued, Resume, Status, StopReason};
use crate::wake::Wake;
use cancel::Stop;
use completions::{Completion, Outcome};
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

/// How often `take_ready` looks before it returns nothing.
const LOOKS: u32 = if cfg!(loom) { 2 } else { 3 };

/// The handle of a service loop: it enqueues tasks for connections, is notified when they have
/// parked or ended, looks, answers and reaps.
///
/// Made by [`ThreadPool::service`](crate::ThreadPool::service). It belongs to one loop at a time
/// (it is `Send`, and its calls take `&mut self`) and owns its tasks: their events come here and
/// nowhere else.
///
/// Dropping it stops its tasks: those that wait are dropped, those that have started are asked to
/// stop and dropped by the worker when they have ended, outliving ones too. It does not wait for
/// them.
///
/// When the pool is shut down, the service sees it in its next call: queued tasks end as `Stopped`,
/// and parked ones are asked to stop. When the workers have ended, such a task runs its last steps
/// on the loop's own thread, inside that call.
#[doc(alias = "lws_threadpool")]
#[must_use = "dropping it stops its tasks"]
pub struct Service<T: Task> {
    pub(crate) inner: Arc<ServiceInner<T>>,
    table: Table<T>,
    /// The rings to and from the workers.
    submissions: Producer<Entry<T>>,
    completions: Vec<Consumer<Completion<T>>>,
    /// The number of submissions, and how many of them were published.
    submitted: usize,
    /// How many of the ids that were last announced the loop has not looked at.
    unread: usize,
    /// Those that were dropped unseen.
    unseen: Arc<Unread>,
    polling: Polling,
    /// So many calls of `take_ready` do not spin, since the last spin found nothing.
    skipped_spins: u32,
    /// Tasks that are to be resumed at the end of the present call. Kept for its memory.
    resumed: Vec<u32>,
    has_seen_shutdown: bool,
    /// Whether the loop has called `poll_timeout` since it last called `take_ready`.
    has_polled: bool,
    /// When an idle worker notifies the loop, since a timeout runs out.
    alarm: Option<u64>,
}

impl<T: Task> Service<T> {
    pub(crate) fn new(scheduler: &Arc<Scheduler>, wake: impl Wake) -> Self {
        let has_seen_shutdown = scheduler.is_shutting_down();
        let (inner, ends) = ServiceInner::new(scheduler, Box::new(wake));
        let unseen = Unread::new(Arc::clone(&inner.notifier));
        let LoopEnds {
            submissions,
            completions,
        } = ends;
        Self {
            inner,
            table: Table::new(),
            submissions,
            completions,
            submitted: 0,
            unread: 0,
            unseen,
            polling: Polling::default(),
            skipped_spins: 0,
            resumed: Vec::new(),
            has_seen_shutdown,
            has_polled: false,
            alarm: None,
        }
    }

    /// Submits a task to the pool, for a connection. O(1); wakes a worker if one sleeps and none is
    /// on its way.
    ///
    /// # Errors
    ///
    /// The task comes back inside the error: the queue is full, too many tasks are alive, or the
    /// pool is shutting down.
    #[doc(alias = "lws_threadpool_enqueue")]
    #[doc(alias = "submit")]
    #[inline]
    pub fn enqueue(&mut self, conn: impl Into<ConnId>, task: T) -> Result<TaskId, EnqueueError<T>> {
        // Before anything is counted, since it is user code and may panic.
        let conn = conn.into();
        match self.admit() {
            Ok(now) => {
                let slot = self.accept(conn, now);
                Ok(self.start(slot, task, now))
            }
            Err(refused) => Err(EnqueueError::new(refused, task)),
        }
    }

    /// As [`enqueue`](Self::enqueue), with a name, timeouts, or leave to outlive the connection.
    ///
    /// # Errors
    ///
    /// As `enqueue`.
    #[doc(alias = "lws_threadpool_enqueue")]
    #[doc(alias = "submit")]
    pub fn enqueue_with(
        &mut self,
        conn: impl Into<ConnId>,
        task: T,
        options: TaskOptions,
    ) -> Result<TaskId, EnqueueError<T>> {
        let conn = conn.into();
        let now = match self.admit() {
            Ok(now) => now,
            Err(refused) => return Err(EnqueueError::new(refused, task)),
        };
        let slot = self.accept(conn, now);
        let serial = self.table.slot(slot).serial;
        if options.outlives {
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

    /// Asks for room for a task. Returns the time.
    #[inline]
    fn admit(&mut self) -> Result<u64, Refused> {
        self.check_shutdown();
        let ServiceInner {
            scheduler, counters, ..
        } = &*self.inner;
        let admitted = if scheduler.is_shutting_down() {
            Err(Refused::ShuttingDown)
        } else {
            scheduler.admission.admit(|| scheduler.progress())
        };
        match admitted {
            Ok(()) => Ok(scheduler.clock.now()),
            Err(refused) => {
                let counter = match refused {
                    Refused::QueueFull => &counters.refused_queue,
                    Refused::TooManyTasks => &counters.refused_tasks,
                    Refused::ShuttingDown => &counters.refused_shutting_down,
                };
                counter.add(1);
                Err(refused)
            }
        }
    }

    /// Makes a slot for a task.
    #[inline]
    fn accept(&mut self, conn: ConnId, now: u64) -> u32 {
        if !self.table.has_room() {
            let inner = &self.inner;
            self.table.add_page(|number| inner.pages.add(number));
        }
        self.table.insert(conn, now)
    }

    #[inline]
    fn start(&mut self, slot: u32, task: T, now: u64) -> TaskId {
        let own = self.table.slot(slot);
        let (serial, flow) = (own.serial, own.connection);
        self.submit(Entry {
            task,
            serial,
            since: now,
            syncs: 0,
            slot,
            flow,
            has_started: false,
            has_siblings: false,
            has_new_deadline: false,
        });
        self.inner.task_id(slot, serial)
    }

    /// Gives a task to the workers. It is published at once, unless many ids are unread: then more
    /// follows, and busy workers come for a whole batch.
    #[inline]
    fn submit(&mut self, mut entry: Entry<T>) {
        let Self { inner, table, .. } = self;
        let connection = &mut table.connections[entry.flow];
        entry.has_siblings = connection.away > 0;
        connection.away += 1;
        let submitted = &inner.submissions.submitted;
        if entry.has_siblings {
            let siblings = submitted.siblings.load(Relaxed).wrapping_add(1);
            submitted.siblings.store(siblings, Relaxed);
        }
        self.submissions.push(entry);
        self.submitted = self.submitted.wrapping_add(1);
        let unpublished = self.submitted.wrapping_sub(submitted.published.load(Relaxed));
        let is_published = self.unread < BATCH_MAX || unpublished >= BATCH_MAX;
        if is_published {
            submitted.published.store(self.submitted, Relaxed);
        }
        submitted.count.store(self.submitted, Ordering::Release);
        // From here on it is visible to a worker that is about to sleep.
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

    /// The pool has ended: no other thread would run what was submitted.
    #[cold]
    fn run_leftovers(&self) {
        let ServiceInner {
            scheduler, counters, ..
        } = &*self.inner;
        scheduler.run_pending(&scheduler.external_context(counters));
    }

    /// Tells busy workers of everything that was submitted.
    fn publish(&self) {
        let published = &self.inner.submissions.submitted.published;
        if published.load(Relaxed) != self.submitted {
            published.store(self.submitted, Relaxed);
            fence(Ordering::SeqCst);
            self.inner.scheduler.hints.note_published();
        }
    }

    /// Every call of the loop begins with this.
    #[inline]
    fn check_shutdown(&mut self) {
        if self.inner.scheduler.is_shutting_down() && !self.has_seen_shutdown {
            self.see_shutdown();
        }
    }

    /// Takes the tasks that have parked or ended since the last call: each is announced once. Also
    /// stops tasks whose time is up, and allows the next notification.
    ///
    /// Call it whenever the loop is notified, and when [`poll_timeout`](Self::poll_timeout) is
    /// over; calling it in every turn of the loop is simplest. What the loop does not take out of
    /// the iterator is announced again.
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
    /// While tasks of this service are with the workers and steps are very short, it may spin for
    /// two microseconds at most before it returns nothing, which costs less than to block and be
    /// woken. It never spins on a single core. O(number of tasks announced + number of workers).
    #[doc(alias = "LWS_CALLBACK_SERVER_WRITEABLE")]
    #[doc(alias = "wait")]
    #[doc(alias = "poll")]
    pub fn take_ready(&mut self) -> ReadyTasks {
        self.check_shutdown();
        self.polling.end();
        self.publish();
        self.inner.scheduler.report_slow_steps();
        self.stop_late();
        self.receive();
        if !self.table.has_unannounced() {
            self.spin();
        }
        self.rearm();
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

    /// The loop does not look at its timeouts by itself: an idle worker notifies it when the next
    /// one runs out, at the latest.
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

    /// Allows the next notification. Everything that may have used the one before must be looked at
    /// after this.
    fn rearm(&mut self) {
        self.inner.notifier.rearm();
        self.check_shutdown();
    }

    /// Looks a few times more, with pauses, if tasks may return in this time.
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

    /// The tasks that were announced and not yielded are to be announced again.
    fn take_back_unseen(&mut self) {
        if let Some((tasks, wakes)) = self.unseen.take() {
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
        ReadyTasks::new(tasks, &self.unseen)
    }

    /// Receives what the workers have returned. A task that has parked although it must not is
    /// resumed at the end of this call.
    fn receive(&mut self) {
        let Self {
            completions,
            table,
            resumed,
            has_seen_shutdown,
            ..
        } = self;
        for ring in completions {
            ring.pop_each(usize::MAX, |completion| {
                let (slot, is_parked) = (completion.slot, completion.outcome.is_parked());
                table.receive(completion);
                if is_parked && (*has_seen_shutdown || table.slot(slot).must_continue) {
                    resumed.push(slot);
                }
            });
        }
    }

    /// Receives a task that a worker has returned, or is just returning.
    #[inline]
    fn fetch(&mut self, slot: u32) {
        while self.table.outcome(slot).is_none() && self.table.phase(slot).is_returned() {
            self.receive();
            if self.table.outcome(slot).is_none() {
                // The worker has written the phase, and is about to add the task to its ring.
                thread::yield_now();
            }
        }
    }

    /// Submits a parked task again. False: it is not parked, or not here.
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
        self.submit(Entry {
            task,
            serial,
            since: now,
            syncs: syncs.into(),
            slot,
            flow,
            has_started: true,
            has_siblings: false,
            has_new_deadline: false,
        });
        true
    }

    /// Answers a parked task that is here. False: it is not.
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

    /// The slot of a task of this service that was not reaped.
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

    /// The status of a task. An ended task is reaped: it comes back by value, and its id is unknown
    /// from then on (call [`connection_of`](Self::connection_of) before, if you need its
    /// connection). A parked one is lent until the [`SyncPoint`] is answered or dropped.
    ///
    /// `None`: no such task, or it was reaped. O(1).
    #[doc(alias = "lws_threadpool_task_status")]
    #[doc(alias = "lws_threadpool_task_status_wsi")]
    #[doc(alias = "reap")]
    #[must_use = "an ended task is reaped, and dropped with this; a parked one waits for an answer"]
    pub fn task_status(&mut self, id: TaskId) -> Option<TaskStatus<'_, T>> {
        self.check_shutdown();
        self.unread = self.unread.saturating_sub(1);
        let slot = self.find(id)?;
        if self.table.outcome(slot).is_none() {
            self.fetch(slot);
            self.resume_all();
        }
        match self.table.outcome(slot) {
            // A worker may have returned it meanwhile: then it is still running, for this call.
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
        self.inner.counters.reaped.add(1);
        match outcome {
            Outcome::Finished(task) => Some(TaskStatus::Finished(task)),
            Outcome::Stopped(reason, task) => Some(TaskStatus::Stopped(reason, task)),
            Outcome::Panicked(payload) => Some(TaskStatus::Panicked(Panic::new(payload))),
            Outcome::Parked(_) => None,
        }
    }

    /// The status of a task, without reaping it. O(1).
    #[doc(alias = "lws_threadpool_task_status_noreap")]
    #[must_use]
    pub fn peek(&self, id: TaskId) -> Option<Status> {
        let slot = self.find(id)?;
        Some(self.table.phase(slot).status(self.requests_of(slot)))
    }

    /// Answers a parked task. True: it was parked, and waits for its next turn now. False: it was
    /// not, and nothing has happened. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn task_sync(&mut self, id: TaskId, resume: Resume) -> bool {
        self.check_shutdown();
        self.unread = self.unread.saturating_sub(1);
        let Some(slot) = self.find(id) else { return false };
        self.fetch(slot);
        self.resume_all();
        self.answer(slot, resume)
    }

    /// Cancels a task: one that has not started never will, one that has is asked to stop. Its end
    /// is announced either way. O(1).
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

    /// A client has disconnected: its tasks are dequeued, but those that may outlive it continue
    /// without a connection. All their ends are announced. Returns the number of its tasks that
    /// were not reaped. O(that number), whatever else the pool holds. Messages for it in a
    /// [`Mailbox`](crate::Mailbox), and later ones, are dropped: see
    /// [`drain`](crate::Mailbox::drain).
    #[doc(alias = "lws_threadpool_dequeue")]
    #[doc(alias = "disconnect")]
    #[doc(alias = "cancel")]
    pub fn connection_closed(&mut self, conn: impl Into<ConnId>) -> usize {
        self.check_shutdown();
        let conn = conn.into();
        let tasks: Vec<u32> = self.table.tasks_of(conn).collect();
        self.detach(&tasks);
        self.table.close_connection(conn);
        self.inner.mailboxes.note_closed(conn);
        tasks.len()
    }

    /// A client that came back takes over a task: it belongs to `conn` from now on. False: no such
    /// task. O(1).
    ///
    /// A task that was asked to stop stays so.
    pub fn reattach(&mut self, id: TaskId, conn: impl Into<ConnId>) -> bool {
        self.check_shutdown();
        let conn = conn.into();
        let Some(slot) = self.find(id) else { return false };
        let serial = self.table.slot(slot).serial;
        let requests = self.table.work(slot).request(serial, Requests::attached);
        self.table.slot_mut(slot).must_continue = requests.must_continue();
        let to = self.table.reattach(slot, conn);
        self.inner.relocate(slot, to);
        fence(Ordering::SeqCst);
        // With a limit, this task or those that it leaves may be free to run now.
        self.inner.scheduler.wake_for_rest(&self.inner.counters);
        true
    }

    /// The tasks of a connection that were not reaped, in the order in which they came to it.
    /// O(their number).
    #[doc(alias = "lws_threadpool_foreach_task_wsi")]
    #[doc(alias = "lws_threadpool_get_task_wsi")]
    #[must_use]
    pub fn tasks_of(&self, conn: impl Into<ConnId>) -> Vec<TaskId> {
        let slots = self.table.tasks_of(conn.into());
        slots.map(|slot| self.id_of(slot)).collect()
    }

    /// The connection of a task; `None` if that has closed, or there is no such task, also because
    /// it was reaped. O(1).
    #[doc(alias = "lws_threadpool_get_wsi")]
    #[must_use]
    pub fn connection_of(&self, id: TaskId) -> Option<ConnId> {
        let slot = self.find(id)?;
        self.table.connection_of(slot)
    }

    /// Returns how long the loop may block before it must call [`take_ready`](Self::take_ready);
    /// `None`: until it is notified. Call it right before the loop blocks, in each turn.
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
    /// It is the time until the next timeout of a task. It is zero while
    ///
    /// - a task has parked or ended, was not announced, and no notification of it is on its way;
    /// - a [`Mailbox`](crate::Mailbox) holds messages;
    /// - steps are pending and the pool has no threads (`threads(0)`).
    ///
    /// And it is at most 5 ms while workers may defer notifications: the loop finds something each
    /// time, steps are short, and tasks of this service are with the workers. Then a worker that
    /// has more to do notifies the loop at most every 20 us, and relies on the loop to look by
    /// itself should a step take long. This needs the loop to call `poll_timeout` before it blocks:
    /// a loop that has called it, and later blocks without a call or for longer, may be notified
    /// late, by the length of a step. A loop that never calls it is always notified at once.
    ///
    /// O(number of workers + number of tasks that have returned).
    #[doc(alias = "timeout")]
    #[doc(alias = "wait")]
    #[must_use = "the loop must not block for longer"]
    pub fn poll_timeout(&mut self) -> Option<Duration> {
        self.check_shutdown();
        self.has_polled = true;
        self.publish();
        self.inner.scheduler.report_slow_steps();
        let scheduler = &self.inner.scheduler;
        if self.polling.has_found() && self.table.away() > 0 && scheduler.has_short_steps() {
            self.inner.notifier.start_polling();
        } else {
            self.inner.notifier.stop_polling();
        }
        if self.has_unseen() {
            return Some(Duration::ZERO);
        }
        if self.inner.notifier.is_notified() {
            // The wake may be over, and what it was for was seen by other means than `take_ready`.
            self.rearm();
            if self.has_unseen() {
                return Some(Duration::ZERO);
            }
        }
        let scheduler = &self.inner.scheduler;
        let now = scheduler.clock.now();
        let poll = self.inner.notifier.is_polling().then(|| self.polling.left(now));
        let due = self.table.timers.next();
        // With threads, a worker wakes up by itself.
        let moment = if scheduler.has_workers() {
            None
        } else {
            scheduler.time_to_next_moment()
        };
        let left = [due.map(|due| due.saturating_sub(now)), poll, moment];
        left.into_iter().flatten().min().map(Duration::from_nanos)
    }

    /// Whether there is something for the loop, of which it may not be notified any more.
    fn has_unseen(&mut self) -> bool {
        self.take_back_unseen();
        if !self.inner.notifier.is_polling() {
            // Otherwise the worker will notify the loop of what it has returned.
            self.receive();
            self.resume_all();
        }
        let ServiceInner {
            scheduler, mailboxes, ..
        } = &*self.inner;
        let has_pending = || !scheduler.has_workers() && scheduler.has_tasks();
        self.table.has_unannounced() || mailboxes.are_undrained() || has_pending()
    }

    /// Runs pending steps on this thread until none waits or `budget` is used up; returns how many
    /// turns it gave to tasks. This is how tasks run without threads (`threads(0)`); with threads,
    /// the calling thread runs tasks too.
    ///
    /// The tasks are those of the whole pool, in the same fair order as on workers; first come
    /// those that a worker has taken and not begun. A step is not interrupted, so the budget can be
    /// exceeded by one step; with a budget of zero one task runs one step.
    pub fn run_pending(&mut self, budget: Duration) -> usize {
        self.check_shutdown();
        let inner = Arc::clone(&self.inner);
        let ServiceInner {
            scheduler, counters, ..
        } = &*inner;
        let cx = scheduler.external_context(counters).with_budget(nanos(budget));
        let mut turns = scheduler.run_pending(&cx);
        if scheduler.is_shutting_down() && !self.has_seen_shutdown {
            // A step has shut the pool down: what is parked here has its last steps now.
            self.see_shutdown();
            turns += scheduler.run_pending(&cx);
        }
        turns
    }

    /// The number of tasks that were not reaped. O(1).
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
        self.abandon();
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

    /// Parked tasks counted as tasks that will return soon: with nothing but these, each look was
    /// followed by a spin.
    #[test]
    fn parked_and_ended_tasks_do_not_count_as_away() {
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
        assert_eq!(away(&mut service).0, 0, "the parked one was not answered");
        assert!(service.task_sync(parks, Resume::Continue));
        assert_eq!(away(&mut service).0, 1);
        service.run_pending(Duration::MAX);
        assert_eq!(away(&mut service), (0, vec![parks]));
        service.dequeue(parks);
        assert_eq!(away(&mut service).0, 1, "asked to stop");
    }
}
