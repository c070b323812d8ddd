//! Reads a result in parts. Each part is read in a step of its own, perhaps on another worker.
//!
//! A statement cannot leave its worker, so only the position in the result is kept between parts:
//!
//! - If a query has the parameter `:after`, it is run again for each part with the last value of
//!   the first column: `SELECT * FROM item WHERE id > :after ORDER BY id`. With an index, each part
//!   costs the same. Rows with the same value in the first column are always in the same part.
//! - Any other query is run again from its start for each part, and skips the rows that were sent.
//!   The cost of a part grows with its position, and the cost of the whole result with the square
//!   of its length.
//!
//! If another process changes the file between two parts, the later part shows the changes.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Error, Row, Statement};

use super::csv;

/// Name of the parameter by which a query is continued.
const AFTER: &str = ":after";
/// A part may be longer by this, because it ends with a whole row or with all rows that have the
/// same value in the first column.
const EXCESS_BYTES: usize = 4 << 20;

/// Why there is no next part.
#[derive(Debug)]
pub enum Failure {
    /// The request is wrong: the text says why.
    Request(String),
    /// `SQLite` has failed, or the query was interrupted.
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// A part of a result.
#[derive(Debug)]
pub struct Part {
    pub csv: Vec<u8>,
    pub is_last: bool,
}

/// A query, and the position in its result.
#[derive(Debug)]
pub struct Reader {
    sql: Arc<str>,
    part_bytes: usize,
    /// The next part is the first one.
    is_new: bool,
    /// Value of `:after` in the next part.
    after: Value,
    /// Rows that the next part skips, if the query does not have `:after`.
    skipped: u64,
}

impl Reader {
    /// Makes a reader. `after` is the first value of the parameter `:after`, if the query has it.
    pub fn new(sql: &str, after: Value, part_bytes: usize) -> Self {
        Self {
            sql: sql.into(),
            part_bytes,
            is_new: true,
            after,
            skipped: 0,
        }
    }

    /// Reads the next part. After an error the result cannot be continued.
    pub fn next_part(&mut self, connection: &Connection) -> Result<Part, Failure> {
        let mut statement = connection.prepare(&self.sql)?;
        let has_after = check(&statement)?;
        let mut csv = Vec::with_capacity(self.part_bytes + self.part_bytes / 8);
        if std::mem::take(&mut self.is_new) {
            csv::push_header(&mut csv, statement.column_names());
        }
        let columns = statement.column_count();
        if has_after {
            statement.raw_bind_parameter(1, &self.after)?;
            let mut rows = statement.raw_query();
            let mut last: Option<Value> = None;
            while let Some(row) = rows.next()? {
                let key: Value = row.get(0)?;
                if csv.len() >= self.part_bytes && last.as_ref().is_some_and(|last| *last != key) {
                    return self.continue_after(last, csv);
                }
                self.push_row(&mut csv, row, columns)?;
                last = Some(key);
            }
        } else {
            let mut rows = statement.raw_query();
            let mut passed = 0;
            while let Some(row) = rows.next()? {
                if csv.len() >= self.part_bytes {
                    self.skipped = passed;
                    return Ok(Part { csv, is_last: false });
                }
                passed += 1;
                if passed > self.skipped {
                    self.push_row(&mut csv, row, columns)?;
                }
            }
        }
        Ok(Part { csv, is_last: true })
    }

    fn continue_after(&mut self, last: Option<Value>, csv: Vec<u8>) -> Result<Part, Failure> {
        let last = last.unwrap_or(Value::Null);
        // Otherwise the next part could have the same rows again.
        if !is_before(&self.after, &last) {
            return Err(Failure::Request(
                "the first column of a query with :after must grow from row to row: use a condition such as \
                 WHERE id > :after, and ORDER BY id"
                    .to_owned(),
            ));
        }
        self.after = last;
        Ok(Part { csv, is_last: false })
    }

    fn push_row(&self, csv: &mut Vec<u8>, row: &Row<'_>, columns: usize) -> Result<(), Failure> {
        let begin = csv.len();
        for index in 0..columns {
            csv::push_value(csv, index, row.get_ref(index)?);
            if csv.len() > self.part_bytes + EXCESS_BYTES {
                return Err(Failure::Request(format!(
                    "a row, or all rows with the same value in the first column, have more than \
                     {EXCESS_BYTES} bytes; select fewer columns, or order by a column with different values"
                )));
            }
        }
        let is_empty = csv.len() == begin;
        csv::end_line(csv, is_empty);
        Ok(())
    }
}

/// Whether the query has the parameter `:after`. An error if the query has other parameters, or if
/// the statement does more than reading.
fn check(statement: &Statement<'_>) -> Result<bool, Failure> {
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(Failure::Request("only queries are allowed here".to_owned()));
    }
    match (statement.parameter_count(), statement.parameter_name(1)) {
        (0, _) => Ok(false),
        (1, Some(AFTER)) => Ok(true),
        _ => Err(Failure::Request(
            "the only parameter that a query can have is :after".to_owned(),
        )),
    }
}

/// Whether `SQLite` orders `one` before `other`. Texts are compared by their bytes.
fn is_before(one: &Value, other: &Value) -> bool {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one < other,
        (Value::Real(one), Value::Real(other)) => one < other,
        (Value::Integer(one), Value::Real(other)) => (*one as f64) < *other,
        (Value::Real(one), Value::Integer(other)) => *one < *other as f64,
        (Value::Text(one), Value::Text(other)) => one < other,
        (Value::Blob(one), Value::Blob(other)) => one < other,
        _ => rank(one) < rank(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Value = Value::Integer(i64::MIN);

    fn table(values: &[i64]) -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute("CREATE TABLE t (a, b)", []).expect("a table");
        for (index, value) in values.iter().enumerate() {
            let inserted = connection.execute(
                "INSERT INTO t VALUES (?1, ?2)",
                (value, i64::try_from(index).expect("few rows")),
            );
            inserted.expect("a row");
        }
        connection
    }

    /// Reads all parts.
    fn read(connection: &Connection, sql: &str) -> Result<Vec<String>, Failure> {
        let mut reader = Reader::new(sql, FIRST, 10);
        let mut parts = Vec::new();
        loop {
            let part = reader.next_part(connection)?;
            parts.push(String::from_utf8(part.csv).expect("text"));
            if part.is_last {
                return Ok(parts);
            }
            assert!(parts.len() < 1000, "it goes on and on");
        }
    }

    #[test]
    fn parts_make_the_whole_result_with_a_key_and_without() {
        let connection = table(&[1, 2, 3, 4, 5, 6, 7]);
        let whole = "a,b\r\n1,0\r\n2,1\r\n3,2\r\n4,3\r\n5,4\r\n6,5\r\n7,6\r\n";
        for sql in [
            "SELECT a, b FROM t WHERE a > :after ORDER BY a",
            "SELECT a, b FROM t ORDER BY a",
            "SELECT a, b FROM t ORDER BY a; -- the end",
        ] {
            let parts = read(&connection, sql).expect(sql);
            assert!(parts.len() > 2, "{parts:?}");
            assert_eq!(parts.concat(), whole, "{sql}");
        }
    }

    #[test]
    fn rows_with_the_same_key_stay_together() {
        let connection = table(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
        let parts = read(&connection, "SELECT a, b FROM t WHERE a > :after ORDER BY a, b").expect("a result");
        assert_eq!(parts.len(), 3, "{parts:?}");
        assert_eq!(parts.concat().lines().count(), 11);
    }

    #[test]
    fn a_key_that_does_not_grow_is_an_error() {
        let connection = table(&[1, 2, 3, 4, 5, 6, 7]);
        for sql in [
            "SELECT a, b FROM t WHERE a < 4 OR a > :after ORDER BY a",
            "SELECT a, b FROM t WHERE a <> :after ORDER BY a DESC",
        ] {
            let failure = read(&connection, sql).expect_err(sql);
            assert!(
                matches!(&failure, Failure::Request(why) if why.contains("must grow")),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn only_one_query_with_known_parameters_is_allowed() {
        let connection = table(&[1]);
        for sql in [
            "SELECT a FROM t WHERE a = ?1",
            "SELECT a FROM t WHERE a > :after AND b > :other",
            "SELECT a FROM t WHERE a > :before",
            "DELETE FROM t",
            "BEGIN",
            "SELECT 1; SELECT 2",
            "",
            "-- nothing",
            "SELECT 'open",
        ] {
            assert!(read(&connection, sql).is_err(), "{sql}");
        }
    }
}
