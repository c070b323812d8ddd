//! Accepts clients. Does not spin when the process runs out of file descriptors.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Type};

use crate::ready::{Ready, is_ready};

/// Pause between two calls of `accept` when there is no room for a client.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps until they are accepted. Beyond that their clients have to
/// try again, which they do after a second. mio's 128 are not enough for a thousand at once.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub struct Listener {
    /// None after [`close`](Self::close).
    socket: Option<TcpListener>,
    /// There may be more in the backlog: the poll does not say so again.
    may_have_clients: bool,
    paused_until: Option<Instant>,
}

/// Result of [`Listener::accept`].
#[derive(Debug)]
pub enum Accepted {
    Client(TcpStream),
    /// Nobody waits.
    Nobody,
    /// The process or the system has no files or no memory left.
    NoFiles,
    Failed,
}

impl Listener {
    pub fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        SockRef::from(&socket).listen(BACKLOG)?;
        Self::register(socket, registry, token)
    }

    /// One of several listeners on the same address; the kernel chooses a listener for each client.
    /// Port 0 is of no use, since each listener would get a port of its own.
    pub fn bind_shared(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Self::register(TcpListener::from_std(socket.into()), registry, token)
    }

    fn register(mut socket: TcpListener, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self {
            socket: Some(socket),
            may_have_clients: false,
            paused_until: None,
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Some(socket) => socket.local_addr(),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The poll has reported a client.
    pub fn note(&mut self) {
        self.may_have_clients = true;
    }

    /// Whether to call [`accept`](Self::accept) now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.may_have_clients && self.paused_until.is_none_or(|until| now >= until)
    }

    /// Leaves the backlog alone for a moment.
    pub fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + PAUSE);
    }

    /// Ends a [`pause`](Self::pause) early, because there may be room now.
    pub fn resume(&mut self) {
        self.paused_until = None;
    }

    pub fn accept(&mut self) -> Accepted {
        self.resume();
        let Some(socket) = &self.socket else {
            return Accepted::Nobody;
        };
        loop {
            match socket.accept() {
                Ok((stream, _)) => return Accepted::Client(stream),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.may_have_clients = false;
                        return Accepted::Nobody;
                    }
                    // That one client is gone.
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ if is_shortage(&error) => return Accepted::NoFiles,
                    _ => return Accepted::Failed,
                },
            }
        }
    }

    /// Whether a client waits. Without free files `accept` fails in both cases.
    pub fn has_client(&mut self) -> bool {
        self.may_have_clients &= self
            .socket
            .as_ref()
            .is_some_and(|socket| is_ready(socket, Ready::ToRead));
        self.may_have_clients
    }

    /// Accepts nobody any more: the kernel refuses new clients.
    pub fn close(&mut self, registry: &Registry) {
        if let Some(mut socket) = self.socket.take() {
            // It is closed in any case.
            let _ = registry.deregister(&mut socket);
        }
        self.may_have_clients = false;
    }

    /// When [`accept`](Self::accept) is due, other than after an event.
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let until = |until: Instant| until.saturating_duration_since(now);
        self.may_have_clients
            .then(|| self.paused_until.map_or(Duration::ZERO, until))
    }
}

/// Whether it would help to close another connection.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| shortages.contains(&Errno::from_raw(code)))
}

#[cfg(not(unix))]
fn is_shortage(_error: &io::Error) -> bool {
    false
}
