//! Ends a query that runs on a worker, from the loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::InterruptHandle;

/// The switch of one task, shared by its loop and its step.
///
/// `sqlite3_interrupt` ends whatever runs on a database connection, and a connection serves one task
/// after the other. So the handle is here only while a step of this task uses the connection, and
/// the lock is held during the interrupt: the step cannot leave the connection to another task
/// meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Default)]
struct Switch {
    is_cancelled: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Cancel {
    /// Interrupts the step that runs, and makes the next one end at once.
    pub fn cancel(&self) {
        let running = self.0.lock();
        self.0.is_cancelled.store(true, Ordering::Relaxed);
        if let Some(handle) = &*running {
            handle.interrupt();
        }
    }

    /// `SQLite` forgets an interrupt that comes before a statement has begun, so the query looks at
    /// this from time to time.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Relaxed)
    }

    /// A step begins to use a connection. Until the guard is dropped, [`cancel`](Self::cancel) ends
    /// what runs there. None if it was called before.
    pub fn enter(&self, handle: InterruptHandle) -> Option<Running<'_>> {
        let mut running = self.0.lock();
        if self.is_cancelled() {
            return None;
        }
        *running = Some(handle);
        Some(Running(&self.0))
    }
}

impl Switch {
    fn lock(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch")
            .field("is_cancelled", &self.is_cancelled)
            .finish_non_exhaustive()
    }
}

/// A step that uses a connection.
#[derive(Debug)]
pub struct Running<'a>(&'a Switch);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use rusqlite::{Connection, ErrorCode};

    use super::*;

    /// It takes a second or so, or does not end.
    fn count(connection: &Connection, rows: i64) -> rusqlite::Result<i64> {
        let sql =
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT ?1) SELECT count(*) FROM c";
        connection.query_row(sql, [rows], |row| row.get(0))
    }

    #[test]
    fn a_running_query_is_interrupted() {
        let connection = Connection::open_in_memory().expect("memory");
        let cancel = Cancel::default();
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                cancel.cancel();
            });
            let _running = cancel
                .enter(connection.get_interrupt_handle())
                .expect("not cancelled");
            barrier.wait();
            // The interrupt may come before the statement begins: then SQLite forgets it.
            while !cancel.is_cancelled() {
                match count(&connection, 1_000_000) {
                    Ok(rows) => assert_eq!(rows, 1_000_000),
                    Err(error) => {
                        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
                    }
                }
            }
        });
        assert!(cancel.enter(connection.get_interrupt_handle()).is_none());
    }

    /// The task that has used the connection before is cancelled again and again.
    #[test]
    fn the_next_query_of_the_connection_is_not_interrupted() {
        let connection = Connection::open_in_memory().expect("memory");
        let (old, new) = (Cancel::default(), Cancel::default());
        let entered = old
            .enter(connection.get_interrupt_handle())
            .expect("not cancelled");
        assert_eq!(count(&connection, 10).expect("a count"), 10);
        drop(entered);
        let barrier = Barrier::new(2);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                while !is_over.load(Ordering::Relaxed) {
                    old.cancel();
                    thread::yield_now();
                }
            });
            let running = new
                .enter(connection.get_interrupt_handle())
                .expect("not cancelled");
            barrier.wait();
            let counted = count(&connection, 300_000);
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(counted.expect("it is not interrupted"), 300_000);
            drop(running);
        });
    }
}
