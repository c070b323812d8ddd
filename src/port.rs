//! A service as its tasks, the workers and the pool know it.

use crate::cell::Cell;
use crate::desk::Desk;
use crate::inbox::{Event, Inbox};
use crate::job::{AnyPort, Job};
use crate::line::LineKey;
use crate::outbox::Outbox;
use crate::primitive::Mutex;
use crate::shared::Shared;
use crate::state::Cancel;
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

pub(crate) struct Port<T: Task> {
    pub(crate) shared: Arc<Shared>,
    /// Locked for every task by the loop: on a line of its own, since workers read what is beside it.
    pub(crate) table: CachePadded<Mutex<Table<TaskCell<T>>>>,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Arc<Outbox<dyn Job>>,
    /// What the loop counts. Written by its thread only.
    pub(crate) stats: Arc<Stats>,
    number: u32,
    queue_slot: u32,
    service_slot: AtomicUsize,
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

    pub(crate) fn line(&self, conn: u32) -> LineKey {
        LineKey {
            port: self.queue_slot,
            conn,
        }
    }

    /// Does what a cancellation leaves to do for who asked for it.
    pub(crate) fn settle(
        &self,
        cell: &Arc<TaskCell<T>>,
        cancel: Cancel,
        reason: StopReason,
        desk: &Desk<'_>,
    ) {
        match cancel {
            Cancel::NeverRan => {
                cell.head.times.left_line(desk.now());
                desk.stats.stopped[reason.index()].add(1);
                self.shared.admission.count_never_ran();
                self.shared.remove(&cell.head);
                self.announce(cell, Event::end(cell.head.id), desk);
            }
            Cancel::PutInLine => self.put_in_line(Arc::clone(cell), desk.now(), desk.stats),
            Cancel::WillSee | Cancel::Ended => {}
        }
    }

    /// A task that was parked goes on; here and now if the pool has wound up meanwhile.
    pub(crate) fn put_in_line(&self, cell: Arc<TaskCell<T>>, now: u64, stats: &Stats) {
        cell.head.times.left_parking(now);
        stats.unparked.add(1);
        self.shared.post(&self.outbox, cell, stats);
        if self.shared.takers_are_gone() {
            self.shared.run_pending(&self.shared.guest_desk(stats));
        }
    }

    /// Tells the loop. If that is gone, an ended task is dropped here.
    pub(crate) fn announce(&self, cell: &TaskCell<T>, event: Event, desk: &Desk<'_>) {
        if self.inbox.add(desk.lane(&cell.head), event).is_ok() {
            desk.ring(&self.inbox.bell);
        } else if event.syncs == 0 {
            self.discard(cell, desk);
        }
    }

    /// Reaps a task for which nobody will ask.
    fn discard(&self, cell: &TaskCell<T>, desk: &Desk<'_>) {
        let entry = self.table.lock().remove(cell.head.id);
        if entry.is_some() {
            desk.stats.reaped.add(1);
            let body = cell.body.lock().take();
            drop_quietly(body);
        }
    }

    /// Every task there is.
    fn cells(&self) -> Vec<Arc<TaskCell<T>>> {
        self.table
            .lock()
            .from(0)
            .map(|(entry, _)| Arc::clone(&entry.cell))
            .collect()
    }

    /// The service was dropped: nobody reads events any more, so every task is stopped and dropped when it has ended.
    pub(crate) fn abandon(&self) {
        self.inbox.close();
        let desk = self.shared.guest_desk(&self.stats);
        for cell in self.cells() {
            let cancel = cell.head.state.cancel(StopReason::ServiceDropped);
            self.settle(&cell, cancel, StopReason::ServiceDropped, &desk);
            if cancel == Cancel::Ended {
                self.discard(&cell, &desk);
            }
        }
        self.shared.collect(&self.stats);
    }
}

impl<T: Task> AnyPort for Port<T> {
    fn finish(&self, desk: &Desk<'_>) {
        self.table.lock().closed = true;
        for cell in self.cells() {
            let cancel = cell.head.state.cancel(StopReason::PoolFinished);
            self.settle(&cell, cancel, StopReason::PoolFinished, desk);
        }
        // The loop may hold a task, and must come round to give it back.
        desk.ring(&self.inbox.bell);
    }

    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize> {
        const BATCH: usize = 512;
        let table = self.table.lock();
        let mut next = None;
        for (entry, conn) in table.from(from).take(BATCH) {
            let head = &entry.cell.head;
            let name = entry.extras.as_ref().and_then(|extras| extras.name.clone());
            tasks.push(TaskDump::new(head, name, conn, self.number, now));
            next = Some(head.id.slot as usize + 1);
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
