//! A database connection for each worker: how to keep state that belongs to a thread.
//!
//! A [`rusqlite::Connection`] serves one thread at a time, and opening one for each query would cost
//! more than most queries. A pool that lends connections would be a second queue behind that of the
//! workers. So each worker has its own, in a `thread_local`: made by the first step that needs it,
//! used by all tasks that run there, dropped when the worker ends. No lock is needed, and there are
//! never more connections than workers.
//!
//! A task may continue on another worker after each step. So nothing that borrows from the
//! connection outlives a step: each step prepares its statement, which takes some microseconds, and what a task
//! keeps is its position in the result (see [`part`](super::part)).

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Result};

use crate::cancel::Cancel;

/// Instructions of `SQLite`'s machine between two looks at the time: about 20 us.
const OPS_PER_LOOK: i32 = 2000;
/// Memory of all connections together. A query that needs more fails.
const MEMORY_BYTES: i64 = 256 << 20;
/// The longest value, statement, and number of columns.
const LIMITS: [(Limit, i32); 5] = [
    (Limit::SQLITE_LIMIT_LENGTH, 1 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 16 << 10),
    (Limit::SQLITE_LIMIT_COLUMN, 200),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];
/// Pragmas that only describe tables.
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

/// Gives `act` the connection of this thread, and opens it before the first use. There is one
/// database in this program.
pub fn with_connection<R>(database: &Path, act: impl FnOnce(&mut Connection) -> R) -> Result<R> {
    CONNECTION.with_borrow_mut(|slot| {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(open(database)?),
        };
        Ok(act(connection))
    })
}

/// Makes statements end with an interrupt when the task is cancelled, or at the time `until`.
pub fn bound(connection: &mut Connection, cancel: &Cancel, until: Instant) -> Result<()> {
    let cancel = cancel.clone();
    let is_over = move || cancel.is_cancelled() || Instant::now() >= until;
    connection.progress_handler(OPS_PER_LOOK, Some(is_over))
}

/// A connection that cannot change anything: the file is open for reading only, and whatever a statement
/// does beside reading is refused when it is prepared.
pub fn open(database: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    // Sorting happens in memory, which is bounded, and not in files, which are not.
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
