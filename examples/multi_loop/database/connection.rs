//! A database connection for each worker: how to keep state that belongs to a thread.
//!
//! Only one thread at a time can use a [`rusqlite::Connection`], and opening a connection costs
//! more than most queries. With a pool of connections, tasks would wait twice: for a worker, then
//! for a connection. Therefore each worker has a connection of its own in a `thread_local`. It is
//! opened when the worker starts, used by all tasks that run on the worker, and closed when the
//! worker ends. No lock is needed.
//!
//! A task may continue on another worker after each step, so a task cannot keep anything that
//! borrows from the connection. Each step prepares its statement again, which takes some
//! microseconds. The task keeps only its position in the result (see [`part`](super::part)).

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Result};

use crate::cancel::Cancel;

/// `SQLite` checks the time limit each time it has run this number of instructions: about 20 us.
const OPS_PER_CHECK: i32 = 2000;
/// Longest wait for another process that writes to the file. It cannot be interrupted.
const BUSY_TIME: Duration = Duration::from_millis(100);
/// Memory limit of all connections together. A query that needs more memory fails.
const MEMORY_BYTES: i64 = 256 << 20;
/// The limits of each statement. `SQLite` cannot be interrupted inside a single function such as
/// `instr` or `trim`, whose time grows with the product of the lengths of its arguments, so values
/// must be short. LIKE and GLOB recurse for each `%` or `*`, so that a long pattern would overflow
/// the stack of the thread.
const LIMITS: [(Limit, i32); 6] = [
    (Limit::SQLITE_LIMIT_LENGTH, 16 << 10),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 16 << 10),
    (Limit::SQLITE_LIMIT_COLUMN, 200),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];
/// The allowed pragmas: they only describe tables.
const DESCRIPTIONS: [&str; 5] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
];

thread_local! {
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Opens the connection of this thread, so that it has a file even if clients use up all others
/// later. After a failure the next step tries again and reports the error.
pub fn open_early(database: &Path) {
    let _ = with_connection(database, |_| ());
}

/// Calls `act` with the connection of this thread, which is opened before its first use. All calls
/// must name the same database.
pub fn with_connection<R>(database: &Path, act: impl FnOnce(&mut Connection) -> R) -> Result<R> {
    CONNECTION.with_borrow_mut(|slot| {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(open(database)?),
        };
        Ok(act(connection))
    })
}

/// Interrupts statements when the task is cancelled, or at the time `until`.
pub fn limit_time(connection: &mut Connection, cancel: &Cancel, until: Instant) -> Result<()> {
    let cancel = cancel.clone();
    let is_over = move || cancel.is_cancelled() || Instant::now() >= until;
    connection.progress_handler(OPS_PER_CHECK, Some(is_over))
}

/// Opens a connection that cannot change anything: the file is opened for reading only, and a
/// statement that does more than reading fails when it is prepared.
pub fn open(database: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIME)?;
    connection.pragma_update(None, "query_only", true)?;
    // Sort in memory, which has a limit, and not in temporary files, which have none.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update_and_check(None, "hard_heap_limit", MEMORY_BYTES, |_| Ok(()))?;
    for (limit, value) in LIMITS {
        connection.set_limit(limit, value)?;
    }
    connection.authorizer(Some(authorize))?;
    Ok(connection)
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        AuthAction::Pragma { pragma_name, .. } if DESCRIPTIONS.contains(&pragma_name) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}
