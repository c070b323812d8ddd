//! The connections of a loop, and what an app may do with them.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::time::Instant;

use mio::{Registry, Token};
use moored::ConnId;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use crate::connection::{Connection, Event, Reads, Sent, Step};
use crate::http::date::Date;
use crate::http::{Request, Response};
use crate::limits::Limits;
use crate::origin::AllowedOrigins;
use crate::server::App;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::upgrade;

/// What one connection may do before it is the turn of the others.
const EVENTS_PER_TURN: usize = 32;
const READS_PER_TURN: usize = 4;
/// How often the connections that an app has touched are seen to in a turn of the loop.
const ROUNDS_PER_TURN: usize = 4;
/// What is read from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How many silent connections one search finds.
const SILENT_PER_SEARCH: usize = 64;

/// A connection's token is its id, and ids count up from 2. So an event, a task or a message that
/// comes late for a connection that has gone never reaches its successor.
const FIRST_ID: u64 = 2;

/// What a search for a socket that can be closed has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Made,
    /// There may be some in the next turn.
    NextTurn,
    None,
}

/// What was counted, and how many connections there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetCounters {
    /// Connections that are open.
    pub connections: usize,
    pub websockets: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Requests that the app has got.
    pub requests: u64,
    /// Answers that the app has given, by the first digit of their status, from 1 to 5.
    pub answers: [u64; 5],
}

/// The connections, as an [`App`] sees them. Nothing happens to a connection that has gone.
#[derive(Debug)]
pub struct Net {
    registry: Registry,
    limits: Limits,
    origins: AllowedOrigins,
    connections: HashMap<ConnId, Connection>,
    next_id: u64,
    websockets: usize,
    requests: u64,
    answers: [u64; 5],
    /// Connections with something to do before the next poll.
    touched: Vec<ConnId>,
    /// Connections that have had their share of this turn, and have more to do.
    postponed: Vec<ConnId>,
    /// Silent connections, the one that has been silent longest at the end.
    silent: Vec<(Instant, ConnId)>,
    is_stopping: bool,
    /// The time of this turn.
    now: Instant,
    date: Date,
    /// For all reads of this loop.
    buffer: Vec<u8>,
}

impl Net {
    /// Answers a request of `id`. Answers may be given in any order; they leave in the order of
    /// the requests.
    pub fn answer(&mut self, id: ConnId, request: u64, response: Response) {
        let class = usize::from(response.status() / 100);
        if let Some(count) = self.answers.get_mut(class.wrapping_sub(1)) {
            *count += 1;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.answer(request, response, self.now, self.date.text());
            self.touched.push(id);
        }
    }

    /// Asks for the next piece of the body of `request`, whose
    /// [`body_follows`](Request::body_follows). [`App::body`] gets it once it has all arrived. Until
    /// then at most one piece is read: a client that sends more is made to wait.
    pub fn want_body(&mut self, id: ConnId, request: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.want_body(request);
            self.touched.push(id);
        }
    }

    /// Reads no more requests from `id`. The connection closes after the answers that are owed.
    pub fn end_requests(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end_requests();
            self.touched.push(id);
        }
    }

    /// Makes the connection of a handshake a WebSocket.
    pub fn upgrade(&mut self, id: ConnId, request: &Request, protocol: Option<&'static str>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let answer = upgrade::accept(request, protocol);
            connection.upgrade(request.number, answer, &self.limits, self.now, self.date.text());
            self.websockets += usize::from(connection.is_websocket());
            self.touched.push(id);
        }
    }

    /// Sends a binary WebSocket message at once. After `Partly`, wait for [`App::drained`]: what is
    /// sent before that is kept in memory.
    pub fn send(&mut self, id: ConnId, payload: &[u8]) -> Sent {
        self.send_as(id, Data::Binary, payload)
    }

    /// Sends a text message, as [`send`](Self::send) does.
    pub fn send_text(&mut self, id: ConnId, text: &str) -> Sent {
        self.send_as(id, Data::Text, text.as_bytes())
    }

    fn send_as(&mut self, id: ConnId, data: Data, payload: &[u8]) -> Sent {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Sent::Gone;
        };
        let sent = connection.send(data, payload, self.now);
        if sent == Sent::Gone {
            self.touched.push(id);
        }
        sent
    }

    /// Closes a WebSocket, after what was accepted for it. [`App::closed`] follows.
    pub fn close(&mut self, id: ConnId, code: CloseCode, reason: &'static str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.close(code, reason, self.now);
            self.touched.push(id);
        }
    }

    pub fn websockets(&self) -> usize {
        self.websockets
    }

    pub fn counters(&self) -> NetCounters {
        NetCounters {
            connections: self.connections.len(),
            websockets: self.websockets,
            accepted: self.next_id - FIRST_ID,
            requests: self.requests,
            answers: self.answers,
        }
    }
}

/// The loop's side of it.
impl Net {
    pub(crate) fn new(registry: Registry, limits: Limits, origins: AllowedOrigins) -> Self {
        let now = Instant::now();
        Self {
            registry,
            limits,
            origins,
            connections: HashMap::new(),
            next_id: FIRST_ID,
            websockets: 0,
            requests: 0,
            answers: [0; 5],
            touched: Vec::new(),
            postponed: Vec::new(),
            silent: Vec::new(),
            is_stopping: false,
            now,
            date: Date::new(now),
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.now = Instant::now();
        self.date.update(self.now);
        self.touched.append(&mut self.postponed);
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether connections have more to do at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.postponed.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.connections.len() < self.limits.sockets
    }

    pub(crate) fn add(&mut self, stream: mio::net::TcpStream) -> io::Result<()> {
        let id = ConnId(self.next_id);
        let socket = Socket::register(stream, &self.registry, token(id))?;
        self.next_id += 1;
        self.connections.insert(id, Connection::new(socket, self.now));
        Ok(())
    }

    /// Records what the poll has reported.
    pub(crate) fn note(&mut self, id: ConnId, event: &mio::event::Event) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.note(event, self.now);
            self.touched.push(id);
        }
    }

    /// Does what there is to do for the connections that were touched, and for those that this
    /// touches in turn.
    pub(crate) fn settle(&mut self, app: &mut impl App) {
        for _ in 0..ROUNDS_PER_TURN {
            for id in mem::take(&mut self.touched) {
                self.receive(app, id);
                self.flush(app, id);
                if self.connections.get(&id).is_some_and(Connection::is_gone) {
                    self.connections.remove(&id);
                }
            }
        }
        self.postponed.append(&mut self.touched);
    }

    fn receive(&mut self, app: &mut impl App, id: ConnId) {
        let mut reads_left = READS_PER_TURN;
        for _ in 0..EVENTS_PER_TURN {
            let step = self.with(&*app, id, |connection, turn, buffer| {
                let was_websocket = connection.is_websocket();
                let mut reads = Reads {
                    buffer,
                    left: reads_left,
                };
                let step = connection.next_event(turn, &mut reads);
                reads_left = reads.left;
                (step, was_websocket)
            });
            match step {
                Some((Step::Event(event), was_websocket)) => self.tell(app, id, event, was_websocket),
                Some((Step::Unfinished, _)) => break,
                Some((Step::Idle, _)) | None => return,
            }
        }
        self.postponed.push(id);
    }

    fn flush(&mut self, app: &mut impl App, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let was_websocket = connection.is_websocket();
        match connection.flush(self.now) {
            Ok(true) => app.drained(self, id),
            Ok(false) => {}
            Err(_) => {
                if let Some(event) = connection.give_up() {
                    self.tell(app, id, event, was_websocket);
                }
            }
        }
    }

    /// Looks at the clock for every connection.
    pub(crate) fn check_times(&mut self, app: &mut impl App) {
        self.for_each(app, Connection::check_time);
    }

    /// Begins nothing new. What was accepted is sent, and then the connections close.
    pub(crate) fn shut_down(&mut self, app: &mut impl App) {
        self.is_stopping = true;
        self.for_each(app, Connection::shut_down);
    }

    fn for_each(&mut self, app: &mut impl App, act: impl Fn(&mut Connection, &Turn<'_>) -> Option<Event>) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let done = self.with(&*app, id, |connection, turn, _| {
                let was_websocket = connection.is_websocket();
                (act(connection, turn), was_websocket)
            });
            if let Some((Some(event), was_websocket)) = done {
                self.tell(app, id, event, was_websocket);
            }
            self.touched.push(id);
        }
        self.settle(app);
    }

    /// Closes the connection that has been silent longest without a request. What a client has
    /// sent may not be seen before the next poll, so this turn's connections are left alone.
    pub(crate) fn close_silent(&mut self, app: &mut impl App) -> Room {
        if self.silent.is_empty() {
            self.search_silent();
        }
        while let Some((since, id)) = self.silent.pop() {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            if connection.silent_since() != Some(since) {
                continue;
            }
            if since >= self.now {
                self.silent.clear();
                return Room::NextTurn;
            }
            let event = connection.give_up();
            self.connections.remove(&id);
            if let Some(event) = event {
                self.tell(app, id, event, false);
            }
            return Room::Made;
        }
        Room::None
    }

    /// One search finds many, so that a flood of connections does not cost a search for each.
    fn search_silent(&mut self) {
        let silent = self.connections.iter();
        self.silent = silent
            .filter_map(|(id, connection)| Some((connection.silent_since()?, *id)))
            .collect();
        if self.silent.len() > SILENT_PER_SEARCH {
            self.silent.select_nth_unstable(SILENT_PER_SEARCH);
            self.silent.truncate(SILENT_PER_SEARCH);
        }
        self.silent.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Gives `act` a connection, and what it has to know.
    fn with<R>(
        &mut self,
        app: &impl App,
        id: ConnId,
        act: impl FnOnce(&mut Connection, &Turn<'_>, &mut [u8]) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(&id)?;
        let turn = Turn {
            limits: &self.limits,
            origins: &self.origins,
            routes: &|path| app.route(path),
            not_found: app.not_found(),
            now: self.now,
            date: self.date.text(),
        };
        Some(act(connection, &turn, &mut self.buffer))
    }

    fn tell(&mut self, app: &mut impl App, id: ConnId, event: Event, was_websocket: bool) {
        match event {
            Event::Request(request) if self.is_stopping => {
                let answer = Response::come_back(5, "the server is going down");
                self.answer(id, request.number, answer);
            }
            Event::Request(request) => {
                self.requests += 1;
                app.request(self, id, request);
            }
            Event::Piece(request, piece) => app.body(self, id, request, piece),
            Event::BodyFailed(request) => app.body_failed(self, id, request),
            Event::Message(message) => app.message(self, id, message),
            Event::Noise => {}
            Event::HalfClosed => app.half_closed(self, id),
            Event::Overdue(request) => app.overdue(self, id, request),
            Event::Closed => {
                self.websockets -= usize::from(was_websocket);
                app.closed(self, id);
            }
        }
    }
}

/// Ids are counted, so on 64 bits none is ever cut off.
fn token(ConnId(id): ConnId) -> Token {
    Token(id as usize)
}
