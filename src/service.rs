//! The loop's end of the pool.

use crate::admission::Refused;
use crate::cell::{Body, Head};
use crate::clock::nanos;
use crate::desk::Desk;
use crate::error::EnqueueError;
use crate::id::{ConnId, TaskId};
use crate::inbox::Event;
use crate::options::TaskOptions;
use crate::port::{Port, TaskCell};
use crate::ready::Ready;
use crate::spares::Spares;
use crate::state::{Cancel, Phase};
use crate::status::{Dequeued, Resume, Status, StopReason, Timeout};
use crate::sync_point::{Lent, SyncPoint, TaskStatus, put_in_line};
use crate::table::Extras;
use crate::task::Task;
use crate::timers::Timing;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A lane keeps the memory of so many events.
const KEPT_EVENTS: usize = 4096;

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
    port: Arc<Port<T>>,
    spares: Spares<T, Port<T>>,
    /// The parked task that is lent to the loop.
    lent: Option<Lent<T>>,
    /// Events not announced yet: empty between two calls, unless the loop polls and does not call `take_ready`.
    events: Vec<Event>,
    /// Tasks reaped or resumed since events were last taken: each may have left an event.
    unread: usize,
}

impl<T: Task> Service<T> {
    pub(crate) fn new(port: Arc<Port<T>>) -> Self {
        Self {
            port,
            spares: Spares::new(),
            lent: None,
            events: Vec::new(),
            unread: 0,
        }
    }

    /// Gives a task to the pool, for a connection. O(1); wakes a worker if one sleeps and none is on its way.
    ///
    /// # Errors
    ///
    /// The task comes back inside the error: the queue is full, too many tasks are alive, or the pool is finishing.
    #[doc(alias = "lws_threadpool_enqueue")]
    pub fn enqueue(&mut self, conn: impl Into<ConnId>, task: T) -> Result<TaskId, EnqueueError<T>> {
        self.submit(conn.into(), task, None, false)
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
        let outlives = options.outlives;
        let plain = options.name.is_none() && timing.is_empty();
        let extras = (!plain).then(|| {
            Box::new(Extras {
                name: options.name,
                timing,
            })
        });
        self.submit(conn.into(), task, extras, outlives)
    }

    fn submit(
        &mut self,
        conn: ConnId,
        task: T,
        extras: Option<Box<Extras>>,
        outlives: bool,
    ) -> Result<TaskId, EnqueueError<T>> {
        let port = &self.port;
        let mut table = port.table.lock();
        if table.closed {
            port.stats.refused_finished.add(1);
            return Err(EnqueueError::Finished(task));
        }
        match port.shared.admission.admit(|| port.shared.progress()) {
            Err(Refused::QueueFull) => {
                port.stats.refused_queue.add(1);
                return Err(EnqueueError::QueueFull(task));
            }
            Err(Refused::TooManyTasks) => {
                port.stats.refused_tasks.add(1);
                return Err(EnqueueError::TooManyTasks(task));
            }
            Ok(()) => {}
        }
        let now = port.shared.clock.now();
        let timed = extras.is_some();
        let entry = table.insert(conn, extras, |id, slot| {
            let head = Head::new(id, conn, port.line(slot), outlives, now);
            self.spares.fill(head, task, port)
        });
        let cell = Arc::clone(&entry.cell);
        let id = cell.head.id;
        if timed {
            table.rearm(id.slot);
        }
        drop(table);
        port.shared.post(&port.outbox, cell, &port.stats);
        Ok(id)
    }

    /// The tasks that have parked or ended since the last call, each announced once. Also stops those whose time is
    /// up. Call it whenever the loop is woken, and at [`next_timeout`](Self::next_timeout).
    ///
    /// O(number of tasks announced), one lock per worker.
    #[doc(alias = "LWS_CALLBACK_SERVER_WRITEABLE")]
    pub fn take_ready(&mut self) -> Ready {
        self.before_events();
        self.read_events();
        self.announce_events()
    }

    /// As [`take_ready`](Self::take_ready), for a loop that calls it until nothing is left and only then sleeps: it asks for the
    /// next wake-up only when it finds nothing, so a busy loop costs its workers hardly any.
    ///
    /// A loop that sleeps although this gave something may sleep on news. One with sockets can look at them without waiting
    /// (a poll with a timeout of zero) in between.
    pub fn take_more(&mut self) -> Ready {
        self.before_events();
        self.unread = 0;
        self.port.inbox.take_silently(&mut self.events);
        let ready = self.announce_events();
        if !ready.is_empty() {
            return ready;
        }
        // Also if there were events, but of tasks that have been answered or reaped since.
        self.read_events();
        self.announce_events()
    }

    fn before_events(&mut self) {
        self.end_loan();
        self.stop_late();
    }

    fn announce_events(&mut self) -> Ready {
        let mut ids = Vec::with_capacity(self.events.len());
        let mut table = self.port.table.lock();
        for event in self.events.drain(..) {
            if let Some(id) = table.announce(event) {
                ids.push(id);
            }
        }
        drop(table);
        self.events.shrink_to(KEPT_EVENTS);
        Ready::new(ids)
    }

    fn read_events(&mut self) {
        self.unread = 0;
        self.port.inbox.take(&mut self.events);
    }

    /// A loop that polls and never calls `take_ready` must not let events pile up.
    fn note_unread(&mut self) {
        self.unread += 1;
        if self.unread.is_multiple_of(1024) && self.unread >= 4 * self.len() {
            self.read_events();
            let table = self.port.table.lock();
            self.events.retain(|&event| table.is_news(event).is_some());
        }
    }

    /// Asks the tasks to stop whose timeouts are due.
    fn stop_late(&mut self) {
        let mut table = self.port.table.lock();
        if table.timers.next().is_none() {
            return;
        }
        let desk = self.desk();
        while let Some((armed, slot)) = table.timers.due(desk.now()) {
            let Some(entry) = table.at(slot) else { break };
            let (cell, due) = (Arc::clone(&entry.cell), entry.due());
            if let Some((_, timeout)) = due.filter(|&(at, _)| at <= armed) {
                drop(table);
                let why = StopReason::TimedOut(timeout);
                let cancel = match timeout {
                    Timeout::Queue => cell.head.state.expire_in_line(why),
                    Timeout::Sync | Timeout::Deadline => cell.head.state.cancel(why),
                };
                self.port.settle(&cell, cancel, why, &desk);
                table = self.port.table.lock();
            }
            table.rearm(slot);
        }
    }

    /// How a task stands; the loop's `waitpid`. An ended task is reaped: it comes back by value and its id is
    /// unknown from then on. A parked one is lent until the [`SyncPoint`] is answered or dropped.
    ///
    /// `None`: no such task, or it was reaped. O(1).
    #[doc(alias = "lws_threadpool_task_status")]
    #[doc(alias = "lws_threadpool_task_status_wsi")]
    pub fn task_status(&mut self, id: TaskId) -> Option<TaskStatus<'_, T>> {
        self.end_loan();
        let mut table = self.port.table.lock();
        let cell = &table.get(id)?.cell;
        let word = cell.head.state.load();
        match word.phase() {
            Phase::Queued => Some(TaskStatus::Queued),
            Phase::Syncing => {
                self.lent = Lent::take(cell);
                drop(table);
                if self.lent.is_none() {
                    return Some(TaskStatus::Stopping); // finish() came between
                }
                self.note_unread();
                Some(TaskStatus::Syncing(SyncPoint::new(&self.port, &mut self.lent)))
            }
            Phase::Finished | Phase::Stopped | Phase::Panicked => {
                let cell = table.remove(id)?;
                drop(table);
                self.note_unread();
                self.port.stats.reaped.add(1);
                match self.spares.empty(cell) {
                    Body::Panicked(payload) => Some(TaskStatus::Panicked(payload)),
                    Body::Task(task) if word.phase() == Phase::Finished => Some(TaskStatus::Finished(task)),
                    Body::Task(task) => Some(TaskStatus::Stopped(word.stop()?, task)),
                    Body::Taken => None,
                }
            }
            _ if word.stop().is_some() => Some(TaskStatus::Stopping),
            _ => Some(TaskStatus::Running),
        }
    }

    /// How a task stands, without reaping it. O(1).
    #[doc(alias = "lws_threadpool_task_status_noreap")]
    pub fn peek(&self, id: TaskId) -> Option<Status> {
        self.port
            .table
            .lock()
            .get(id)
            .map(|entry| entry.cell.head.state.load().status())
    }

    /// Answers a parked task. True: it was parked; it is in line now. False: it was not, and nothing has
    /// happened. O(1).
    #[doc(alias = "lws_threadpool_task_sync")]
    pub fn task_sync(&mut self, id: TaskId, resume: Resume) -> bool {
        self.end_loan();
        let Some(cell) = self.cell(id) else { return false };
        let state = &cell.head.state;
        let answered = match resume {
            Resume::Continue => state.resume(),
            Resume::Stop => {
                state.load().phase() == Phase::Syncing
                    && state.cancel(StopReason::Dequeued) == Cancel::PutInLine
            }
        };
        if answered {
            put_in_line(&self.port, cell);
            self.note_unread();
        }
        answered
    }

    /// Cancels a task, whatever it does: one that has not started never will, one that has is asked to stop. Its end is announced
    /// either way. O(1).
    #[doc(alias = "lws_threadpool_dequeue_task")]
    pub fn dequeue(&mut self, id: TaskId) -> Dequeued {
        self.end_loan();
        let Some(cell) = self.cell(id) else {
            return Dequeued::Unknown;
        };
        let cancel = cell.head.state.cancel(StopReason::Dequeued);
        self.port
            .settle(&cell, cancel, StopReason::Dequeued, &self.desk());
        match cancel {
            Cancel::NeverRan => Dequeued::Removed,
            Cancel::PutInLine | Cancel::WillSee => Dequeued::Stopping,
            Cancel::Ended => Dequeued::AlreadyDone,
        }
    }

    /// A client has gone: its tasks are dequeued, but those that may outlive it go on without a connection. All their
    /// ends are announced. Gives the number of its tasks that are not reaped yet. O(that number), whatever else the pool holds.
    #[doc(alias = "lws_threadpool_dequeue")]
    pub fn connection_closed(&mut self, conn: impl Into<ConnId>) -> usize {
        self.end_loan();
        let conn = conn.into();
        let mut table = self.port.table.lock();
        let cells: Vec<_> = table
            .tasks_of(conn)
            .map(|entry| Arc::clone(&entry.cell))
            .collect();
        table.close_conn(conn);
        drop(table);
        if cells.is_empty() {
            return 0;
        }
        let desk = self.desk();
        for cell in &cells {
            let cancel = cell.head.state.connection_closed();
            self.port
                .settle(cell, cancel, StopReason::ConnectionClosed, &desk);
        }
        cells.len()
    }

    /// A client that came back takes a task over: it belongs to `conn` from now on. False: no such task. O(1).
    ///
    /// A task that was asked to stop stays so.
    pub fn reattach(&mut self, id: TaskId, conn: impl Into<ConnId>) -> bool {
        self.end_loan();
        let conn = conn.into();
        let mut table = self.port.table.lock();
        let Some(line) = table.reattach(id, conn) else {
            return false;
        };
        let cell = table.get(id).map(|entry| Arc::clone(&entry.cell));
        drop(table);
        if let Some(cell) = cell {
            cell.head.set_connection(conn);
            cell.head.state.attach();
            let to = self.port.line(line);
            self.port.shared.relocate(&cell.head, to, &self.port.stats);
        }
        true
    }

    /// The tasks of a connection that are not reaped, in the order in which they came to it.
    #[doc(alias = "lws_threadpool_foreach_task_wsi")]
    #[doc(alias = "lws_threadpool_get_task_wsi")]
    pub fn tasks_of(&self, conn: impl Into<ConnId>) -> Vec<TaskId> {
        let conn = conn.into();
        self.port
            .table
            .lock()
            .tasks_of(conn)
            .map(|entry| entry.cell.head.id)
            .collect()
    }

    /// The connection of a task; `None` if that has closed, or there is no such task.
    #[doc(alias = "lws_threadpool_get_wsi")]
    pub fn connection_of(&self, id: TaskId) -> Option<ConnId> {
        self.port.table.lock().connection_of(id)
    }

    /// How long the loop may sleep before it must call [`take_ready`](Self::take_ready) for a timeout; `None`: until it
    /// is woken. Without threads (`threads(0)`) it is zero while steps are pending.
    pub fn next_timeout(&self) -> Option<Duration> {
        let shared = &self.port.shared;
        if shared.seats.is_empty() && shared.has_pending() {
            return Some(Duration::ZERO);
        }
        let due = self.port.table.lock().timers.next()?;
        Some(Duration::from_nanos(due.saturating_sub(shared.clock.now())))
    }

    /// Runs pending steps on this thread until none is in line or `budget` is used up; gives how many turns it
    /// gave to tasks. This is how tasks run without threads (`threads(0)`); with threads, it lends the workers a hand.
    ///
    /// The tasks are those of the whole pool, in the same fair order as on workers. A step is not interrupted,
    /// so the budget can be exceeded by one step; with a budget of zero one task runs one step.
    pub fn run_pending(&mut self, budget: Duration) -> usize {
        self.end_loan();
        let desk = self.desk();
        self.port.shared.run_pending(&desk.with_budget(nanos(budget)))
    }

    /// Tasks that are not reaped.
    pub fn len(&self) -> usize {
        self.port.table.lock().len()
    }

    /// Whether every task has been reaped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A task that was lent and not answered goes back to where it was parked.
    fn end_loan(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.let_go(&self.port);
        }
    }

    fn cell(&self, id: TaskId) -> Option<Arc<TaskCell<T>>> {
        self.port
            .table
            .lock()
            .get(id)
            .map(|entry| Arc::clone(&entry.cell))
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
