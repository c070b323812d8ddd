//! The loop: one thread that does all the I/O and never waits but in `poll`.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token, Waker};
use moored::ConnId;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::connection::{Connection, Event, Sent};
use super::http::{Request, Response};
use super::limits::Limits;
use super::listener::Listener;
use super::upgrade;
use super::wire::Wire;

// A connection's token is its id, and ids count up from 2: an event, a task or a message that
// comes late for a connection that has gone finds nobody, and never its successor.
const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_ID: u64 = 2;

/// What one connection may do before it is the others' turn.
const EVENTS_PER_ROUND: usize = 32;
const ROUNDS_PER_TURN: usize = 4;
const ACCEPTS_PER_TURN: usize = 256;
const EVENTS_PER_POLL: usize = 1024;
/// How often the clock is looked at for each connection, at least.
const ROUND_MAX: Duration = Duration::from_secs(1);
/// What is left to the connections to say goodbye when the server stops.
const SHUTDOWN_TIME: Duration = Duration::from_millis(500);

/// What a server is for. All of it is called on the loop's thread and must not block.
pub trait App {
    /// A request has arrived: answer it, now or later, or upgrade it.
    fn request(&mut self, net: &mut Net, id: ConnId, request: Request);
    /// A WebSocket message has arrived.
    fn message(&mut self, _net: &mut Net, _id: ConnId, _message: Message) {}
    /// A message that was sent only partly is now with the kernel.
    fn drained(&mut self, _net: &mut Net, _id: ConnId) {}
    /// The client has stopped sending, and either waits for its answers or has gone.
    fn half_closed(&mut self, _net: &mut Net, _id: ConnId) {}
    /// The connection is no more. Told once, of every connection.
    fn closed(&mut self, net: &mut Net, id: ConnId);
    /// Once per turn of the loop: after the waker, an event, or `next_timeout`.
    fn turn(&mut self, net: &mut Net);
    /// When `turn` is due at the latest.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }
    /// The server is about to stop: connections are being closed, `turn` goes on until they are.
    fn stopping(&mut self, _net: &mut Net) {}
}

/// The connections, as an [`App`] sees them. To one that has gone nothing happens.
#[derive(Debug)]
pub struct Net {
    registry: Registry,
    limits: Limits,
    connections: HashMap<ConnId, Connection>,
    next_id: u64,
    websockets: usize,
    /// Connections with something to do before the next poll.
    touched: Vec<ConnId>,
    /// Connections that have had their share of this turn, and are not done.
    postponed: Vec<ConnId>,
    /// The time of this turn.
    now: Instant,
}

impl Net {
    /// Answers a request of `id`. Answers may be given in any order; they leave in the requests'.
    pub fn answer(&mut self, id: ConnId, request: u64, response: Response) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.answer(request, response, self.now);
            self.touched.push(id);
        }
    }

    /// Makes the connection of a request that [`upgrade::check`] has passed a WebSocket.
    pub fn upgrade(&mut self, id: ConnId, request: &Request, protocol: Option<&'static str>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let answer = upgrade::accept(request, protocol);
            connection.upgrade(request.number, answer, &self.limits, self.now);
            self.websockets += usize::from(connection.is_websocket());
            self.touched.push(id);
        }
    }

    /// Sends a binary WebSocket message, at once. After `Partly`, wait for [`App::drained`].
    pub fn send(&mut self, id: ConnId, payload: &[u8]) -> Sent {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Sent::Gone;
        };
        let sent = connection.send(payload);
        if sent == Sent::Gone {
            self.touched.push(id);
        }
        sent
    }

    /// Says goodbye to a WebSocket; [`App::closed`] follows.
    pub fn close(&mut self, id: ConnId, code: CloseCode, reason: &'static str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.close(code, reason, self.now);
            self.touched.push(id);
        }
    }

    pub fn websockets(&self) -> usize {
        self.websockets
    }

    fn add(&mut self, stream: mio::net::TcpStream) -> io::Result<()> {
        let id = ConnId(self.next_id);
        let wire = Wire::register(stream, &self.registry, token(id))?;
        self.next_id += 1;
        self.connections.insert(id, Connection::new(wire, self.now));
        Ok(())
    }
}

/// A listening port and its loop.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    listener: Listener,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    net: Net,
}

impl Server {
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let listener = Listener::bind(address, poll.registry(), LISTENER)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let net = Net {
            registry: poll.registry().try_clone()?,
            limits,
            connections: HashMap::new(),
            next_id: FIRST_ID,
            websockets: 0,
            touched: Vec::new(),
            postponed: Vec::new(),
            now: Instant::now(),
        };
        Ok(Self {
            poll,
            listener,
            waker,
            stop: Arc::default(),
            net,
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Wakes the loop, from any thread.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Ends [`run`](Self::run) when called, from any thread.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let (stop, waker) = (Arc::clone(&self.stop), self.waker());
        move || {
            stop.store(true, Ordering::Relaxed);
            // Only a full pipe could fail, and that would wake the loop as well.
            let _ = waker.wake();
        }
    }

    /// Makes Ctrl-C (and a polite kill) end [`run`](Self::run).
    pub fn stop_on_ctrl_c(&self) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(self.stopper())
    }

    /// Serves until it is told to stop, then says goodbye to everybody.
    pub fn run(mut self, app: &mut impl App) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let round = ROUND_MAX.min(self.net.limits.idle_time / 8);
        let mut next_round = Instant::now() + round;
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(app, &mut events, next_round)?;
            self.accept();
            if self.net.now >= next_round {
                self.catch_up(app, &mut events)?;
                self.net.look_at_clocks(app);
                next_round = self.net.now + round;
            }
        }
        app.stopping(&mut self.net);
        self.net.shut_down_all(app);
        let end = Instant::now() + SHUTDOWN_TIME;
        while !self.net.connections.is_empty() && Instant::now() < end {
            self.turn(app, &mut events, end)?;
        }
        Ok(())
    }

    /// Waits for something to do, at most until `deadline`, and does it.
    fn turn(&mut self, app: &mut impl App, events: &mut Events, deadline: Instant) -> io::Result<()> {
        let timeout = self.timeout(app, deadline);
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.net.now = Instant::now();
        for event in &*events {
            match event.token() {
                LISTENER => self.listener.note(),
                WAKER => {}
                Token(id) => self.net.note(ConnId(id as u64), event),
            }
        }
        self.net.touched.append(&mut self.net.postponed);
        self.net.settle(app);
        app.turn(&mut self.net);
        self.net.settle(app);
        Ok(())
    }

    /// Sees to all that has arrived, before anybody is blamed for not having sent it: after a
    /// while in which this process did not run, that may be more than one poll reports.
    fn catch_up(&mut self, app: &mut impl App, events: &mut Events) -> io::Result<()> {
        for _ in 0..=self.net.limits.sockets / EVENTS_PER_POLL {
            let now = self.net.now;
            self.turn(app, events, now)?;
            if events.iter().count() < EVENTS_PER_POLL {
                break;
            }
        }
        Ok(())
    }

    fn timeout(&self, app: &impl App, deadline: Instant) -> Duration {
        if !self.net.postponed.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let accept = if self.has_room() {
            self.listener.next_timeout(now)
        } else {
            None
        };
        let due = [accept, app.next_timeout()].into_iter().flatten();
        due.fold(deadline.saturating_duration_since(now), Duration::min)
    }

    fn has_room(&self) -> bool {
        self.net.connections.len() < self.net.limits.sockets
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.has_room() {
                return;
            }
            let Some(stream) = self.listener.accept(self.net.now) else {
                return;
            };
            // A socket that cannot be registered is closed, which its client sees.
            let _ = self.net.add(stream);
        }
    }
}

/// The loop's side of it.
impl Net {
    fn note(&mut self, id: ConnId, event: &mio::event::Event) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.note(event, self.now);
            self.touched.push(id);
        }
    }

    /// Sees to all that was touched, and to what that touches in turn.
    fn settle(&mut self, app: &mut impl App) {
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
        for _ in 0..EVENTS_PER_ROUND {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let was_websocket = connection.is_websocket();
            match connection.next_event(&self.limits, self.now) {
                None => return,
                Some(Event::Request(request)) => app.request(self, id, request),
                Some(Event::Message(message)) => app.message(self, id, message),
                Some(Event::Noise) => {}
                Some(Event::HalfClosed) => app.half_closed(self, id),
                Some(Event::Closed) => self.tell_closed(app, id, was_websocket),
            }
        }
        self.postponed.push(id);
    }

    fn flush(&mut self, app: &mut impl App, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let was_websocket = connection.is_websocket();
        match connection.flush() {
            Ok(true) => app.drained(self, id),
            Ok(false) => {}
            Err(_) => {
                if connection.give_up().is_some() {
                    self.tell_closed(app, id, was_websocket);
                }
            }
        }
    }

    fn look_at_clocks(&mut self, app: &mut impl App) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let was_websocket = connection.is_websocket();
            if connection.check_time(&self.limits, self.now).is_some() {
                self.tell_closed(app, id, was_websocket);
            }
            self.touched.push(id);
        }
        self.settle(app);
    }

    fn shut_down_all(&mut self, app: &mut impl App) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            if connection.shut_down(self.now) {
                self.tell_closed(app, id, false);
            }
            self.touched.push(id);
        }
        self.settle(app);
    }

    fn tell_closed(&mut self, app: &mut impl App, id: ConnId, was_websocket: bool) {
        self.websockets -= usize::from(was_websocket);
        app.closed(self, id);
    }
}

/// Ids are counted, so on 64 bits none is ever cut off.
fn token(ConnId(id): ConnId) -> Token {
    Token(id as usize)
}
