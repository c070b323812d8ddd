//! WebSocket clients: tungstenite, blocking, and a thread for every hundred or so of them.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::server::{Server, connect};

pub struct Client(pub WebSocket<TcpStream>);

impl Client {
    pub fn open(server: &Server, path: &str) -> Self {
        Self::open_at(server.address, path)
    }

    /// Opens `path` at a server, or at a proxy in front of it.
    pub fn open_at(address: SocketAddr, path: &str) -> Self {
        // The default is far more than a thousand of these in one process need.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let url = format!("ws://{address}{path}");
        let (socket, _) = client_with_config(url, connect(address), Some(config))
            .unwrap_or_else(|error| panic!("{path} is upgraded: {error}"));
        Self(socket)
    }

    /// The number of the next message. None after a close with code 1000.
    pub fn next_number(&mut self) -> Option<u64> {
        loop {
            match self.0.read().expect("a stream ends with a close") {
                Message::Binary(bytes) => {
                    return Some(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")));
                }
                Message::Close(frame) => {
                    assert_eq!(frame.expect("with a code").code, 1000.into());
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Reads so many messages, and checks that they are those after `seen`.
    pub fn expect_numbers(&mut self, seen: u64, count: u64) {
        for number in seen + 1..=seen + count {
            assert_eq!(self.next_number(), Some(number));
        }
    }

    /// The code of the close frame that comes sooner or later.
    pub fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.0.read().expect("a close frame") {
                return frame.expect("with a code").code.into();
            }
        }
    }
}

/// A client that reads an endless stream on a thread of its own, and misses nothing.
pub struct Watcher {
    enough: Arc<AtomicBool>,
    reading: JoinHandle<u64>,
}

impl Watcher {
    pub fn open(server: &Server) -> Self {
        let mut client = Client::open(server, "/stream?chunks=0&size=1024");
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let reading = thread::spawn(move || {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                client.expect_numbers(seen, 20);
                seen += 20;
                // Leaves the processor to those that are watched.
                thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { enough, reading }
    }

    /// How many messages it has read. Panics if one was missing, or the stream had ended.
    pub fn finish(self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        self.reading.join().expect("nothing was missing")
    }
}

/// Opens so many clients of `path`, lets all of them read in turns, and checks that each gets
/// `chunks` messages, none missing, none twice, and then a proper end.
pub fn read_complete_streams(server: &Server, path: &str, clients: usize, chunks: u64) {
    read_complete_streams_at(server.address, path, clients, chunks);
}

pub fn read_complete_streams_at(address: SocketAddr, path: &str, clients: usize, chunks: u64) {
    const THREADS: usize = 8;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let count = clients / THREADS + usize::from(thread < clients % THREADS);
                let mut clients: Vec<_> = (0..count).map(|_| Client::open_at(address, path)).collect();
                for seen in 0..chunks {
                    for client in &mut clients {
                        client.expect_numbers(seen, 1);
                    }
                }
                for client in &mut clients {
                    assert_eq!(client.next_number(), None);
                }
            });
        }
    });
}

/// How a connection ends for the one who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

pub fn read_to_end(stream: &mut TcpStream) -> End {
    let mut scrap = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut scrap) {
            Ok(0) => return End::Closed,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return End::Reset,
            Err(error) => panic!("neither an end nor a reset: {error}"),
        }
    }
}
