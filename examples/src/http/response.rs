//! An answer, and its bytes.

use std::borrow::Cow;
use std::io::Write;

use crate::wire::Wire;

#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Cow::Borrowed(b""),
        }
    }

    /// A line of text for people.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status).body("text/plain; charset=utf-8", format!("{text}\n").into_bytes())
    }

    /// 405, naming the methods that would do.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self::text(405, "this path has no such method").header("Allow", allowed)
    }

    /// 503: the server is full, and says when to come back.
    pub fn come_back(seconds: u32, why: &str) -> Self {
        Self::text(503, why).header("Retry-After", seconds.to_string())
    }

    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, media_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", media_type)
            .header("X-Content-Type-Options", "nosniff")
    }

    /// Puts the answer on the wire; `last` announces that the connection closes after it.
    pub(super) fn write(&self, wire: &mut Wire, last: bool, head_only: bool) {
        let mut bytes = Vec::with_capacity(256 + self.body.len());
        let reason = reason(self.status);
        let mut line = |text: std::fmt::Arguments<'_>| {
            bytes.write_fmt(text).expect("a Vec takes everything");
            bytes.extend_from_slice(b"\r\n");
        };
        line(format_args!("HTTP/1.1 {} {reason}", self.status));
        for (name, value) in &self.headers {
            line(format_args!("{name}: {value}"));
        }
        if !matches!(self.status, 100..200 | 204) {
            line(format_args!("Content-Length: {}", self.body.len()));
        }
        if last {
            line(format_args!("Connection: close"));
        }
        line(format_args!(""));
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        wire.write_all(&bytes).expect("a wire keeps what it cannot send");
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
