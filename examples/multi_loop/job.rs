//! The task of a request: its steps run a query on a worker.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use examples::http::Response;
use moored::{ConnId, Context, Task, TaskReturn};
use rusqlite::{Connection, Error, ErrorCode};
use serde_json::json;

use crate::cancel::Cancel;
use crate::database::connection::{limit_time, with_connection};
use crate::database::part::{Failure, Reader};
use crate::figures::Counters;

/// With more than a few rows in the table, this query runs for a very long time.
const SLOW_QUERY: &str = "SELECT a.id FROM item AS a, item AS b WHERE a.value * b.value % 1000003 = 7";

/// Kind of work.
#[derive(Debug)]
pub enum Work {
    /// Sends the result of a query.
    Query(Reader),
    /// Keeps a worker busy with a query for this time.
    Slow(Duration),
}

/// Settings and counters that all jobs share.
#[derive(Debug)]
pub struct JobContext {
    pub database: Box<Path>,
    /// Time limit of a step.
    pub step_time: Duration,
    pub counters: Counters,
}

impl JobContext {
    fn note_interrupt(&self) {
        self.counters.interrupted.fetch_add(1, Ordering::Relaxed);
    }
}

/// Output of a step for the loop.
#[derive(Debug)]
pub enum Output {
    Nothing,
    /// A part of the answer, or the whole answer.
    Part(Bytes),
    /// An error answer.
    Failed(Response),
}

#[derive(Debug)]
pub struct Job {
    pub id: ConnId,
    pub request: u64,
    pub work: Work,
    pub output: Output,
    cancel: Cancel,
    context: Arc<JobContext>,
}

impl Job {
    pub fn new((id, request): (ConnId, u64), work: Work, cancel: Cancel, context: &Arc<JobContext>) -> Self {
        Self {
            id,
            request,
            work,
            output: Output::Nothing,
            cancel,
            context: Arc::clone(context),
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
            Work::Query(_) => self.context.step_time,
            Work::Slow(time) => time.min(self.context.step_time),
        };
        let begun = Instant::now();
        let until = begun + limit;
        let limited = limit_time(connection, &self.cancel, until);
        // Until the end of this function `Cancel::cancel` interrupts the connection.
        let Some(_running) = self.cancel.enter(connection.get_interrupt_handle()) else {
            return TaskReturn::Stopped;
        };
        let outcome = limited
            .map_err(Failure::from)
            .and_then(|()| match &mut self.work {
                Work::Query(reader) => reader.next_part(connection).map(|part| (part.csv, part.is_last)),
                Work::Slow(time) => Ok((run_slow_query(connection, *time, begun)?, true)),
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
                self.context.note_interrupt();
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
            Failure::Request(why) => return Output::Failed(Response::text(400, &why)),
            Failure::Database(error) => error,
        };
        let response = match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                self.context.note_interrupt();
                let seconds = self.context.step_time.as_secs();
                let why = format!(
                    "the query was interrupted, because it made no part of its result in {seconds} s \
                     (--query-timeout)"
                );
                Response::text(504, &why)
            }
            Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
                Response::text(400, &format!("{error}: only queries are allowed here"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Response::come_back(
                1,
                &format!("{error}: another process writes to the file; try again"),
            ),
            Some(ErrorCode::OutOfMemory) => {
                let why = "the queries that run now need too much memory together; try again, or sort and \
                           group fewer rows";
                Response::come_back(1, why)
            }
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase,
            ) => Response::text(500, &format!("cannot read the database: {error}")),
            _ => Response::text(400, &error.to_string()),
        };
        Output::Failed(response)
    }
}

impl Task for Job {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if cx.is_stopping() || self.cancel.is_cancelled() {
            return TaskReturn::Stopped;
        }
        let context = Arc::clone(&self.context);
        with_connection(&context.database, |connection| self.use_connection(connection)).unwrap_or_else(
            |error| {
                self.output = self.describe(error.into());
                TaskReturn::TaskDone
            },
        )
    }
}

/// Counts the rows of a very long query for this time. Returns JSON.
fn run_slow_query(connection: &Connection, time: Duration, begun: Instant) -> Result<Vec<u8>, Error> {
    let mut found = 0_u64;
    while begun.elapsed() < time {
        match count(connection, &mut found) {
            Err(error) if is_interrupted(&error) && begun.elapsed() >= time => {}
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
