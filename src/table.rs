//! A service's tasks, and which connection each belongs to.
//!
//! Touched by the service's loop, and by who dumps or finishes the pool; a worker comes here only when the
//! service is gone. A slot has the task's head, which is seen from everywhere, and the task itself while that is parked, or has
//! ended and is not reaped. The tasks of a connection are linked through their slots, in the order in which they came, so that
//! closing it costs as much as it has tasks.

use crate::cell::{Body, Cell, Chunk, HasHead, Head};
use crate::conns::Conns;
use crate::id::{ConnId, TaskId};
use crate::state::{Phase, Word};
use crate::status::Timeout;
use crate::timers::{Due, Timers, Timing};
use crate::vacancies::{PAGE, Vacancies};
use std::borrow::Cow;
use std::sync::Arc;

/// No slot has this number.
pub(crate) const NONE: u32 = u32::MAX;
/// Stands for the connection of a slot that is vacant.
const VACANT: u32 = u32::MAX;
/// A table that is empty keeps so many slots at most, and the memory of so many events.
const KEPT: usize = 2048;
/// So many bytes are kept in the boxes of the last tasks of vacant slots, for the next ones: that costs no allocation, and the memory is
/// warm. Some boxes are always kept.
const SPARE_BYTES: usize = 256 * 1024;
const SPARES_MIN: usize = 64;

struct Slot<T, P> {
    /// The task, if it is here; in a vacant slot the box of its last one.
    cell: Option<Box<Cell<T, P>>>,
    /// `None` for a task without name and timeouts.
    extras: Option<Box<Extras>>,
    conn: u32,
    prev: u32,
    next: u32,
}

/// What most tasks do not have.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) timing: Timing,
}

/// A task that has come here to be looked at. `syncs` is 0 for the end of the task, else the number of its `Sync`.
#[derive(Clone, Copy)]
struct Event {
    serial: u64,
    slot: u32,
    syncs: u32,
}

pub(crate) struct Table<T, P> {
    slots: Vec<Slot<T, P>>,
    chunks: Vec<Arc<Chunk>>,
    vacant: Vacancies,
    len: usize,
    /// So many of them are here.
    here: usize,
    spares: usize,
    conns: Conns,
    pub(crate) timers: Timers,
    events: Vec<Event>,
    /// Kept for its memory.
    arrived: Vec<Box<Cell<T, P>>>,
    service: u32,
    serial: u64,
    /// The pool is finishing.
    pub(crate) closed: bool,
    /// The service is gone.
    abandoned: bool,
}

impl<T, P> Table<T, P> {
    const SPARES_MAX: usize = {
        let fit = SPARE_BYTES / size_of::<Cell<T, P>>();
        if fit > SPARES_MIN { fit } else { SPARES_MIN }
    };

    pub(crate) fn new(service: u32) -> Self {
        Self {
            slots: Vec::new(),
            chunks: Vec::new(),
            vacant: Vacancies::default(),
            len: 0,
            here: 0,
            spares: 0,
            conns: Conns::new(),
            timers: Timers::default(),
            events: Vec::new(),
            arrived: Vec::new(),
            service,
            serial: 0,
            closed: false,
            abandoned: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many are in line, on workers, lent or in lanes.
    pub(crate) fn away(&self) -> usize {
        self.len - self.here
    }

    /// Makes room for a task of this connection: gives its cell, in which the caller puts it.
    #[allow(clippy::unnecessary_box_returns, reason = "the box is kept and goes round")]
    pub(crate) fn insert(
        &mut self,
        conn: ConnId,
        outlives: bool,
        extras: Option<Box<Extras>>,
        now: u64,
        make_cell: impl FnOnce(Arc<Chunk>, u32) -> Box<Cell<T, P>>,
    ) -> Box<Cell<T, P>> {
        let conn_slot = self.conns.find_or_open(conn);
        self.serial += 1;
        let slot = self.occupy();
        let own = &mut self.slots[slot as usize];
        let chunk = &self.chunks[slot as usize / PAGE];
        chunk.head(slot).renew(self.serial, conn_slot, outlives, now);
        chunk.set_connection(slot, conn);
        let cell = if let Some(spare) = own.cell.take() {
            self.spares -= 1;
            spare
        } else {
            make_cell(Arc::clone(chunk), slot)
        };
        let timed = extras.is_some();
        own.extras = extras;
        self.link(slot, conn_slot);
        if timed {
            self.rearm(slot);
        }
        cell
    }

    /// Takes a vacant slot, or makes one.
    #[inline]
    fn occupy(&mut self) -> u32 {
        self.len += 1;
        if self.vacant.are_few() {
            self.add_page();
        }
        self.vacant.take()
    }

    #[cold]
    #[inline(never)]
    fn add_page(&mut self) {
        self.vacant.add_page();
        self.chunks.push(Arc::new(Chunk::new()));
        let vacant = || Slot {
            cell: None,
            extras: None,
            conn: VACANT,
            prev: NONE,
            next: NONE,
        };
        self.slots.resize_with(self.chunks.len() * PAGE, vacant);
    }

    /// The slot of a task that is not reaped.
    #[inline]
    pub(crate) fn find(&self, id: TaskId) -> Option<u32> {
        let own = self.slots.get(id.slot as usize)?;
        let is_it =
            own.conn != VACANT && id.service == self.service && self.head(id.slot).serial() == id.serial;
        is_it.then_some(id.slot)
    }

    #[inline]
    pub(crate) fn head(&self, slot: u32) -> &Head {
        self.chunks[slot as usize / PAGE].head(slot)
    }

    #[inline]
    pub(crate) fn word(&self, slot: u32) -> Word {
        self.head(slot).state.load()
    }

    pub(crate) fn id(&self, slot: u32) -> TaskId {
        TaskId {
            serial: self.head(slot).serial(),
            service: self.service,
            slot,
        }
    }

    pub(crate) fn name(&self, slot: u32) -> Option<Cow<'static, str>> {
        self.slots[slot as usize]
            .extras
            .as_ref()
            .and_then(|extras| extras.name.clone())
    }

    /// Whether the task itself is here.
    #[inline]
    pub(crate) fn is_here(&self, slot: u32) -> bool {
        self.slots[slot as usize].cell.is_some()
    }

    /// The task, to be run or lent.
    #[inline]
    pub(crate) fn take(&mut self, slot: u32) -> Option<Box<Cell<T, P>>> {
        let cell = self.slots[slot as usize].cell.take();
        self.here -= usize::from(cell.is_some());
        cell
    }

    /// Keeps a task that was lent.
    pub(crate) fn keep(&mut self, cell: Box<Cell<T, P>>) {
        let slot = cell.slot as usize;
        self.slots[slot].cell = Some(cell);
        self.here += 1;
    }

    /// Keeps tasks that have parked or ended, to be announced.
    pub(crate) fn receive(&mut self, take_into: impl FnOnce(&mut Vec<Box<Cell<T, P>>>)) {
        let mut arrived = std::mem::take(&mut self.arrived);
        take_into(&mut arrived);
        for cell in arrived.drain(..) {
            self.arrive(cell);
        }
        arrived.shrink_to(KEPT);
        self.arrived = arrived;
    }

    /// Keeps a task that has parked or ended, to be announced.
    pub(crate) fn arrive(&mut self, cell: Box<Cell<T, P>>) {
        let (head, slot) = (cell.head(), cell.slot);
        let word = head.state.load();
        let syncs = if word.has_ended() { 0 } else { word.syncs() };
        self.events.push(Event {
            serial: head.serial(),
            slot,
            syncs,
        });
        self.slots[slot as usize].cell = Some(cell);
        self.here += 1;
        // A loop that looks at its tasks, but never at what is announced, must not let events pile up.
        if self.events.len() >= KEPT && self.events.len() >= 4 * self.len {
            let mut events = std::mem::take(&mut self.events);
            events.retain(|&event| self.is_news(event));
            self.events = events;
        }
    }

    /// The tasks that have something to tell: those that came before and those that come now. From now on a parked
    /// task's timeout counts.
    pub(crate) fn announce(&mut self, take_into: impl FnOnce(&mut Vec<Box<Cell<T, P>>>)) -> Vec<TaskId> {
        let mut arrived = std::mem::take(&mut self.arrived);
        take_into(&mut arrived);
        let mut ids = Vec::with_capacity(self.events.len() + arrived.len());
        for event in std::mem::take(&mut self.events) {
            if self.is_news(event) {
                ids.push(self.tell(event.slot));
            }
        }
        self.here += arrived.len();
        for cell in arrived.drain(..) {
            let slot = cell.slot;
            self.slots[slot as usize].cell = Some(cell);
            ids.push(self.tell(slot));
        }
        arrived.shrink_to(KEPT);
        self.arrived = arrived;
        ids
    }

    /// The loop hears of a task.
    #[inline]
    fn tell(&mut self, slot: u32) -> TaskId {
        if self.slots[slot as usize].extras.is_some() {
            let syncs = self.word(slot).syncs();
            if let Some(extras) = &mut self.slots[slot as usize].extras {
                extras.timing.announced = syncs;
            }
            self.rearm(slot);
        }
        self.id(slot)
    }

    /// Whether a task stands as when it came; else it has been reaped, answered or stopped meanwhile.
    #[inline]
    fn is_news(&self, event: Event) -> bool {
        let head = self.head(event.slot);
        let word = head.state.load();
        let own = &self.slots[event.slot as usize];
        own.conn != VACANT
            && head.serial() == event.serial
            && (event.syncs == 0 || word.phase() == Phase::Syncing && word.syncs() == event.syncs)
    }

    /// Reaps a task that is here. Gives its body.
    #[inline]
    pub(crate) fn reap(&mut self, slot: u32) -> Option<Body<T>> {
        let body = self.slots[slot as usize].cell.as_mut()?.body.take();
        self.here -= 1;
        if self.spares >= Self::SPARES_MAX {
            self.slots[slot as usize].cell = None;
        } else {
            self.spares += 1;
        }
        self.vacate(slot);
        Some(body)
    }

    /// Forgets a task that is not here.
    pub(crate) fn vacate(&mut self, slot: u32) {
        self.unlink(slot);
        self.note_loss(self.slots[slot as usize].conn);
        let own = &mut self.slots[slot as usize];
        own.conn = VACANT;
        self.vacant.put(slot);
        self.len -= 1;
        if let Some(extras) = own.extras.take()
            && let Some(due) = extras.timing.armed
        {
            self.timers.disarm(due);
        }
        if self.len == 0 && self.slots.len() > KEPT {
            self.forget_burst();
        }
    }

    /// Gives up the memory of a burst that is over.
    fn forget_burst(&mut self) {
        self.slots = Vec::new();
        self.chunks = Vec::new();
        (self.vacant, self.spares) = (Vacancies::default(), 0);
        // Without tasks there is no news; these name heads that are gone.
        self.events = Vec::new();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// No task comes in or stays here any more. Gives those that are here, which keep their slots until they are vacated.
    pub(crate) fn abandon(&mut self) -> Vec<Box<Cell<T, P>>> {
        self.abandoned = true;
        self.here = 0;
        let mut here = Vec::new();
        for own in &mut self.slots {
            let cell = own.cell.take();
            here.extend(cell.filter(|_| own.conn != VACANT));
        }
        here
    }

    /// The tasks of an open connection, in the order in which they came to it.
    pub(crate) fn tasks_of(&self, conn: ConnId) -> impl Iterator<Item = u32> {
        let first = self.conns.find(conn).map_or(NONE, |slot| self.conns[slot].first);
        let some = |slot: u32| (slot != NONE).then_some(slot);
        std::iter::successors(some(first), move |&last| some(self.slots[last as usize].next))
    }

    /// The task of the same connection that came after this one.
    pub(crate) fn next_of(&self, slot: u32) -> Option<u32> {
        Some(self.slots[slot as usize].next).filter(|&next| next != NONE)
    }

    /// The connection is unknown from now on; its tasks stay, without one.
    pub(crate) fn close_conn(&mut self, conn: ConnId) {
        if let Some(slot) = self.conns.find(conn) {
            self.conns.close(slot);
        }
    }

    pub(crate) fn connection_at(&self, slot: u32) -> Option<ConnId> {
        self.conns[self.slots[slot as usize].conn].id
    }

    /// Moves a task to another connection; gives the slot of that.
    pub(crate) fn reattach(&mut self, slot: u32, conn: ConnId) -> u32 {
        let from = self.slots[slot as usize].conn;
        let to = self.conns.find_or_open(conn);
        self.chunks[slot as usize / PAGE].set_connection(slot, conn);
        if to != from {
            self.unlink(slot);
            self.link(slot, to);
            self.note_loss(from);
        }
        to
    }

    /// The slots of all tasks, from one on.
    pub(crate) fn from(&self, from: usize) -> impl Iterator<Item = u32> {
        let slots = self.slots.get(from..).unwrap_or_default();
        let is_occupied = |&(_, own): &(u32, &Slot<T, P>)| own.conn != VACANT;
        (from as u32..)
            .zip(slots)
            .filter(is_occupied)
            .map(|(slot, _)| slot)
    }

    /// Which of its timeouts is next, and when.
    pub(crate) fn due(&self, slot: u32) -> Option<(u64, Timeout)> {
        let head = self.head(slot);
        let extras = self.slots[slot as usize].extras.as_ref()?;
        extras.timing.next(head.state.load(), head.times.since())
    }

    /// A worker has begun with the task, or is about to, whatever can be seen of it here: its queue timeout is over.
    pub(crate) fn note_start(&mut self, slot: u32) {
        if let Some(extras) = &mut self.slots[slot as usize].extras {
            extras.timing.queue = None;
        }
    }

    /// Sets the moment at which the timers look at a task again.
    pub(crate) fn rearm(&mut self, slot: u32) {
        let serial = self.head(slot).serial();
        let due = self.due(slot).map(|(at, _)| Due { at, serial, slot });
        let Some(extras) = self
            .slots
            .get_mut(slot as usize)
            .and_then(|own| own.extras.as_mut())
        else {
            return;
        };
        let before = std::mem::replace(&mut extras.timing.armed, due);
        if before != due {
            if let Some(before) = before {
                self.timers.disarm(before);
            }
            if let Some(due) = due {
                self.timers.arm(due);
            }
        }
    }

    #[inline]
    fn link(&mut self, slot: u32, conn: u32) {
        let list = &mut self.conns[conn];
        let prev = std::mem::replace(&mut list.last, slot);
        if prev == NONE {
            list.first = slot;
        } else {
            self.slots[prev as usize].next = slot;
        }
        let own = &mut self.slots[slot as usize];
        (own.conn, own.prev, own.next) = (conn, prev, NONE);
    }

    /// Takes a task out of its connection.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let Slot { conn, prev, next, .. } = self.slots[slot as usize];
        if prev != NONE {
            self.slots[prev as usize].next = next;
        }
        if next != NONE {
            self.slots[next as usize].prev = prev;
        }
        let list = &mut self.conns[conn];
        if list.first == slot {
            list.first = next;
        }
        if list.last == slot {
            list.last = prev;
        }
    }

    /// A connection has one task less.
    #[inline]
    fn note_loss(&mut self, conn: u32) {
        if self.conns[conn].first == NONE {
            self.conns.note_idle(conn);
        }
    }
}
