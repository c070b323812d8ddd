//! A non-blocking socket that remembers what it may do, and what it still has to send.
//!
//! mio reports *changes* (it is edge-triggered), so readiness has to be kept somewhere: here. A
//! read or write that cannot succeed is answered from memory instead of by the kernel, which
//! saves the `EAGAIN` that would otherwise end every burst.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A buffer that has grown beyond this is given back once it is empty.
const KEPT_CAPACITY: usize = 16 * 1024;

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The peer will send no more: reads go on until they have seen the end.
    read_closed: bool,
    /// Bytes the kernel has not taken yet: `out[sent..]`.
    out: Vec<u8>,
    sent: usize,
}

impl Wire {
    /// Registers the socket once, for both directions, for as long as it lives.
    pub fn register(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        // Messages are written whole, so waiting for more to come would only add latency.
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            readable: false,
            writable: true,
            read_closed: false,
            out: Vec::new(),
            sent: 0,
        })
    }

    /// Takes note of what the poll has reported. True if a blocked write may go on.
    pub fn note(&mut self, event: &Event) -> bool {
        let unblocked = !self.writable && event.is_writable();
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable();
        self.read_closed |= event.is_read_closed() || event.is_error();
        unblocked
    }

    /// Whether the peer has said that it will send no more.
    pub fn is_read_closed(&self) -> bool {
        self.read_closed
    }

    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Sends `head`, then `body`: from where they lie, as far as the kernel takes them at once.
    /// Only the rest is copied, to be sent by [`flush_out`](Self::flush_out).
    pub fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut taken = 0;
        if self.unsent() == 0 && self.writable {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            taken = self.try_write(head.len() + body.len(), |mut stream| {
                stream.write_vectored(&parts)
            })?;
        }
        self.out.extend_from_slice(&head[taken.min(head.len())..]);
        self.out
            .extend_from_slice(&body[taken.saturating_sub(head.len())..]);
        Ok(())
    }

    /// Writes as much of what is unsent as the kernel takes now.
    pub fn flush_out(&mut self) -> io::Result<()> {
        while self.unsent() > 0 && self.writable {
            let out = std::mem::take(&mut self.out);
            let rest = &out[self.sent..];
            let taken = self.try_write(rest.len(), |mut stream| stream.write(rest));
            self.out = out;
            self.sent += taken?;
        }
        if self.unsent() == 0 {
            self.sent = 0;
            self.out.clear();
            self.out.shrink_to(KEPT_CAPACITY);
        }
        Ok(())
    }

    /// One write of `len` bytes. Whatever it did not take is to wait for the next event.
    fn try_write(
        &mut self,
        len: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match write(&self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.writable = taken == len;
                    return Ok(taken);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more will be sent; the peer may still finish its part.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.readable {
                return Err(ErrorKind::WouldBlock.into());
            }
            match self.stream.read(buffer) {
                Ok(read) => {
                    // A short read has emptied the socket, and what arrives from now on comes
                    // with an event of its own. Only an end already announced does not.
                    self.readable = read == buffer.len() || self.read_closed;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.readable &= error.kind() != ErrorKind::WouldBlock;
                    return Err(error);
                }
            }
        }
    }
}

/// Never blocks and never fails: bytes are kept until [`Wire::flush_out`].
impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
