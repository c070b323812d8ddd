//! The HTTP/1.1 side of a connection: requests out of bytes, answers back in their order.
//!
//! A client may send requests without waiting for answers (pipelining). The app gets each request
//! as soon as it is whole, and may answer it at any time; an answer leaves once those before it
//! have left. What no app has to decide is answered here: 404, 405, 413, OPTIONS and the like.

pub mod body;
pub mod date;
mod request;
mod response;
mod route;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http::Method;

use self::body::{Body, Framing};
pub use self::request::{Request, Version};
use self::response::Form;
pub use self::response::Response;
pub use self::route::Route;
use crate::limits::Limits;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::upgrade;

/// Why a request is not served: a status, and a sentence for the client.
#[derive(Debug, Clone, Copy)]
pub struct Refusal(pub u16, pub &'static str);

impl From<Refusal> for Response {
    fn from(Refusal(status, why): Refusal) -> Self {
        Self::text(status, why)
    }
}

/// What the bytes that have arrived amount to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum Parsed {
    Request(Request),
    /// More has to arrive.
    Incomplete,
    /// Nothing is read at the moment: answers have to leave first, or the last request was read.
    Waiting,
}

#[derive(Debug, Default)]
pub struct Http {
    /// Bytes of the head that have been searched for its end.
    searched: usize,
    /// The request whose body has not all arrived.
    incoming: Option<(Request, Body)>,
    /// The client sends that body only after a 100.
    client_waits: bool,
    /// Requests that the app has got and not answered, oldest first.
    owed: VecDeque<Owed>,
    /// Number of the newest request.
    newest: u64,
    /// No request is read any more: it was the last one, or could not be understood.
    ended: bool,
    /// The client has asked for another protocol; that has to be answered first.
    upgrading: bool,
}

#[derive(Debug)]
struct Owed {
    number: u64,
    form: Form,
    since: Instant,
    answer: Option<Response>,
}

/// What a look at the inbox has brought.
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
enum Step {
    Request(Request),
    /// A request was answered here.
    Answered,
    Incomplete,
    Waiting,
}

/// What becomes of a request after a look at its head.
enum Verdict {
    Serve(Framing, usize),
    Answer(Response),
}

impl Http {
    /// Takes the next whole request out of `inbox`.
    pub fn next(&mut self, inbox: &mut BytesMut, socket: &mut Socket, turn: &Turn<'_>) -> Parsed {
        while self.may_read(socket, turn.limits) {
            match self.parse(inbox, socket, turn) {
                Ok(Step::Request(request)) => return Parsed::Request(request),
                Ok(Step::Answered) => {}
                Ok(Step::Incomplete) => return Parsed::Incomplete,
                Ok(Step::Waiting) => return Parsed::Waiting,
                Err(refusal) => self.refuse(refusal, socket, turn),
            }
        }
        Parsed::Waiting
    }

    /// Whether another request may be read.
    pub fn may_read(&self, socket: &Socket, limits: &Limits) -> bool {
        !self.ended
            && !self.upgrading
            && self.owed.len() < limits.pipeline_depth
            && socket.unsent() < limits.unsent_bytes
    }

    /// Whether the client's body is being received.
    pub fn is_receiving_body(&self) -> bool {
        self.incoming.is_some()
    }

    /// Time that the body which is being received has earned by its length.
    pub fn earned_time(&self, turn: &Turn<'_>) -> Duration {
        let received = self.incoming.as_ref().map_or(0, |(_, body)| body.received());
        Duration::from_secs(received as u64 / turn.limits.body_rate.max(1))
    }

    /// Whether it is the server's turn.
    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// The request that has waited longest for its answer, and since when.
    pub fn oldest_owed(&self) -> Option<(u64, Instant)> {
        self.owed.front().map(|owed| (owed.number, owed.since))
    }

    /// Whether everything that could be asked has been answered.
    pub fn is_over(&self) -> bool {
        self.ended && self.owed.is_empty()
    }

    /// Answers request `number`, and queues all answers whose turn has come.
    pub fn answer(&mut self, number: u64, response: Response, socket: &mut Socket, date: &str) {
        if let Some(owed) = self.owed.iter_mut().find(|owed| owed.number == number) {
            owed.answer = Some(response);
        }
        while let Some(owed) = self.owed.front_mut()
            && let Some(answer) = owed.answer.take()
        {
            answer.push_to(socket, owed.form, date);
            self.owed.pop_front();
        }
        self.upgrading &= self.is_owing();
    }

    /// Answers what cannot be understood. Nothing after it can be, either.
    pub fn refuse(&mut self, refusal: impl Into<Response>, socket: &mut Socket, turn: &Turn<'_>) {
        let form = Form {
            version: Version::Http11,
            is_head: false,
            is_last: true,
        };
        self.ended = true;
        self.incoming = None;
        let number = self.owe(form, turn);
        self.answer(number, refusal.into(), socket, turn.date);
    }

    /// The answer that is owed next is the last one: the server stops.
    pub fn end(&mut self) {
        self.ended = true;
        if let Some(owed) = self.owed.back_mut() {
            owed.form.is_last = true;
        }
    }

    fn owe(&mut self, form: Form, turn: &Turn<'_>) -> u64 {
        self.newest += 1;
        self.owed.push_back(Owed {
            number: self.newest,
            form,
            since: turn.now,
            answer: None,
        });
        self.newest
    }

    fn parse(&mut self, inbox: &mut BytesMut, socket: &mut Socket, turn: &Turn<'_>) -> Result<Step, Refusal> {
        if self.incoming.is_none() {
            let Some(request) = self.parse_head(inbox, turn)? else {
                return Ok(Step::Incomplete);
            };
            match verdict(&request, turn)? {
                Verdict::Answer(answer) => {
                    self.answer_at_once(&request, answer, socket, turn)?;
                    return Ok(Step::Answered);
                }
                Verdict::Serve(framing, body_bytes) => {
                    let body = Body::new(framing, body_bytes)?;
                    self.client_waits = request.expects_continue()? && inbox.is_empty();
                    self.incoming = Some((request, body));
                }
            }
        }
        if let Some((_, body)) = &mut self.incoming {
            let used = body.take_from(inbox)?;
            inbox.advance(used);
        }
        if self.is_waiting_for_upgrade() {
            return Ok(Step::Waiting);
        }
        let Some((mut request, body)) = self.incoming.take_if(|(_, body)| body.is_whole()) else {
            // An interim answer must not overtake the answers that are owed.
            if self.owed.is_empty() && std::mem::take(&mut self.client_waits) {
                socket.push(b"HTTP/1.1 100 Continue\r\n\r\n"[..].into());
            }
            return Ok(Step::Incomplete);
        };
        request.body = body.into_bytes().into();
        self.upgrading = request.is_handshake;
        let form = self.form(&request);
        request.number = self.owe(form, turn);
        Ok(Step::Request(request))
    }

    /// A handshake is the last request, so it waits until those before it are answered.
    fn is_waiting_for_upgrade(&self) -> bool {
        let is_handshake = self
            .incoming
            .as_ref()
            .is_some_and(|(request, body)| request.is_handshake && body.is_whole());
        is_handshake && self.is_owing()
    }

    fn parse_head(&mut self, inbox: &mut BytesMut, turn: &Turn<'_>) -> Result<Option<Request>, Refusal> {
        // RFC 9112, section 2.2: empty lines before a request are ignored.
        while let [b'\r', b'\n', ..] | [b'\n', ..] = inbox[..] {
            inbox.advance(1);
            self.searched = 0;
        }
        let Some(first) = inbox.first() else {
            return Ok(None);
        };
        if !first.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~\r".contains(first) {
            return Err(Refusal(400, "this is not an HTTP request"));
        }
        let too_long = Refusal(431, "the request's head is too long");
        match end_of_head(inbox, self.searched) {
            Some(end) if end > turn.limits.head_bytes => Err(too_long),
            Some(end) => {
                self.searched = 0;
                let mut request = Request::parse(&inbox.split_to(end).freeze())?;
                request.is_handshake = request.wants_websocket()
                    && (turn.routes)(request.path()).is_some_and(Route::is_websocket);
                Ok(Some(request))
            }
            None if inbox.len() > turn.limits.head_bytes => Err(too_long),
            None => {
                self.searched = inbox.len();
                Ok(None)
            }
        }
    }

    /// Answers a request that no app sees. A body that comes with it is not read, so the
    /// connection ends with the answer.
    fn answer_at_once(
        &mut self,
        request: &Request,
        answer: Response,
        socket: &mut Socket,
        turn: &Turn<'_>,
    ) -> Result<(), Refusal> {
        let mut form = self.form(request);
        form.is_last |= Framing::of(request)?.has_body();
        self.ended |= form.is_last;
        let number = self.owe(form, turn);
        self.answer(number, answer, socket, turn.date);
        Ok(())
    }

    fn form(&mut self, request: &Request) -> Form {
        let is_last = !request.is_handshake && !request.keeps_alive();
        self.ended |= is_last;
        Form {
            version: request.version,
            is_head: request.method == Method::HEAD,
            is_last,
        }
    }
}

/// Whether the path serves the request: 501 before 404 before 405 before 417 before 413.
fn verdict(request: &Request, turn: &Turn<'_>) -> Result<Verdict, Refusal> {
    let framing = Framing::of(request)?;
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !known.contains(&request.method) {
        return Ok(Verdict::Answer(Response::text(
            501,
            "this server has no such method",
        )));
    }
    let is_options = request.method == Method::OPTIONS;
    if is_options && request.path() == "*" {
        let answer = Response::new(204).header("Allow", "GET, HEAD, POST, OPTIONS");
        return Ok(Verdict::Answer(answer));
    }
    let Some(route) = (turn.routes)(request.path()) else {
        return Ok(Verdict::Answer(Response::text(404, turn.not_found)));
    };
    if is_options {
        return Ok(Verdict::Answer(Response::new(204).header("Allow", route.allow())));
    }
    if !route.allows(&request.method) {
        return Ok(Verdict::Answer(Response::method_not_allowed(route.allow())));
    }
    if (request.is_handshake || route.is_only_websocket())
        && let Err(answer) = upgrade::check(request, turn.origins)
    {
        return Ok(Verdict::Answer(answer));
    }
    if let Err(refusal) = request.expects_continue() {
        return Ok(Verdict::Answer(refusal.into()));
    }
    Ok(Verdict::Serve(framing, route.body_bytes()))
}

/// Where the head ends: behind the first empty line. `searched` bytes are known to hold no end.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    // An end may have begun in the last two bytes that were searched.
    let start = searched.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[start..]).find_map(|at| match bytes[start + at + 1..] {
        [b'\n', ..] => Some(start + at + 2),
        [b'\r', b'\n', ..] => Some(start + at + 3),
        _ => None,
    })
}
