//! A bad network: a proxy that slows down, swallows or cuts what passes through it.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What becomes of a connection. `after` counts the bytes that the server has sent.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// All of it passes, in pieces of at most so many bytes, each kept for so long.
    Delay { piece: usize, by: Duration },
    /// The cable is pulled: nothing passes any more, and nobody is told.
    Drop { after: u64 },
    /// The server is told that the client has said all. What it sends still passes.
    HalfClose { after: u64 },
    /// Both ends are reset.
    Reset { after: u64 },
}

/// A proxy in front of one server. When dropped, all that goes through it is cut.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    links: Arc<Links>,
}

#[derive(Debug)]
struct Links {
    fault: Fault,
    /// A link that is in here stays open, whoever has stopped reading it.
    open: Mutex<HashMap<SocketAddr, Arc<Link>>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Link {
    name: SocketAddr,
    client: TcpStream,
    server: TcpStream,
    /// Nothing is to pass any more, not even an end.
    cut: AtomicBool,
}

impl Proxy {
    pub fn start(server: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let links = Arc::new(Links {
            fault,
            open: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&links);
        thread::spawn(move || {
            for client in listener.incoming() {
                if theirs.closed.load(Ordering::SeqCst) {
                    return;
                }
                theirs.add(client.expect("a client"), server);
            }
        });
        Self { address, links }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.links.closed.store(true, Ordering::SeqCst);
        for (_, link) in self.links.open.lock().expect("no panic").drain() {
            link.end(Shutdown::Both);
        }
        // Its thread waits for a client: this is the last.
        let _ = TcpStream::connect(self.address);
    }
}

impl Links {
    /// Starts a link, with a thread for each direction. They end with it.
    fn add(self: &Arc<Self>, client: TcpStream, server: SocketAddr) {
        let name = client.peer_addr().expect("connected");
        let server = TcpStream::connect(server).expect("the server listens");
        let link = Arc::new(Link {
            name,
            client,
            server,
            cut: AtomicBool::new(false),
        });
        self.open
            .lock()
            .expect("no panic")
            .insert(name, Arc::clone(&link));
        let (links, there) = (Arc::clone(self), Arc::clone(&link));
        thread::spawn(move || there.carry_to_server(&links));
        let links = Arc::clone(self);
        thread::spawn(move || link.carry_to_client(&links));
    }

    fn forget(&self, link: &Link) {
        self.open.lock().expect("no panic").remove(&link.name);
    }
}

impl Link {
    fn carry_to_server(&self, links: &Links) {
        let mut piece = vec![0; piece_bytes(links.fault)];
        while let Ok(read @ 1..) = (&self.client).read(&mut piece) {
            pause(links.fault);
            if self.cut.load(Ordering::SeqCst) || (&self.server).write_all(&piece[..read]).is_err() {
                return;
            }
        }
        if !self.cut.load(Ordering::SeqCst) {
            let _ = self.server.shutdown(Shutdown::Write);
        }
    }

    fn carry_to_client(&self, links: &Links) {
        let mut piece = vec![0; piece_bytes(links.fault)];
        let mut carried = 0;
        while let Ok(read @ 1..) = (&self.server).read(&mut piece) {
            pause(links.fault);
            if (&self.client).write_all(&piece[..read]).is_err() {
                break;
            }
            carried += read as u64;
            match links.fault {
                Fault::Drop { after } if carried >= after => {
                    self.cut.store(true, Ordering::SeqCst);
                    return;
                }
                Fault::Reset { after } if carried >= after => {
                    self.reset();
                    break;
                }
                Fault::HalfClose { after } if carried >= after => {
                    let _ = self.server.shutdown(Shutdown::Write);
                }
                _ => {}
            }
        }
        if !self.cut.load(Ordering::SeqCst) {
            self.end(Shutdown::Write);
        }
        links.forget(self);
    }

    /// Makes both ends be reset as soon as both threads have let go of them.
    fn reset(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for end in [&self.client, &self.server] {
            SockRef::from(end)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket");
        }
        // Sends nothing, and wakes the other thread.
        let _ = self.client.shutdown(Shutdown::Read);
    }

    fn end(&self, client: Shutdown) {
        // Both fail only if the other side has been here first.
        let _ = self.client.shutdown(client);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn piece_bytes(fault: Fault) -> usize {
    match fault {
        Fault::Delay { piece, .. } => piece,
        _ => 64 * 1024,
    }
}

fn pause(fault: Fault) {
    if let Fault::Delay { by, .. } = fault {
        // The delay is what this is for.
        thread::sleep(by);
    }
}
