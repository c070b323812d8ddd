//! The loop's end of the pool.

use crate::admission::Refused;
use crate::cell::Body;
use crate::clock::nanos;
use crate::desk::Desk;
use crate::error::EnqueueError;
use crate::id::{ConnId, TaskId};
use crate::naps::Naps;
use crate::options::TaskOptions;
use crate::patience::{self, LOOKS};
use crate::port::{Port, TaskCell, TaskTable};
use crate::primitive::MutexGuard;
use crate::ready::Ready;
use crate::state::{Phase, Word};
use crate::status::{Dequeued, Resume, Status, StopReason, Timeout};
use crate::sync_point::{SyncPoint, TaskStatus};
use crate::table::Extras;
use crate::task::Task;
use crate::timers::{Due, Timing};
use crate::visit::Stop;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A service loop's end of the pool: it enqueues tasks for connections, is woken when they have
/// something to tell, looks, answers and reaps.
///
/// Made by [`ThreadPool::service`](crate::ThreadPool::service). It belongs to one loop at a time (it is `Send`, its calls take
/// `&mut self`) and owns its tasks: their events come here and nowhere else.
///
/// Dropping it stops its tasks: those that wait are dropped, those that have started are asked to stop and dropped by the
/// worker when they have ended, outliving ones too. It does not wait for them.
///
/// When the pool has finished and its workers have gone, a parked task that is answered or given back runs its last
/// steps on the loop's own thread, inside that call.
#[doc(alias = "lws_threadpool")]
pub struct Service<T: Task> {
    pub(crate) port: Arc<Port<T>>,
    /// The parked task that is lent to the loop.
    lent: Option<Box<TaskCell<T>>>,
    /// Whether the next event wakes the loop: not while `take_more` finds something.
    awaits_wake: bool,
    naps: Naps,
}

/// What most tasks do not ask for.
#[derive(Default)]
struct More {
    outlives: bool,
    extras: Option<Box<Extras>>,
}

/// The locked table, and the cell of a task that was let in.
type Room<'a, T> = (MutexGuard<'a, TaskTable<T>>, Box<TaskCell<T>>);

impl<T: Task> Service<T> {
    pub(crate) fn new(port: Arc<Port<T>>) -> Self {
        Self {
            port,
            lent: None,
            awaits_wake: true,
            naps: Naps::default(),
        }
    }

    /// Gives a task to the pool, for a connection. O(1); wakes a worker if one sleeps and none is on its way.
    ///
    /// # Errors
    ///
    /// The task comes back inside the error: the queue is full, too many tasks are alive, or the pool is finishing.
    #[doc(alias = "lws_threadpool_enqueue")]
    #[inline]
    pub fn enqueue(&mut self, conn: impl Into<ConnId>, task: T) -> Result<TaskId, EnqueueError<T>> {
        self.submit(conn.into(), task, More::default())
    }

    /// As [`enqueue`](Self::enqueue), with a name, timeouts, or leave to outlive the connection.
    ///
    /// # Errors
    ///
    /// As `enqueue`.
    #[doc(alias = "lws_threadpool_enqueue")]
    pub fn enqueue_with(
        &mut self,
        conn: impl Into<ConnId>,
        task: T,
        options: TaskOptions,
    ) -> Result<TaskId, EnqueueError<T>> {
        let timing = Timing::new(&options, self.port.shared.clock.now());
        let plain = options.name.is_none() && timing.is_empty();
        let extras = (!plain).then(|| {
            Box::new(Extras {
                name: options.name,
                timing,
            })
        });
        let more = More {
            outlives: options.outlives,
            extras,
        };
        self.submit(conn.into(), task, more)
    }

    // Into the caller's code, so that the task goes straight into its cell.
    #[inline]
    fn submit(&mut self, conn: ConnId, task: T, more: More) -> Result<TaskId, EnqueueError<T>> {
        match self.admit(conn, more) {
            Ok((table, mut cell)) => {
                let id = cell.id();
                cell.body = Body::Task(task);
                // Before the table is unlocked: `finish` must find it in line.
                self.port.post(cell, &self.port.stats);
                drop(table);
                Ok(id)
            }
            Err(Refused::QueueFull) => Err(EnqueueError::QueueFull(task)),
            Err(Refused::TooManyTasks) => Err(EnqueueError::TooManyTasks(task)),
            Err(Refused::Finished) => Err(EnqueueError::Finished(task)),
        }
    }

    /// Makes room for a task: gives its cell, to be filled and posted before the table is unlocked.
    fn admit(&self, conn: ConnId, more: More) -> Result<Room<'_, T>, Refused> {
        let Port { shared, stats, .. } = &*self.port;
        let mut table = self.port.table.lock();
        let admitted = if table.closed {
            Err(Refused::Finished)
        } else {
            shared.admission.admit(|| shared.progress())
        };
        if let Err(refused) = admitted {
            let counter = match refused {
                Refused::QueueFull => &stats.refused_queue,
                Refused::TooManyTasks => &stats.refused_tasks,
                Refused::Finished => &stats.refused_finished,
            };
            counter.add(1);
            return Err(refused);
        }
        let cell = table.insert(
            conn,
            more.outlives,
            more.extras,
            shared.clock.now(),
            |chunk, slot| {
                Box::new(TaskCell::new(
                    chunk,
                    slot,
                    self.port.queue_slot,
                    Arc::clone(&self.port),
                ))
            },
        );
        Ok((table, cell))
    }

    /// The tasks that have parked or ended since the last call, each announced once. Also stops those whose time is
    /// up. Call it whenever the loop is woken, and at [`next_timeout`](Self::next_timeout).
    ///
    /// O(number of tasks announced), one lock per worker.
    #[doc(alias = "LWS_CALLBACK_SERVER_WRITEABLE")]
    pub fn take_ready(&mut self) -> Ready {
        self.before_looking();
        self.await_wake();
        self.look().0
    }

    /// As [`take_ready`](Self::take_ready), for a loop that calls it until nothing is left and only then sleeps: it asks for the
    /// next wake-up only when it finds nothing, so a busy loop costs its workers hardly any.
    ///
    /// A loop that sleeps although this gave something may sleep on news. One with sockets can look at them without waiting
    /// in between: as long as there is more, [`next_timeout`](Self::next_timeout) is zero.
    ///
    /// Each look costs as much as `take_ready`. There are up to four: while tasks of this service are away and steps take less than about half a
    /// microsecond, it pauses for a microsecond, twice at most, and looks again, before it says that there is nothing. That is less
    /// than to sleep and be woken. It never pauses where there is but one core.
    pub fn take_more(&mut self) -> Ready {
        self.before_looking();
        let (mut ready, mut away) = self.look();
        let mut looks = 1;
        while ready.is_empty() && looks < LOOKS && patience::pause(&self.port.shared, away) {
            (ready, away) = self.look();
            looks += 1;
        }
        if !ready.is_empty() {
            self.awaits_wake = false;
            return ready;
        }
        self.await_wake();
        self.look().0
    }

    fn await_wake(&mut self) {
        self.port.inbox.bell.unring();
        self.awaits_wake = true;
    }

    fn before_looking(&mut self) {
        self.naps.end();
        self.end_loan();
        self.stop_late();
    }

    /// What is ready, and how many tasks are away.
    fn look(&mut self) -> (Ready, usize) {
        let (ids, away) = {
            let mut table = self.port.table.lock();
            let ids = table.announce(|cells| self.port.inbox.take_into(cells));
            (ids, table.away())
        };
        self.naps.note_found(ids.len());
        self.port.tempo.note_announced(ids.len());
        (Ready::new(ids), away)
    }

    /// Asks the tasks to stop whose timeouts are due.
    fn stop_late(&mut self) {
        if self.port.table.lock().timers.next().is_none() {
            return;
        }
        let desk = self.desk();
        let mut visit = self.port.visit(&desk);
        while let Some(Due { at: armed, slot, .. }) = visit.table.timers.due(desk.now()) {
            if let Some((_, timeout)) = visit.table.due(slot).filter(|&(at, _)| at <= armed) {
                let why = StopReason::TimedOut(timeout);
                match timeout {
                    Timeout::Queue if visit.end_unrun(slot, why) => {}
                    Timeout::Queue => visit.table.note_start(slot),
                    Timeout::Sync | Timeout::Deadline => _ = visit.stop(slot, why),
                }
            }
            visit.table.rearm(slot);
        }
        visit.leave();
    }

    /// How a task stands; the loop's `waitpid`. An ended task is reaped: it comes back by value and its id is
    /// unknown from then on (ask [`connection_of`](Self::connection_of) before, if you need to know whose it was). A parked one is lent until the [`SyncPoint`] is answered or dropped.
    ///
    /// `None`: no such task, or it was reaped. O(1).
    #[doc(alias = "lws_threadpool_task_status")]
    #[doc(alias = "lws_threadpool_task_status_wsi")]
    pub fn task_status(&mut self, id: TaskId) -> Option<TaskStatus<'_, T>> {
        self.end_loan();
        self.port.tempo.note_looked();
        let mut table = self.port.table.lock();
        let slot = table.find(id)?;
        let word = self.see(&mut table, slot);
        if !table.is_here(slot) {
            return Some(match word.phase() {
                _ if word.stop().is_some() => TaskStatus::Stopping,
                Phase::Queued => TaskStatus::Queued,
                _ => TaskStatus::Running,
            });
        }
        if !word.has_ended() {
            self.lent = table.take(slot);
            table.head(slot).state.set_phase(Phase::Held);
            drop(table);
            return Some(TaskStatus::Syncing(SyncPoint::new(&self.port, &mut self.lent)));
        }
        self.port.stats.reaped.add(1);
        let body = table.reap(slot)?;
        drop(table);
        match body {
            Body::Panicked(payload) => Some(TaskStatus::Panicked(payload)),
            Body::Task(task) if word.phase() == Phase::Finished => Some(TaskStatus::Finished(task)),
            Body::Task(task) => Some(TaskStatus::Stopped(word.stop()?, task)),
            Body::Taken => None,
        }
    }

    /// How a task stands. If it is parked or has ended it is in the table after that.
    #[inline]
    fn see(&self, table: &mut TaskTable<T>, slot: u32) -> Word {
        let word = table.word(slot);
        if table.is_here(slot) || !(word.has_ended() || word.phase() == Phase::Syncing) {
            return word;
        }
        self.port.receive(table);
        table.word(slot)
    }

    /// How a task stands, without reaping it. O(1).
    #[doc(alias = "lws_threadpool_task_status_noreap")]
    pub fn peek(&self, id: TaskId) -> Option<Status> {
        let table = self.port.table.lock();
        table.find(id).map(|slot| table.word(slot).status())
    }

    /// Answers a parked task. True: it was parked; it is in line now. False: it was not, and nothing has
    /// happened. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn task_sync(&mut self, id: TaskId, resume: Resume) -> bool {
        self.end_loan();
        self.port.tempo.note_looked();
        let mut table = self.port.table.lock();
        let Some(slot) = table.find(id) else { return false };
        if self.see(&mut table, slot).phase() != Phase::Syncing {
            return false;
        }
        let Some(cell) = table.take(slot) else {
            return false;
        };
        if resume == Resume::Stop {
            table.head(slot).state.ask_to_stop(StopReason::Dequeued);
        }
        drop(table);
        self.port.resume(cell);
        true
    }

    /// Cancels a task, whatever it does: one that has not started never will, one that has is asked to stop. Its end is announced
    /// either way. O(1).
    #[doc(alias = "lws_threadpool_dequeue_task")]
    pub fn dequeue(&mut self, id: TaskId) -> Dequeued {
        self.end_loan();
        let desk = self.desk();
        let mut visit = self.port.visit(&desk);
        let Some(slot) = visit.table.find(id) else {
            return Dequeued::Unknown;
        };
        let stop = visit.stop(slot, StopReason::Dequeued);
        visit.leave();
        match stop {
            Stop::NeverRan => Dequeued::Removed,
            Stop::WillSee => Dequeued::Stopping,
            Stop::Ended => Dequeued::AlreadyDone,
        }
    }

    /// A client has gone: its tasks are dequeued, but those that may outlive it go on without a connection. All their
    /// ends are announced. Gives the number of its tasks that are not reaped yet. O(that number), whatever else the pool holds.
    /// Messages for it in a [`Mailbox`](crate::Mailbox), and later ones, are dropped: see [`drain`](crate::Mailbox::drain).
    #[doc(alias = "lws_threadpool_dequeue")]
    pub fn connection_closed(&mut self, conn: impl Into<ConnId>) -> usize {
        self.end_loan();
        let (conn, desk) = (conn.into(), self.desk());
        let mut visit = self.port.visit(&desk);
        let mut tasks = 0;
        let mut next = visit.table.tasks_of(conn).next();
        while let Some(slot) = next {
            visit.close_connection(slot);
            next = visit.table.next_of(slot);
            tasks += 1;
        }
        visit.table.close_conn(conn);
        visit.leave();
        self.port.mailboxes.note_closed(conn);
        tasks
    }

    /// A client that came back takes a task over: it belongs to `conn` from now on. False: no such task. O(1).
    ///
    /// A task that was asked to stop stays so.
    pub fn reattach(&mut self, id: TaskId, conn: impl Into<ConnId>) -> bool {
        self.end_loan();
        let (conn, port) = (conn.into(), &self.port);
        let mut table = port.table.lock();
        let Some(slot) = table.find(id) else { return false };
        let line = table.reattach(slot, conn);
        let head = table.head(slot);
        head.state.attach();
        port.shared.relocate(port.queue_slot, head, line, &port.stats);
        true
    }

    /// The tasks of a connection that are not reaped, in the order in which they came to it. O(their number).
    #[doc(alias = "lws_threadpool_foreach_task_wsi")]
    #[doc(alias = "lws_threadpool_get_task_wsi")]
    pub fn tasks_of(&self, conn: impl Into<ConnId>) -> Vec<TaskId> {
        // The user's code: before the lock.
        let conn = conn.into();
        let table = self.port.table.lock();
        table.tasks_of(conn).map(|slot| table.id(slot)).collect()
    }

    /// The connection of a task; `None` if that has closed, or there is no such task, also because it was reaped. O(1).
    #[doc(alias = "lws_threadpool_get_wsi")]
    pub fn connection_of(&self, id: TaskId) -> Option<ConnId> {
        let table = self.port.table.lock();
        table.find(id).and_then(|slot| table.connection_at(slot))
    }

    /// How long the loop may sleep before it must call [`take_ready`](Self::take_ready) or [`take_more`](Self::take_more) again; `None`: until it
    /// is woken. Ask right before it sleeps: who asks and then sleeps longer may hear late of what happens. O(1).
    ///
    /// It is the time until the next timeout of a task. Zero while a [`Mailbox`](crate::Mailbox) holds messages, after a `take_more`
    /// that gave something and may give more, and without threads (`threads(0)`) while steps are pending. And a millisecond at most while the loop finds something each time, steps are short, and tasks of this service are
    /// away: then a worker that has more to do wakes the loop every 20 us instead of for each task, and relies on its looking by itself
    /// should a step take long after all. When it has looked in vain, it may sleep until it is woken.
    pub fn next_timeout(&self) -> Option<Duration> {
        let shared = &self.port.shared;
        let has_pending = || shared.seats.is_empty() && shared.has_pending();
        if !self.awaits_wake || self.port.mailboxes.are_undrained() || has_pending() {
            return Some(Duration::ZERO);
        }
        let (due, away) = {
            let table = self.port.table.lock();
            (table.timers.next(), table.away())
        };
        let naps = self.port.inbox.bell.nap(self.naps.may_begin(away, &shared.hints));
        let now = shared.clock.now();
        let nap = naps.then(|| self.naps.left(now));
        let left = [due.map(|due| due.saturating_sub(now)), nap];
        left.into_iter().flatten().min().map(Duration::from_nanos)
    }

    /// Runs pending steps on this thread until none is in line or `budget` is used up; gives how many turns it
    /// gave to tasks. This is how tasks run without threads (`threads(0)`); with threads, it lends the workers a hand.
    ///
    /// The tasks are those of the whole pool, in the same fair order as on workers; first come those that a worker has taken and not
    /// begun. A step is not interrupted, so the budget can be exceeded by one step; with a budget of zero one task runs one step.
    pub fn run_pending(&mut self, budget: Duration) -> usize {
        self.end_loan();
        let desk = self.desk();
        self.port.shared.run_pending(&desk.with_budget(nanos(budget)))
    }

    /// Tasks that are not reaped. O(1).
    pub fn len(&self) -> usize {
        self.port.table.lock().len()
    }

    /// Whether every task has been reaped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A task that was lent and not answered goes back to where it was parked.
    fn end_loan(&mut self) {
        if let Some(cell) = self.lent.take() {
            self.port.let_go(cell);
        }
    }

    fn desk(&self) -> Desk<'_> {
        self.port.shared.guest_desk(&self.port.stats)
    }
}

impl<T: Task> Drop for Service<T> {
    fn drop(&mut self) {
        self.end_loan();
        self.port.abandon();
    }
}

impl<T: Task> fmt::Debug for Service<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("pool", &self.port.shared.name)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{TaskReturn, ThreadPool, task_fn};

    /// Parked tasks counted as such that will soon have something to tell: with nothing but these, each look was followed by pauses.
    #[test]
    fn who_is_parked_or_has_ended_is_not_away() {
        let pool = ThreadPool::builder().threads(0).build().expect("no thread");
        let mut service = pool.service(|| {});
        let away = |service: &mut Service<_>| {
            let ready: Vec<_> = service.take_ready().collect();
            (service.port.table.lock().away(), ready)
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
        service.task_status(ends);
        service.task_status(parks);
        assert_eq!(away(&mut service).0, 0, "what was lent is back");
        assert!(service.task_sync(parks, Resume::Continue));
        assert_eq!(away(&mut service).0, 1);
        service.run_pending(Duration::MAX);
        assert_eq!(away(&mut service), (0, vec![parks]));
        service.dequeue(parks);
        assert_eq!(away(&mut service).0, 1, "asked to stop");
    }
}
