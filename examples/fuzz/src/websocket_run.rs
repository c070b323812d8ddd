//! One connection of WebSocket, driven as `examples::connection` drives it.

use std::time::Instant;

use bytes::BytesMut;
use examples::limits::Limits;
use examples::websocket::{Received, WebSocket};

use crate::wire::Wire;

/// Small, so that short inputs reach it; but longer than what a frame says in its first bytes.
pub const MESSAGE_BYTES: usize = 130;

/// What has become of the bytes of a client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether each message is text, and its payload.
    pub messages: Vec<(bool, Vec<u8>)>,
    /// Whether the server has ended the conversation.
    pub has_ended: bool,
    /// The pongs and the close frame that the client has got.
    pub sent: Vec<u8>,
}

/// Receives `bytes` in pieces with these ends, and then lets the client read.
pub fn receive(wire: &mut Wire, bytes: &[u8], ends: &[usize]) -> Outcome {
    let limits = Limits {
        message_bytes: MESSAGE_BYTES,
        ..Limits::default()
    };
    let mut websocket = WebSocket::new(&limits, Instant::now());
    let mut inbox = BytesMut::new();
    let mut outcome = Outcome::default();
    let mut used = 0;
    for end in ends {
        inbox.extend_from_slice(&bytes[used..*end]);
        used = *end;
        loop {
            match websocket.receive(&mut inbox) {
                Received::Message(message) => {
                    let is_text = message.is_text();
                    outcome.messages.push((is_text, message.into_data().to_vec()));
                }
                Received::Control => {}
                Received::Incomplete => break,
                Received::End => outcome.has_ended = true,
            }
        }
    }
    websocket.flush(&mut wire.socket).expect("the connection is open");
    outcome.sent = wire.take_sent();
    outcome
}
