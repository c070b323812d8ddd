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

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

const ACCEPTS_PER_TURN: usize = 256;
const EVENTS_PER_POLL: usize = 1024;
/// Longest time between two checks of the time limits.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The exit code after a second signal: that of a program which SIGINT has ended.
const INTERRUPTED: i32 = 130;

/// What a server is for. The loop's thread calls all of it, so nothing in it may block.
pub trait App {
    /// What `path` offers. None is answered with 404.
    fn route(&self, path: &str) -> Option<Route>;

    /// The text of 404 answers.
    fn not_found(&self) -> &'static str {
        "there is nothing here"
    }

    /// A request has arrived that its path allows: answer it, now or later. An answer before all of
    /// the body has arrived closes the connection. If
    /// [`is_handshake`](Request::is_handshake) is set, [upgrade](Net::upgrade) it or answer why not.
    fn request(&mut self, net: &mut Net, id: ConnId, request: Request);

    /// The piece of a body that [`Net::want_body`] has asked for. Only paths
    /// [in pieces](Route::in_pieces) have it. The next one has to be asked for again.
    fn body(&mut self, _net: &mut Net, _id: ConnId, _request: u64, _piece: Piece) {}

    /// The rest of the body of `request` will not come: it breaks off, is malformed, too long or too
    /// slow. The client has got the answer. Stop the work for it.
    fn body_failed(&mut self, _net: &mut Net, _id: ConnId, _request: u64) {}

    /// A WebSocket message has arrived.
    fn message(&mut self, _net: &mut Net, _id: ConnId, _message: Message) {}

    /// A message that was sent only partly is now with the kernel.
    fn drained(&mut self, _net: &mut Net, _id: ConnId) {}

    /// The client sends no more. It waits for its answers, or has gone.
    fn half_closed(&mut self, _net: &mut Net, _id: ConnId) {}

    /// The answer to `request` is overdue, and the client has got 504. Stop the work for it.
    fn overdue(&mut self, _net: &mut Net, _id: ConnId, _request: u64) {}

    /// The connection is closed. Called once for every connection.
    fn closed(&mut self, net: &mut Net, id: ConnId);

    /// Called once per turn of the loop: after the waker, an event, or `next_timeout`.
    fn turn(&mut self, net: &mut Net);

    /// When `turn` is due at the latest.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    /// The server is about to stop: answer what is owed. `turn` is called until all connections
    /// are closed, or the grace is over.
    fn stopping(&mut self, _net: &mut Net) {}
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
    pub fn bind(address: SocketAddr, limits: Limits, origins: AllowedOrigins) -> io::Result<Self> {
        allow_files(limits.sockets);
        let poll = Poll::new()?;
        let listener = Listener::bind(address, poll.registry(), LISTENER)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let net = Net::new(poll.registry().try_clone()?, limits, origins);
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

    /// Ends [`run`](Self::run) when called, from any thread. True if it was called before.
    pub fn stopper(&self) -> impl Fn() -> bool + Send + 'static {
        let (stop, waker) = (Arc::clone(&self.stop), self.waker());
        move || {
            let again = stop.swap(true, Ordering::Relaxed);
            // Only a full pipe could fail, and that would wake the loop as well.
            let _ = waker.wake();
            again
        }
    }

    /// Makes SIGINT (Ctrl-C) and SIGTERM end [`run`](Self::run). A second one ends the process.
    pub fn stop_on_signals(&self) -> Result<(), ctrlc::Error> {
        let stop = self.stopper();
        ctrlc::set_handler(move || {
            if stop() {
                std::process::exit(INTERRUPTED);
            }
        })
    }

    /// Serves until it is stopped. Then it sends what was accepted, and closes all connections.
    /// Returns how many of them were cut because the grace had ended.
    pub fn run(mut self, app: &mut impl App) -> io::Result<usize> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let interval = CHECK_INTERVAL_MAX.min(self.net.limits().idle_time / 8);
        let mut next_check = Instant::now() + interval;
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(app, &mut events, next_check)?;
            self.accept(app);
            if self.net.now() >= next_check {
                self.catch_up(app, &mut events)?;
                self.net.check_times(app);
                next_check = self.net.now() + interval;
            }
        }
        // From now on the kernel refuses new connections.
        self.listener.close(self.poll.registry());
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
                LISTENER => self.listener.note(),
                WAKER => {}
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

    fn timeout(&self, app: &impl App, deadline: Instant) -> Duration {
        if self.net.is_unfinished() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let due = [self.listener.next_timeout(now), app.next_timeout()];
        due.into_iter()
            .flatten()
            .fold(deadline.saturating_duration_since(now), Duration::min)
    }

    /// Accepts clients. If sockets run out, silent clients lose theirs.
    fn accept(&mut self, app: &mut impl App) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listener.is_due(self.net.now()) {
                return;
            }
            if !self.net.has_room() && !self.make_room(app) {
                return;
            }
            match self.listener.accept() {
                // A socket that cannot be registered is closed, which its client sees.
                Accepted::Client(stream) => drop(self.net.add(stream)),
                Accepted::NoFiles if self.make_room(app) => {}
                Accepted::Nobody | Accepted::NoFiles => return,
                Accepted::Failed => {
                    self.listener.pause(self.net.now());
                    return;
                }
            }
        }
    }

    fn make_room(&mut self, app: &mut impl App) -> bool {
        if !self.listener.has_client() {
            return false;
        }
        match self.net.close_silent(app) {
            Room::Made => return true,
            Room::NextTurn => {}
            Room::None => self.listener.pause(self.net.now()),
        }
        false
    }
}

/// Raises the limit of open files, as far as the system allows it: it is often 1,024.
#[cfg(unix)]
fn allow_files(sockets: usize) {
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
fn allow_files(_sockets: usize) {}
