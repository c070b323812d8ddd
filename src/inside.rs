//! Whether a thread is inside a pool as a guest: a loop that runs its tasks in a call of its own.

use crate::primitive::thread_local;
use std::cell::RefCell;

thread_local! {
    /// The pools whose tasks this thread runs, by address. Several, since a step may run another pool's.
    static POOLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The thread is inside a pool until this is dropped.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter<P>(pool: &P) -> Self {
        // While the thread's values are being dropped nobody can ask any more.
        let _ = POOLS.try_with(|pools| pools.borrow_mut().push(address(pool)));
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = POOLS.try_with(|pools| pools.borrow_mut().pop());
    }
}

pub(crate) fn is_inside<P>(pool: &P) -> bool {
    POOLS
        .try_with(|pools| pools.borrow().contains(&address(pool)))
        .unwrap_or(false)
}

fn address<P>(pool: &P) -> usize {
    std::ptr::from_ref(pool).addr()
}
