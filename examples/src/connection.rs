//! One client, whichever protocol it speaks at the moment.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use mio::event;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::http::{Http, Request, Response};
use super::limits::Limits;
use super::websocket::{Pulse, Received, WebSocket};
use super::wire::Wire;

#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    state: State,
    /// HTTP: since when a request is waited for. Leaving: since when.
    since: Instant,
    half_close: HalfClose,
    /// A message is stuck, and its sender waits to hear that it is not any more.
    blocked: bool,
    /// The socket is broken, and that is still to be told.
    failed: bool,
}

#[derive(Debug)]
enum State {
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
    /// All is said. What is unsent is sent, and what still arrives is thrown away: closing a
    /// socket with unread bytes would reset it, and take our last words back from the client.
    Leaving(Goodbye),
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    Sending,
    Waiting,
}

#[derive(Debug, PartialEq, Eq)]
enum HalfClose {
    NotSeen,
    Seen,
}

/// What a client has done.
#[derive(Debug)]
pub enum Event {
    Request(Request),
    Message(Message),
    /// Nothing that matters, but it has cost time.
    Noise,
    /// It has stopped sending, and may or may not wait for the answers it is owed.
    HalfClosed,
    /// Nothing more will be received, and nothing more can be sent.
    Closed,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    All,
    /// Part of it waits for the client to read; [`App::drained`](super::server::App::drained) follows.
    Partly,
    /// There is nobody to send to any more.
    Gone,
}

impl Connection {
    pub fn new(wire: Wire, now: Instant) -> Self {
        let (state, half_close) = (State::Http(Box::default()), HalfClose::NotSeen);
        Self {
            wire,
            state,
            since: now,
            half_close,
            blocked: false,
            failed: false,
        }
    }

    /// Takes note of what the poll has reported.
    pub fn note(&mut self, event: &event::Event, now: Instant) {
        self.failed |= event.is_error() || event.is_write_closed();
        // A client that reads is alive, even when what it sends waits behind what it reads.
        if self.wire.note(event) {
            match &mut self.state {
                State::Http(_) => self.since = now,
                State::WebSocket(socket) => socket.note_life(now),
                State::Leaving(_) | State::Gone => {}
            }
        }
    }

    /// The next thing the client has done. None if the poll has to say that there is more.
    pub fn next_event(&mut self, limits: &Limits, now: Instant) -> Option<Event> {
        if std::mem::take(&mut self.failed) {
            return self.give_up();
        }
        match &mut self.state {
            State::Http(http) => match http.next(&mut self.wire, limits) {
                Ok(Some(request)) => Some(Event::Request(request)),
                Ok(None) if http.is_over() => Some(self.leave(now)),
                Ok(None) if self.wire.is_read_closed() && self.half_close == HalfClose::NotSeen => {
                    self.half_close = HalfClose::Seen;
                    Some(Event::HalfClosed)
                }
                Ok(None) => None,
                Err(_) => self.give_up(),
            },
            State::WebSocket(socket) => match socket.receive(&mut self.wire, limits, now) {
                Ok(Received::Message(message)) => Some(Event::Message(message)),
                Ok(Received::Control) => Some(Event::Noise),
                Ok(Received::Nothing) => None,
                Ok(Received::End) => Some(self.leave(now)),
                Err(_) => self.give_up(),
            },
            State::Leaving(goodbye) => {
                let goodbye = *goodbye;
                self.discard(goodbye)
            }
            State::Gone => None,
        }
    }

    /// Answers request `number`.
    pub fn answer(&mut self, number: u64, response: Response, now: Instant) {
        if let State::Http(http) = &mut self.state {
            http.answer(number, response, &mut self.wire);
            self.since = now;
        }
    }

    /// Answers an upgrade request, and speaks WebSocket from now on.
    pub fn upgrade(&mut self, number: u64, response: Response, limits: &Limits, now: Instant) {
        if let State::Http(http) = &mut self.state {
            http.answer(number, response, &mut self.wire);
            let rest = std::mem::take(&mut **http).into_rest();
            self.state = State::WebSocket(Box::new(WebSocket::new(rest, limits, now)));
        }
    }

    pub fn send(&mut self, payload: &[u8]) -> Sent {
        let State::WebSocket(socket) = &mut self.state else {
            return Sent::Gone;
        };
        match socket.send(&mut self.wire, payload) {
            Ok(true) if self.wire.unsent() == 0 => Sent::All,
            Ok(true) => {
                self.blocked = true;
                Sent::Partly
            }
            Ok(false) => Sent::Gone,
            Err(_) => {
                self.failed = true;
                Sent::Gone
            }
        }
    }

    /// Says goodbye to a WebSocket.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        if let State::WebSocket(socket) = &mut self.state {
            socket.close(&mut self.wire, code, reason, now);
        }
    }

    /// Ends whatever is going on, politely. True if somebody has to be told it is closed.
    pub fn shut_down(&mut self, now: Instant) -> bool {
        match &self.state {
            State::Http(_) => {
                self.leave(now);
                true
            }
            State::WebSocket(_) => {
                self.close(CloseCode::Away, "the server is going down", now);
                false
            }
            State::Leaving(_) | State::Gone => false,
        }
    }

    /// Sends what is unsent. True if a message had got stuck and is now with the kernel.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.wire.flush_out()?;
        let all = self.wire.unsent() == 0;
        if all && matches!(self.state, State::Leaving(Goodbye::Sending)) {
            self.wire.shutdown_write()?;
            self.state = State::Leaving(Goodbye::Waiting);
            self.discard(Goodbye::Waiting);
        }
        Ok(all && std::mem::take(&mut self.blocked))
    }

    /// Looks at the clock. `Closed` if the client has lost its chance.
    pub fn check_time(&mut self, limits: &Limits, now: Instant) -> Option<Event> {
        let waited = now.duration_since(self.since);
        match &mut self.state {
            State::Http(http) if http.is_owing() => None,
            State::Http(_) if waited < limits.request_time => None,
            State::Http(http) if http.is_receiving() && self.wire.unsent() == 0 => {
                http.refuse(408, "the request took too long to arrive", &mut self.wire);
                Some(self.leave(now))
            }
            State::Http(_) => Some(self.leave(now)),
            State::WebSocket(socket) => match socket.check_pulse(&mut self.wire, limits, now) {
                Pulse::Alive => None,
                Pulse::Dead => self.give_up(),
            },
            State::Leaving(_) if waited < limits.goodbye_time => None,
            State::Leaving(_) | State::Gone => {
                self.state = State::Gone;
                None
            }
        }
    }

    pub fn is_websocket(&self) -> bool {
        matches!(self.state, State::WebSocket(_))
    }

    /// Whether the socket may be dropped.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    fn leave(&mut self, now: Instant) -> Event {
        self.state = State::Leaving(Goodbye::Sending);
        self.since = now;
        Event::Closed
    }

    /// Nothing can be said to this client any more. `Closed` if it had not been told yet.
    pub fn give_up(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(_) | State::WebSocket(_) => Some(Event::Closed),
            State::Leaving(_) | State::Gone => None,
        }
    }

    fn discard(&mut self, goodbye: Goodbye) -> Option<Event> {
        let mut scrap = [0; 16 * 1024];
        match self.wire.read(&mut scrap) {
            // It may have ended long ago, and wait for what is unsent.
            Ok(0) if goodbye == Goodbye::Sending => None,
            Ok(1..) => Some(Event::Noise),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => self.give_up(),
        }
    }
}
