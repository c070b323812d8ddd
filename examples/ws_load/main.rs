//! `cargo run --release --example ws_load -- --addr 127.0.0.1:7681 --clients 100 --seconds 5`
//!
//! Load for `ws_stream`: clients that read endless streams as fast as they come, check that no
//! message is missing, doubled or of another size, and count them. One thread. Frames are parsed in
//! place and payloads are not kept, so that the measured time is mostly the server's. The clock
//! starts before the first stream is requested, so nothing is sent before it.

mod frames;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use examples::options::{self, Arguments, Stop};
use examples::signals;
use frames::Frames;

/// All sockets are read once in this time. If the client slept until each message, the server's
/// kernel would have to wake it each time. Clients on other machines do not cause this cost.
const TURN: Duration = Duration::from_millis(1);

/// Time between two checks for the end while nothing arrives.
const GLANCE: Duration = Duration::from_millis(100);

/// The longest answer to the handshake.
const HEAD_MAX: usize = 16 * 1024;

struct Options {
    addr: SocketAddr,
    clients: usize,
    duration: Duration,
    size: u64,
}

fn main() -> ExitCode {
    examples::options::main("ws_load", run)
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 7681)),
            clients: 100,
            duration: Duration::from_secs(5),
            size: 1024,
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "Reads the streams of ws_stream, checks and counts them.\n";
    const OWN: &str = "  --addr ADDRESS         IP address and port of the server [127.0.0.1:7681]
  --clients N            WebSockets to open, 1 to 1000000 [100]
  --seconds N            how long to count, 1 to 604800; Ctrl-C ends it sooner [5]
  --size N               bytes of a message, 8 to 4194304 [1024]
";
    const EXIT_CODES: &str = "\
Exit codes: 0 if every stream was complete, 1 if a check has failed or after another
error, 2 for bad options.
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "addr" => self.addr = arguments.socket_address()?,
            "clients" => self.clients = arguments.number(1..=1_000_000)?,
            "seconds" => self.duration = arguments.seconds(1..=604_800)?,
            "size" => self.size = arguments.number(8..=4 << 20)?,
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let ended = Arc::new(AtomicBool::new(false));
    signals::set_on_signals(&ended)?;
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    for index in 0..options.clients {
        let mut client = Client::connect(options)?;
        // At once: a server may close connections that stay silent.
        let asked = client.ask(options);
        asked.map_err(|error| format!("client {index} of {}: {error}", options.addr))?;
        poll.registry()
            .register(&mut client.socket, Token(index), Interest::READABLE)?;
        clients.push(client);
    }
    while start.elapsed() < options.duration && !ended.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(GLANCE)) {
            // SIGSTOP and SIGCONT interrupt the poll.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let index = event.token().0;
            let client = &mut clients[index];
            let mut read = client.read_all(&mut buffer);
            if event.is_read_closed() {
                // The first read may have returned data and left the end of the input. No event follows.
                read = read.and_then(|()| client.read_all(&mut buffer));
            }
            read.map_err(|error| format!("client {index} of {}: {error}", options.addr))?;
        }
        thread::sleep(TURN);
    }
    if clients.iter().all(|client| client.messages() == 0) {
        return Err(format!("no message has come from {}", options.addr).into());
    }
    Ok(report(&clients, start.elapsed().as_secs_f64())?)
}

fn report(clients: &[Client], seconds: f64) -> io::Result<()> {
    let messages: u64 = clients.iter().map(Client::messages).sum();
    let bytes: u64 = clients.iter().map(|client| client.bytes).sum();
    let counts = || clients.iter().map(Client::messages);
    let least = counts().min().unwrap_or_default();
    let most = counts().max().unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{messages} messages in {seconds:.2} s: {:.0} messages/s, {:.1} MB/s",
        messages as f64 / seconds,
        bytes as f64 / seconds / 1e6
    )?;
    let count = clients.len();
    writeln!(
        out,
        "{count} clients, each got {least} to {most}, every sequence complete"
    )
}

/// One WebSocket, and where in its stream of frames it is.
struct Client {
    socket: TcpStream,
    /// The answer to the handshake, until all of it is there.
    head: Option<Vec<u8>>,
    frames: Frames,
    bytes: u64,
}

impl Client {
    /// Connects, and waits for it. The socket does not block afterwards.
    fn connect(options: &Options) -> Result<Self, String> {
        let addr = options.addr;
        let connected = std::net::TcpStream::connect(addr).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = connected.map_err(|error| format!("cannot connect to {addr}: {error}"))?;
        Ok(Self {
            socket: TcpStream::from_std(socket),
            head: Some(Vec::new()),
            frames: Frames::new(options.size),
            bytes: 0,
        })
    }

    /// Whole messages so far.
    fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Asks for a stream.
    fn ask(&mut self, options: &Options) -> io::Result<()> {
        write!(
            self.socket,
            "GET /stream?chunks=0&size={} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            options.size, options.addr
        )
    }

    fn read_all(&mut self, buffer: &mut [u8]) -> Result<(), Box<dyn Error>> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(read) => {
                    let frames = self.pass_head(&buffer[..read])?;
                    self.bytes += frames.len() as u64;
                    self.frames.parse(frames)?;
                    self.answer_pings()?;
                    if read < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What comes after the answer to the handshake.
    fn pass_head<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Some(head) = &mut self.head else {
            return Ok(bytes);
        };
        for (index, byte) in bytes.iter().enumerate() {
            head.push(*byte);
            if head.ends_with(b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101 ") {
                    let head = String::from_utf8_lossy(head);
                    let status = head.lines().next().unwrap_or_default();
                    let reason = String::from_utf8_lossy(&bytes[index + 1..]);
                    let reason = reason.lines().next().unwrap_or_default();
                    let answer = format!("the server answers {status:?} {reason}");
                    return Err(io::Error::other(answer.trim_end().to_owned()));
                }
                self.head = None;
                return Ok(&bytes[index + 1..]);
            }
            if head.len() > HEAD_MAX {
                return Err(io::Error::other("the server does not speak HTTP"));
            }
        }
        Ok(&[])
    }

    /// Answers pings: the server closes connections that do not.
    fn answer_pings(&mut self) -> io::Result<()> {
        let pongs = self.frames.take_pongs();
        self.socket.write_all(&pongs)
    }
}
