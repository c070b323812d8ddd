//! Accepting, without spinning when the process runs out of file descriptors.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

/// How long to leave the backlog alone after an accept that failed for want of resources.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps until they are accepted. Beyond it their clients would have
/// to knock again, which they do after a second; mio's 128 are soon beyond.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// There may be more in the backlog: the poll will not say so again.
    waiting: bool,
    paused_until: Option<Instant>,
}

impl Listener {
    pub fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = TcpListener::bind(address)?;
        SockRef::from(&socket).listen(BACKLOG)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self {
            socket,
            waiting: false,
            paused_until: None,
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The poll has reported a connection.
    pub fn note(&mut self) {
        self.waiting = true;
    }

    /// The next connection, if there is one and it is time to take it.
    pub fn accept(&mut self, now: Instant) -> Option<TcpStream> {
        if !self.waiting || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        match self.socket.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) => {
                match error.kind() {
                    ErrorKind::WouldBlock => self.waiting = false,
                    // That one client is gone; the others are next turn's.
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM: trying at once would only fail again.
                    _ => self.paused_until = Some(now + PAUSE),
                }
                None
            }
        }
    }

    /// When to call [`accept`](Self::accept) next, other than after an event.
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        match (self.waiting, self.paused_until) {
            (true, Some(until)) => Some(until.saturating_duration_since(now)),
            (true, None) => Some(Duration::ZERO),
            (false, _) => None,
        }
    }
}
