//! A loop that only accepts clients, and gives them to other loops, each on its own thread.
//!
//! The other way to share a port is a listener for each loop ([`Server::bind_many`]). There the
//! kernel chooses a loop by a hash of the addresses, so that a few connections may all be on the
//! same loop, and each loop has its own limit of connections. With an acceptor, the program chooses
//! the loop, and one limit can hold for all loops. It costs a thread, and a wake-up for each
//! client.
//!
//! [`Server::bind_many`]: crate::server::Server::bind_many

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};

use crate::listener::{Accepted, Listener};
use crate::server::{ACCEPTS_PER_TURN, Stopper, allow_files};
use crate::signals::Signals;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
/// The listener, the waker and the signals.
const EVENTS_PER_POLL: usize = 4;
/// Longest time between two checks of the flag that stops the loop.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Chooses the loop for each client. The accepting thread calls all methods, so they must not
/// block.
pub trait Dealer {
    /// Whether another client can be given to a loop.
    fn has_room(&mut self) -> bool;

    /// Gives a client to a loop, which passes it to [`Net::adopt`](crate::net::Net::adopt). Returns
    /// the client if no loop takes it now.
    fn deal(&mut self, client: TcpStream) -> Result<(), TcpStream>;

    /// Called when a client waits, but there is no room or no free file for it. Should make a loop
    /// close a silent connection ([`Net::make_room`](crate::net::Net::make_room)), and wake the
    /// acceptor when a connection has closed.
    fn make_room(&mut self);

    /// Called once per turn: after a wake-up, after a client has connected, or after
    /// `next_timeout`.
    fn turn(&mut self) {}

    /// Longest time until the next call of `turn`.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

/// An accepting loop and its port.
#[derive(Debug)]
pub struct Acceptor {
    poll: Poll,
    listener: Listener,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    signals: Option<Signals>,
    /// A client that the dealer has returned. It is offered again.
    held: Option<TcpStream>,
}

impl Acceptor {
    /// Listens on `address`. `sockets` is the number of sockets of all loops together; the limit of
    /// open files is raised for them if possible.
    pub fn bind(address: SocketAddr, sockets: usize) -> io::Result<Self> {
        allow_files(sockets);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let listener = Listener::bind(address, poll.registry(), LISTENER)?;
        Ok(Self {
            poll,
            listener,
            waker,
            stop: Arc::default(),
            signals: None,
            held: None,
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Wakes the loop, from any thread, for example when there may be room again.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Ends [`run`](Self::run), from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.stop, &self.waker)
    }

    /// Makes SIGINT (Ctrl-C), SIGTERM and SIGHUP end [`run`](Self::run). A second one ends the
    /// process.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        let signals = Signals::register(&self.stop, self.poll.registry(), SIGNALS)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Accepts clients until it is stopped. Then it closes the port, and the kernel refuses new
    /// clients.
    pub fn run(mut self, dealer: &mut impl Dealer) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.stop.load(Ordering::Relaxed) {
            let timeout = self.timeout(dealer);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.listener.note(),
                    _ => self.listener.resume(),
                }
            }
            dealer.turn();
            self.accept(dealer);
        }
        self.listener.close(self.poll.registry());
        Ok(())
    }

    fn timeout(&self, dealer: &impl Dealer) -> Duration {
        let accept = self.listener.next_timeout(Instant::now());
        let due = [accept, dealer.next_timeout()];
        due.into_iter().flatten().fold(CHECK_INTERVAL, Duration::min)
    }

    fn accept(&mut self, dealer: &mut impl Dealer) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listener.is_due(Instant::now()) {
                return;
            }
            if !dealer.has_room() {
                return self.wait_for_room(dealer);
            }
            let client = match self.held.take() {
                Some(client) => client,
                None => match self.listener.accept() {
                    Accepted::Client(client) => client,
                    Accepted::Nobody => return,
                    Accepted::NoFiles => return self.wait_for_room(dealer),
                    Accepted::Failed => return self.listener.pause(Instant::now()),
                },
            };
            if let Err(client) = dealer.deal(client) {
                self.held = Some(client);
                return self.listener.pause(Instant::now());
            }
        }
    }

    /// Asks the dealer for room, and accepts nothing until the next wake-up or the end of a short
    /// pause.
    fn wait_for_room(&mut self, dealer: &mut impl Dealer) {
        if self.held.is_some() || self.listener.has_client() {
            dealer.make_room();
            self.listener.pause(Instant::now());
        }
    }
}
