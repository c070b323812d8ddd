//! Simulates a client on a slow network: it reads only as many bytes as the test asks for, and its
//! kernel keeps few that it has not read.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct RawClient(TcpStream);

#[derive(Debug)]
pub enum Frame {
    Data {
        length: usize,
        is_final: bool,
    },
    Ping,
    Pong(Vec<u8>),
    /// None for a close frame without a code.
    Close(Option<u16>),
}

impl RawClient {
    /// Connects. The kernel keeps about `buffer` bytes that the client has not read.
    pub fn connect(address: SocketAddr, buffer: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        // Before the connection is made, since it decides on the window.
        socket.set_recv_buffer_size(buffer).expect("a size");
        socket.connect(&address.into()).expect("it listens");
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    /// Opens a WebSocket.
    pub fn open(address: SocketAddr, path: &str, buffer: usize) -> Self {
        let mut client = Self::connect(address, buffer);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send_raw(request.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(client.read_into(&mut head, 1), 1, "an answer");
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101 "),
            "{}",
            String::from_utf8_lossy(&head)
        );
        client
    }

    /// Reads at most so many bytes, behind what is in `bytes`. Returns how many; 0 at the end, or if
    /// the connection was reset.
    pub fn read_into(&mut self, bytes: &mut Vec<u8>, most: usize) -> usize {
        let length = bytes.len();
        bytes.resize(length + most, 0);
        let read = self.0.read(&mut bytes[length..]).unwrap_or(0);
        bytes.truncate(length + read);
        read
    }

    /// False if the server has gone.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        assert!(self.try_send(opcode, payload), "the server has gone");
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    /// Sends a frame with a mask of zeros. False if the server has gone.
    pub fn try_send(&mut self, opcode: u8, payload: &[u8]) -> bool {
        let length = u8::try_from(payload.len()).expect("a short payload");
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).is_ok()
    }

    /// Closes the sending half, without a close frame.
    pub fn shutdown(&mut self) {
        self.0.shutdown(Shutdown::Write).expect("half closed");
    }

    /// Reads at most so many bytes. 0 if there are none any more.
    pub fn read_some(&mut self, bytes: usize) -> usize {
        self.0.read(&mut vec![0; bytes]).unwrap_or(0)
    }

    pub fn read_frame(&mut self) -> Frame {
        self.try_read_frame().expect("a frame, not an end")
    }

    /// The next frame. None at the end. A reset is a panic.
    fn try_read_frame(&mut self) -> Option<Frame> {
        let mut front = [0; 2];
        match self.0.read(&mut front[..1]) {
            Ok(0) => return None,
            Ok(_) => self.0.read_exact(&mut front[1..]).expect("a whole frame"),
            Err(error) => panic!("neither a frame nor an end: {error}"),
        }
        let length = match front[1] {
            126 => usize::from(u16::from_be_bytes(self.read_array())),
            127 => usize::try_from(u64::from_be_bytes(self.read_array())).expect("a length"),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).expect("a whole frame");
        Some(match front[0] & 0xF {
            0..=2 => Frame::Data {
                length,
                is_final: front[0] & 0x80 != 0,
            },
            8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            9 => Frame::Ping,
            10 => Frame::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        })
    }

    fn read_array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("a whole frame");
        bytes
    }

    /// Reads to the end: the lengths of the messages, and the code of the close frame. Answers the
    /// close frame, as a client does.
    pub fn read_stream(&mut self) -> (Vec<usize>, Option<u16>) {
        let (mut messages, mut begun) = (Vec::new(), 0);
        while let Some(frame) = self.try_read_frame() {
            match frame {
                Frame::Data { length, is_final } => {
                    begun += length;
                    if is_final {
                        messages.push(std::mem::take(&mut begun));
                    }
                }
                Frame::Close(code) => {
                    // The server may have gone already, if this client has closed before.
                    let code_bytes = code.map(u16::to_be_bytes);
                    self.try_send(8, code_bytes.as_ref().map_or(&[], |bytes| &bytes[..]));
                    return (messages, code);
                }
                Frame::Ping | Frame::Pong(_) => {}
            }
        }
        (messages, None)
    }
}
