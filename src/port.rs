//! A service as its tasks, the workers and the pool know it.

use crate::cell::{Cell, HasHead};
use crate::desk::Desk;
use crate::hints::Tempo;
use crate::id::TaskId;
use crate::inbox::Inbox;
use crate::job::{AnyPort, Job};
use crate::mailbox::dump::MailboxDump;
use crate::mailbox::mailboxes::Mailboxes;
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
    pub(crate) tempo: CachePadded<Tempo>,
    number: u32,
    service_slot: AtomicUsize,
    pub(crate) mailboxes: Arc<Mailboxes>,
}

/// Numbers services through the process, so that an id shown to the wrong service is unknown there.
static SERVICES: AtomicU32 = AtomicU32::new(0);

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
            tempo: CachePadded::new(Tempo::new()),
            number,
            service_slot: AtomicUsize::new(0),
            mailboxes: Mailboxes::new(Arc::clone(&shared)),
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

    /// Gives a task to the workers, who look into the outbox. If more follow at once it is staged there, until they are a batch or a
    /// worker has nothing else to do. Only the first that is staged is told of: see [`crate::sleep`].
    #[inline]
    pub(crate) fn post(&self, cell: Box<TaskCell<T>>, stats: &Stats) {
        let head = cell.head();
        // It gets in line now.
        let more_follow = self.tempo.note_posted(head.times.since());
        let batch = if more_follow { self.shared.hints.batch() } else { 1 };
        if let Some(waiting) = self.outbox.post(head.conn_slot(), cell, batch) {
            self.shared.note_posted(waiting, batch, stats);
        }
    }

    /// A task that was parked goes on, and is `Ready`; here and now if the pool has wound up meanwhile.
    pub(crate) fn put_in_line(&self, cell: Box<TaskCell<T>>, stats: &Stats) {
        stats.unparked.add(1);
        self.post(cell, stats);
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
        self.wind_up(desk);
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

    fn dump_mailboxes(&self) -> Vec<MailboxDump> {
        self.mailboxes.dump(self.number)
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
