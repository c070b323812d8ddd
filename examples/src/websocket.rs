//! The WebSocket side of a connection.
//!
//! tungstenite parses what the client sends. What the server sends is framed here: a message goes
//! to the kernel from where it lies, and a long one in fragments, so that pongs need not wait for
//! its end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use crate::limits::Limits;
use crate::message_queue::{MessageQueue, QueueLimit, Queued, SlowPolicy};
use crate::payload::Payload;
use crate::socket::Socket;

/// Clients of the examples send little, and thousands of them should cost little.
const READ_BUFFER: usize = 512;

/// The longest frame that is sent. A pong waits for the end of one frame.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Short frames are written together until they are this long.
const WRITE_BYTES_MIN: usize = 16 * 1024;

/// Answers to pings that wait for a client. Beyond this, the oldest pings stay unanswered, which
/// RFC 6455, section 5.5.3, allows.
const PONGS_MAX: usize = 32;

/// Places of the queue of pongs that an idle connection keeps.
const KEPT_PONGS: usize = 4;

#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
    phase: Phase,
    /// Messages whose frames are not with the socket yet, in order.
    messages: MessageQueue,
    /// The payloads of the answers to the newest pings, in order.
    pongs: VecDeque<Bytes>,
    close: Close,
    /// When the client has last read something that was blocked, or sent something while nothing
    /// was.
    active_at: Instant,
    /// Since when the answer to a ping is awaited.
    pinged_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame is queued or sent, and that of the client is awaited.
    Closing,
    /// Input is ignored. What was accepted is sent.
    Closed,
}

/// The close frame of this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    NotAsked,
    /// None for a frame without a code.
    Queued(Option<CloseCode>, &'static str),
    /// Nothing may follow it.
    Sent,
}

/// Result of [`WebSocket::receive`].
#[derive(Debug)]
pub enum Received {
    Message(Message),
    /// A frame that the app does not see.
    Control,
    /// More has to arrive.
    Incomplete,
    /// The client has closed, or has violated the protocol; a close frame is queued.
    End,
}

impl WebSocket {
    pub fn new(limits: &Limits, now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(limits.message_bytes))
            .max_message_size(Some(limits.message_bytes));
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            phase: Phase::Open,
            messages: MessageQueue::default(),
            pongs: VecDeque::new(),
            close: Close::NotAsked,
            active_at: now,
            pinged_at: None,
        }
    }

    /// Takes the next message out of `inbox`.
    pub fn receive(&mut self, inbox: &mut BytesMut) -> Received {
        if self.phase == Phase::Closed {
            inbox.clear();
            return Received::Incomplete;
        }
        match self.context.read(&mut Inbox(inbox)) {
            Ok(Message::Close(frame)) => {
                // The reply repeats the code.
                self.queue_close(frame.map(|frame| frame.code), "");
                self.phase = Phase::Closed;
                Received::End
            }
            Ok(message @ (Message::Text(_) | Message::Binary(_))) if self.phase == Phase::Open => {
                Received::Message(message)
            }
            Ok(Message::Ping(payload)) => {
                self.queue_pong(&payload);
                Received::Control
            }
            Ok(_) => Received::Control,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Received::Incomplete,
            Err(error) => {
                self.queue_close(Some(close_code(&error)), "");
                self.phase = Phase::Closed;
                Received::End
            }
        }
    }

    fn queue_pong(&mut self, payload: &[u8]) {
        if self.close == Close::Sent {
            return;
        }
        if self.pongs.len() == PONGS_MAX {
            self.pongs.pop_front();
        }
        // A copy, since the payload would keep all bytes that came with it.
        self.pongs.push_back(Bytes::copy_from_slice(payload));
    }

    /// Sends a message, behind the answers to the pings that came before. False if this side has
    /// closed.
    pub fn send(&mut self, socket: &mut Socket, data: Data, payload: &Payload<'_>) -> io::Result<bool> {
        if self.phase != Phase::Open {
            return Ok(false);
        }
        if socket.unsent() == 0 && self.messages.is_empty() {
            while self.push_pong(socket)? {}
            socket.flush()?;
        }
        if !self.messages.is_empty() || socket.unsent() > 0 {
            self.messages.push(data, payload.keep(payload.bytes()));
            return Ok(true);
        }
        let mut data = data;
        let mut rest = payload.bytes();
        loop {
            let (frame, after) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
            let head = head(OpCode::Data(data), frame.len(), after.is_empty())?;
            socket.send(&head, frame, payload)?;
            (data, rest) = (Data::Continue, after);
            if rest.is_empty() {
                return Ok(true);
            }
            if socket.unsent() > 0 {
                self.messages.push(data, payload.keep(rest));
                return Ok(true);
            }
        }
    }

    /// Applies the policy of `limit` if a message of `bytes` does not fit. Returns the number of
    /// messages that are lost by that. After [`SlowPolicy::Disconnect`] this side has closed.
    pub fn make_room(&mut self, socket: &Socket, bytes: usize, limit: QueueLimit, now: Instant) -> usize {
        let fits = |messages: &MessageQueue| {
            let queued = messages.bytes() + socket.unsent();
            queued == 0 || queued + bytes <= limit.bytes
        };
        if self.phase != Phase::Open || fits(&self.messages) {
            return 0;
        }
        match limit.policy {
            SlowPolicy::DropOldest => {
                let mut dropped = 0;
                while !fits(&self.messages) && self.messages.drop_oldest() {
                    dropped += 1;
                }
                dropped
            }
            SlowPolicy::Latest => self.messages.drop_waiting(),
            SlowPolicy::Disconnect => {
                let dropped = self.messages.drop_waiting();
                self.close(CloseCode::Again, "the client reads too slowly", now);
                // The new one is lost, too.
                dropped + 1
            }
        }
    }

    /// What waits for the client.
    pub fn queued(&self, socket: &Socket) -> Queued {
        Queued {
            messages: self.messages.len(),
            bytes: self.messages.bytes() + socket.unsent(),
        }
    }

    /// Closes this side: what was accepted is sent, then the close frame. The end comes when the
    /// client has closed, too.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Instant) {
        if self.phase == Phase::Open {
            self.note_activity(now);
            self.phase = Phase::Closing;
            self.queue_close(Some(code), reason);
        }
    }

    fn queue_close(&mut self, code: Option<CloseCode>, reason: &'static str) {
        if self.close == Close::NotAsked {
            self.close = Close::Queued(code, reason);
        }
    }

    /// The client sends no more: what was accepted is sent, and that is the end.
    pub fn end(&mut self) {
        self.phase = Phase::Closed;
        if self.close == Close::NotAsked {
            self.close = Close::Sent;
        }
    }

    /// Hands the socket the next frames, as far as the kernel takes them.
    pub fn flush(&mut self, socket: &mut Socket) -> io::Result<()> {
        loop {
            socket.flush()?;
            if socket.unsent() > 0 {
                return Ok(());
            }
            while socket.unsent() < WRITE_BYTES_MIN && self.push_frame(socket)? {}
            if socket.unsent() == 0 {
                self.shrink();
                return Ok(());
            }
        }
    }

    /// Gives memory back that is not used now.
    fn shrink(&mut self) {
        self.messages.shrink();
        if self.pongs.capacity() > KEPT_PONGS {
            self.pongs = VecDeque::new();
        }
    }

    /// Queues one frame on the socket. False if there is none.
    fn push_frame(&mut self, socket: &mut Socket) -> io::Result<bool> {
        if self.push_pong(socket)? {
            return Ok(true);
        }
        if let Some(frame) = self.messages.take_frame(FRAME_BYTES_MAX) {
            let opcode = OpCode::Data(frame.data);
            socket.push(head(opcode, frame.payload.len(), frame.is_final)?.into());
            socket.push(frame.payload);
            return Ok(true);
        }
        let Close::Queued(code, reason) = self.close else {
            return Ok(false);
        };
        let mut payload = Vec::with_capacity(2 + reason.len());
        if let Some(code) = code {
            payload.extend_from_slice(&u16::from(code).to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        socket.push(head(OpCode::Control(Control::Close), payload.len(), true)?.into());
        socket.push(payload.into());
        self.close = Close::Sent;
        Ok(true)
    }

    /// Queues the answer to the oldest ping on the socket. False if there is none.
    fn push_pong(&mut self, socket: &mut Socket) -> io::Result<bool> {
        let Some(payload) = self.pongs.pop_front() else {
            return Ok(false);
        };
        socket.push(head(OpCode::Control(Control::Pong), payload.len(), true)?.into());
        socket.push(payload);
        Ok(true)
    }

    /// Bytes that wait for the socket, if more than one message waits.
    pub fn backlog(&self) -> usize {
        if self.messages.len() > 1 {
            self.messages.memory()
        } else {
            0
        }
    }

    /// When the client has last made progress.
    pub fn active_at(&self) -> Instant {
        self.active_at
    }

    /// Whether this side has not closed.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether both sides have closed, and everything is with the socket.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.close == Close::Sent && self.messages.is_empty()
    }

    /// The client has sent something, or has read something of what had been blocked.
    pub fn note_activity(&mut self, now: Instant) {
        self.active_at = now;
        self.pinged_at = None;
    }

    /// Whether the client makes progress. Pings one that is silent while it has nothing to read.
    ///
    /// A client that has something to read is alive if it reads: its pong may wait behind that.
    pub fn check_progress(
        &mut self,
        socket: &mut Socket,
        idle_time: Duration,
        now: Instant,
    ) -> io::Result<bool> {
        let silent_for = now.duration_since(self.active_at);
        if socket.unsent() > 0 || self.close == Close::Sent {
            return Ok(silent_for < idle_time);
        }
        // A client is closed only after a ping without an answer: this process may have been stopped.
        match self.pinged_at {
            Some(since) => Ok(now.duration_since(since) < idle_time),
            None if silent_for < idle_time / 2 => Ok(true),
            None => {
                self.pinged_at = Some(now);
                socket.push(head(OpCode::Control(Control::Ping), 0, true)?.into());
                Ok(true)
            }
        }
    }
}

fn head(opcode: OpCode, length: usize, is_final: bool) -> io::Result<Vec<u8>> {
    let header = FrameHeader {
        opcode,
        is_final,
        ..FrameHeader::default()
    };
    let mut head = Vec::with_capacity(10);
    header
        .format(length as u64, &mut head)
        .map_err(io::Error::other)?;
    Ok(head)
}

/// What to tell a client that has broken the rules.
fn close_code(error: &Error) -> CloseCode {
    match error {
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Capacity(_) => CloseCode::Size,
        _ => CloseCode::Protocol,
    }
}

/// What has arrived, as tungstenite reads it. What it would write by itself, pongs and the reply
/// to a close frame, [`WebSocket`] sends in [`flush`](WebSocket::flush).
struct Inbox<'a>(&'a mut BytesMut);

impl Read for Inbox<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0.advance(length);
        Ok(length)
    }
}

impl Write for Inbox<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
