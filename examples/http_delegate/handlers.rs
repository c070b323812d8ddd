//! The handlers: what a request of each path does.
//!
//! A handler is a function that the loop calls. It returns the answer, a job for the pool, or a
//! reason to reject the request. So a handler that forgets to answer does not compile.

use std::time::Duration;

use examples::http::{Request, Response, Route};
use examples::query::Query;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::events::{Events, unix_ms};
use crate::job::{Job, Stream};
use crate::records::AllRecords;
use crate::work::Work;

/// What a handler has decided.
#[derive(Debug)]
pub enum Handled {
    /// This is the answer.
    Answered(Response),
    /// A task answers later.
    Accepted(Job),
    /// There is no answer but this status, and a sentence that says why.
    Rejected(u16, String),
}

pub type Handler = fn(&Site<'_>, &Request) -> Handled;

/// What a handler may look at, beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The number of the loop that calls.
    pub loop_number: usize,
    pub records: &'a AllRecords,
}

/// The paths, and their handlers. The library answers requests for other paths.
pub const HANDLERS: [(&str, Route, Handler); 7] = [
    ("/now", Route::get(), now),
    ("/echo", Route::post(ECHO_BYTES_MAX), echo),
    ("/reject", Route::get(), reject),
    ("/work", Route::get(), work),
    ("/stream", Route::get(), stream),
    ("/events", Route::get(), events),
    ("/requests.json", Route::get(), requests),
];

const ECHO_BYTES_MAX: usize = 64 * 1024;
/// Longest part, and longest whole answer: about a millisecond of work. Longer answers have parts.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Longest work, and longest pause.
const MS_MAX: u64 = 3_600_000;
const PARTS_MAX: u64 = 1_000_000_000;
/// Requests that `/requests.json` lists without `limit`.
const LISTED_REQUESTS: usize = 100;

pub fn find(path: &str) -> Option<(Route, Handler)> {
    let mut same = HANDLERS.iter().filter(|(other, ..)| *other == path);
    same.next().map(|(_, route, handler)| (*route, *handler))
}

/// The time, and the loop that answers.
fn now(site: &Site<'_>, _request: &Request) -> Handled {
    let json = format!("{{\"unix_ms\":{},\"loop\":{}}}\n", unix_ms(), site.loop_number);
    Handled::Answered(Response::new(200).body("application/json", json))
}

/// The body of the request.
fn echo(_site: &Site<'_>, request: &Request) -> Handled {
    // No browser must show it as a page, whatever type the client gives it.
    let is_text = request.header(CONTENT_TYPE) == Some("text/plain");
    let media_type = if is_text {
        "text/plain"
    } else {
        "application/octet-stream"
    };
    Handled::Answered(Response::new(200).body(media_type, request.body.clone()))
}

/// The status that the client asks for.
fn reject(_site: &Site<'_>, request: &Request) -> Handled {
    let mut query = Query::new(request.query());
    let status = query.take_number("status", 403, 400..=599);
    match status.and_then(|status| query.finish().map(|()| status)) {
        Ok(status) => Handled::Rejected(status, "the handler has rejected this request".to_owned()),
        Err(why) => Handled::Rejected(400, why),
    }
}

/// Computes for `ms` milliseconds, and answers with `size` bytes.
fn work(_site: &Site<'_>, request: &Request) -> Handled {
    accept(request, |query| {
        let ms = query.take_number("ms", 10, 0..=MS_MAX)?;
        let size = query.take_number("size", 0, 0..=OUTPUT_BYTES_MAX)?;
        Ok(Job::work(Work::new(Duration::from_millis(ms), size)))
    })
}

/// Answers in `parts` of `size` bytes, with pauses of `ms` milliseconds between them.
fn stream(_site: &Site<'_>, request: &Request) -> Handled {
    accept(request, |query| {
        let parts = query.take_number("parts", 10, 1..=PARTS_MAX)?;
        let size = query.take_number("size", 1024, 1..=OUTPUT_BYTES_MAX)?;
        let ms = query.take_number("ms", 0, 0..=MS_MAX)?;
        Ok(Job::stream(Stream::new(parts, size, Duration::from_millis(ms))))
    })
}

/// Sends the events up to number `count`, one in `ms` milliseconds; `count=0` has no end. A client
/// that comes back says which one it has got last.
fn events(_site: &Site<'_>, request: &Request) -> Handled {
    let seen = request.header("last-event-id").unwrap_or_default();
    // Any other id is ignored.
    let seen = seen.parse().unwrap_or(0);
    let mut query = Query::new(request.query());
    let events = query.take_number("count", 0, 0..=u64::MAX).and_then(|count| {
        let ms = query.take_number("ms", 1000, 1..=MS_MAX)?;
        query.finish()?;
        let last = if count == 0 { u64::MAX } else { count };
        Ok(Events::after(seen, last, Duration::from_millis(ms)))
    });
    match events {
        Ok(Some(events)) => Handled::Accepted(Job::events(events)),
        // This status makes a browser stop asking.
        Ok(None) => Handled::Answered(Response::new(204)),
        Err(why) => Handled::Rejected(400, why),
    }
}

/// The requests that tasks answer, and the newest of those that have ended.
fn requests(site: &Site<'_>, request: &Request) -> Handled {
    let mut query = Query::new(request.query());
    let limit = query.take_number("limit", LISTED_REQUESTS, 0..=usize::MAX);
    match limit.and_then(|limit| query.finish().map(|()| limit)) {
        Ok(limit) => {
            let body = json!({
                "counts": site.records.counts().to_json(),
                "live": site.records.live(limit),
                "ended": site.records.ended(limit),
            });
            let answer = Response::new(200).body("application/json", body.to_string());
            Handled::Answered(answer.header("Cache-Control", "no-store"))
        }
        Err(why) => Handled::Rejected(400, why),
    }
}

/// The job that `parse` makes of the parameters, of which none may be left over.
fn accept(request: &Request, parse: impl FnOnce(&mut Query<'_>) -> Result<Job, String>) -> Handled {
    let mut query = Query::new(request.query());
    match parse(&mut query).and_then(|job| query.finish().map(|()| job)) {
        Ok(job) => Handled::Accepted(job),
        Err(why) => Handled::Rejected(400, why),
    }
}
