//! One client, whichever protocol it speaks at the moment.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use bytes::BytesMut;
use mio::event;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use crate::http::{Http, Late, Parsed, Piece, Refusal, Request, Response};
use crate::limits::Limits;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::websocket::{Received, WebSocket};

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each of them is a fact of its own")]
pub struct Connection {
    socket: Socket,
    /// What has arrived and is not parsed.
    inbox: BytesMut,
    state: State,
    /// When the client has last made progress: read something that was blocked, or sent something
    /// that was asked for.
    active_at: Instant,
    /// The app has heard that the client sends no more.
    half_closed: bool,
    /// The app has heard that the connection is closed.
    closed: bool,
    /// Everything that the client has sent was read.
    at_end: bool,
    /// A message was sent only partly, and the app waits to hear that it is sent.
    is_blocked: bool,
    /// The socket is broken; the app has not heard of it.
    failed: bool,
}

#[derive(Debug)]
enum State {
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
    /// Everything is said. What is unsent is sent, and what still arrives is thrown away: a socket
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
    /// The client has got everything, and has yet to close its side.
    Waiting,
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
    /// The client sends no more. It may wait for the answers that it is owed.
    HalfClosed,
    /// The answer to the request of this number is overdue. The client has got 504.
    Overdue(u64),
    /// Nothing more will be received from the client, and nothing more can be sent to it.
    Closed,
}

/// What a look at a connection has brought.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on at once")]
pub enum Step {
    Event(Event),
    /// The poll reports when there is more to do.
    Idle,
    /// There is more to do, after the other connections have had their turn.
    Unfinished,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    All,
    /// The rest waits for the client to read; [`App::drained`](crate::server::App::drained) follows.
    Partly,
    /// There is no client to send to any more.
    Gone,
}

/// What one connection may still read in this turn.
#[derive(Debug)]
pub struct Reads<'a> {
    /// Shared by all connections of a loop.
    pub buffer: &'a mut [u8],
    pub left: usize,
}

/// What a read has brought.
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
            half_closed: false,
            closed: false,
            at_end: false,
            is_blocked: false,
            failed: false,
        }
    }

    /// Records what the poll has reported.
    pub fn note(&mut self, event: &event::Event, now: Instant) {
        self.failed |= event.is_error() || event.is_write_closed();
        if self.socket.note(event) {
            self.note_activity(now);
        }
    }

    fn note_activity(&mut self, now: Instant) {
        self.active_at = now;
        if let State::WebSocket(socket) = &mut self.state {
            socket.note_activity(now);
        }
    }

    /// The next thing that the client has done.
    pub fn next_event(&mut self, turn: &Turn<'_>, reads: &mut Reads<'_>) -> Step {
        if std::mem::take(&mut self.failed) {
            return self.give_up().map_or(Step::Idle, Step::Event);
        }
        loop {
            if let Some(event) = self.parse(turn) {
                return Step::Event(event);
            }
            if !self.wants_input(turn) {
                return self.idle();
            }
            match self.read(reads) {
                Input::Some => self.note_input(turn.now),
                Input::Nothing => return self.idle(),
                Input::OutOfTurn => return Step::Unfinished,
                Input::End => self.end_of_input(),
                Input::Failed => return self.give_up().map_or(Step::Idle, Step::Event),
            }
        }
    }

    /// What the bytes that have arrived amount to.
    fn parse(&mut self, turn: &Turn<'_>) -> Option<Event> {
        match &mut self.state {
            State::Http(http) => match http.next(&mut self.inbox, &mut self.socket, turn) {
                Parsed::Request(request) => Some(Event::Request(request)),
                Parsed::Piece(number, piece) => Some(Event::Piece(number, piece)),
                Parsed::BodyFailed(number) => Some(Event::BodyFailed(number)),
                _ if http.is_over() => self.leave(turn.now),
                Parsed::Incomplete | Parsed::Waiting => None,
            },
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
    fn wants_input(&self, turn: &Turn<'_>) -> bool {
        let limits = turn.limits;
        match &self.state {
            _ if self.at_end => false,
            State::Http(http) => http.may_read(&self.socket, limits),
            State::WebSocket(socket) => socket.backlog() < limits.unsent_bytes,
            State::Leaving(_) => true,
            State::Gone => false,
        }
    }

    fn read(&mut self, reads: &mut Reads<'_>) -> Input {
        if reads.left == 0 {
            return Input::OutOfTurn;
        }
        let mut buffer = &mut *reads.buffer;
        if let State::Http(http) = &self.state
            && let Some(read_max) = http.read_max()
            && read_max < buffer.len()
        {
            buffer = &mut buffer[..read_max];
        }
        match self.socket.read(buffer) {
            Ok(0) => Input::End,
            Ok(read) => {
                reads.left -= 1;
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

    /// A client that has something to read shows that it is alive by reading, not by sending.
    fn note_input(&mut self, now: Instant) {
        if self.socket.unsent() == 0
            && let State::WebSocket(socket) = &mut self.state
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

    fn idle(&mut self) -> Step {
        if self.inbox.is_empty() {
            // Thousands of connections are idle; this one needs no memory until something arrives.
            self.inbox = BytesMut::new();
        }
        match &self.state {
            State::Http(_) if self.socket.is_read_closed() && !self.half_closed => {
                self.half_closed = true;
                Step::Event(Event::HalfClosed)
            }
            State::WebSocket(_) if self.at_end => self.tell_closed().map_or(Step::Idle, Step::Event),
            _ => Step::Idle,
        }
    }

    /// Answers request `number`.
    pub fn answer(&mut self, number: u64, response: Response, now: Instant, date: &str) {
        if let State::Http(http) = &mut self.state {
            http.answer(number, response, &mut self.socket, date);
            self.active_at = now;
        }
    }

    /// The app asks for the next piece of the body of request `number`.
    pub fn want_body(&mut self, number: u64) {
        if let State::Http(http) = &mut self.state {
            http.want_body(number);
        }
    }

    /// Reads no more requests: the connection closes after the answers that are owed.
    pub fn end_requests(&mut self) {
        if let State::Http(http) = &mut self.state {
            http.end();
        }
    }

    /// Answers a handshake, and speaks WebSocket from now on.
    pub fn upgrade(&mut self, number: u64, response: Response, limits: &Limits, now: Instant, date: &str) {
        if let State::Http(http) = &mut self.state {
            http.answer(number, response, &mut self.socket, date);
            self.state = State::WebSocket(Box::new(WebSocket::new(limits, now)));
            self.active_at = now;
        }
    }

    pub fn send(&mut self, data: Data, payload: &[u8], now: Instant) -> Sent {
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

    /// Closes a WebSocket, after what was accepted.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        if let State::WebSocket(socket) = &mut self.state {
            socket.close(code, reason, now);
        }
    }

    /// The server stops: nothing new is begun, what was accepted is sent.
    pub fn shut_down(&mut self, turn: &Turn<'_>) -> Option<Event> {
        match &mut self.state {
            State::Http(http) if http.is_owing() => {
                http.end();
                None
            }
            State::Http(http) if http.is_receiving_body() || !self.inbox.is_empty() => {
                http.refuse(Refusal(503, "the server is going down"), &mut self.socket, turn);
                self.leave(turn.now)
            }
            State::Http(_) if self.socket.unsent() > 0 => self.leave(turn.now),
            State::Http(_) => self.give_up(),
            State::WebSocket(_) => {
                self.close(CloseCode::Away, "the server is going down", turn.now);
                None
            }
            State::Leaving(_) | State::Gone => None,
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

    /// Looks at the clock.
    pub fn check_time(&mut self, turn: &Turn<'_>) -> Option<Event> {
        let limits = turn.limits;
        let inactive_for = turn.now.duration_since(self.active_at);
        let is_blocked = self.socket.unsent() > 0;
        match &mut self.state {
            State::Http(_) | State::Leaving(_) if is_blocked => {
                if inactive_for < limits.idle_time {
                    return None;
                }
                self.give_up()
            }
            State::Http(http) => match http.late(self.active_at, turn) {
                Late::Nothing => None,
                Late::Answer(number) => {
                    let late = Response::text(504, "the answer took too long");
                    self.answer(number, late, turn.now, turn.date);
                    Some(Event::Overdue(number))
                }
                Late::Body(number) => {
                    http.refuse_body(number, &mut self.socket, turn);
                    Some(Event::BodyFailed(number))
                }
                Late::Request => {
                    if http.is_receiving_body() || !self.inbox.is_empty() {
                        let late = Refusal(408, "the request took too long to arrive");
                        http.refuse(late, &mut self.socket, turn);
                    }
                    self.leave(turn.now)
                }
            },
            State::WebSocket(socket) => {
                match socket.check_progress(&mut self.socket, limits.idle_time, turn.now) {
                    Ok(true) => None,
                    Ok(false) | Err(_) => self.give_up(),
                }
            }
            State::Leaving(_) if inactive_for < limits.idle_time => None,
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

    /// Since when the client has been silent without a request. None if it has one, or is owed
    /// something.
    pub fn silent_since(&self) -> Option<Instant> {
        let is_silent = match &self.state {
            State::Http(http) => !http.is_owing() && !http.is_receiving_body() && self.socket.unsent() == 0,
            State::Leaving(leaving) => *leaving == Leaving::Waiting,
            State::WebSocket(_) | State::Gone => false,
        };
        is_silent.then_some(self.active_at)
    }

    fn leave(&mut self, now: Instant) -> Option<Event> {
        self.state = State::Leaving(Leaving::Flushing);
        self.active_at = now;
        self.tell_closed()
    }

    /// Nothing can be sent to this client any more. `Closed` if the app has not heard so yet.
    pub fn give_up(&mut self) -> Option<Event> {
        self.state = State::Gone;
        self.tell_closed()
    }

    fn tell_closed(&mut self) -> Option<Event> {
        (!std::mem::replace(&mut self.closed, true)).then_some(Event::Closed)
    }
}
