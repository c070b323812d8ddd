//! A connection of this process to itself, since the parsers write their answers to a socket.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use examples::socket::Socket;
use mio::{Poll, Token};

/// More than a run has to wait on any machine, unless bytes are lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Is sent behind what the server sends, so that the client knows when it has everything.
const MARK: &[u8] = b"\xfe\x9a\x17 end of what the server sends \x8b\x03\xc1";

#[derive(Debug)]
pub struct Wire {
    /// The server's side.
    pub socket: Socket,
    client: TcpStream,
    /// The socket is registered there.
    _poll: Poll,
}

impl Wire {
    /// # Errors
    ///
    /// If the system has no socket for it.
    pub fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        client.set_read_timeout(Some(PATIENCE))?;
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        let poll = Poll::new()?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self {
            socket: Socket::register(stream, poll.registry(), Token(0))?,
            client,
            _poll: poll,
        })
    }

    /// Everything that the server's side has sent or queued.
    pub fn take_sent(&mut self) -> Vec<u8> {
        self.socket.push(Bytes::from_static(MARK));
        self.socket.flush().expect("the connection is open");
        assert_eq!(
            self.socket.unsent(),
            0,
            "an input must be short: see the option -max_len"
        );
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !bytes.ends_with(MARK) {
            let read = self.client.read(&mut buffer).expect("what was sent arrives");
            assert!(read > 0, "the connection is open");
            bytes.extend_from_slice(&buffer[..read]);
        }
        bytes.truncate(bytes.len() - MARK.len());
        bytes
    }
}
