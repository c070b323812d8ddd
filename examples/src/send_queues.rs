//! How much of what was sent the clients' kernels have not acknowledged.
//!
//! A poll says when the kernel takes more bytes, not when a client's kernel takes them. A client that
//! reads slowly may be given up for this reason, unless the kernel is asked.

use std::collections::HashMap;
use std::net::SocketAddr;

/// The unacknowledged bytes of the system's connections at one moment.
#[derive(Debug, Default)]
pub struct SendQueues(HashMap<String, u64>);

impl SendQueues {
    /// Reads the kernel's table: about a microsecond for each connection of the system. Empty where
    /// there is no such table.
    pub fn read() -> Self {
        let mut queues = HashMap::new();
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            let text = std::fs::read_to_string(table).unwrap_or_default();
            // The first line is the heading.
            queues.extend(text.lines().skip(1).filter_map(parse));
        }
        Self(queues)
    }

    /// The unacknowledged bytes of one connection. None if the kernel does not tell.
    pub fn of(&self, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
        let key = format!("{} {}", in_table(local), in_table(peer));
        self.0.get(&key).copied()
    }
}

/// The addresses of a line, and its bytes.
fn parse(line: &str) -> Option<(String, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, peer) = (fields.next()?, fields.next()?);
    let (unacknowledged, _unread) = fields.nth(1)?.split_once(':')?;
    let bytes = u64::from_str_radix(unacknowledged, 16).ok()?;
    Some((format!("{local} {peer}"), bytes))
}

/// An address as the table has it: words of 32 bits in hexadecimal digits, and the port.
fn in_table(address: SocketAddr) -> String {
    let words = |octets: &[u8]| -> String {
        let words = octets.chunks_exact(4).map(|word| {
            let word: [u8; 4] = word.try_into().expect("four octets");
            format!("{:08X}", u32::from_ne_bytes(word))
        });
        words.collect()
    };
    let ip = match address {
        SocketAddr::V4(address) => words(&address.ip().octets()),
        SocketAddr::V6(address) => words(&address.ip().octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_is_not_acknowledged() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            let (mut server, peer) = listener.accept().expect("a client");
            let local = server.local_addr().expect("connected");
            assert_eq!(SendQueues::read().of(local, peer), Some(0));
            server.set_nonblocking(true).expect("a socket");
            let mut sent = 0;
            while let Ok(taken) = server.write(&[0; 4096]) {
                sent += taken;
            }
            let held = SendQueues::read().of(local, peer).expect("it is in the table");
            assert!(held > 0 && held <= sent as u64, "{held} of {sent}");
            client.read_exact(&mut vec![0; sent]).expect("all of it");
            let acknowledged = || SendQueues::read().of(local, peer) == Some(0);
            while !acknowledged() {
                std::thread::yield_now();
            }
        }
    }
}
