//! The tasks of a service and their connections. The table belongs to the loop and has no lock.
//!
//! A task is *in flight* from its submission until the loop has received it back from a worker.
//! Otherwise, while it is parked, or ended and not reaped, its value is in the table (`here`). A
//! slot is used for a task in both cases. The tasks of a connection are linked through their slots,
//! in the order in which they were added, so that a close costs O(tasks of the connection).

use super::completions::{Completion, Outcome};
use super::connections::{Connections, NO_TASK};
use super::ready::Ready;
use super::timers::{Due, Timers, Timing};
use crate::clock::Clock;
use crate::queue::MoveTarget;
use crate::task::header::{LoopHeader, PAGE, Page, WorkHeader};
use crate::task::id::{ConnId, TaskId};
use crate::task::phase::{Phase, Requests};
use crate::task::status::Timeout;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// Marks a vacant slot, instead of a connection.
const VACANT: u32 = u32::MAX;
/// From this length on, the list of arrivals is checked if it is much longer than the table. An
/// empty list has at most this capacity.
const LONG: usize = 2048;
/// The round of a task that will not be announced.
const NO_ROUND: u64 = 0;

/// Whether the loop has seen that a task has started or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    /// The task counts as one of its connection that has not started.
    Unseen,
    Seen,
}

pub(crate) struct Slot<T> {
    /// The task, if its value is in the table.
    outcome: Option<Outcome<T>>,
    pub(crate) serial: u64,
    /// When its value came into the table.
    since: u64,
    /// `None` for a task without timeouts.
    timing: Option<Box<Timing>>,
    pub(crate) connection: u32,
    prev: u32,
    next: u32,
    /// The round of announcements at its last arrival. It will be announced if this is the current
    /// round.
    round: u64,
    /// How many times it had parked, modulo 16, when its value last came into the table.
    pub(crate) syncs: u8,
    start: Start,
    /// Whether the task must not park: it was asked to stop, or its connection has closed.
    must_continue: bool,
    /// Whether it was moved to another connection while it was in flight.
    was_moved: bool,
    has_name: bool,
}

struct SlotPage<T> {
    headers: Arc<Page>,
    slots: Box<[Slot<T>; PAGE]>,
}

/// The slots. A type of its own, so that the table can change a slot and its connection at the same
/// time: a slot is found once for each change.
struct Slots<T>(Vec<SlotPage<T>>);

impl<T> Index<u32> for Slots<T> {
    type Output = Slot<T>;

    #[inline]
    fn index(&self, slot: u32) -> &Slot<T> {
        &self.0[slot as usize / PAGE].slots[slot as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Slot<T> {
        &mut self.0[slot as usize / PAGE].slots[slot as usize % PAGE]
    }
}

/// What the service does after the table has received a task.
pub(crate) struct Received {
    /// The task was moved to another connection while it was in flight.
    pub(crate) was_moved: bool,
    /// The task has parked, and must not park.
    pub(crate) must_continue: bool,
}

/// The tasks that have come into the table since the last announcement.
struct Arrivals {
    /// A task can be listed twice, and then counts once.
    tasks: Vec<Ready>,
    /// The number of the next announcement.
    round: u64,
    /// Whether all listed tasks are announced as they are listed.
    are_exact: bool,
}

pub(crate) struct Table<T> {
    /// The number of the service, which is part of the ids of its tasks.
    number: u32,
    slots: Slots<T>,
    free: Vec<u32>,
    len: usize,
    /// The number of tasks whose value is in the table.
    here: usize,
    pub(crate) connections: Connections,
    pub(crate) timers: Timers,
    arrivals: Arrivals,
    serial: u64,
}

impl<T> Table<T> {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            slots: Slots(Vec::new()),
            free: Vec::new(),
            len: 0,
            here: 0,
            connections: Connections::new(),
            timers: Timers::default(),
            arrivals: Arrivals {
                tasks: Vec::new(),
                round: NO_ROUND + 1,
                are_exact: true,
            },
            serial: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of tasks in flight.
    pub(crate) fn away(&self) -> usize {
        self.len - self.here
    }

    #[inline]
    pub(crate) fn slot(&self, slot: u32) -> &Slot<T> {
        &self.slots[slot]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: u32) -> &mut Slot<T> {
        &mut self.slots[slot]
    }

    #[inline]
    pub(crate) fn page(&self, slot: u32) -> &Arc<Page> {
        &self.slots.0[slot as usize / PAGE].headers
    }

    #[inline]
    pub(crate) fn owner(&self, slot: u32) -> &LoopHeader {
        self.page(slot).owner(slot)
    }

    pub(crate) fn work(&self, slot: u32) -> &WorkHeader {
        self.page(slot).work(slot)
    }

    pub(crate) fn requests(&self, slot: u32) -> Requests {
        self.work(slot).requests(self.slot(slot).serial)
    }

    /// Changes the requests to a task. Returns the new value.
    pub(crate) fn request(&mut self, slot: u32, change: impl Fn(Requests) -> Requests) -> Requests {
        let requests = self.work(slot).request(self.slot(slot).serial, change);
        self.slot_mut(slot).must_continue = requests.must_continue();
        requests
    }

    /// Whether there is a vacant slot.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Adds a page of vacant slots. Its number is the number of pages before the call.
    #[cold]
    #[inline(never)]
    pub(crate) fn add_page(&mut self, make: impl FnOnce(usize) -> Arc<Page>) {
        let number = self.slots.0.len();
        let vacant = |_| Slot {
            outcome: None,
            serial: 0,
            since: 0,
            timing: None,
            connection: VACANT,
            prev: NO_TASK,
            next: NO_TASK,
            syncs: 0,
            round: NO_ROUND,
            start: Start::Seen,
            must_continue: false,
            was_moved: false,
            has_name: false,
        };
        // Not made on the stack, because a task may be large.
        let slots: Box<[_]> = (0..PAGE).map(vacant).collect();
        self.slots.0.push(SlotPage {
            headers: make(number),
            slots: slots
                .try_into()
                .unwrap_or_else(|_| unreachable!("the length is right")),
        });
        let first = (number * PAGE) as u32;
        self.free.extend((first..first + PAGE as u32).rev());
    }

    /// Adds a task of this connection. The task is in flight. There must be a vacant slot.
    #[inline]
    pub(crate) fn insert(&mut self, id: ConnId, now: u64) -> u32 {
        let connection = self.connections.find_or_open(id);
        let slot = self.free.pop().expect("a vacant slot");
        self.len += 1;
        self.serial += 1;
        let serial = self.serial;
        let own = self.slot_mut(slot);
        own.serial = serial;
        own.syncs = 0;
        own.start = Start::Unseen;
        own.must_continue = false;
        own.was_moved = false;
        self.owner(slot).renew(serial, id.0, now);
        self.link(slot, connection);
        slot
    }

    pub(crate) fn set_timing(&mut self, slot: u32, timing: Timing) {
        self.slot_mut(slot).timing = Some(Box::new(timing));
        self.rearm(slot);
    }

    pub(crate) fn note_name(&mut self, slot: u32) {
        self.slot_mut(slot).has_name = true;
    }

    /// The slot of a task that has not been reaped.
    #[inline]
    pub(crate) fn find(&self, id: TaskId) -> Option<u32> {
        let slot = id.slot();
        let page = self.slots.0.get(slot as usize / PAGE)?;
        let own = &page.slots[slot as usize % PAGE];
        (own.connection != VACANT && own.serial == id.serial).then_some(slot)
    }

    /// The phase of a task. Exact if the task is in the table.
    #[inline]
    pub(crate) fn phase(&self, slot: u32) -> Phase {
        let own = self.slot(slot);
        match &own.outcome {
            Some(outcome) => outcome.phase(),
            None => self.page(slot).phase(slot, own.serial),
        }
    }

    /// The task, if its value is in the table.
    #[inline]
    pub(crate) fn outcome(&self, slot: u32) -> Option<&Outcome<T>> {
        self.slot(slot).outcome.as_ref()
    }

    /// Whether the task is parked, and its value is in the table.
    pub(crate) fn is_parked(&self, slot: u32) -> bool {
        self.outcome(slot).is_some_and(Outcome::is_parked)
    }

    #[inline]
    pub(crate) fn outcome_mut(&mut self, slot: u32) -> Option<&mut Outcome<T>> {
        self.slot_mut(slot).outcome.as_mut()
    }

    /// The slots of all tasks, in the order in which they were submitted to the service.
    pub(crate) fn slots_by_age(&self) -> Vec<u32> {
        let mut slots: Vec<(u64, u32)> = (0..)
            .zip(self.slots.0.iter().flat_map(|page| page.slots.iter()))
            .filter(|(_, own)| own.connection != VACANT)
            .map(|(slot, own)| (own.serial, slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// A task that a worker has returned, or that has ended without a step. Its value is in the
    /// table from now on, and the task will be announced.
    #[inline]
    pub(crate) fn receive(&mut self, completion: Completion<T>) -> Received {
        let Completion {
            outcome,
            at,
            cost,
            syncs,
            slot,
            has_new_deadline,
            ..
        } = completion;
        self.here += 1;
        let own = &mut self.slots[slot];
        let is_parked = outcome.is_parked();
        own.outcome = Some(outcome);
        own.since = at;
        own.syncs = syncs;
        own.round = self.arrivals.round;
        let id = TaskId::new(self.number, own.serial, slot);
        let start = std::mem::replace(&mut own.start, Start::Seen);
        let received = Received {
            was_moved: std::mem::take(&mut own.was_moved),
            must_continue: is_parked && own.must_continue,
        };
        let connection = &mut self.connections[own.connection];
        connection.charge(cost as u64);
        connection.away -= 1;
        connection.queued -= u32::from(start == Start::Unseen);
        let connection = connection.id;
        self.arrivals.are_exact &= own.timing.is_none() && (connection.is_some() || !is_parked);
        self.arrivals.tasks.push(Ready { id, connection });
        if has_new_deadline {
            own.timing.get_or_insert_default();
            self.arrivals.are_exact = false;
            self.rearm(slot);
        }
        // A loop that finds its tasks by their ids never announces. The list must not grow in that
        // case.
        if self.arrivals.tasks.len() >= LONG && self.arrivals.tasks.len() >= 4 * self.len {
            self.update_arrivals();
        }
        received
    }

    /// Removes the tasks from the list of arrivals that will not be announced, and updates the
    /// connections of the others.
    #[cold]
    fn update_arrivals(&mut self) {
        let mut tasks = std::mem::take(&mut self.arrivals.tasks);
        let before = self.next_round();
        let round = self.arrivals.round;
        tasks.retain_mut(|ready| {
            let slot = self
                .find(ready.id)
                .filter(|&slot| self.slot(slot).round == before);
            if let Some(slot) = slot {
                self.slot_mut(slot).round = round;
                ready.connection = self.connection_of(slot);
            }
            slot.is_some()
        });
        self.arrivals.tasks = tasks;
    }

    /// Begins a round of announcements. Returns the number of the round before.
    fn next_round(&mut self) -> u64 {
        self.arrivals.round += 1;
        self.arrivals.round - 1
    }

    /// Whether there is a task that will be announced.
    pub(crate) fn has_unannounced(&mut self) -> bool {
        if !self.arrivals.are_exact {
            self.update_arrivals();
        }
        !self.arrivals.tasks.is_empty()
    }

    /// Tasks that were announced will be announced again, before all others, if their values are
    /// still in the table.
    #[cold]
    pub(crate) fn announce_again(&mut self, slots: &[u32]) {
        let (number, round) = (self.number, self.arrivals.round);
        let mut again = Vec::new();
        for &slot in slots {
            let own = self.slot_mut(slot);
            if own.outcome.is_some() && own.round != round {
                own.round = round;
                again.push(Ready {
                    id: TaskId::new(number, own.serial, slot),
                    connection: None,
                });
            }
        }
        self.arrivals.tasks.splice(0..0, again);
        // The connections are not known yet.
        self.arrivals.are_exact = false;
    }

    /// Returns the tasks that have come into the table since the last call and have not changed
    /// since then. The sync timeout of a parked task begins now.
    pub(crate) fn announce(&mut self, clock: &Clock) -> Vec<Ready> {
        if !self.arrivals.are_exact {
            self.update_arrivals();
            self.prepare_announcement(clock);
            self.arrivals.are_exact = true;
        }
        self.next_round();
        if self.arrivals.tasks.is_empty() {
            return Vec::new();
        }
        // The next announcement is probably about as long as this one. But a service at rest must
        // not keep much memory after a long one.
        let next = Vec::with_capacity(self.arrivals.tasks.len().min(LONG));
        std::mem::replace(&mut self.arrivals.tasks, next)
    }

    #[cold]
    fn prepare_announcement(&mut self, clock: &Clock) {
        let mut tasks = std::mem::take(&mut self.arrivals.tasks);
        tasks.retain(|ready| {
            let slot = ready.id.slot();
            if let Some(timing) = &mut self.slot_mut(slot).timing {
                timing.announced = Some(clock.now());
                self.rearm(slot);
            }
            // A task that is parked without a connection waits for `reattach`.
            ready.connection.is_some() || !self.is_parked(slot)
        });
        self.arrivals.tasks = tasks;
    }

    /// A task changes. If it was to be announced, it is not announced any more, or not as it was
    /// listed.
    #[inline]
    fn note_change(&mut self, slot: u32) {
        self.arrivals.are_exact &= self.slot(slot).round != self.arrivals.round;
    }

    /// Takes a parked task out, so that it can be submitted again. Also returns how long it was
    /// parked.
    #[inline]
    pub(crate) fn take_parked(&mut self, slot: u32, now: u64) -> Option<(T, u64)> {
        self.note_change(slot);
        let own = self.slot_mut(slot);
        let Some(Outcome::Parked(task)) = own.outcome.take_if(|outcome| outcome.is_parked()) else {
            return None;
        };
        own.round = NO_ROUND;
        let parked = now.saturating_sub(own.since);
        if let Some(timing) = &mut own.timing {
            timing.announced = None;
        }
        self.here -= 1;
        Some((task, parked))
    }

    /// Takes a task out of the table and frees its slot. Also returns whether it had a name.
    #[inline]
    pub(crate) fn reap(&mut self, slot: u32) -> Option<(Outcome<T>, bool)> {
        let outcome = self.slot_mut(slot).outcome.take()?;
        self.here -= 1;
        let has_name = self.vacate(slot);
        Some((outcome, has_name))
    }

    /// Frees the slot of a task whose value was taken. Returns whether it had a name.
    fn vacate(&mut self, slot: u32) -> bool {
        self.note_change(slot);
        self.owner(slot).vacate();
        self.unlink(slot);
        let own = self.slot_mut(slot);
        let connection = std::mem::replace(&mut own.connection, VACANT);
        own.round = NO_ROUND;
        let has_name = std::mem::take(&mut own.has_name);
        if let Some(timing) = own.timing.take()
            && let Some(due) = timing.armed
        {
            self.timers.disarm(due);
        }
        self.note_loss(connection);
        self.free.push(slot);
        self.len -= 1;
        has_name
    }

    /// The tasks of an open connection, in the order in which they were added to it.
    pub(crate) fn tasks_of(&self, id: ConnId) -> impl Iterator<Item = u32> {
        let connection = self.connections.find(id);
        let first = connection.map_or(NO_TASK, |slot| self.connections[slot].first);
        let first = (first != NO_TASK).then_some(first);
        std::iter::successors(first, |&last| self.task_after(last))
    }

    /// The next task of the same connection.
    pub(crate) fn task_after(&self, slot: u32) -> Option<u32> {
        let next = self.slot(slot).next;
        (next != NO_TASK).then_some(next)
    }

    /// The number of tasks of a connection that have not started, if it is at least `limit`.
    /// Otherwise the result is below `limit`. O(1) amortized, because each task is passed once.
    ///
    /// Tasks of a connection start in order, except that a task in a batch may start after a later
    /// one. Until it starts, the later one counts too, unless the loop has received it.
    pub(crate) fn queued_of(&mut self, id: ConnId, limit: u32) -> u32 {
        let Some(connection) = self.connections.find(id) else {
            return 0;
        };
        while self.connections[connection].queued >= limit {
            let slot = self.connections[connection].first_queued;
            self.note_if_started(slot);
            if self.slot(slot).start == Start::Unseen {
                break;
            }
            self.connections[connection].first_queued = self.slot(slot).next;
        }
        self.connections[connection].queued
    }

    /// Takes a task that has started out of the count of its connection.
    fn note_if_started(&mut self, slot: u32) {
        if self.slot(slot).start == Start::Unseen && self.phase(slot) != Phase::Queued {
            let own = self.slot_mut(slot);
            own.start = Start::Seen;
            let connection = own.connection;
            self.connections[connection].queued -= 1;
        }
    }

    /// The connection is unknown from now on. Its tasks stay in the table, without a connection.
    pub(crate) fn close_connection(&mut self, id: ConnId) {
        if let Some(slot) = self.connections.find(id) {
            self.connections.close(slot);
            self.arrivals.are_exact = false;
        }
    }

    pub(crate) fn connection_of(&self, slot: u32) -> Option<ConnId> {
        self.connections[self.slot(slot).connection].id
    }

    /// Moves a task to another connection. Returns `None` if the task has this connection already.
    pub(crate) fn reattach(&mut self, slot: u32, id: ConnId, virtual_time: u64) -> Option<MoveTarget> {
        let from = self.slot(slot).connection;
        let to = self.connections.find_or_open(id);
        if to == from {
            return None;
        }
        self.note_change(slot);
        self.owner(slot).set_connection(id.0);
        let mut state = None;
        if self.slot(slot).outcome.is_none() {
            self.slot_mut(slot).was_moved = true;
            self.connections[from].away -= 1;
            state = Some(self.connections.submit(to, virtual_time).state);
            self.note_if_started(slot);
            self.connections[from].queued -= u32::from(self.slot(slot).start == Start::Unseen);
        }
        self.unlink(slot);
        self.link(slot, to);
        self.note_loss(from);
        Some(MoveTarget {
            flow: to,
            weight: self.connections[to].weight,
            state,
        })
    }

    /// The next timeout of a task, and the time at which it runs out.
    pub(crate) fn due(&self, slot: u32) -> Option<(u64, Timeout)> {
        let own = self.slot(slot);
        let timing = own.timing.as_ref()?;
        if own.must_continue && self.requests(slot).stop().is_some() {
            return None;
        }
        let deadline = self.page(slot).deadline(slot, own.serial);
        timing.next(self.phase(slot), deadline)
    }

    /// A worker has begun the task, so its queue timeout ends.
    pub(crate) fn note_start(&mut self, slot: u32) {
        if let Some(timing) = &mut self.slot_mut(slot).timing {
            timing.queue = None;
        }
    }

    /// If the task is parked, the timeout of its `Sync` begins now, or at its next announcement.
    pub(crate) fn restart_sync(&mut self, slot: u32, announced: Option<u64>) {
        if self.is_parked(slot)
            && let Some(timing) = &mut self.slot_mut(slot).timing
        {
            timing.announced = announced;
            self.rearm(slot);
        }
    }

    /// Sets the time at which the timers check a task again.
    pub(crate) fn rearm(&mut self, slot: u32) {
        let serial = self.slot(slot).serial;
        let due = self.due(slot).map(|(at, _)| Due { at, serial, slot });
        let Some(timing) = &mut self.slot_mut(slot).timing else {
            return;
        };
        let before = std::mem::replace(&mut timing.armed, due);
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
    fn link(&mut self, slot: u32, connection: u32) {
        let own = &mut self.slots[slot];
        let list = &mut self.connections[connection];
        if own.start == Start::Unseen {
            list.queued += 1;
            if list.first_queued == NO_TASK {
                list.first_queued = slot;
            }
        }
        let prev = std::mem::replace(&mut list.last, slot);
        (own.connection, own.prev, own.next) = (connection, prev, NO_TASK);
        if prev == NO_TASK {
            list.first = slot;
        } else {
            self.slots[prev].next = slot;
        }
    }

    /// Removes a task from its connection.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let &Slot {
            connection,
            prev,
            next,
            ..
        } = self.slot(slot);
        if prev != NO_TASK {
            self.slot_mut(prev).next = next;
        }
        if next != NO_TASK {
            self.slot_mut(next).prev = prev;
        }
        let list = &mut self.connections[connection];
        if list.first == slot {
            list.first = next;
        }
        if list.last == slot {
            list.last = prev;
        }
        if list.first_queued == slot {
            list.first_queued = next;
        }
    }

    /// One task of a connection was removed.
    #[inline]
    fn note_loss(&mut self, connection: u32) {
        if self.connections[connection].first == NO_TASK {
            self.connections.note_idle(connection);
        }
    }
}
