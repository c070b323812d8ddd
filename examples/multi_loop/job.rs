//! What a worker does for a request.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moored::{ConnId, Context, Task, TaskReturn};
use rusqlite::{Connection, Error, ErrorCode};
use serde_json::json;

use crate::cancel::Cancel;
use crate::database::connection::{bound, with_connection};
use crate::database::part::{Failure, Reader};
use crate::figures::Counters;

/// It never ends by itself if the table has some rows.
const SLOW_QUERY: &str = "SELECT a.id FROM item AS a, item AS b WHERE a.value * b.value % 1000003 = 7";

/// What to do.
#[derive(Debug)]
pub enum Work {
    /// Sends the result of a query.
    Query(Reader),
    /// Keeps a worker busy with a query for so long.
    Slow(Duration),
}

/// What all jobs use.
#[derive(Debug)]
pub struct Means {
    pub database: Box<Path>,
    /// How long a step may take.
    pub step_time: Duration,
    pub counters: Counters,
}

impl Means {
    fn note_interrupt(&self) {
        self.counters.interrupted.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the loop gets from a step.
#[derive(Debug)]
pub enum Output {
    Nothing,
    /// A part of the answer, or all of it.
    Part(Bytes),
    /// The status and the text of an answer that says what went wrong.
    Failed(u16, String),
}

#[derive(Debug)]
pub struct Job {
    pub id: ConnId,
    pub request: u64,
    pub work: Work,
    pub output: Output,
    cancel: Cancel,
    means: Arc<Means>,
}

impl Job {
    pub fn new((id, request): (ConnId, u64), work: Work, cancel: Cancel, means: &Arc<Means>) -> Self {
        Self {
            id,
            request,
            work,
            output: Output::Nothing,
            cancel,
            means: Arc::clone(means),
        }
    }

    /// The media type of the answer.
    pub fn media_type(&self) -> &'static str {
        match self.work {
            Work::Query(_) => "text/csv; charset=utf-8; header=present",
            Work::Slow(_) => "application/json",
        }
    }

    fn use_connection(&mut self, connection: &mut Connection) -> TaskReturn {
        let limit = match self.work {
            Work::Query(_) => self.means.step_time,
            Work::Slow(time) => time,
        };
        let until = Instant::now() + limit;
        let bounded = bound(connection, &self.cancel, until);
        // From here to the end of this function `Cancel::cancel` interrupts what runs on the connection.
        let Some(_running) = self.cancel.enter(connection.get_interrupt_handle()) else {
            return TaskReturn::Stopped;
        };
        let outcome = bounded
            .map_err(Failure::from)
            .and_then(|()| match &mut self.work {
                Work::Query(reader) => reader.next_part(connection).map(|part| (part.csv, part.is_last)),
                Work::Slow(time) => Ok((be_slow(connection, *time, until)?, true)),
            });
        match outcome {
            Ok((bytes, is_last)) => {
                self.output = Output::Part(bytes.into());
                if is_last {
                    TaskReturn::TaskDone
                } else {
                    TaskReturn::Sync
                }
            }
            Err(_) if self.cancel.is_cancelled() => {
                self.means.note_interrupt();
                TaskReturn::Stopped
            }
            Err(failure) => {
                self.output = self.describe(failure);
                TaskReturn::TaskDone
            }
        }
    }

    fn describe(&self, failure: Failure) -> Output {
        let error = match failure {
            Failure::Request(why) => return Output::Failed(400, why),
            Failure::Database(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                self.means.note_interrupt();
                let seconds = self.means.step_time.as_secs();
                let why =
                    format!("the query was interrupted: it has made no part of its result in {seconds} s");
                Output::Failed(504, why)
            }
            Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
                Output::Failed(400, format!("{error}: only queries are allowed here"))
            }
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt) => {
                Output::Failed(500, format!("the database cannot be read: {error}"))
            }
            _ => Output::Failed(400, error.to_string()),
        }
    }
}

impl Task for Job {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if cx.is_stopping() || self.cancel.is_cancelled() {
            return TaskReturn::Stopped;
        }
        let means = Arc::clone(&self.means);
        with_connection(&means.database, |connection| self.use_connection(connection)).unwrap_or_else(
            |error| {
                self.output = self.describe(error.into());
                TaskReturn::TaskDone
            },
        )
    }
}

/// Counts rows of an endless query until the time is over. Returns JSON.
fn be_slow(connection: &Connection, time: Duration, until: Instant) -> Result<Vec<u8>, Error> {
    let begun = Instant::now();
    let mut found = 0_u64;
    while Instant::now() < until {
        match count(connection, &mut found) {
            Err(error) if is_interrupted(&error) && Instant::now() >= until => {}
            other => other?,
        }
    }
    let taken = begun.elapsed().as_secs_f64() * 1000.0;
    let thread = thread::current();
    let json = json!({
        "ms": time.as_millis() as u64,
        "taken_ms": taken,
        "found": found,
        "thread": thread.name(),
    });
    Ok(format!("{json}\n").into_bytes())
}

fn count(connection: &Connection, found: &mut u64) -> Result<(), Error> {
    let mut statement = connection.prepare(SLOW_QUERY)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {
        *found += 1;
    }
    Ok(())
}

fn is_interrupted(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}
