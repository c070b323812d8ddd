//! The closed connections that the mailboxes of a service remember.

use crate::task::id::ConnId;
use rustc_hash::FxHashSet;

/// At least this many closed connections are remembered, and fewer than twice as many.
const REMEMBERED: usize = 16_384;

/// The last connections that were closed, in two sets. When the newer set is full, it becomes the
/// older one, and the previous older set is cleared. So the memory is bounded, and each call is
/// O(1).
#[derive(Default)]
pub(crate) struct ClosedConnections {
    newer: FxHashSet<ConnId>,
    older: FxHashSet<ConnId>,
}

impl ClosedConnections {
    pub(crate) fn insert(&mut self, conn: ConnId) {
        if self.newer.len() == REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(conn);
    }

    pub(crate) fn contains(&self, conn: ConnId) -> bool {
        self.newer.contains(&conn) || self.older.contains(&conn)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_closed_connections_are_remembered_and_the_memory_is_bounded() {
        let mut closed = ClosedConnections::default();
        for id in 0..4 * REMEMBERED {
            closed.insert(ConnId(id as u64));
            let first = (id + 1).saturating_sub(REMEMBERED);
            for known in [first, first + (id - first) / 2, id] {
                assert!(closed.contains(ConnId(known as u64)), "{known} after {id}");
            }
            assert!(closed.newer.len() + closed.older.len() <= 2 * REMEMBERED);
        }
        assert!(!closed.contains(ConnId(0)));
    }
}
