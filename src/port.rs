//! A service as its tasks, the workers and the pool know it.

use crate::cell::{Cell, HasHead};
use crate::desk::Desk;
use crate::id::TaskId;
use crate::inbox::Inbox;
use crate::job::{AnyPort, Job};
use crate::line::LineKey;
use crate::outbox::Outbox;
use crate::primitive::Mutex;
use crate::shared::Shared;
use crate::state::Phase;
use crate::stats::Stats;
use crate::status::StopReason;
use crate::table::Table;
use crate::task::Task;
use crate::task_dump::TaskDump;
use crate::unwind::drop_quietly;
use crate::wake::Wake;
use crossbeam_utils::CachePadded;
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

pub(crate) type TaskCell<T> = Cell<T, Port<T>>;
pub(crate) type TaskTable<T> = Table<T, Port<T>>;

pub(crate) struct Port<T: Task> {
    pub(crate) shared: Arc<Shared>,
    /// Locked for every task by the loop: on a line of its own, since workers read what is beside it. Lock order: table, then
    /// the queue or a lane.
    pub(crate) table: CachePadded<Mutex<TaskTable<T>>>,
    pub(crate) inbox: Inbox<TaskCell<T>>,
    pub(crate) outbox: Arc<Outbox<dyn Job>>,
    /// What the loop counts. Written by its thread only.
    pub(crate) stats: Arc<Stats>,
    pub(crate) queue_slot: u32,
    number: u32,
    service_slot: AtomicUsize,
}

/// Numbers services through the process, so that an id shown to the wrong service is unknown there.
static SERVICES: AtomicU32 = AtomicU32::new(0);

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

/// What is left to do when the table is unlocked.
pub(crate) struct Aftermath<T: Task> {
    /// Tasks that were parked and go on.
    line: Vec<Box<TaskCell<T>>>,
    has_news: bool,
}

impl<T: Task> Aftermath<T> {
    pub(crate) fn new() -> Self {
        Self {
            line: Vec::new(),
            has_news: false,
        }
    }
}

impl<T: Task> Port<T> {
    pub(crate) fn new(shared: Arc<Shared>, wake: Box<dyn Wake>) -> Arc<Self> {
        let outbox = Arc::new(Outbox::new());
        let stats = Arc::new(Stats::default());
        let number = SERVICES.fetch_add(1, Relaxed);
        let port = Arc::new(Self {
            table: CachePadded::new(Mutex::new(Table::new(number))),
            inbox: Inbox::new(shared.seats.len(), wake),
            queue_slot: shared.add_port(Arc::clone(&outbox)),
            outbox,
            stats: Arc::clone(&stats),
            number,
            service_slot: AtomicUsize::new(0),
            shared,
        });
        let weak: Weak<Self> = Arc::downgrade(&port);
        port.service_slot
            .store(port.shared.registry.add(weak, stats), Relaxed);
        if port.shared.is_finishing() {
            port.table.lock().closed = true;
        }
        port
    }

    /// Moves what lies in the lanes into the table.
    #[inline]
    pub(crate) fn receive(&self, table: &mut TaskTable<T>) {
        table.receive(|cells| self.inbox.take_into(cells));
    }

    /// Asks a task to stop.
    pub(crate) fn stop(
        &self,
        table: &mut TaskTable<T>,
        slot: u32,
        reason: StopReason,
        desk: &Desk<'_>,
        after: &mut Aftermath<T>,
    ) -> Stop {
        if self.end_unrun(table, slot, reason, desk, after) {
            return Stop::NeverRan;
        }
        if !table.is_here(slot) {
            self.receive(table);
        }
        if table.is_here(slot) && table.word(slot).has_ended() {
            return Stop::Ended;
        }
        table.head(slot).state.ask_to_stop(reason);
        self.rouse(table, slot, desk, after);
        Stop::WillSee
    }

    /// A task's connection has closed: it is asked to stop, or goes on without one if it may.
    pub(crate) fn close_connection(
        &self,
        table: &mut TaskTable<T>,
        slot: u32,
        desk: &Desk<'_>,
        after: &mut Aftermath<T>,
    ) {
        let state = &table.head(slot).state;
        let may_stay = state.outlives();
        if may_stay || !self.end_unrun(table, slot, StopReason::ConnectionClosed, desk, after) {
            table.head(slot).state.close_connection();
            self.rouse(table, slot, desk, after);
        }
    }

    /// Ends a task that has not started, if it is still in line. True: it was.
    pub(crate) fn end_unrun(
        &self,
        table: &mut TaskTable<T>,
        slot: u32,
        reason: StopReason,
        desk: &Desk<'_>,
        after: &mut Aftermath<T>,
    ) -> bool {
        let head = table.head(slot);
        if table.is_here(slot) || head.state.phase() != Phase::Queued {
            return false;
        }
        let line = LineKey {
            port: self.queue_slot,
            conn: head.conn_slot(),
        };
        let Some(job) = self.shared.recall(line, head) else {
            return false;
        };
        let job: Box<dyn Any> = job;
        let cell: Box<TaskCell<T>> = job.downcast().expect("a task of this service");
        cell.end_unrun(reason, desk);
        if self.shared.is_limited() {
            // The ends of a connection are told in their order, and one may lie in a lane.
            self.receive(table);
        }
        table.arrive(cell);
        after.has_news = true;
        true
    }

    /// A task that has been asked something and is parked goes on: see [`crate::state`].
    fn rouse(&self, table: &mut TaskTable<T>, slot: u32, desk: &Desk<'_>, after: &mut Aftermath<T>) {
        if !table.is_here(slot) {
            self.receive(table);
        }
        if table.head(slot).state.phase() == Phase::Syncing
            && let Some(cell) = table.take(slot)
        {
            cell.head().times.left_parking(desk.now());
            cell.head().state.set_phase(Phase::Ready);
            after.line.push(cell);
        }
    }

    /// Does what is left to do, with no lock held.
    pub(crate) fn settle(&self, after: Aftermath<T>, desk: &Desk<'_>) {
        for cell in after.line {
            self.put_in_line(cell, desk.stats);
        }
        if after.has_news {
            desk.ring(&self.inbox.bell);
        }
    }

    /// A task that was parked goes on, and is `Ready`; here and now if the pool has wound up meanwhile.
    pub(crate) fn put_in_line(&self, cell: Box<TaskCell<T>>, stats: &Stats) {
        stats.unparked.add(1);
        self.shared.post(&self.outbox, cell, stats);
        if self.shared.takers_are_gone() {
            self.shared.run_pending(&self.shared.guest_desk(stats));
        }
    }

    /// The loop's answer to a task that it has, and that was parked: go on.
    pub(crate) fn resume(&self, cell: Box<TaskCell<T>>) {
        cell.head().times.left_parking(self.shared.clock.now());
        cell.head().state.set_phase(Phase::Ready);
        self.put_in_line(cell, &self.stats);
    }

    /// The loop gives back what it was lent, unanswered.
    pub(crate) fn let_go(&self, cell: Box<TaskCell<T>>) {
        let mut table = self.table.lock();
        if cell.head().state.asked().must_go_on() {
            drop(table);
            self.resume(cell);
        } else {
            cell.head().state.set_phase(Phase::Syncing);
            table.keep(cell);
        }
    }

    /// Reaps a task that has ended and for which nobody will ask.
    pub(crate) fn discard(&self, cell: Box<TaskCell<T>>, desk: &Desk<'_>) {
        self.table.lock().vacate(cell.slot);
        desk.stats.reaped.add(1);
        drop_quietly(cell);
    }

    /// The service was dropped: nobody looks any more, so every task is stopped and dropped when it has ended.
    pub(crate) fn abandon(&self) {
        let desk = self.shared.guest_desk(&self.stats);
        let mut after = Aftermath::new();
        let mut ended = Vec::new();
        let mut table = self.table.lock();
        for slot in table.from(0).collect::<Vec<_>>() {
            self.stop(&mut table, slot, StopReason::ServiceDropped, &desk, &mut after);
        }
        // Who ends from now on is dropped by who runs it. What was parked has been asked, and is in line.
        table.receive(|cells| cells.extend(self.inbox.close()));
        for slot in table.from(0).collect::<Vec<_>>() {
            if let Some(cell) = table.take(slot) {
                ended.push(cell);
            }
        }
        table.abandon();
        drop(table);
        after.has_news = false;
        self.settle(after, &desk);
        for cell in ended {
            self.discard(cell, &desk);
        }
        self.shared.wake_for_all(&self.stats);
    }
}

impl<T: Task> TaskCell<T> {
    pub(crate) fn id(&self) -> TaskId {
        TaskId {
            serial: self.head().serial(),
            service: self.port.number,
            slot: self.slot,
        }
    }

    /// It ends without having run. Booked before anybody can see it.
    pub(crate) fn end_unrun(&self, reason: StopReason, desk: &Desk<'_>) {
        self.head().times.left_line(desk.now());
        desk.stats.stopped[reason.index()].add(1);
        self.port.shared.admission.count_never_ran();
        self.head().state.end(Phase::Stopped, Some(reason));
    }
}

impl<T: Task> AnyPort for Port<T> {
    fn finish(&self, desk: &Desk<'_>) {
        let mut after = Aftermath::new();
        let mut table = self.table.lock();
        if table.is_abandoned() {
            return; // everything was asked to stop, and nobody looks any more
        }
        table.closed = true;
        for slot in table.from(0).collect::<Vec<_>>() {
            self.stop(&mut table, slot, StopReason::PoolFinished, desk, &mut after);
        }
        drop(table);
        // The loop may hold a task, and must come round to give it back.
        after.has_news = true;
        self.settle(after, desk);
    }

    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize> {
        const BATCH: usize = 512;
        let table = self.table.lock();
        let mut next = None;
        for slot in table.from(from).take(BATCH) {
            let (id, name, conn) = (table.id(slot), table.name(slot), table.connection_at(slot));
            tasks.push(TaskDump::new(id, table.head(slot), name, conn, self.number, now));
            next = Some(slot as usize + 1);
        }
        next
    }
}

impl<T: Task> Drop for Port<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            debug_assert_eq!(self.table.lock().len(), 0, "a port outlived by tasks");
        }
        self.shared.remove_port(self.queue_slot);
        self.shared.registry.remove(self.service_slot.load(Relaxed));
    }
}
