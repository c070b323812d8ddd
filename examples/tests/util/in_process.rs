//! A server of the examples' library on a thread of the test, and plain clients of it.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use examples::limits::Limits;
use examples::origin::AllowedOrigins;
use examples::server::{App, Server, Stopper};

/// Runs a server for as long as `client` takes.
pub fn serve(limits: Limits, mut app: impl App + Send, client: impl FnOnce(SocketAddr)) {
    let address = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(address, limits, AllowedOrigins::default()).expect("a free port");
    let (address, stop) = (server.local_addr().expect("bound"), server.stopper());
    thread::scope(|scope| {
        let running = scope.spawn(move || server.run(&mut app));
        // Stops the server also if `client` panics; otherwise the scope waits forever.
        let stop = StopOnDrop(stop);
        client(address);
        drop(stop);
        running.join().expect("no panic").expect("a clean end");
    });
}

pub struct StopOnDrop(pub Stopper);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
}

/// Sends all of `request`, and reads until the server closes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).expect("sent");
    read_all(&mut stream)
}

/// Reads until the server closes.
pub fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end, not a reset");
    String::from_utf8(answer).expect("text")
}
