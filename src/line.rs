//! Each connection's line of tasks, as a record in the fair queue.

use crate::outbox::Outbox;
use slab::Slab;
use std::sync::Arc;

/// No task has this number.
pub(crate) const NONE: u32 = u32::MAX;

/// No ticket has this number.
pub(crate) const NOT_RETURNED: u32 = u32::MAX;

/// Names a connection's line: the port's slot and the connection's slot in that port's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineKey {
    pub(crate) port: u32,
    pub(crate) conn: u32,
}

impl LineKey {
    /// Nobody: before the first and after the last of the round.
    pub(crate) const NOBODY: Self = Self {
        port: u32::MAX,
        conn: 0,
    };
    /// Stands for the neighbour of a line that is not in the round.
    pub(crate) const AWAY: Self = Self {
        port: u32::MAX,
        conn: 1,
    };

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.port) << 32 | u64::from(self.conn)
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self {
            port: (packed >> 32) as u32,
            conn: packed as u32,
        }
    }
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
    /// The ticket with which it was taken, if it was put back and is first in line again.
    pub(crate) returned: u32,
    /// Its neighbours in the [`Round`](crate::round::Round).
    pub(crate) prev: LineKey,
    pub(crate) next: LineKey,
}

impl Line {
    const EMPTY: Self = Self {
        first: NONE,
        last_started: NONE,
        last: NONE,
        running: 0,
        returned: NOT_RETURNED,
        prev: LineKey::AWAY,
        next: LineKey::AWAY,
    };

    /// Whether its first task may run when so many may be running at once.
    pub(crate) fn may_run(&self, limit: u32) -> bool {
        self.first != NONE && (self.last_started != NONE || self.running < limit)
    }

    pub(crate) fn is_in_round(&self) -> bool {
        self.prev != LineKey::AWAY
    }
}

/// What the queue keeps of a service.
struct Port<J: ?Sized> {
    lines: Vec<Line>,
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

    #[inline]
    pub(crate) fn get(&mut self, key: LineKey) -> &mut Line {
        let lines = &mut self.0[key.port as usize].lines;
        let conn = key.conn as usize;
        if conn >= lines.len() {
            lines.resize(conn + 1, Line::EMPTY);
        }
        &mut lines[conn]
    }
}
