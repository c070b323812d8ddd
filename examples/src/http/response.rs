//! An answer, and its bytes.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::request::Version;
use crate::socket::Socket;

/// A body up to this size is copied behind its head, so that both are one part of a write.
const COPIED_BODY_MAX: usize = 4096;
/// An estimate of more than an hour is not reliable.
const RETRY_SECONDS_MAX: u64 = 3600;

#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Bytes,
    has_report: bool,
}

/// What a request asks of the form of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) version: Version,
    /// No body follows: this answers HEAD, or the status has none.
    pub(super) has_no_body: bool,
    /// The connection closes after the answer.
    pub(super) is_last: bool,
}

impl Form {
    /// Whether an answer in parts is sent in chunks. Otherwise it ends with the connection.
    pub(super) fn is_chunked(self) -> bool {
        self.version == Version::Http11
    }
}

impl Response {
    /// # Panics
    ///
    /// If `status` is not from 100 to 999.
    pub fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status has three digits"),
            headers: Vec::new(),
            body: Bytes::new(),
            has_report: false,
        }
    }

    /// A line of text for people.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status).body("text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// 405, naming the methods that the path has.
    pub fn method_not_allowed(allowed: impl Into<Cow<'static, str>>) -> Self {
        Self::text(405, "this path has no such method").header("Allow", allowed)
    }

    /// 503: the server is full, and says when to come back.
    pub fn come_back(seconds: u32, why: &str) -> Self {
        Self::text(503, why).header("Retry-After", seconds.to_string())
    }

    /// 503: the server is full. A task that is enqueued now would start after `wait`.
    pub fn busy(wait: Duration, why: &str) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::come_back(seconds.clamp(1, RETRY_SECONDS_MAX) as u32, why)
    }

    /// 503: the server stops.
    pub fn going_down() -> Self {
        Self::come_back(5, "the server is going down")
    }

    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("Content-Type", media_type)
            .header("X-Content-Type-Options", "nosniff")
    }

    /// Makes the library call [`App::sent`](crate::server::App::sent) when the kernel has all of
    /// it.
    pub fn with_report(mut self) -> Self {
        self.has_report = true;
        self
    }

    pub fn has_report(&self) -> bool {
        self.has_report
    }

    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Queues the answer on the socket. `date` is the value of `Date`.
    pub(super) fn push_to(self, socket: &mut Socket, form: Form, date: &str) {
        let framing = (!self.has_no_body()).then(|| ("Content-Length", self.body.len().to_string()));
        let mut head = self.head(form, date, framing, self.body.len().min(COPIED_BODY_MAX));
        // Thousands of answers may wait for a client: each keeps no more than it needs.
        head.shrink_to(head.len() + self.body.len().min(COPIED_BODY_MAX));
        if form.has_no_body || self.has_no_body() {
            socket.push(head.into());
        } else if self.body.len() <= COPIED_BODY_MAX {
            head.extend_from_slice(&self.body);
            socket.push(head.into());
        } else {
            socket.push(head.into());
            socket.push(self.body);
        }
    }

    /// Queues the head of an answer in parts on the socket.
    pub(super) fn push_head_to(self, socket: &mut Socket, form: Form, date: &str) {
        let is_chunked = form.is_chunked() && !self.has_no_body();
        let framing = is_chunked.then(|| ("Transfer-Encoding", "chunked".to_owned()));
        socket.push(self.head(form, date, framing, 0).into());
    }

    /// The bytes of the head, with room for `more`.
    fn head(&self, form: Form, date: &str, framing: Option<(&str, String)>, more: usize) -> Vec<u8> {
        let mut text = String::with_capacity(256 + more);
        let reason = self.status.canonical_reason().unwrap_or_default();
        write!(text, "HTTP/1.1 {} {reason}\r\n", self.status.as_str()).expect("a String takes everything");
        for (name, value) in &self.headers {
            push_line(&mut text, name, value);
        }
        push_line(&mut text, "Date", date);
        if let Some((name, value)) = framing {
            push_line(&mut text, name, &value);
        }
        if form.is_last {
            push_line(&mut text, "Connection", "close");
        } else if form.version == Version::Http10 {
            push_line(&mut text, "Connection", "keep-alive");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Whether answers of this status never have a body (RFC 9110, section 6.4.1).
    pub(super) fn has_no_body(&self) -> bool {
        matches!(self.status.as_u16(), 100..200 | 204 | 304)
    }
}

fn push_line(text: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        text.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_rounded_up_to_whole_seconds() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (9_000_000, "3600")] {
            let answer = Response::busy(Duration::from_millis(millis), "full");
            assert_eq!(answer.status(), 503);
            assert!(
                answer.headers.contains(&("Retry-After", seconds.into())),
                "{answer:?}"
            );
        }
    }
}
