//! A non-blocking socket that remembers what it may do, and what it still has to send.
//!
//! mio reports *changes* (it is edge-triggered), so readiness is kept here. A read or write that
//! cannot succeed is answered from memory instead of by the kernel, which saves the `EAGAIN` that
//! would otherwise end every burst.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::payload::Payload;
use crate::ready::{Ready, is_ready};

/// Parts that one system call writes.
const PARTS_PER_WRITE: usize = 32;

/// Places of the queue that an idle connection keeps.
const KEPT_PLACES: usize = 8;

/// Limit of the bytes in the kernel that it has not sent yet.
///
/// Without this limit a kernel takes up to 4 MiB, and a pong waits behind them. With it, a pong
/// waits behind at most this much and one frame. A connection with a long round trip loses nothing,
/// because bytes on their way do not count.
const KERNEL_UNSENT_MAX: u32 = 64 * 1024;

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each of them is a fact of its own")]
pub struct Socket {
    stream: TcpStream,
    is_readable: bool,
    is_writable: bool,
    /// The client sends no more: reads go on until they have returned the end.
    is_read_closed: bool,
    /// A read stops before urgent data, so a short one does not mean that nothing follows.
    has_urgent: bool,
    /// What the kernel has not taken yet, in order.
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// All bytes that [`push`](Self::push) has got.
    pushed: u64,
}

impl Socket {
    /// Registers the stream once, for both directions, for as long as it lives.
    pub fn register(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        // Messages are written whole, so waiting for more to come would only add latency.
        stream.set_nodelay(true)?;
        limit_kernel_unsent(&stream, KERNEL_UNSENT_MAX)?;
        // Urgent data is data like any other.
        socket2::SockRef::from(&stream).set_out_of_band_inline(true)?;
        registry.register(&mut stream, token, interests())?;
        Ok(Self {
            stream,
            is_readable: false,
            is_writable: true,
            is_read_closed: false,
            has_urgent: false,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            pushed: 0,
        })
    }

    /// Records what the poll has reported. True if a blocked write may go on.
    pub fn note(&mut self, event: &Event) -> bool {
        let unblocked = !self.is_writable && event.is_writable();
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable();
        self.is_read_closed |= event.is_read_closed() || event.is_error();
        self.has_urgent |= event.is_priority();
        self.is_readable |= self.has_urgent;
        unblocked
    }

    /// Whether the client has said that it sends no more.
    pub fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    /// Bytes that wait for the kernel to take them.
    pub fn unsent(&self) -> usize {
        self.unsent_bytes
    }

    /// All bytes that [`push`](Self::push) has got.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Those of the pushed bytes that the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.pushed - self.unsent_bytes as u64
    }

    /// Queues `bytes` behind what is unsent. [`flush`](Self::flush) sends them.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pushed += bytes.len() as u64;
            self.unsent_bytes += bytes.len();
            self.unsent.push_back(bytes);
        }
    }

    /// Sends `head`, then `body`, from where they lie, as far as the kernel takes them at once.
    /// Keeps only the rest. `body` is a part of `payload`.
    pub fn send(&mut self, head: &[u8], body: &[u8], payload: &Payload<'_>) -> io::Result<()> {
        let mut taken = 0;
        if self.unsent_bytes == 0 && self.is_writable {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            taken = self.write(&parts, head.len() + body.len())?;
        }
        self.push(Bytes::copy_from_slice(&head[taken.min(head.len())..]));
        self.push(payload.keep(&body[taken.saturating_sub(head.len())..]));
        Ok(())
    }

    /// Writes as much of what is unsent as the kernel takes now.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.unsent_bytes > 0 && self.is_writable {
            let unsent = std::mem::take(&mut self.unsent);
            let mut parts = [IoSlice::new(&[]); PARTS_PER_WRITE];
            let mut length = 0;
            let mut count = 0;
            for (part, bytes) in parts.iter_mut().zip(&unsent) {
                *part = IoSlice::new(bytes);
                length += bytes.len();
                count += 1;
            }
            let taken = self.write(&parts[..count], length);
            self.unsent = unsent;
            self.remove_sent(taken?);
        }
        Ok(())
    }

    fn remove_sent(&mut self, mut taken: usize) {
        self.unsent_bytes -= taken;
        while let Some(front) = self.unsent.front_mut() {
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            taken -= front.len();
            self.unsent.pop_front();
        }
    }

    /// One write of `length` bytes. What it does not take waits for the next event.
    fn write(&mut self, parts: &[IoSlice<'_>], length: usize) -> io::Result<usize> {
        loop {
            match (&self.stream).write_vectored(parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.is_writable = taken == length;
                    return Ok(taken);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_writable = false;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives memory back that is not used now.
    pub fn shrink(&mut self) {
        if self.unsent.is_empty() && self.unsent.capacity() > KEPT_PLACES {
            self.unsent = VecDeque::new();
        }
    }

    /// Its own address and that of the client. None if the client has gone.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.stream.local_addr().ok()?, self.stream.peer_addr().ok()?))
    }

    /// Whether something waits to be read, that the poll may not have reported yet.
    pub fn has_input(&self) -> bool {
        is_ready(&self.stream, Ready::ToRead)
    }

    /// Makes the socket writable only once the kernel has sent everything.
    pub fn await_kernel(&mut self) -> io::Result<()> {
        limit_kernel_unsent(&self.stream, 1)
    }

    /// Undoes [`await_kernel`](Self::await_kernel).
    pub fn await_room(&mut self) -> io::Result<()> {
        limit_kernel_unsent(&self.stream, KERNEL_UNSENT_MAX)
    }

    /// Whether the kernel has sent everything, after [`await_kernel`](Self::await_kernel).
    pub fn has_kernel_sent_all(&self) -> bool {
        is_ready(&self.stream, Ready::ToWrite)
    }

    /// Turns TCP keep-alive on. The client's kernel answers until it has forgotten a connection
    /// that its program has closed: on Linux, for 60 seconds.
    pub fn keep_alive(&self) -> io::Result<()> {
        let times = socket2::TcpKeepalive::new()
            .with_time(KEEP_ALIVE_INTERVAL)
            .with_interval(KEEP_ALIVE_INTERVAL);
        socket2::SockRef::from(&self.stream).set_tcp_keepalive(&times)
    }

    /// Makes the end of the connection a reset, which the client takes for a failure.
    pub fn reset_at_end(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Tells the client that nothing more follows. It may still send.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_readable {
                return Err(ErrorKind::WouldBlock.into());
            }
            match self.stream.read(buffer) {
                Ok(read) => {
                    // A short read has emptied the socket, and what arrives from now on comes
                    // with an event of its own. Only an end that was already reported does not.
                    self.is_readable = read == buffer.len() || self.is_read_closed || self.has_urgent;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_readable &= error.kind() != ErrorKind::WouldBlock;
                    self.has_urgent &= self.is_readable;
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn interests() -> Interest {
    Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn interests() -> Interest {
    Interest::READABLE | Interest::WRITABLE
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_kernel_unsent(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes)
}

/// Elsewhere the kernel keeps its own limit.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_kernel_unsent(_stream: &TcpStream, _bytes: u32) -> io::Result<()> {
    Ok(())
}
