//! The connections of a loop, and what an app may do with them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Registry, Token};
use moored::ConnId;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use crate::connection::{Connection, Event, Sent, Step};
use crate::http::date::Date;
use crate::http::{Request, Response};
use crate::limits::Limits;
use crate::message_queue::{QueueLimit, Queued};
use crate::origin::AllowedOrigins;
use crate::payload::Payload;
use crate::send_queues::SendQueues;
use crate::server::App;
use crate::socket::Socket;
use crate::turn::Turn;
use crate::upgrade;

/// Time that one connection may take, before it is the turn of the others.
const TIME_PER_TURN: Duration = Duration::from_millis(1);
/// Rounds of work in a turn of the loop for the connections that the app has touched.
const ROUNDS_PER_TURN: usize = 4;
/// What is read from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How many silent connections one search finds.
const SILENT_PER_SEARCH: usize = 64;

/// A connection's token is its id, and ids count up from 2. So an event, a task or a message that
/// comes late for a connection that has closed never reaches a newer one.
const FIRST_ID: u64 = 2;

/// Result of a search for a socket that can be closed.
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
    /// Clients from another thread that were closed at once, because there was no room.
    pub refused: u64,
    /// Requests that the app has got.
    pub requests: u64,
    /// Answers that the app has given, by the first digit of their status, from 1 to 5.
    pub answers: [u64; 5],
    /// Bytes of messages that were copied, since the kernel did not take them at once.
    pub copied_bytes: u64,
}

impl AddAssign for NetCounters {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.websockets += other.websockets;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.requests += other.requests;
        for (count, other) in self.answers.iter_mut().zip(other.answers) {
            *count += other;
        }
        self.copied_bytes += other.copied_bytes;
    }
}

/// What has become of a message that was sent under a [`QueueLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub sent: Sent,
    /// The number of messages that the client will not get because of this one.
    pub dropped: usize,
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
    copied_bytes: u64,
    /// Clients that other threads have accepted.
    adopted: VecDeque<mio::net::TcpStream>,
    /// Adopted clients that were closed at once.
    refused: u64,
    /// Whether the app has asked to close a silent connection.
    wants_room: bool,
    /// Connections with something to do before the next poll.
    touched: Vec<ConnId>,
    /// Connections that have had their share of this turn, and have more to do.
    postponed: Vec<ConnId>,
    /// Silent connections, the one that has been silent longest at the end.
    silent: Vec<(Instant, ConnId)>,
    is_stopping: bool,
    /// The number and the time of this turn.
    turn: u64,
    now: Instant,
    date: Date,
    /// For all reads of this loop.
    buffer: Vec<u8>,
}

impl Net {
    /// Answers a request of `id`. Answers may be given in any order; they leave in the order of
    /// the requests. If parts of another answer have been sent, the connection ends, and the client
    /// sees that the answer is not whole.
    pub fn answer(&mut self, id: ConnId, request: u64, response: Response) {
        self.count_answer(&response);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.answer(request, response, self.now, self.date.text());
            self.touch(id);
        }
    }

    /// Begins an answer whose body follows in parts. A client of HTTP/1.1 gets each part as a
    /// chunk; for a client of HTTP/1.0 the answer ends with the connection. If the answer has no
    /// body (a request with HEAD, or the status 204 or 304), its parts are not sent. Does nothing
    /// before the app has got the last piece of the request's body, or if the request has an
    /// answer.
    pub fn begin_answer(&mut self, id: ConnId, request: u64, head: Response) {
        self.count_answer(&head);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.begin_answer(request, head, self.now, self.date.text());
            self.touch(id);
        }
    }

    /// Sends the next part of an answer. [`App::sent`] follows once the kernel has taken it: to
    /// keep the memory flat, send no other part before that. False if the client has gone, or if
    /// the answer has not begun, has ended or was cut off.
    pub fn send_part(&mut self, id: ConnId, request: u64, part: Bytes) -> bool {
        let (now, date) = (self.now, self.date.text());
        let connection = self.connections.get_mut(&id);
        let is_sent = connection.is_some_and(|connection| connection.send_part(request, part, now, date));
        self.touch(id);
        is_sent
    }

    /// Ends an answer in parts. [`App::sent`] follows once the kernel has taken all of it.
    pub fn end_answer(&mut self, id: ConnId, request: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end_answer(request, self.now, self.date.text());
            self.touch(id);
        }
    }

    /// Finds out whether a client that sends no more has gone: [`App::closed`] follows if so. For
    /// use in [`App::half_closed`], and again later, since the client may go after the first time;
    /// some clients bear no more than five probes. It sends `100 Continue` before an answer, and a
    /// leading zero of the next chunk's size within one. A closed socket answers that with a reset.
    /// A client that only sends no more ignores both; some clients do not ignore the 100, but those
    /// close both directions at once. False if nothing can be sent: to a client of HTTP/1.0, or
    /// within an answer that has no body.
    pub fn probe(&mut self, id: ConnId) -> bool {
        let can_probe = self.connections.get_mut(&id).is_none_or(Connection::probe);
        self.touch(id);
        can_probe
    }

    fn count_answer(&mut self, response: &Response) {
        let class = usize::from(response.status() / 100);
        if let Some(count) = self.answers.get_mut(class.wrapping_sub(1)) {
            *count += 1;
        }
    }

    /// Adds a client that another thread has accepted, at the end of this turn. It is closed at
    /// once if there are too many connections and none of them is silent, or if the server stops.
    pub fn adopt(&mut self, stream: mio::net::TcpStream) {
        if !self.is_stopping {
            self.adopted.push_back(stream);
        }
    }

    /// Closes the connection that has been silent longest without a request, at the end of this
    /// turn. Does nothing if none is silent, or if the server stops. For an
    /// [`Acceptor`](crate::acceptor::Acceptor) that has reached a limit.
    pub fn make_room(&mut self) {
        self.wants_room = !self.is_stopping;
    }

    /// Whether a connection is silent and without a request. The cost grows with the number of
    /// connections.
    pub fn has_silent(&self) -> bool {
        let mut connections = self.connections.values();
        connections.any(|connection| connection.silent_since().is_some())
    }

    /// Asks for the next piece of the body of `request`, whose
    /// [`body_follows`](Request::body_follows). [`App::body`] gets it once it has all arrived.
    /// Until then at most one piece is read: a client that sends more is made to wait.
    pub fn want_body(&mut self, id: ConnId, request: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.want_body(request);
            self.touch(id);
        }
    }

    /// Reads no more requests from `id`. The connection closes after the pending answers.
    pub fn end_requests(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end_requests();
            self.touch(id);
        }
    }

    /// Makes the connection of a handshake a WebSocket.
    pub fn upgrade(&mut self, id: ConnId, request: &Request, protocol: Option<&'static str>) {
        if self.is_stopping {
            self.answer(id, request.number, Response::going_down());
            return;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            let answer = upgrade::accept(request, protocol);
            let (limits, date) = (&self.limits, self.date.text());
            let is_upgraded = connection.upgrade(request.number, answer, limits, self.now, date);
            self.websockets += usize::from(is_upgraded);
            self.touch(id);
        }
    }

    /// Sends a binary WebSocket message at once. After `Partly`, wait for [`App::drained`]: what is
    /// sent before that is kept in memory.
    pub fn send(&mut self, id: ConnId, payload: &[u8]) -> Sent {
        self.send_as(id, Data::Binary, &Payload::borrowed(payload))
    }

    /// Sends a text message, as [`send`](Self::send) does.
    pub fn send_text(&mut self, id: ConnId, text: &str) -> Sent {
        self.send_as(id, Data::Text, &Payload::borrowed(text.as_bytes()))
    }

    /// Sends a message, as [`send`](Self::send) does, and never copies it. All connections that
    /// cannot send it at once keep a reference to the same buffer. Text must be UTF-8.
    pub fn send_shared(&mut self, id: ConnId, data: Data, payload: &Bytes) -> Sent {
        self.send_as(id, data, &Payload::shared(payload))
    }

    /// Sends a message, as [`send_shared`](Self::send_shared) does. If it does not fit into what
    /// may wait for the client, the policy of `limit` says what is dropped, or that the client is
    /// closed; then this returns `Gone`.
    pub fn send_limited(&mut self, id: ConnId, data: Data, payload: &Bytes, limit: QueueLimit) -> Delivery {
        let now = self.now;
        let connection = self.connections.get_mut(&id);
        let dropped = connection.map_or(0, |connection| connection.make_room(payload.len(), limit, now));
        let sent = self.send_shared(id, data, payload);
        Delivery { sent, dropped }
    }

    /// What waits for the client of a WebSocket: the kernel has not taken it.
    pub fn queued(&self, id: ConnId) -> Queued {
        let connection = self.connections.get(&id);
        connection.map_or(Queued::default(), Connection::queued)
    }

    fn send_as(&mut self, id: ConnId, data: Data, payload: &Payload<'_>) -> Sent {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Sent::Gone;
        };
        let sent = connection.send(data, payload, self.now);
        self.copied_bytes += payload.copied() as u64;
        if sent == Sent::Gone {
            self.touch(id);
        }
        sent
    }

    /// Closes a WebSocket, after what was accepted for it. [`App::closed`] follows.
    pub fn close(&mut self, id: ConnId, code: CloseCode, reason: &'static str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.close(code, reason, self.now);
            self.touch(id);
        }
    }

    /// The address of the client. Behind a reverse proxy it is the address of the proxy.
    pub fn client_address(&self, id: ConnId) -> Option<IpAddr> {
        self.connections.get(&id)?.client_address()
    }

    pub fn websockets(&self) -> usize {
        self.websockets
    }

    pub fn counters(&self) -> NetCounters {
        NetCounters {
            connections: self.connections.len(),
            websockets: self.websockets,
            accepted: self.next_id - FIRST_ID,
            refused: self.refused,
            requests: self.requests,
            answers: self.answers,
            copied_bytes: self.copied_bytes,
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
            copied_bytes: 0,
            adopted: VecDeque::new(),
            refused: 0,
            wants_room: false,
            touched: Vec::new(),
            postponed: Vec::new(),
            silent: Vec::new(),
            is_stopping: false,
            turn: 0,
            now,
            date: Date::new(now),
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.now = Instant::now();
        self.turn += 1;
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

    /// Adds the clients that other threads have accepted.
    pub(crate) fn add_adopted(&mut self, app: &mut impl App) {
        while let Some(stream) = self.adopted.pop_front() {
            if !self.has_room() {
                match self.close_silent(app) {
                    Room::Made => {}
                    Room::NextTurn => {
                        self.adopted.push_front(stream);
                        return;
                    }
                    Room::None => {
                        self.refused += 1;
                        continue;
                    }
                }
            }
            // A socket that cannot be registered is closed, which its client sees.
            self.refused += u64::from(self.add(stream).is_err());
        }
    }

    /// Does what [`make_room`](Self::make_room) was called for.
    pub(crate) fn make_wanted_room(&mut self, app: &mut impl App) {
        if self.wants_room {
            self.wants_room = self.close_silent(app) == Room::NextTurn;
        }
    }

    /// Whether connections have more to do at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.postponed.is_empty() || !self.touched.is_empty() || !self.adopted.is_empty() || self.wants_room
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
            self.touch(id);
        }
    }

    /// The connection has something to do in this turn.
    fn touch(&mut self, id: ConnId) {
        if self.connections.get_mut(&id).is_some_and(Connection::list) {
            self.touched.push(id);
        }
    }

    /// The connection has something to do in the next turn.
    fn postpone(&mut self, id: ConnId) {
        if self.connections.get_mut(&id).is_some_and(Connection::list) {
            self.postponed.push(id);
        }
    }

    /// Reads and writes for all touched connections, and repeats that for the connections that the
    /// app touches meanwhile.
    pub(crate) fn settle(&mut self, app: &mut impl App) {
        for _ in 0..ROUNDS_PER_TURN {
            for id in mem::take(&mut self.touched) {
                let step = self.receive(app, id);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.unlist();
                }
                self.flush(app, id);
                let Some(connection) = self.connections.get(&id) else {
                    continue;
                };
                if connection.is_gone() {
                    self.connections.remove(&id);
                    continue;
                }
                // Nothing reports that what was paused may go on.
                let goes_on = match step {
                    Step::Unfinished => true,
                    Step::Paused => connection.wants_input(&self.limits),
                    Step::Idle | Step::Event(_) => false,
                };
                if goes_on {
                    self.postpone(id);
                }
            }
        }
        self.postponed.append(&mut self.touched);
    }

    /// Tells the app what the client has done. Returns why it has ended.
    fn receive(&mut self, app: &mut impl App, id: ConnId) -> Step {
        let begun = Instant::now();
        loop {
            let seen = self.with(&*app, id, |connection, turn, buffer| {
                let was_websocket = connection.is_websocket();
                (connection.next_event(turn, buffer), was_websocket)
            });
            match seen {
                None => return Step::Idle,
                Some((Step::Event(event), was_websocket)) => self.tell(app, id, event, was_websocket),
                Some((step, _)) => return step,
            }
            if begun.elapsed() >= TIME_PER_TURN
                && let Some(connection) = self.connections.get_mut(&id)
            {
                connection.end_share();
            }
        }
    }

    fn flush(&mut self, app: &mut impl App, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let was_websocket = connection.is_websocket();
        match connection.flush(self.now) {
            Ok(is_drained) => {
                let reports = connection.reports();
                if is_drained {
                    app.drained(self, id);
                }
                self.report(app, id, reports);
            }
            Err(_) => {
                if let Some(event) = connection.give_up() {
                    self.tell(app, id, event, was_websocket);
                }
            }
        }
    }

    /// Tells the app what the kernel has taken, at most `reports` times. What the app sends
    /// meanwhile waits for the next round: otherwise a client that takes each part at once would
    /// hold the loop.
    fn report(&mut self, app: &mut impl App, id: ConnId, reports: usize) {
        for _ in 0..reports {
            let connection = self.connections.get_mut(&id);
            let Some(request) = connection.and_then(Connection::take_report) else {
                return;
            };
            app.sent(self, id, request);
            // It may have been the last thing that the connection waited for.
            self.touch(id);
        }
    }

    /// Checks the time limits of every connection.
    pub(crate) fn check_times(&mut self, app: &mut impl App) {
        self.ask_kernel(app);
        self.for_each(app, Connection::check_time);
    }

    /// Asks the kernel about the clients that may have made no progress.
    fn ask_kernel(&mut self, app: &impl App) {
        let mut queues = None;
        for id in self.ids() {
            let now = self.now;
            self.with(app, id, |connection, turn, _| {
                if connection.is_in_doubt(turn) {
                    connection.note_kernel(queues.get_or_insert_with(SendQueues::read), now);
                }
            });
        }
    }

    /// Begins nothing new. What was accepted is sent, and then the connections close.
    pub(crate) fn shut_down(&mut self, app: &mut impl App) {
        self.is_stopping = true;
        self.adopted.clear();
        self.wants_room = false;
        self.for_each(app, Connection::shut_down);
    }

    /// Drops all connections, whatever they still have to send. Returns how many there were.
    pub(crate) fn close_all(&mut self, app: &mut impl App) -> usize {
        let count = self.connections.len();
        self.for_each(app, |connection, _| connection.give_up());
        count
    }

    /// Does `act` to every connection, until it brings no event.
    fn for_each(&mut self, app: &mut impl App, act: impl Fn(&mut Connection, &Turn<'_>) -> Option<Event>) {
        for id in self.ids() {
            while let Some((Some(event), was_websocket)) = self.with(&*app, id, |connection, turn, _| {
                let was_websocket = connection.is_websocket();
                (act(connection, turn), was_websocket)
            }) {
                self.tell(app, id, event, was_websocket);
            }
            self.touch(id);
        }
        self.settle(app);
    }

    fn ids(&self) -> Vec<ConnId> {
        self.connections.keys().copied().collect()
    }

    /// Closes the connection that has been silent longest without a request. What a client has
    /// sent may not be seen before the next poll, so this turn's connections are left alone.
    pub(crate) fn close_silent(&mut self, app: &mut impl App) -> Room {
        // The list of the last search, then a new one. If all of those still have something to
        // send, all connections: those that wait for a slow client must not keep the others.
        for most in [SILENT_PER_SEARCH, usize::MAX, 0] {
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
                if !connection.is_closable() {
                    continue;
                }
                let event = connection.give_up();
                self.connections.remove(&id);
                if let Some(event) = event {
                    self.tell(app, id, event, false);
                }
                return Room::Made;
            }
            self.search_silent(most);
        }
        Room::None
    }

    /// One search finds many, so that a flood of connections does not cost a search for each.
    fn search_silent(&mut self, most: usize) {
        let silent = self.connections.iter();
        self.silent = silent
            .filter_map(|(id, connection)| Some((connection.silent_since()?, *id)))
            .collect();
        if self.silent.len() > most {
            self.silent.select_nth_unstable(most);
            self.silent.truncate(most);
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
            number: self.turn,
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
                self.answer(id, request.number, Response::going_down());
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
