//! Whether the current thread runs tasks of a pool: as a worker, or in a call such as
//! `run_pending`.

use crate::sync::thread_local;
use std::cell::{Cell, RefCell};

thread_local! {
    /// The pool whose worker this thread is: its address, or 0 for none. It has no destructor, so
    /// it can be read while other thread-locals are dropped.
    static WORKER_OF: Cell<usize> = const { Cell::new(0) };
}

thread_local! {
    /// The addresses of the pools whose tasks this thread runs. There can be several, since a step
    /// may run tasks of another pool.
    static POOLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The thread runs tasks of the pool until this is dropped.
pub(crate) struct ReentrancyGuard(());

impl ReentrancyGuard {
    pub(crate) fn new<P>(pool: &P) -> Self {
        // The access fails only while thread-locals are dropped, and then nothing reads the list.
        let _ = POOLS.try_with(|pools| pools.borrow_mut().push(address(pool)));
        Self(())
    }
}

impl Drop for ReentrancyGuard {
    fn drop(&mut self) {
        let _ = POOLS.try_with(|pools| pools.borrow_mut().pop());
    }
}

pub(crate) fn is_inside<P>(pool: &P) -> bool {
    POOLS
        .try_with(|pools| pools.borrow().contains(&address(pool)))
        .unwrap_or(false)
}

/// Marks this thread as a worker of a pool until the thread ends.
pub(crate) fn become_worker_of<P>(pool: &P) {
    WORKER_OF.with(|worker| worker.set(address(pool)));
}

pub(crate) fn is_worker_of<P>(pool: &P) -> bool {
    WORKER_OF.with(|worker| worker.get() == address(pool))
}

fn address<P>(pool: &P) -> usize {
    std::ptr::from_ref(pool).addr()
}
