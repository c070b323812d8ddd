//! Cells of reaped tasks, for the next ones: a cell that is used again costs no allocation, and its memory is warm.
//!
//! A cell is a spare only if nobody else has it, which `Arc::get_mut` proves; it keeps its port, so the port must not keep it.

use crate::cell::{Body, Cell, Head};
use std::sync::Arc;

/// A service keeps the memory of so many tasks.
const KEPT: usize = 1024;

pub(crate) struct Spares<T, P>(Vec<Arc<Cell<T, P>>>);

impl<T, P> Spares<T, P> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// A cell for a new task.
    pub(crate) fn fill(&mut self, head: Head, task: T, port: &Arc<P>) -> Arc<Cell<T, P>> {
        if let Some(mut spare) = self.0.pop()
            && let Some(cell) = Arc::get_mut(&mut spare)
        {
            cell.head = head;
            *cell.body.get_mut() = Body::Task(task);
            return spare;
        }
        Arc::new(Cell::new(head, task, Arc::clone(port)))
    }

    /// Takes the body of a task that has ended and is in no table any more, and keeps the cell if it can.
    pub(crate) fn empty(&mut self, mut cell: Arc<Cell<T, P>>) -> Body<T> {
        let Some(own) = Arc::get_mut(&mut cell) else {
            // A worker, or who finishes the pool, is about to let go of it.
            return cell.body.lock().take();
        };
        let body = own.body.get_mut().take();
        if self.0.len() < KEPT {
            self.0.push(cell);
        }
        body
    }
}
