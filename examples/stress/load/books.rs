//! What a loop knows of its tasks, and what must therefore be true of what it is told.

use std::collections::HashMap;

use moored::{Dequeued, Status, StopReason, TaskId, Timeout};

use super::errand::{Errand, Kind};

/// A task that was accepted and is not reaped.
pub(crate) struct Entry {
    number: u64,
    kind: Kind,
    conn: Option<u64>,
    outlives: bool,
    has_timeouts: bool,
    /// The last chunk that the loop was given.
    chunk: u64,
    /// Why it was asked to stop.
    asked: Vec<StopReason>,
    moved: bool,
}

#[derive(Default)]
pub(crate) struct Books {
    entries: HashMap<TaskId, Entry>,
    /// Tasks of a connection end in the order in which they came.
    in_order: bool,
    /// The number of the last task that ended, of each connection. Only if `in_order`.
    last_end: HashMap<u64, u64>,
    /// The pool was asked to finish, so that tasks may be stopped for that.
    pub(crate) finishing: bool,
}

/// How a task ended: what `task_status` gave for it.
pub(crate) struct End {
    pub(crate) number: u64,
    pub(crate) status: Status,
    pub(crate) why: Option<StopReason>,
    /// `None`: it panicked.
    errand: Option<Errand>,
}

impl End {
    pub(crate) fn of(status: Status, why: Option<StopReason>, errand: Errand) -> Self {
        Self {
            number: errand.number,
            status,
            why,
            errand: Some(errand),
        }
    }

    /// `number`: what the panic brought.
    pub(crate) fn of_panic(number: Option<u64>) -> Self {
        Self {
            number: number.unwrap_or(0),
            status: Status::Panicked,
            why: None,
            errand: None,
        }
    }
}

/// What is wrong.
type Fault = String;

impl Entry {
    pub(crate) fn new(errand: &Errand, conn: u64, has_timeouts: bool) -> Self {
        Self {
            number: errand.number,
            kind: errand.kind,
            conn: Some(conn),
            outlives: errand.outlives,
            has_timeouts,
            chunk: 0,
            asked: Vec::new(),
            moved: false,
        }
    }
}

impl Books {
    pub(crate) fn new(in_order: bool) -> Self {
        Self {
            in_order,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// In the order in which they were accepted.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        let mut ids: Vec<_> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn accept(&mut self, id: TaskId, entry: Entry) -> Result<(), Fault> {
        match self.entries.insert(id, entry) {
            None => Ok(()),
            Some(_) => Err(format!("{id}: given to two tasks")),
        }
    }

    /// The tasks of a connection, `told` by the pool that they are so many.
    pub(crate) fn close(&mut self, conn: u64, told: usize) -> Result<(), Fault> {
        let mut count = 0;
        for entry in self.entries.values_mut().filter(|entry| entry.conn == Some(conn)) {
            entry.conn = None;
            entry.asked.push(StopReason::ConnectionClosed);
            count += 1;
        }
        self.last_end.remove(&conn);
        expect(count == told, || {
            format!("connection {conn}: {told} tasks closed, it had {count}")
        })
    }

    pub(crate) fn dequeue(&mut self, id: TaskId, answer: Dequeued) -> Result<(), Fault> {
        match self.entries.get_mut(&id) {
            Some(entry) => {
                entry.asked.push(StopReason::Dequeued);
                expect(answer != Dequeued::Unknown, || {
                    format!("{id}: dequeued, and unknown")
                })
            }
            None => expect(answer == Dequeued::Unknown, || {
                format!("{id}: reaped, yet {answer:?}")
            }),
        }
    }

    pub(crate) fn reattach(&mut self, id: TaskId, conn: u64, done: bool) -> Result<(), Fault> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return expect(!done, || format!("{id}: reaped, yet reattached"));
        };
        (entry.conn, entry.moved) = (Some(conn), true);
        expect(done, || format!("{id}: not reattached"))
    }

    /// A parked task shows its next chunk, no other.
    pub(crate) fn parked(&mut self, id: TaskId, errand: &Errand) -> Result<(), Fault> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Err(format!("{id}: parked, and reaped before"));
        };
        let last = entry.chunk;
        if errand.chunks != last {
            entry.chunk = errand.chunks;
        }
        let is_own = errand.number == entry.number;
        // While it was detached it went on without an answer.
        let is_next = errand.chunks == last + 1 || entry.outlives && errand.chunks > last;
        expect(is_own && is_next, || {
            format!("{id}: chunk {} after {last}", errand.chunks)
        })
    }

    /// A parked task that was looked at before shows the same chunk.
    pub(crate) fn still_parked(&mut self, id: TaskId, errand: &Errand) -> Result<(), Fault> {
        let chunk = self.entries.get(&id).map(|entry| entry.chunk);
        expect(chunk == Some(errand.chunks), || {
            format!("{id}: chunk {}, not {chunk:?}", errand.chunks)
        })
    }

    /// It was asked to stop while it was parked.
    pub(crate) fn asked_to_stop(&mut self, id: TaskId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.asked.push(StopReason::Dequeued);
        }
    }

    /// What the service says of a task must be what it was told.
    pub(crate) fn look(&self, id: TaskId, status: Option<Status>, conn: Option<u64>) -> Result<(), Fault> {
        let entry = self.entries.get(&id);
        expect(entry.is_some() == status.is_some(), || {
            format!("{id}: {status:?}")
        })?;
        let own = entry.and_then(|entry| entry.conn);
        expect(own == conn, || {
            format!("{id}: of connection {conn:?}, not {own:?}")
        })
    }

    /// A task has ended, and is reaped.
    pub(crate) fn ended(&mut self, id: TaskId, end: &End) -> Result<(), Fault> {
        let Some(entry) = self.entries.remove(&id) else {
            return Err(format!("{id}: ended twice"));
        };
        let (kind, status, why) = (entry.kind, end.status, end.why);
        let fits = match (status, &end.errand) {
            (Status::Finished, Some(errand)) => {
                let all_seen = errand.chunks == entry.chunk || entry.outlives;
                errand.steps == errand.length && all_seen
            }
            (Status::Stopped, Some(errand)) => {
                // Who had just stopped by itself may have been asked at that moment.
                let by_itself = kind == Kind::Quits && errand.steps == errand.length;
                let knew = errand.steps == 0 || errand.told || by_itself;
                let is_shed_unstarted = why != Some(StopReason::Shed) || errand.steps == 0;
                knew && is_shed_unstarted && why.is_some_and(|why| self.may_stop(&entry, why))
            }
            _ => kind == Kind::Panics,
        };
        expect(fits && end.number == entry.number, || {
            let steps = end.errand.as_ref().map(|errand| (errand.steps, errand.length));
            format!("{id}: {kind:?} ended as {status}, {why:?}, after {steps:?} steps")
        })?;
        let started = end.errand.as_ref().is_none_or(|errand| errand.steps > 0);
        self.check_order(&entry, started)
            .map_err(|last| format!("{id}: number {} ended after {last}", end.number))
    }

    fn may_stop(&self, entry: &Entry, why: StopReason) -> bool {
        match why {
            StopReason::Returned => entry.kind == Kind::Quits,
            StopReason::Dequeued => entry.asked.contains(&why),
            StopReason::ConnectionClosed => entry.asked.contains(&why) && !entry.outlives,
            StopReason::TimedOut(Timeout::Queue | Timeout::Sync | Timeout::Deadline) => entry.has_timeouts,
            StopReason::PoolShutdown => self.finishing,
            // The queue was full, and a task of another connection has replaced this one.
            StopReason::Shed => true,
            // Nobody is there to be told; and no other is known.
            _ => false,
        }
    }

    /// With one running task per connection, those that ran end in the order in which they came.
    fn check_order(&mut self, entry: &Entry, started: bool) -> Result<(), u64> {
        let Some(conn) = entry.conn.filter(|_| self.in_order && started && !entry.moved) else {
            return Ok(());
        };
        match self.last_end.insert(conn, entry.number) {
            Some(last) if last > entry.number => Err(last),
            _ => Ok(()),
        }
    }
}

fn expect(holds: bool, fault: impl FnOnce() -> Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault()) }
}
