//! WebSocket clients: tungstenite, blocking, and a thread for every hundred or so of them.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::net::TcpStream;
use std::thread;

use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::server::Server;

pub struct Client(pub WebSocket<TcpStream>);

impl Client {
    pub fn open(server: &Server, path: &str) -> Self {
        // The default is far more than a thousand of these in one process need.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let url = format!("ws://{}{path}", server.address);
        let (socket, _) = client_with_config(url, server.connect(), Some(config))
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

/// Opens so many clients of `path`, lets all of them read in turns, and checks that each gets
/// `chunks` messages, none missing, none twice, and then a proper end.
pub fn read_complete_streams(server: &Server, path: &str, clients: usize, chunks: u64) {
    const THREADS: usize = 8;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let count = clients / THREADS + usize::from(thread < clients % THREADS);
                let mut clients: Vec<_> = (0..count).map(|_| Client::open(server, path)).collect();
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
