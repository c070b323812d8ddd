//! One client, whichever protocol it speaks at the moment.

use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mio::event;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use crate::http::{Http, Late, Parsed, Piece, Refusal, Request, Response};
use crate::limits::Limits;
use crate::message_queue::{QueueLimit, Queued};
use crate::payload::Payload;
use crate::send_queues::SendQueues;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::websocket::{Received, WebSocket};

/// What one connection may do in a turn.
const EVENTS_PER_TURN: usize = 32;
const READS_PER_TURN: usize = 4;
/// Unused bytes of the inbox that a waiting connection keeps.
const KEPT_INBOX: usize = 1024;

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each of them is a fact of its own")]
pub struct Connection {
    socket: Socket,
    /// What has arrived and is not parsed.
    inbox: BytesMut,
    state: State,
    /// When the client has last made progress: read something that was blocked, or sent a request
    /// while nothing was.
    active_at: Instant,
    /// Unacknowledged bytes, when the kernel was last asked and the client had made no progress
    /// since.
    unacknowledged: Option<u64>,
    share: Share,
    /// The connection is in one of the loop's lists of those with something to do.
    is_listed: bool,
    /// [`App::half_closed`](crate::server::App::half_closed) was called.
    half_closed: bool,
    /// [`App::closed`](crate::server::App::closed) was called.
    closed: bool,
    /// Everything that the client has sent was read.
    at_end: bool,
    /// A message was sent only partly, and the app waits to hear that it is sent.
    is_blocked: bool,
    /// The socket is broken, and the app has not been told.
    failed: bool,
}

#[derive(Debug)]
enum State {
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
    /// No more output is queued. What is unsent is sent, and input is discarded: a socket
    /// that is dropped with unread bytes resets the connection, and then the client may lose what
    /// it has not read.
    Leaving(Leaving),
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Bytes wait for the kernel to take them.
    Flushing,
    /// Bytes wait for the kernel to send them.
    Draining,
    /// The kernel has sent everything, and the client has yet to close its side.
    Waiting,
}

/// What a connection may do in one turn of the loop, before it is the turn of the others.
#[derive(Debug, Default)]
struct Share {
    turn: u64,
    events: usize,
    reads: usize,
}

/// What a client has done.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum Event {
    Request(Request),
    /// A piece of the body of the request of this number.
    Piece(u64, Piece),
    /// The body of the request of this number will not come. The client has got the answer.
    BodyFailed(u64),
    Message(Message),
    /// Nothing for the app, but it has cost time.
    Noise,
    /// The client sends no more. It may wait for answers.
    HalfClosed,
    /// The answer to the request of this number is overdue. The client has got 504.
    Overdue(u64),
    /// Nothing more is received from the client, and the app can send nothing more to it.
    Closed,
}

/// Result of [`Connection::next_event`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum Step {
    Event(Event),
    /// The poll reports when there is more to do.
    Idle,
    /// Nothing is read before something has been sent or answered.
    Paused,
    /// There is more to do, after the other connections have had their turn.
    Unfinished,
}

/// Result of sending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    All,
    /// The rest waits for the client to read; [`App::drained`](crate::server::App::drained)
    /// follows.
    Partly,
    /// There is no client to send to any more.
    Gone,
}

/// Result of a read.
enum Input {
    Some,
    Nothing,
    OutOfTurn,
    End,
    Failed,
}

impl Connection {
    pub fn new(socket: Socket, now: Instant) -> Self {
        Self {
            socket,
            inbox: BytesMut::new(),
            state: State::Http(Box::default()),
            active_at: now,
            unacknowledged: None,
            share: Share::default(),
            is_listed: false,
            half_closed: false,
            closed: false,
            at_end: false,
            is_blocked: false,
            failed: false,
        }
    }

    /// Records what the poll has reported.
    pub fn note(&mut self, event: &event::Event, now: Instant) {
        // Both sides may have closed, which is no failure: what has arrived is still read.
        self.failed |= event.is_error();
        if self.socket.note(event) {
            self.note_activity(now);
        }
    }

    fn note_activity(&mut self, now: Instant) {
        self.active_at = now;
        self.unacknowledged = None;
        if let State::WebSocket(socket) = &mut self.state {
            socket.note_activity(now);
        }
    }

    /// Lists the connection. False if it was listed already.
    pub fn list(&mut self) -> bool {
        !std::mem::replace(&mut self.is_listed, true)
    }

    pub fn unlist(&mut self) {
        self.is_listed = false;
    }

    /// The connection has taken too much time in this turn.
    pub fn end_share(&mut self) {
        self.share.events = 0;
    }

    /// The next thing that the client has done.
    pub fn next_event(&mut self, turn: &Turn<'_>, buffer: &mut [u8]) -> Step {
        if std::mem::take(&mut self.failed) {
            return self.give_up().map_or(Step::Idle, Step::Event);
        }
        if self.share.turn != turn.number {
            self.share = Share {
                turn: turn.number,
                events: EVENTS_PER_TURN,
                reads: READS_PER_TURN,
            };
        }
        if self.share.events == 0 {
            return Step::Unfinished;
        }
        loop {
            if let Some(event) = self.parse(turn) {
                self.share.events -= 1;
                return Step::Event(event);
            }
            if !self.wants_input(turn.limits) {
                return self.idle(Step::Paused);
            }
            match self.read(buffer) {
                Input::Some => self.note_input(turn.now),
                Input::Nothing => return self.idle(Step::Idle),
                Input::OutOfTurn => return Step::Unfinished,
                Input::End => self.end_of_input(),
                Input::Failed => return self.give_up().map_or(Step::Idle, Step::Event),
            }
        }
    }

    /// Parses what has arrived.
    fn parse(&mut self, turn: &Turn<'_>) -> Option<Event> {
        match &mut self.state {
            State::Http(http) => {
                let (newest, is_blocked) = (http.newest(), self.socket.unsent() > 0);
                let parsed = http.next(&mut self.inbox, &mut self.socket, turn);
                if http.newest() != newest && !is_blocked {
                    self.active_at = turn.now;
                }
                match parsed {
                    Parsed::Request(request) => Some(Event::Request(request)),
                    Parsed::Piece(number, piece) => Some(Event::Piece(number, piece)),
                    Parsed::BodyFailed(number) => Some(Event::BodyFailed(number)),
                    _ if http.is_cut() && http.needs_reset(&self.socket) => self.give_up(),
                    _ if http.is_over() => self.leave(turn.now),
                    Parsed::Incomplete | Parsed::Waiting => None,
                }
            }
            State::WebSocket(socket) => match socket.receive(&mut self.inbox) {
                Received::Message(message) => Some(Event::Message(message)),
                Received::Control => Some(Event::Noise),
                Received::End => self.tell_closed(),
                Received::Incomplete => None,
            },
            State::Leaving(_) | State::Gone => {
                self.inbox.clear();
                None
            }
        }
    }

    /// Whether to read more: a client must not fill the memory with what waits for it to read.
    pub fn wants_input(&self, limits: &Limits) -> bool {
        match &self.state {
            _ if self.at_end => false,
            State::Http(http) => http.wants_input(&self.socket, limits),
            State::WebSocket(socket) => socket.backlog() < limits.unsent_bytes,
            State::Leaving(_) => true,
            State::Gone => false,
        }
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> Input {
        if self.share.reads == 0 {
            return Input::OutOfTurn;
        }
        if let State::Http(http) = &self.state
            && let Some(read_max) = http.read_max()
            && read_max < buffer.len()
        {
            buffer = &mut buffer[..read_max];
        }
        match self.socket.read(buffer) {
            Ok(0) => Input::End,
            Ok(read) => {
                self.share.reads -= 1;
                let taken = match &mut self.state {
                    State::Http(http) if self.inbox.is_empty() => http.take_data(&buffer[..read]),
                    _ => 0,
                };
                self.inbox.extend_from_slice(&buffer[taken..read]);
                Input::Some
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Input::Nothing,
            Err(_) => Input::Failed,
        }
    }

    /// While output is blocked, only reading counts as activity.
    fn note_input(&mut self, now: Instant) {
        if self.socket.unsent() == 0
            && let State::WebSocket(socket) = &mut self.state
            && socket.is_open()
        {
            socket.note_activity(now);
        }
    }

    fn end_of_input(&mut self) {
        self.at_end = true;
        match &mut self.state {
            State::Http(http) => http.end_of_input(),
            State::WebSocket(socket) => socket.end(),
            State::Leaving(Leaving::Waiting) => self.state = State::Gone,
            State::Leaving(_) | State::Gone => {}
        }
    }

    fn idle(&mut self, step: Step) -> Step {
        match &self.state {
            State::Http(_) if self.socket.is_read_closed() && !self.half_closed => {
                self.half_closed = true;
                Step::Event(Event::HalfClosed)
            }
            State::WebSocket(_) if self.at_end => self.tell_closed().map_or(step, Step::Event),
            _ => step,
        }
    }

    /// Gives memory back: thousands of connections may be idle.
    fn shrink(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        } else if self.inbox.capacity() > 2 * self.inbox.len() + KEPT_INBOX {
            self.inbox = BytesMut::from(&self.inbox[..]);
        }
        self.socket.shrink();
        if let State::Http(http) = &mut self.state {
            http.shrink();
        }
    }

    /// From now on an HTTP client has to read. While output is blocked, only reading counts as
    /// activity: a client must not stay alive by sending requests.
    fn note_answer(&mut self, now: Instant) {
        if matches!(self.state, State::Http(_)) && self.socket.unsent() == 0 {
            self.active_at = now;
        }
    }

    /// Answers request `number`.
    pub fn answer(&mut self, number: u64, response: Response, now: Instant, date: &str) {
        self.note_answer(now);
        if let State::Http(http) = &mut self.state {
            http.answer(number, response, &mut self.socket, date);
        }
    }

    /// Begins an answer whose body follows in parts.
    pub fn begin_answer(&mut self, number: u64, head: Response, now: Instant, date: &str) {
        self.note_answer(now);
        if let State::Http(http) = &mut self.state {
            http.begin_answer(number, head, &mut self.socket, date);
        }
    }

    /// Sends a part of an answer. False if there is no such answer to go on with.
    pub fn send_part(&mut self, number: u64, part: Bytes, now: Instant, date: &str) -> bool {
        self.note_answer(now);
        let State::Http(http) = &mut self.state else {
            return false;
        };
        http.send_part(number, part, &mut self.socket, date)
    }

    /// Ends an answer in parts.
    pub fn end_answer(&mut self, number: u64, now: Instant, date: &str) {
        self.note_answer(now);
        if let State::Http(http) = &mut self.state {
            http.end_answer(number, &mut self.socket, now, date);
        }
    }

    /// The number of reports that are due later.
    pub fn reports(&self) -> usize {
        match &self.state {
            State::Http(http) => http.reports(),
            _ => 0,
        }
    }

    /// The next request of whose answer the kernel has everything that was given so far, if the app
    /// wants to hear of it.
    pub fn take_report(&mut self) -> Option<u64> {
        match &mut self.state {
            State::Http(http) => http.take_report(&self.socket),
            _ => None,
        }
    }

    /// Makes a client that has closed its socket answer with a reset. False if that is not
    /// possible.
    pub fn probe(&mut self) -> bool {
        let State::Http(http) = &mut self.state else {
            return true;
        };
        // If that fails the socket is broken, which the poll reports.
        let _ = self.socket.keep_alive();
        http.probe(&mut self.socket)
    }

    /// The app asks for the next piece of the body of request `number`.
    pub fn want_body(&mut self, number: u64) {
        if let State::Http(http) = &mut self.state {
            http.want_body(number);
        }
    }

    /// Reads no more requests: the connection closes after the pending answers.
    pub fn end_requests(&mut self) {
        if let State::Http(http) = &mut self.state {
            http.end();
        }
    }

    /// Answers a handshake, and speaks WebSocket from now on. False if the handshake has an answer
    /// already, or the client has gone.
    pub fn upgrade(
        &mut self,
        number: u64,
        response: Response,
        limits: &Limits,
        now: Instant,
        date: &str,
    ) -> bool {
        match &mut self.state {
            State::Http(http) if http.owes(number) => {
                http.answer(number, response, &mut self.socket, date);
                self.state = State::WebSocket(Box::new(WebSocket::new(limits, now)));
                self.active_at = now;
                true
            }
            _ => false,
        }
    }

    pub fn send(&mut self, data: Data, payload: &Payload<'_>, now: Instant) -> Sent {
        let State::WebSocket(socket) = &mut self.state else {
            return Sent::Gone;
        };
        let was_blocked = self.socket.unsent() > 0;
        match socket.send(&mut self.socket, data, payload) {
            Ok(true) if self.socket.unsent() == 0 => Sent::All,
            Ok(true) => {
                if !was_blocked {
                    // From now on the client has to read.
                    socket.note_activity(now);
                }
                self.is_blocked = true;
                Sent::Partly
            }
            Ok(false) => Sent::Gone,
            Err(_) => {
                self.failed = true;
                Sent::Gone
            }
        }
    }

    /// Applies the policy of `limit` if a message of `bytes` does not fit. Returns the number of
    /// messages that are lost by that.
    pub fn make_room(&mut self, bytes: usize, limit: QueueLimit, now: Instant) -> usize {
        match &mut self.state {
            State::WebSocket(socket) => socket.make_room(&self.socket, bytes, limit, now),
            _ => 0,
        }
    }

    /// What waits for the client of a WebSocket.
    pub fn queued(&self) -> Queued {
        match &self.state {
            State::WebSocket(socket) => socket.queued(&self.socket),
            _ => Queued::default(),
        }
    }

    pub fn client_address(&self) -> Option<IpAddr> {
        let (_, client) = self.socket.addresses()?;
        Some(client.ip())
    }

    /// Closes a WebSocket, after what was accepted.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        if let State::WebSocket(socket) = &mut self.state {
            socket.close(code, reason, now);
        }
    }

    /// The server stops: nothing new is begun, what was accepted is sent.
    pub fn shut_down(&mut self, turn: &Turn<'_>) -> Option<Event> {
        match &mut self.state {
            State::WebSocket(socket) => {
                socket.close(CloseCode::Away, "the server is going down", turn.now);
                return None;
            }
            State::Leaving(_) | State::Gone => return None,
            State::Http(http) if http.is_owing() => {
                http.end();
                return None;
            }
            State::Http(http) if http.is_receiving_body() || !self.inbox.is_empty() => {
                http.refuse(Response::going_down(), &mut self.socket, turn);
            }
            State::Http(_) => {}
        }
        if self.is_closable() {
            self.give_up()
        } else {
            self.leave(turn.now)
        }
    }

    /// Sends what is unsent. True if a message had been sent only partly, and is now sent.
    pub fn flush(&mut self, now: Instant) -> io::Result<bool> {
        match &mut self.state {
            State::WebSocket(socket) => {
                socket.flush(&mut self.socket)?;
                if socket.is_over() && self.closed {
                    self.active_at = now;
                    self.state = State::Leaving(Leaving::Flushing);
                }
            }
            _ => self.socket.flush()?,
        }
        let all = self.socket.unsent() == 0;
        if all {
            self.shrink();
            self.advance_leaving(now)?;
        }
        Ok(all && std::mem::take(&mut self.is_blocked))
    }

    /// Ends the connection step by step, so that the client gets everything.
    fn advance_leaving(&mut self, now: Instant) -> io::Result<()> {
        if let State::Leaving(Leaving::Flushing) = self.state {
            self.socket.await_kernel()?;
            self.state = State::Leaving(Leaving::Draining);
        }
        if let State::Leaving(Leaving::Draining) = self.state
            && self.socket.has_kernel_sent_all()
        {
            self.socket.shutdown_write()?;
            self.active_at = now;
            self.state = if self.at_end {
                State::Gone
            } else {
                State::Leaving(Leaving::Waiting)
            };
        }
        Ok(())
    }

    /// Checks the time limits.
    pub fn check_time(&mut self, turn: &Turn<'_>) -> Option<Event> {
        let limits = turn.limits;
        let is_idle = turn.now.duration_since(self.active_at) >= limits.idle_time;
        let is_blocked = self.socket.unsent() > 0;
        match &mut self.state {
            State::Http(http) => match http.late(self.active_at, turn) {
                Late::Answer(number) => {
                    let late = Response::text(504, "the answer took too long");
                    self.answer(number, late, turn.now, turn.date);
                    Some(Event::Overdue(number))
                }
                Late::Body(number) => {
                    http.refuse_body(number, &mut self.socket, turn);
                    Some(Event::BodyFailed(number))
                }
                Late::Nothing | Late::Request if is_blocked && is_idle => self.give_up(),
                Late::Request if !is_blocked => {
                    if http.is_receiving_body() || !self.inbox.is_empty() {
                        let late = Refusal(408, "the request took too long to arrive");
                        http.refuse(late, &mut self.socket, turn);
                    }
                    self.leave(turn.now)
                }
                Late::Nothing | Late::Request => None,
            },
            State::WebSocket(socket) => {
                match socket.check_progress(&mut self.socket, limits.idle_time, turn.now) {
                    Ok(true) => None,
                    Ok(false) | Err(_) => self.give_up(),
                }
            }
            State::Leaving(_) if !is_idle => None,
            State::Leaving(_) | State::Gone => self.give_up(),
        }
    }

    pub fn is_websocket(&self) -> bool {
        matches!(self.state, State::WebSocket(_))
    }

    /// Whether the socket may be dropped.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Since when the client has been silent without a request. None if it has one, or waits
    /// for an answer.
    pub fn silent_since(&self) -> Option<Instant> {
        let is_silent = match &self.state {
            State::Http(http) => !http.is_owing() && !http.is_receiving_body() && self.socket.unsent() == 0,
            State::Leaving(leaving) => *leaving == Leaving::Waiting,
            State::WebSocket(_) | State::Gone => false,
        };
        is_silent.then_some(self.active_at)
    }

    /// Whether the socket may be dropped now, with nothing lost: the kernel has sent everything,
    /// and nothing waits to be read.
    pub fn is_closable(&mut self) -> bool {
        if self.socket.unsent() > 0 || self.socket.has_input() {
            return false;
        }
        if self.socket.await_kernel().is_ok() && self.socket.has_kernel_sent_all() {
            return true;
        }
        // If that fails the socket is broken, which the poll reports.
        let _ = self.socket.await_room();
        false
    }

    /// Whether the kernel has to be asked if the client makes progress.
    pub fn is_in_doubt(&self, turn: &Turn<'_>) -> bool {
        let active_at = match &self.state {
            State::WebSocket(socket) if self.socket.unsent() > 0 || !socket.is_open() => socket.active_at(),
            State::Http(_) if self.socket.unsent() > 0 => self.active_at,
            State::Leaving(_) => self.active_at,
            _ => return false,
        };
        turn.now.duration_since(active_at) >= turn.limits.idle_time / 2
    }

    /// Compares what is unacknowledged with the last time. Less is progress.
    pub fn note_kernel(&mut self, queues: &SendQueues, now: Instant) {
        let Some((local, peer)) = self.socket.addresses() else {
            return;
        };
        let bytes = queues.of(local, peer);
        if let (Some(bytes), Some(before)) = (bytes, self.unacknowledged)
            && bytes < before
        {
            self.note_activity(now);
        }
        self.unacknowledged = bytes;
    }

    fn leave(&mut self, now: Instant) -> Option<Event> {
        self.state = State::Leaving(Leaving::Flushing);
        self.active_at = now;
        self.tell_closed()
    }

    /// Nothing can be sent to this client any more. `Closed` if the app has not been told.
    pub fn give_up(&mut self) -> Option<Event> {
        if let State::Http(http) = &self.state
            && http.needs_reset(&self.socket)
        {
            // If that fails the socket is broken, and its client sees that.
            let _ = self.socket.reset_at_end();
        }
        self.state = State::Gone;
        self.tell_closed()
    }

    fn tell_closed(&mut self) -> Option<Event> {
        (!std::mem::replace(&mut self.closed, true)).then_some(Event::Closed)
    }
}
