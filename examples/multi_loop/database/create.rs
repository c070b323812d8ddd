//! Creates the database file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};

/// Identifies a database file of this example: "MOOR".
const APPLICATION_ID: i32 = 0x4d4f_4f52;
/// Version of the table.
const VERSION: i32 = 1;

const TABLE: &str = "
CREATE TABLE item (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    share REAL NOT NULL,
    note TEXT
)";

/// Some notes need quotes in CSV, and some are NULL.
const ROWS: &str = r#"
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT ?1)
INSERT INTO item
SELECT n, printf('item %07d', n), n * 7919 % 1000003, (n % 1000) / 8.0,
    CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN 'plain' WHEN 2 THEN 'one, two' WHEN 3 THEN 'a "quote"'
        ELSE 'two' || char(10) || 'lines' END
FROM number"#;

/// Content of the path.
enum Found {
    Nothing,
    /// A database of this example with this number of rows.
    Ours(u32),
    /// A database of another version of this example.
    Old,
    Foreign,
}

/// Instructions of `SQLite` between two checks whether to stop.
const OPS_PER_CHECK: i32 = 10_000;

/// Creates the database, unless the file exists and has this number of rows. The file gets its name
/// when it is complete, so that an interrupted start leaves no incomplete database. Fails soon
/// after `stop` returns true.
pub fn prepare(
    path: &Path,
    rows: u32,
    stop: impl Fn() -> bool + Send + 'static,
    print: impl Fn(&str),
) -> Result<(), String> {
    let shown = path.display();
    match inspect(path).map_err(|error| {
        format!("cannot read {shown}: {error}; remove the file, or choose another one with --database")
    })? {
        Found::Ours(found) if found == rows => return Ok(()),
        Found::Foreign => {
            return Err(format!(
                "{shown} is not a database of this example; choose another file with --database"
            ));
        }
        Found::Nothing | Found::Old | Found::Ours(_) => {}
    }
    let begun = Instant::now();
    create(path, rows, stop).map_err(|error| {
        format!("cannot create {shown}: {error}; choose a file in another folder with --database")
    })?;
    let seconds = begun.elapsed().as_secs_f32();
    print(&format!("created {shown} with {rows} rows in {seconds:.1} s"));
    Ok(())
}

fn inspect(path: &Path) -> rusqlite::Result<Found> {
    if !path.exists() {
        return Ok(Found::Nothing);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    match number("PRAGMA application_id") {
        Ok(APPLICATION_ID) => {}
        Ok(_) => return Ok(Found::Foreign),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Ok(Found::Foreign);
        }
        Err(error) => return Err(error),
    }
    if number("PRAGMA user_version")? != VERSION {
        return Ok(Found::Old);
    }
    // The ids count up from 1.
    let last = connection.query_row("SELECT max(id) FROM item", [], |row| row.get::<_, Option<u32>>(0));
    Ok(Found::Ours(last?.unwrap_or(0)))
}

fn create(
    path: &Path,
    rows: u32,
    stop: impl Fn() -> bool + Send + 'static,
) -> Result<(), Box<dyn std::error::Error>> {
    let unfinished = Unfinished::create(path)?;
    let mut connection = Connection::open_with_flags(&unfinished.0, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.progress_handler(OPS_PER_CHECK, Some(stop))?;
    // Without a journal the file is damaged after a failure, but then it is removed.
    connection.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
    let transaction = connection.transaction()?;
    transaction.execute(TABLE, [])?;
    transaction.execute(ROWS, [rows])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    fs::rename(&unfinished.0, path)?;
    Ok(())
}

/// The temporary file, which is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    /// Creates a new file. Fails if the path exists, even as a symbolic link.
    fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let unfinished = PathBuf::from(name);
        let created: io::Result<File> = OpenOptions::new().write(true).create_new(true).open(&unfinished);
        created.map(|_| Self(unfinished))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a success the file has its other name, and this fails.
        let _ = fs::remove_file(&self.0);
    }
}
