//! The loop: one thread that does all the I/O and never waits except in `poll`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use moored::ConnId;
use tungstenite::Message;

use crate::http::{Piece, Request, Route};
use crate::limits::Limits;
use crate::listener::{Accepted, Listener};
use crate::net::{Net, Room};
use crate::origin::AllowedOrigins;
use crate::signals::Signals;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(usize::MAX - 1);

pub(crate) const ACCEPTS_PER_TURN: usize = 256;
const EVENTS_PER_POLL: usize = 1024;
/// Longest time between two checks of the time limits.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What a server is for. The loop's thread calls all of it, so nothing in it may block.
pub trait App {
    /// What `path` offers. None is answered with 404.
    fn route(&self, path: &str) -> Option<Route>;

    /// The text of 404 answers.
    fn not_found(&self) -> &'static str {
        "there is nothing here"
    }

    /// A request has arrived that its path allows: answer it, now or later. An answer before all of
    /// the body has arrived closes the connection. If [`is_handshake`](Request::is_handshake) is
    /// set, [upgrade](Net::upgrade) it or answer why not.
    fn request(&mut self, net: &mut Net, id: ConnId, request: Request);

    /// The piece of a body that [`Net::want_body`] has asked for. Only paths
    /// [in pieces](Route::in_pieces) have it. The next one has to be asked for again.
    fn body(&mut self, _net: &mut Net, _id: ConnId, _request: u64, _piece: Piece) {}

    /// The rest of the body of `request` will not come: it breaks off, is malformed, too long or
    /// too slow. The client has got the answer. Stop the work for it.
    fn body_failed(&mut self, _net: &mut Net, _id: ConnId, _request: u64) {}

    /// A WebSocket message has arrived.
    fn message(&mut self, _net: &mut Net, _id: ConnId, _message: Message) {}

    /// A message that was sent only partly is now with the kernel.
    fn drained(&mut self, _net: &mut Net, _id: ConnId) {}

    /// The kernel has taken everything that was given so far of the answer to `request`. Called
    /// after parts and after the end of an answer in parts, and for an answer [with a
    /// report](crate::http::Response::with_report). One call may stand for several parts. If the
    /// client goes before that, or the answer is cut off, only [`closed`](Self::closed) is called.
    fn sent(&mut self, _net: &mut Net, _id: ConnId, _request: u64) {}

    /// The client sends no more. It waits for its answers, or has gone; [`Net::probe`] finds out.
    fn half_closed(&mut self, _net: &mut Net, _id: ConnId) {}

    /// The answer to `request` is overdue, and the client has got 504. Stop the work for it.
    fn overdue(&mut self, _net: &mut Net, _id: ConnId, _request: u64) {}

    /// The connection is closed. Called once for every connection.
    fn closed(&mut self, net: &mut Net, id: ConnId);

    /// Called once per turn of the loop: after the waker, an event, or `poll_timeout`.
    fn turn(&mut self, net: &mut Net);

    /// When `turn` is due at the latest.
    fn poll_timeout(&mut self) -> Option<Duration> {
        None
    }

    /// The server is about to stop: give the pending answers. `turn` is called until all
    /// connections are closed, or the grace is over.
    fn stopping(&mut self, _net: &mut Net) {}
}

/// A loop, and the port that it listens on.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    /// None if another thread accepts the clients, and gives them to [`Net::adopt`].
    listener: Option<Listener>,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    signals: Option<Signals>,
    /// The loops that stop when this one does.
    group: Arc<[Stopper]>,
    net: Net,
}

/// Ends [`Server::run`], from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    pub(crate) fn new(stop: &Arc<AtomicBool>, waker: &Arc<Waker>) -> Self {
        Self {
            stop: Arc::clone(stop),
            waker: Arc::clone(waker),
        }
    }

    /// Whether [`stop`](Self::stop) was called, or a signal has arrived.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Only a full pipe could fail, and that would wake the loop as well.
        let _ = self.waker.wake();
    }
}

impl Server {
    /// A loop that listens on `address`.
    pub fn bind(address: SocketAddr, limits: Limits, origins: AllowedOrigins) -> io::Result<Self> {
        let mut server = Self::without_listener(limits, origins)?;
        let listener = Listener::bind(address, server.poll.registry(), LISTENER)?;
        server.listener = Some(listener);
        Ok(server)
    }

    /// Loops that all listen on `address`; the kernel chooses a loop for each client. Each loop has
    /// an equal part of the number of sockets in `limits`, and closes only silent connections of
    /// its own. An error for 0 loops.
    pub fn bind_many(
        loops: usize,
        address: SocketAddr,
        limits: &Limits,
        origins: &AllowedOrigins,
    ) -> io::Result<Vec<Self>> {
        if loops == 0 {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "0 loops cannot serve a port; use 1 or more",
            ));
        }
        if loops == 1 {
            return Ok(vec![Self::bind(address, limits.clone(), origins.clone())?]);
        }
        // Fails if another program listens there; it also chooses a port for port 0.
        let address = std::net::TcpListener::bind(address)?.local_addr()?;
        allow_files(limits.sockets);
        let limits = Limits {
            sockets: limits.sockets.div_ceil(loops),
            ..limits.clone()
        };
        let bind = |_| {
            let mut server = Self::without_listener(limits.clone(), origins.clone())?;
            let listener = Listener::bind_shared(address, server.poll.registry(), LISTENER)?;
            server.listener = Some(listener);
            Ok(server)
        };
        (0..loops).map(bind).collect()
    }

    /// A loop whose clients another thread accepts, see [`Net::adopt`].
    pub fn without_listener(limits: Limits, origins: AllowedOrigins) -> io::Result<Self> {
        allow_files(limits.sockets);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let net = Net::new(poll.registry().try_clone()?, limits, origins);
        Ok(Self {
            poll,
            listener: None,
            waker,
            stop: Arc::default(),
            signals: None,
            group: Arc::default(),
            net,
        })
    }

    /// The address that it listens on. An error without a listener.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Some(listener) => listener.local_addr(),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Wakes the loop, from any thread.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Ends [`run`](Self::run), from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.stop, &self.waker)
    }

    /// When this loop stops, so do those of `group`, at the same time.
    pub(crate) fn stop_with(&mut self, group: Arc<[Stopper]>) {
        self.group = group;
    }

    /// Makes SIGINT (Ctrl-C), SIGTERM and SIGHUP end [`run`](Self::run). A second signal ends the
    /// process, and so does a first one after [`Stopper::stop`]. Needs no thread.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        // Registered twice, one signal would count as two.
        if self.signals.is_none() {
            let signals = Signals::register(&self.stop, self.poll.registry(), SIGNALS)?;
            self.signals = Some(signals);
        }
        Ok(())
    }

    /// Serves until it is stopped. Then it sends what was accepted, and closes all connections.
    /// Returns how many of them were cut because the grace had ended.
    pub fn run(mut self, app: &mut impl App) -> io::Result<usize> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let limits = self.net.limits();
        let interval = CHECK_INTERVAL_MAX.min(limits.idle_time.min(limits.answer_time) / 8);
        let mut next_check = Instant::now() + interval;
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(app, &mut events, next_check)?;
            self.net.add_adopted(app);
            self.net.make_wanted_room(app);
            if let Some(mut listener) = self.listener.take() {
                self.accept(app, &mut listener);
                self.listener = Some(listener);
            }
            if self.net.now() >= next_check {
                self.catch_up(app, &mut events)?;
                self.net.check_times(app);
                next_check = self.net.now() + interval;
            }
        }
        self.group.iter().for_each(Stopper::stop);
        // From now on the kernel refuses new connections.
        if let Some(mut listener) = self.listener.take() {
            listener.close(self.poll.registry());
        }
        app.stopping(&mut self.net);
        self.net.shut_down(app);
        let end = Instant::now() + self.net.limits().grace;
        while !self.net.is_empty() && Instant::now() < end {
            self.turn(app, &mut events, end)?;
        }
        Ok(self.net.close_all(app))
    }

    /// Waits for something to do, at most until `deadline`, and does it.
    fn turn(&mut self, app: &mut impl App, events: &mut Events, deadline: Instant) -> io::Result<()> {
        let timeout = self.timeout(app, deadline);
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.net.begin_turn();
        for event in &*events {
            match event.token() {
                LISTENER => self.listener.iter_mut().for_each(Listener::note),
                WAKER | SIGNALS => {}
                Token(id) => self.net.note(ConnId(id as u64), event),
            }
        }
        self.net.settle(app);
        app.turn(&mut self.net);
        self.net.settle(app);
        Ok(())
    }

    /// Handles everything that has arrived, before the time limits are checked.
    /// After a time in which this process did not run, that may be more than one poll reports.
    fn catch_up(&mut self, app: &mut impl App, events: &mut Events) -> io::Result<()> {
        for _ in 0..=self.net.limits().sockets / EVENTS_PER_POLL {
            let now = self.net.now();
            self.turn(app, events, now)?;
            if events.iter().count() < EVENTS_PER_POLL {
                break;
            }
        }
        Ok(())
    }

    fn timeout(&self, app: &mut impl App, deadline: Instant) -> Duration {
        if self.net.is_unfinished() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let accept = self
            .listener
            .as_ref()
            .and_then(|listener| listener.next_timeout(now));
        let due = [accept, app.poll_timeout()];
        due.into_iter()
            .flatten()
            .fold(deadline.saturating_duration_since(now), Duration::min)
    }

    /// Accepts clients. If sockets run out, silent clients lose theirs.
    fn accept(&mut self, app: &mut impl App, listener: &mut Listener) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !listener.is_due(self.net.now()) {
                return;
            }
            if !self.net.has_room() && !self.make_room(app, listener) {
                return;
            }
            match listener.accept() {
                // A socket that cannot be registered is closed, which its client sees.
                Accepted::Client(stream) => drop(self.net.add(stream)),
                Accepted::NoFiles if self.make_room(app, listener) => {}
                Accepted::Nobody | Accepted::NoFiles => return,
                Accepted::Failed => {
                    listener.pause(self.net.now());
                    return;
                }
            }
        }
    }

    fn make_room(&mut self, app: &mut impl App, listener: &mut Listener) -> bool {
        if !listener.has_client() {
            return false;
        }
        match self.net.close_silent(app) {
            Room::Made => return true,
            Room::NextTurn => {}
            Room::None => listener.pause(self.net.now()),
        }
        false
    }
}

/// Raises the limit of open files, as far as the system allows it: it is often 1,024.
#[cfg(unix)]
pub(crate) fn allow_files(sockets: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// Descriptors that are not clients: the poll, the listener, the waker, the standard streams.
    const OTHER_FILES: u64 = 64;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = (sockets as u64).saturating_add(OTHER_FILES);
        if wanted > soft {
            // With fewer files the server closes silent clients sooner.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
        }
    }
}

#[cfg(not(unix))]
pub(crate) fn allow_files(_sockets: usize) {}
