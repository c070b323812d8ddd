//! Lets a loop interrupt a query that runs on a worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::InterruptHandle;

/// Cancels one task. The loop and the task share it.
///
/// `sqlite3_interrupt` interrupts all statements of a database connection, and many tasks use the
/// same connection, one after the other. Therefore the handle is stored here only while a step of
/// this task uses the connection. The lock is held during the interrupt, so that another task
/// cannot begin to use the connection meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Cancel {
    /// Interrupts the running step, and makes a later step end at once.
    pub fn cancel(&self) {
        let running = self.0.lock();
        self.0.is_cancelled.store(true, Ordering::Relaxed);
        if let Some(handle) = &*running {
            handle.interrupt();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called. `SQLite` ignores an interrupt that comes before
    /// a statement has begun, so a running query checks this regularly too.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Relaxed)
    }

    /// Begins the use of a connection by a step. Until the guard is dropped,
    /// [`cancel`](Self::cancel) interrupts the connection. Returns `None` if the task is already
    /// cancelled.
    pub fn enter(&self, handle: InterruptHandle) -> Option<InUse<'_>> {
        let mut running = self.0.lock();
        if self.is_cancelled() {
            return None;
        }
        *running = Some(handle);
        Some(InUse(&self.0))
    }
}

impl CancelState {
    fn lock(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for CancelState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelState")
            .field("is_cancelled", &self.is_cancelled)
            .finish_non_exhaustive()
    }
}

/// Guard of a step that uses a connection.
#[derive(Debug)]
pub struct InUse<'a>(&'a CancelState);

impl Drop for InUse<'_> {
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

    /// Counts that many rows.
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
            // SQLite ignores an interrupt that comes before the statement begins.
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

    /// The test cancels the task that has used the connection before, many times.
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
