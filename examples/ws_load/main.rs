//! `cargo run --release --example ws_load -- --addr 127.0.0.1:7681 --clients 100 --seconds 5`
//!
//! Load for `ws_stream`: clients that read endless streams as fast as they come, check that no
//! message is missing or doubled, and say how many there were. One thread; frames are parsed in
//! place and payloads are not kept, so that what is measured is mostly the server. The clock runs
//! from before the first stream is asked for: what piles up in sockets meanwhile is no free lunch.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::{Long, Short, ValueExt};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What arrives meanwhile is read together. A client that waited for each message would have the
/// server's kernel wake it for each, which clients on other machines do not ask of a server.
const TURN: Duration = Duration::from_millis(1);

/// How often it looks whether it is over while nothing arrives.
const GLANCE: Duration = Duration::from_millis(100);

const HELP: &str = "\
Reads the streams of ws_stream, checks and counts them.

Usage: ws_load [options]

  --addr ADDRESS  of the server [127.0.0.1:7681]
  --clients N     WebSockets to open [100]
  --seconds N     how long to count; Ctrl-C ends it sooner [5]
  --size N        bytes of a message [1024]
  --help          this text
";

struct Options {
    addr: SocketAddr,
    clients: usize,
    seconds: u64,
    size: usize,
}

fn main() -> ExitCode {
    let (outcome, failure) = match parse() {
        Ok(Some(options)) => (run(&options), ExitCode::FAILURE),
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => (Err(error), ExitCode::from(2)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ws_load: {error}");
            failure
        }
    }
}

fn parse() -> Result<Option<Options>, Box<dyn Error>> {
    let addr = SocketAddr::from(([127, 0, 0, 1], 7681));
    let mut options = Options {
        addr,
        clients: 100,
        seconds: 5,
        size: 1024,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("addr") => options.addr = arguments.value()?.parse()?,
            Long("clients") => options.clients = arguments.value()?.parse()?,
            Long("seconds") => options.seconds = arguments.value()?.parse()?,
            Long("size") => options.size = arguments.value()?.parse()?,
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.clients == 0 {
        return Err("--clients must be 1 or more".into());
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    ctrlc::set_handler(move || end.store(true, Ordering::Relaxed))?;
    let mut poll = Poll::new()?;
    let mut clients = Vec::with_capacity(options.clients);
    for _ in 0..options.clients {
        clients.push(Client::connect(options.addr)?);
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    for (index, client) in clients.iter_mut().enumerate() {
        client.ask(options)?;
        poll.registry()
            .register(&mut client.socket, Token(index), Interest::READABLE)?;
    }
    let duration = Duration::from_secs(options.seconds);
    while start.elapsed() < duration && !ended.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(GLANCE)) {
            // Stopped and continued, for one.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            clients[event.token().0].read_all(&mut buffer)?;
        }
        thread::sleep(TURN);
    }
    Ok(report(&clients, start.elapsed().as_secs_f64())?)
}

fn report(clients: &[Client], seconds: f64) -> io::Result<()> {
    let messages: u64 = clients.iter().map(|client| client.messages).sum();
    let bytes: u64 = clients.iter().map(|client| client.bytes).sum();
    let least = clients
        .iter()
        .map(|client| client.messages)
        .min()
        .unwrap_or_default();
    let most = clients
        .iter()
        .map(|client| client.messages)
        .max()
        .unwrap_or_default();
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
    /// The frame's header, and the number its payload starts with: at most 10 + 8 bytes.
    front: Vec<u8>,
    /// Of the frame that has begun, still to come.
    payload_left: u64,
    messages: u64,
    bytes: u64,
}

impl Client {
    /// Blocks, and no more afterwards.
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpStream::connect(addr)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpStream::from_std(socket),
            head: Some(Vec::new()),
            front: Vec::with_capacity(18),
            payload_left: 0,
            messages: 0,
            bytes: 0,
        })
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
                Ok(0) => return Err("the server has closed a stream".into()),
                Ok(read) => {
                    let frames = self.pass_head(&buffer[..read])?;
                    self.bytes += frames.len() as u64;
                    self.parse(frames)?;
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
                    return Err(io::Error::other(String::from_utf8_lossy(head)));
                }
                self.head = None;
                return Ok(&bytes[index + 1..]);
            }
        }
        Ok(&[])
    }

    fn parse(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len() as u64);
            self.payload_left -= skipped;
            bytes = &bytes[skipped as usize..];
            while self.payload_left == 0 && !bytes.is_empty() {
                self.front.push(bytes[0]);
                bytes = &bytes[1..];
                self.begin_frame()?;
            }
        }
        Ok(())
    }

    /// Looks at the front of a frame, once all of it is there.
    fn begin_frame(&mut self) -> io::Result<()> {
        let length_bytes = match self.front.get(1) {
            None => return Ok(()),
            Some(126) => 2,
            Some(127) => 8,
            Some(_) => 0,
        };
        let header = 2 + length_bytes;
        // The server's ping, which is empty: a client that keeps silent is taken for dead.
        if self.front[..] == [0x89, 0] {
            self.front.clear();
            return self.socket.write_all(&[0x8A, 0x80, 0, 0, 0, 0]);
        }
        if self.front[0] != 0x82 {
            return Err(io::Error::other("a frame that is no whole binary message"));
        }
        if self.front.len() < header + 8 {
            return Ok(());
        }
        let length = match length_bytes {
            0 => u64::from(self.front[1]),
            _ => self.front[2..header]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let number = self.front[header..]
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        if number != self.messages + 1 {
            let text = format!("message {number} has come after message {}", self.messages);
            return Err(io::Error::other(text));
        }
        self.messages = number;
        self.payload_left = length - 8;
        self.front.clear();
        Ok(())
    }
}
