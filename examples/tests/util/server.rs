//! An example server in a process of its own, and plain HTTP to it.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

#[path = "pid.rs"]
pub mod pid;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut same = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.next().map(|(_, value)| value)
    }
}

impl Server {
    /// Starts `example` on a free port. Cargo has built it beside the tests.
    pub fn start(example: &str, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(path_of(example)).args(arguments))
    }

    /// The same under limits of `prlimit`: `--nofile=40`.
    pub fn start_limited(limit: &str, example: &str, arguments: &[&str]) -> Self {
        Self::spawn(limited(limit, example).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let spawned = command.arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("`cargo test` has built the examples, or `cargo build --examples`");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a first line").expect("text");
        let (_, address) = line.split_once("http://").expect("the first line names the URL");
        let address = address.trim_end_matches('/').parse().expect("an address");
        // Whatever else it says must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.exchange(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    /// Sends `request` on a connection of its own, and reads the answer.
    pub fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).expect("a request can be sent");
        read_answer(&mut stream)
    }

    pub fn dump(&self) -> Value {
        serde_json::from_str(&self.get("/dump.json?limit=10000").body).expect("the dump is JSON")
    }

    /// One of the pool's counters: `/finished`, `/stopped/connection_closed`.
    pub fn counter(&self, path: &str) -> u64 {
        let dump = self.dump();
        dump["counters"]
            .pointer(path)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("{path} in {dump}"))
    }

    /// How many tasks have been parked for so long that no reader can be behind it.
    pub fn parked_for_good(&self) -> usize {
        let dump = self.dump();
        let tasks = dump["tasks"].as_array().expect("a list");
        let parked =
            |task: &&Value| task["status"] == "syncing" && task["in_status_us"].as_u64() >= Some(300_000);
        tasks.iter().filter(parked).count()
    }

    /// Waits until so many tasks, and no more, are parked for good.
    pub fn until_parked_for_good(&self, tasks: usize) {
        until("their tasks wait for clients", || {
            (self.parked_for_good() == tasks).then_some(())
        });
    }

    /// Sends a signal: `INT` is what Ctrl-C does.
    pub fn signal(&self, name: &str) {
        pid::signal(self.pid(), name);
    }

    /// Waits until so many tasks, and no more, have stopped because their connections had closed.
    pub fn until_stopped(&self, tasks: usize) {
        let stopped = || self.counter("/stopped/connection_closed");
        until("their tasks have stopped", || {
            (stopped() >= tasks as u64).then_some(())
        });
        assert_eq!(stopped(), tasks as u64);
    }

    /// Waits until it has so many files open: as many as before its clients came.
    pub fn until_files(&self, files: usize) {
        until("all sockets are closed", || {
            (pid::open_files(self.pid()) == files).then_some(())
        });
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().expect("it is ours"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Reads one answer with a `Content-Length`.
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {head:?}"));
        head.push(byte[0].into());
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let mut answer = Answer {
        status,
        head,
        body: String::new(),
    };
    let length = answer
        .header("content-length")
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    answer.body = String::from_utf8(body).expect("text");
    answer
}

/// Asks until there is an answer: what happens in another process cannot be waited for.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        // Between two questions, not instead of one.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Prints the figures. What was neither served nor told why not is lost.
pub fn report(what: &str, tried: usize, served: usize, refused: usize) {
    let lost = tried - served - refused;
    println!("{what}: {tried} tried, {served} served, {refused} refused cleanly, {lost} lost");
    assert_eq!(lost, 0, "{what}");
}

/// The command that runs `example` under limits of `prlimit`.
pub fn limited(limit: &str, example: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(path_of(example));
    command
}

pub fn path_of(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    profile.join("examples").join(example)
}
