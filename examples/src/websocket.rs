//! The WebSocket side of a connection: tungstenite over a [`Wire`], and its end.

use std::io::{self, ErrorKind};
use std::time::Instant;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Error, Message};

use super::limits::Limits;
use super::wire::Wire;

/// Clients of the examples send little; thousands of them should cost little.
const READ_BUFFER: usize = 4096;

#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
    /// When this side has said goodbye.
    closing_since: Option<Instant>,
    heard_at: Instant,
    /// Since when an answer is waited for.
    pinged_at: Option<Instant>,
}

/// What reading has brought.
#[derive(Debug)]
pub enum Received {
    Message(Message),
    /// A frame that is of no interest outside.
    Control,
    Nothing,
    /// Goodbye has been said on both sides, or the client cannot be understood.
    End,
}

/// What a look at the clock says.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulse {
    Alive,
    Dead,
}

impl WebSocket {
    /// `rest` is what the client has sent after its handshake.
    pub fn new(rest: Vec<u8>, limits: &Limits, now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(limits.message_bytes))
            .max_message_size(Some(limits.message_bytes));
        Self {
            context: WebSocketContext::from_partially_read(rest, Role::Server, Some(config)),
            closing_since: None,
            heard_at: now,
            pinged_at: None,
        }
    }

    pub fn receive(&mut self, wire: &mut Wire, limits: &Limits, now: Instant) -> io::Result<Received> {
        // Reading makes pongs: a client that pings without reading must not fill the memory.
        if wire.unsent() >= limits.unsent_bytes {
            return Ok(Received::Nothing);
        }
        let received = self.context.read(wire);
        if received.is_ok() {
            self.note_life(now);
        }
        match received {
            Ok(Message::Close(_)) => {
                // Puts the reply on the wire, and always reports the end.
                let _ = self.context.flush(wire);
                Ok(Received::End)
            }
            Ok(message @ (Message::Text(_) | Message::Binary(_))) if self.closing_since.is_none() => {
                Ok(Received::Message(message))
            }
            Ok(_) => {
                // The pong, if that was a ping.
                let _ = self.context.flush(wire);
                Ok(Received::Control)
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(Error::Io(error)) => Err(error),
            Err(error) => {
                if let Some(code) = close_code(&error) {
                    self.close(wire, code, "", now);
                }
                Ok(Received::End)
            }
        }
    }

    /// Sends a binary message. False if goodbye has been said.
    pub fn send(&mut self, wire: &mut Wire, payload: &[u8]) -> io::Result<bool> {
        if !self.context.can_write() {
            return Ok(false);
        }
        // Not through tungstenite, which would copy the payload twice.
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            ..FrameHeader::default()
        };
        let mut head = Vec::with_capacity(10);
        header
            .format(payload.len() as u64, &mut head)
            .map_err(io::Error::other)?;
        wire.send(&head, payload)?;
        Ok(true)
    }

    /// Says goodbye; the end is reported once the client has, too.
    pub fn close(&mut self, wire: &mut Wire, code: CloseCode, reason: &'static str, now: Instant) {
        self.closing_since.get_or_insert(now);
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // Fails only if the client has said goodbye already.
        let _ = self.context.close(wire, Some(frame));
    }

    /// The client has given a sign of life.
    pub fn note_life(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    /// Pings a silent client, gives up one that has not answered. Nobody is given up without
    /// having been asked: it may have been this process that was not there for a while.
    pub fn check_pulse(&mut self, wire: &mut Wire, limits: &Limits, now: Instant) -> Pulse {
        let patience = limits.idle_time / 2;
        if let Some(since) = self.closing_since {
            return if now.duration_since(since) < limits.goodbye_time {
                Pulse::Alive
            } else {
                Pulse::Dead
            };
        }
        match self.pinged_at {
            Some(since) if now.duration_since(since) >= patience => return Pulse::Dead,
            None if now.duration_since(self.heard_at) >= patience => {
                self.pinged_at = Some(now);
                let _ = self.context.write(wire, Message::Ping(Bytes::new()));
            }
            Some(_) | None => {}
        }
        Pulse::Alive
    }
}

/// What to tell a client that has broken the rules. None if it is not there to be told.
fn close_code(error: &Error) -> Option<CloseCode> {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Protocol(ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Capacity(_) => Some(CloseCode::Size),
        _ => None,
    }
}
