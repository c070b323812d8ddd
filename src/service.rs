//! The service: a loop's handle of the pool.

mod cancel;
pub(crate) mod completions;
pub(crate) mod connections;
mod enqueue;
pub(crate) mod inner;
mod polling;
pub(crate) mod ready;
mod run;
pub(crate) mod submissions;
pub(crate) mod sync_point;
mod table;
mod take_ready;
mod timers;

use crate::clock::nanos;
use crate::queue::fair::WEIGHT_MAX;
use crate::scheduler::room::Place;
use crate::scheduler::search::Backoff;
use crate::scheduler::{BATCH_MAX, Scheduler};
use crate::sync::{Ordering, fence};
use crate::task::id::{ConnId, GroupId, TaskId};
use crate::task::panicked::Panic;
use crate::task::phase::{Phase, Requests};
use crate::task::status::{Dequeued, Resume, Status, StopReason};
use crate::task::{Task, requests};
use crate::wake::Wake;
use completions::Outcome;
use inner::{LoopEnds, ServiceInner};
use polling::Polling;
use ready::Unseen;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use sync_point::{SyncPoint, TaskStatus};
use table::Table;

/// The pool's handle for one service loop. It enqueues tasks for connections, and announces tasks
/// that have parked or ended. The loop looks at them, resumes them, and reaps them. *To reap* an
/// ended task means to take it, and its value, out of the service.
///
/// Made by [`ThreadPool::service`](crate::ThreadPool::service). It owns its tasks: only this
/// service announces them. It belongs to one loop at a time: it is `Send`, and its calls take
/// `&mut self`.
///
/// Dropping it stops its tasks. Queued tasks are dropped. All started tasks are asked to stop, also
/// parked tasks and tasks that may outlive their connection. A worker drops each of them when it
/// has ended. The drop does not wait for them.
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
    unseen: Option<Arc<Unseen>>,
    polling: Polling,
    /// Decides which calls of `take_ready` spin.
    backoff: Backoff,
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

impl<T: Task> Service<T> {
    pub(crate) fn new(scheduler: &Arc<Scheduler>, wake: impl Wake) -> Self {
        let has_seen_shutdown = scheduler.is_shutting_down();
        let inner = ServiceInner::new(scheduler, Box::new(wake));
        Self {
            table: Table::new(inner.number),
            inner,
            ends: None,
            submitted: 0,
            unread: 0,
            unseen: None,
            polling: Polling::default(),
            backoff: Backoff::default(),
            resumed: Vec::new(),
            room: None,
            untold: 0,
            calls_poll_timeout: false,
            has_seen_shutdown,
            has_polled: false,
            alarm: None,
        }
    }

    /// Called at the start of every call of the loop.
    #[inline]
    fn check_shutdown(&mut self) {
        if self.inner.scheduler.is_shutting_down() && !self.has_seen_shutdown {
            self.see_shutdown();
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
        let syncs = self.table.slot(slot).syncs;
        self.table.owner(slot).resume(syncs, parked);
        self.submit(slot, task, now, Phase::Waiting);
        true
    }

    /// Answers a parked task that is in the table. Returns false if it is not.
    fn answer(&mut self, slot: u32, resume: Resume) -> bool {
        if !self.table.is_parked(slot) {
            return false;
        }
        match resume {
            Resume::Continue => self.resume(slot),
            Resume::Stop => {
                let dequeued = self.stop(slot, StopReason::Dequeued);
                self.resume_all();
                dequeued == Dequeued::Stopping
            }
        }
    }

    /// The slot of a task of this service that has not been reaped.
    #[inline]
    fn find(&self, id: TaskId) -> Option<u32> {
        self.table.find(id).filter(|_| id.service() == self.inner.number)
    }

    fn id_of(&self, slot: u32) -> TaskId {
        self.inner.task_id(slot, self.table.slot(slot).serial)
    }

    fn requests_of(&self, slot: u32) -> Requests {
        let serial = self.table.slot(slot).serial;
        requests(&self.inner.scheduler, self.table.page(slot), slot, serial)
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
        let dequeued = self.stop(slot, StopReason::Dequeued);
        self.resume_all();
        dequeued
    }

    /// Cancels the tasks of a client that has disconnected. Each task is dequeued, but a task that
    /// may outlive its connection continues without one. Their ends are announced. Messages to the
    /// connection in a [`Mailbox`](crate::Mailbox) are dropped, also those that are sent later: see
    /// [`drain`](crate::Mailbox::drain).
    ///
    /// Returns the number of tasks of the connection that had not been reaped. O(that number), for
    /// any number of other tasks.
    #[doc(alias = "lws_threadpool_dequeue")]
    #[doc(alias = "disconnect")]
    #[doc(alias = "cancel")]
    pub fn connection_closed(&mut self, conn: impl Into<ConnId>) -> usize {
        self.check_shutdown();
        let conn = conn.into();
        let tasks = self.detach(conn);
        self.table.close_connection(conn);
        if let Some(mailboxes) = self.inner.mailboxes() {
            mailboxes.note_closed(conn);
        }
        tasks
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
        self.table.request(slot, Requests::attached);
        let virtual_time = self.inner.scheduler.virtual_time();
        let is_detached = self.table.connection_of(slot).is_none();
        if let Some(to) = self.table.reattach(slot, conn, virtual_time) {
            self.inner.relocate(slot, to);
        }
        if is_detached && self.table.is_parked(slot) {
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
    /// The estimate uses the place of the connection in the fair order, the waiting tasks of all
    /// connections, the recent times of their turns, and the number of workers. It assumes that no
    /// other tasks come: if other connections get new tasks all the time, the real wait can be
    /// longer. It also assumes that the turns of a connection take about as long as its last few
    /// turns. Before the first step of the pool has ended, the time of a step is not known, and the
    /// estimate is too low. The estimate does not consider a limit of running tasks. Without
    /// threads (`threads(0)`) it does not consider the time between the calls of
    /// [`run_pending`](Self::run_pending).
    ///
    /// In a process that was forked after the pool was built, the result is zero. The cost is
    /// O(threads × log threads + connections that have tasks), one system call, and the lock of the
    /// queue. The call also moves all submissions into the queue, which is O(1) for each task.
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
