//! Each connection's line of tasks, as a record in the fair queue.

use crate::outbox::Outbox;
use slab::Slab;
use std::sync::Arc;

/// No task has this number.
pub(crate) const NONE: u32 = u32::MAX;

/// Names a connection's line: the port's slot and the connection's slot in that port's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineKey {
    pub(crate) port: u32,
    pub(crate) conn: u32,
}

/// The turn that a task was taken for, and its line's place in the round before that. Tickets grow, and after four thousand
/// million turns begin anew (what is put back at that moment may change places); a task that is put back and taken again keeps its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket(pub(crate) u32);

impl Ticket {
    /// Later than any: of what was never put back.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The next one.
    #[inline]
    pub(crate) fn next(&mut self) -> Self {
        self.0 = (self.0 + 1) % Self::NONE.0;
        *self
    }
}

/// Whether a line is in the [`Round`](crate::round::Round), and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It has nothing to run, or may not.
    Away,
    /// At the place with this number.
    Ring(u32),
    /// Before all those: it was taken with this ticket and put back.
    Returned(Ticket),
}

/// One connection's tasks, by their numbers: those that have started, then those that have not. Both in the order in
/// which they came.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) first: u32,
    /// The last that has started.
    pub(crate) last_started: u32,
    pub(crate) last: u32,
    /// Started and not ended. Only counted when there is a limit.
    pub(crate) running: u32,
    pub(crate) place: Place,
}

impl Line {
    const EMPTY: Self = Self {
        first: NONE,
        last_started: NONE,
        last: NONE,
        running: 0,
        place: Place::Away,
    };

    /// Whether its first task may run when so many may be running at once.
    #[inline]
    pub(crate) fn may_run(&self, limit: u32) -> bool {
        self.first != NONE && (self.last_started != NONE || self.running < limit)
    }
}

/// So many lines are made at once.
const PAGE: usize = 64;

/// What the queue keeps of a service.
struct Port<J: ?Sized> {
    /// In pages, since most connections never have a line: what is posted is mostly taken as it is.
    lines: Vec<Option<Box<[Line; PAGE]>>>,
    outbox: Arc<Outbox<J>>,
}

/// The lines of all connections of all services.
pub(crate) struct Lines<J: ?Sized>(Slab<Port<J>>);

impl<J: ?Sized> Lines<J> {
    pub(crate) fn new() -> Self {
        Self(Slab::new())
    }

    pub(crate) fn add_port(&mut self, outbox: Arc<Outbox<J>>) -> u32 {
        self.0.insert(Port {
            lines: Vec::new(),
            outbox,
        }) as u32
    }

    pub(crate) fn remove_port(&mut self, port: u32) {
        self.0.remove(port as usize);
    }

    pub(crate) fn outboxes(&self) -> impl Iterator<Item = &Outbox<J>> {
        self.0.iter().map(|(_, port)| &*port.outbox)
    }

    pub(crate) fn outbox(&self, port: u32) -> &Outbox<J> {
        &self.0[port as usize].outbox
    }

    #[inline]
    pub(crate) fn get(&mut self, key: LineKey) -> &mut Line {
        let pages = &mut self.0[key.port as usize].lines;
        let (page, line) = (key.conn as usize / PAGE, key.conn as usize % PAGE);
        if page >= pages.len() {
            pages.resize_with(page + 1, || None);
        }
        let page = pages[page].get_or_insert_with(|| Box::new([Line::EMPTY; PAGE]));
        &mut page[line]
    }
}
