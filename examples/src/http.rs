//! The HTTP/1.1 side of a connection: requests out of bytes, answers back in their order.
//!
//! A client may send requests without waiting for answers (pipelining). The app gets each request
//! as soon as it is whole, or as soon as its head is if its path takes bodies in pieces. It may
//! answer at any time; an answer leaves once those before it have left. What no app has to decide
//! is answered here: 404, 405, 413, OPTIONS and the like.

mod answers;
pub mod body;
pub mod date;
mod request;
mod response;
mod route;
mod upload;

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;

use self::answers::Answers;
use self::body::{Body, Framing};
pub use self::request::{Request, Version, is_host};
use self::response::Form;
pub use self::response::Response;
pub use self::route::Route;
pub use self::upload::Piece;
use self::upload::Upload;
use crate::limits::Limits;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::upgrade;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a request is not served: a status, and a sentence for the client.
#[derive(Debug, Clone, Copy)]
pub struct Refusal(pub u16, pub &'static str);

impl From<Refusal> for Response {
    fn from(Refusal(status, why): Refusal) -> Self {
        Self::text(status, why)
    }
}

/// Result of [`Http::next`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum Parsed {
    Request(Request),
    /// A piece of the body of the request of this number.
    Piece(u64, Piece),
    /// The body of the request of this number breaks the rules. The client has got the answer.
    BodyFailed(u64),
    /// More has to arrive.
    Incomplete,
    /// Nothing is read at the moment: answers have to leave first, or the last request was read.
    Waiting,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    Nothing,
    /// A request, or the next one of an idle client.
    Request,
    /// The body of the request of this number.
    Body(u64),
    /// The answer to the request of this number.
    Answer(u64),
}

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each of them is a fact of its own")]
pub struct Http {
    /// Bytes of the head that have been searched for its end.
    searched: usize,
    /// When the request that is being received has begun to arrive.
    begun_at: Option<Instant>,
    /// The head that is being parsed is one of HEAD, whose answer has no body.
    is_head: bool,
    /// The request whose body has not all arrived.
    incoming: Option<Box<(Request, Body)>>,
    /// The client sends that body only after a 100.
    client_waits: bool,
    /// The body that the app takes in pieces.
    upload: Option<Box<Upload>>,
    answers: Answers,
    /// Number of the newest request.
    newest: u64,
    /// No request is read any more: it was the last one, or could not be understood.
    ended: bool,
    /// The client has asked for another protocol; that has to be answered first.
    upgrading: bool,
    /// The client has sent all that it sends.
    at_end: bool,
}

/// Result of parsing the inbox.
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
enum Step {
    Request(Request),
    /// A request was answered here.
    Answered,
    Incomplete,
    Waiting,
}

/// How a request is handled, decided by its head.
enum Verdict {
    Serve(Framing, Route),
    Answer(Response),
}

impl Http {
    /// Takes the next request, or the next piece of a body, out of `inbox`.
    pub fn next(&mut self, inbox: &mut BytesMut, socket: &mut Socket, turn: &Turn<'_>) -> Parsed {
        loop {
            if self.upload.is_some() {
                return self.next_piece(inbox, socket, turn);
            }
            if !self.may_read(socket, turn.limits) {
                return Parsed::Waiting;
            }
            match self.parse(inbox, socket, turn) {
                Ok(Step::Request(request)) => return Parsed::Request(request),
                Ok(Step::Answered) => {}
                Ok(Step::Incomplete) => return Parsed::Incomplete,
                Ok(Step::Waiting) => return Parsed::Waiting,
                Err(refusal) => self.refuse(refusal, socket, turn),
            }
        }
    }

    fn next_piece(&mut self, inbox: &mut BytesMut, socket: &mut Socket, turn: &Turn<'_>) -> Parsed {
        let Some(upload) = &mut self.upload else {
            return Parsed::Waiting;
        };
        let number = upload.number;
        if let Err(refusal) = upload.take_from(inbox, turn.now) {
            return self.fail_body(number, refusal, socket, turn);
        }
        if let Some(piece) = upload.take_piece(turn.now) {
            if piece.is_last {
                self.upload = None;
                // From now on the app has all of the request.
                self.answers.await_answer(number, turn.now);
            }
            return Parsed::Piece(number, piece);
        }
        if self.at_end && upload.has_room() {
            return self.fail_body(number, Refusal(400, "the body broke off"), socket, turn);
        }
        // An interim answer must not overtake the pending answers.
        if self.answers.is_next(number) && upload.take_continue(turn.now) {
            socket.push(Bytes::from_static(CONTINUE));
        }
        Parsed::Incomplete
    }

    /// Answers a request in place of the app, because of its body.
    fn fail_body(&mut self, number: u64, refusal: Refusal, socket: &mut Socket, turn: &Turn<'_>) -> Parsed {
        self.answer(number, refusal.into(), socket, turn.date);
        Parsed::BodyFailed(number)
    }

    /// Answers a request whose body takes too long.
    pub fn refuse_body(&mut self, number: u64, socket: &mut Socket, turn: &Turn<'_>) {
        let late = Refusal(408, "the body took too long to arrive");
        self.answer(number, late.into(), socket, turn.date);
    }

    /// The app asks for the next piece of a body.
    pub fn want_body(&mut self, number: u64) {
        if let Some(upload) = self.upload.as_mut().filter(|upload| upload.number == number) {
            upload.want();
        }
    }

    /// Whether anything more may be read.
    pub fn may_read(&self, socket: &Socket, limits: &Limits) -> bool {
        let goes_on = match &self.upload {
            Some(upload) => upload.has_room(),
            None => !self.ended && !self.upgrading && self.answers.len() < limits.pipeline_depth,
        };
        goes_on && socket.unsent() < limits.unsent_bytes
    }

    /// Whether bytes are wanted from the client. While a handshake waits for the answers before it,
    /// what follows stays with the kernel.
    pub fn wants_input(&self, socket: &Socket, limits: &Limits) -> bool {
        self.may_read(socket, limits) && !self.is_waiting_for_upgrade(socket)
    }

    /// Gives memory back that is not used now.
    pub fn shrink(&mut self) {
        self.answers.shrink();
    }

    /// The number of the newest request.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether nothing of the answer to request `number` was given.
    pub fn owes(&self, number: u64) -> bool {
        self.answers.is_pending(number)
    }

    /// How many bytes to read at once, so that they belong to one piece.
    pub fn read_max(&self) -> Option<usize> {
        self.upload.as_ref().and_then(|upload| upload.read_max())
    }

    /// Takes what is certain to be a body's data from the front of `input`, which saves a copy.
    /// Returns how much that was.
    pub fn take_data(&mut self, input: &[u8]) -> usize {
        match (&mut self.upload, &mut self.incoming) {
            (Some(upload), _) => upload.take_data(input),
            (None, Some(incoming)) => incoming.1.take_data(input),
            (None, None) => 0,
        }
    }

    /// Whether the client's body is being received, and the app has not got its request.
    pub fn is_receiving_body(&self) -> bool {
        self.incoming.is_some()
    }

    /// Time that the body which is being received has earned by its length.
    fn earned_time(&self, turn: &Turn<'_>) -> Duration {
        let received = self.incoming.as_ref().map_or(0, |incoming| incoming.1.received());
        Duration::from_secs(received as u64 / turn.limits.body_rate.max(1))
    }

    /// Whether an answer has not ended, or a report of one is due later.
    pub fn is_owing(&self) -> bool {
        !self.answers.is_empty()
    }

    /// What has taken too long, if the client has last done something at `active_at`.
    pub fn late(&self, active_at: Instant, turn: &Turn<'_>) -> Late {
        let uploading = self.upload.as_deref();
        match uploading.map_or(Late::Nothing, |upload| upload.late(turn)) {
            Late::Nothing => {}
            // As with every other request, the app is awaited once the answers before it are given.
            Late::Answer(number) if !self.answers.is_next(number) => {}
            late => return late,
        }
        if self.answers.is_empty() {
            let waited = turn.now.duration_since(self.begun_at.unwrap_or(active_at));
            // A handshake may have arrived and wait for an answer before it to leave.
            let has_arrived = self
                .incoming
                .as_ref()
                .is_some_and(|incoming| incoming.1.is_whole());
            let is_late = !has_arrived && waited >= turn.limits.request_time + self.earned_time(turn);
            return if is_late { Late::Request } else { Late::Nothing };
        }
        match self.answers.next_pending() {
            Some((number, since))
                if uploading.is_none_or(|upload| upload.number != number)
                    && turn.now.duration_since(since) >= turn.limits.answer_time =>
            {
                Late::Answer(number)
            }
            _ => Late::Nothing,
        }
    }

    /// Whether all requests are answered and none follows, or an answer was cut off.
    pub fn is_over(&self) -> bool {
        self.answers.is_cut() || (self.ended && self.answers.is_empty())
    }

    /// Whether the connection ends within an answer.
    pub fn is_cut(&self) -> bool {
        self.answers.is_cut()
    }

    /// Whether only a reset shows the client that it does not get all, if the connection ends now.
    pub fn needs_reset(&self, socket: &Socket) -> bool {
        self.answers.needs_reset(socket)
    }

    /// Answers request `number`, and queues all answers whose turn has come. If its body has not
    /// all arrived, the rest is not read, so the connection ends with the answer.
    pub fn answer(&mut self, number: u64, response: Response, socket: &mut Socket, date: &str) {
        let is_cut = self
            .upload
            .take_if(|upload| upload.number == number)
            .is_some_and(|upload| !upload.is_whole());
        if is_cut {
            self.ended = true;
            self.answers.end_after(Some(number));
        }
        self.answers.answer(number, response);
        self.ended |= self.answers.is_cut();
        self.advance(socket, date);
    }

    /// Gives the socket all answers, and parts of answers, whose turn has come.
    fn advance(&mut self, socket: &mut Socket, date: &str) {
        self.answers.advance(socket, date);
        self.upgrading &= self.answers.is_owing();
    }

    /// Begins an answer whose body follows in parts.
    pub fn begin_answer(&mut self, number: u64, head: Response, socket: &mut Socket, date: &str) {
        let is_uploading = self.upload.as_ref().is_some_and(|upload| upload.number == number);
        if !is_uploading && let Some(form) = self.answers.begin(number, head) {
            self.ended |= form.is_last;
            self.advance(socket, date);
        }
    }

    /// Sends a part of an answer. False if it has not begun, has ended, or was cut off.
    pub fn send_part(&mut self, number: u64, part: Bytes, socket: &mut Socket, date: &str) -> bool {
        let is_added = self.answers.add_part(number, part);
        self.advance(socket, date);
        is_added
    }

    /// Ends an answer in parts.
    pub fn end_answer(&mut self, number: u64, socket: &mut Socket, now: Instant, date: &str) {
        let was_next = self.answers.is_next(number);
        self.answers.end_parts(number);
        self.advance(socket, date);
        // It may have taken any time, which does not count against the answer that follows.
        if was_next && !self.answers.is_next(number) {
            self.answers.await_next(now);
            if let Some(upload) = &mut self.upload {
                upload.await_app(now);
            }
        }
    }

    /// The number of reports that are due later.
    pub fn reports(&self) -> usize {
        self.answers.reports()
    }

    /// The next request of whose answer the kernel has everything that was given so far, if the app
    /// wants to hear of it.
    pub fn take_report(&mut self, socket: &Socket) -> Option<u64> {
        self.answers.take_report(socket)
    }

    /// Makes a client that has closed its socket answer with a reset. False if that is not
    /// possible.
    pub fn probe(&mut self, socket: &mut Socket) -> bool {
        // What is unsent does the same.
        socket.unsent() > 0 || self.answers.probe(socket)
    }

    /// Answers a request that cannot be read with an error, and reads no more.
    pub fn refuse(&mut self, refusal: impl Into<Response>, socket: &mut Socket, turn: &Turn<'_>) {
        let form = Form {
            version: Version::Http11,
            has_no_body: self.is_head,
            is_last: true,
        };
        self.ended = true;
        self.incoming = None;
        let number = self.owe(form, turn);
        self.answer(number, refusal.into(), socket, turn.date);
    }

    /// Reads no more requests. The connection closes after the answer to the newest one.
    pub fn end(&mut self) {
        self.ended = true;
        self.answers.end_after(None);
    }

    /// The client has sent all that it sends.
    pub fn end_of_input(&mut self) {
        self.at_end = true;
        self.end();
    }

    fn owe(&mut self, form: Form, turn: &Turn<'_>) -> u64 {
        self.newest += 1;
        self.answers.push(self.newest, form, turn.now);
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
                Verdict::Serve(framing, route) => {
                    if let Some(request) = self.begin_body(request, framing, route, inbox, turn)? {
                        return Ok(Step::Request(request));
                    }
                }
            }
        }
        if let Some(incoming) = &mut self.incoming {
            let used = incoming.1.take_from(inbox)?;
            inbox.advance(used);
        }
        if self.is_waiting_for_upgrade(socket) {
            return Ok(Step::Waiting);
        }
        let Some(incoming) = self.incoming.take_if(|incoming| incoming.1.is_whole()) else {
            // An interim answer must not overtake the pending answers.
            if self.answers.is_empty() && std::mem::take(&mut self.client_waits) {
                socket.push(Bytes::from_static(CONTINUE));
                // The client has waited for this, so it was not late before.
                self.begun_at = Some(turn.now);
            }
            return Ok(Step::Incomplete);
        };
        let (mut request, mut body) = *incoming;
        request.body = body.take_piece();
        self.hand_over(&mut request, turn);
        Ok(Step::Request(request))
    }

    /// Looks at what has arrived of a body. Returns the request if the app is to have it now.
    fn begin_body(
        &mut self,
        mut request: Request,
        framing: Framing,
        route: Route,
        inbox: &mut BytesMut,
        turn: &Turn<'_>,
    ) -> Result<Option<Request>, Refusal> {
        let client_waits = request.expects_continue()? && inbox.is_empty();
        if !framing.has_body() && !request.is_handshake {
            self.hand_over(&mut request, turn);
            return Ok(Some(request));
        }
        let Some(piece_bytes) = route.piece_bytes().filter(|_| framing.has_body()) else {
            self.client_waits = client_waits;
            let body = Body::new(framing, route.body_bytes())?;
            self.incoming = Some(Box::new((request, body)));
            return Ok(None);
        };
        let mut body = Body::in_pieces(framing, route.body_bytes(), piece_bytes)?;
        match framing {
            // Most bodies are short and come with their heads: not copied.
            Framing::Length(length) if length <= inbox.len() && length <= piece_bytes => {
                request.body = inbox.split_to(length).freeze();
            }
            _ => {
                let used = body.take_from(inbox)?;
                inbox.advance(used);
                if body.is_whole() {
                    request.body = body.take_piece();
                } else {
                    request.body_follows = true;
                }
            }
        }
        self.hand_over(&mut request, turn);
        if request.body_follows {
            let upload = Upload::new(request.number, body, client_waits, turn.now);
            self.upload = Some(Box::new(upload));
        }
        Ok(Some(request))
    }

    /// The app gets the request, and owes an answer.
    fn hand_over(&mut self, request: &mut Request, turn: &Turn<'_>) {
        self.begun_at = None;
        self.upgrading = request.is_handshake;
        let form = self.form(request);
        request.number = self.owe(form, turn);
    }

    /// A handshake is the last request, so it waits until those before it are answered, and their
    /// answers are with the kernel: a pong must not wait behind them.
    fn is_waiting_for_upgrade(&self, socket: &Socket) -> bool {
        let is_handshake = self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.0.is_handshake && incoming.1.is_whole());
        is_handshake && (self.is_owing() || socket.unsent() > 0)
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
        self.begun_at.get_or_insert(turn.now);
        if !first.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~\r".contains(first) {
            return Err(Refusal(400, "this is not an HTTP request"));
        }
        let too_long = Refusal(431, "the request's head is too long");
        match end_of_head(inbox, self.searched) {
            Some(end) if end > turn.limits.head_bytes => Err(too_long),
            Some(end) => {
                self.searched = 0;
                self.is_head = inbox.starts_with(b"HEAD ");
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
        self.begun_at = None;
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
            has_no_body: request.method == Method::HEAD,
            is_last,
        }
    }
}

/// Whether the path serves the request: 501 before 404 before 405 before 426 and 403 before 417
/// before 413.
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
        let answer = Response::new(204).header("Allow", "GET, HEAD, OPTIONS");
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
    Ok(Verdict::Serve(framing, route))
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
