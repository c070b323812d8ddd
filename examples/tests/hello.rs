//! `examples/hello`: answers arrive, a disconnect cancels, and no client delays another.

#[path = "util/pid.rs"]
mod pid;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far more work than a test waits for.
const ENDLESS: &str = "4000000000\n";

/// A running server; killed when dropped.
struct Hello {
    child: Child,
    address: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

impl Hello {
    fn start() -> Self {
        let test = std::env::current_exe().expect("a test has a path");
        let profile: PathBuf = test
            .ancestors()
            .nth(2)
            .expect("target/<profile>/deps/<test>")
            .into();
        let mut child = Command::new(profile.join("examples/hello"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`cargo test` has built the examples");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("a first line");
        let (_, address) = line
            .trim_end()
            .rsplit_once(' ')
            .expect("it ends with the address");
        Self {
            address: address.parse().expect("an address"),
            stderr: BufReader::new(child.stderr.take().expect("piped")),
            child,
        }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket");
        Client(BufReader::new(stream))
    }

    /// The next line on stderr.
    fn report(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("text");
        print!("{line}");
        line
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line
    }

    /// Sends a number and reads until its answer has come.
    fn ask(&mut self, number: u32) -> Vec<String> {
        self.send(&format!("{number}\n"));
        self.lines_until(number)
    }

    fn lines_until(&mut self, number: u32) -> Vec<String> {
        let last = format!(" primes below {number}\n");
        let mut lines = vec![self.line()];
        while !lines[lines.len() - 1].ends_with(&last) {
            lines.push(self.line());
        }
        lines
    }
}

#[test]
fn the_answer_arrives_with_a_line_after_each_step() {
    let hello = Hello::start();
    let mut client = hello.connect();
    let lines = client.ask(300_000);
    assert_eq!(
        lines,
        [
            "9592 primes below 100000\n",
            "17984 primes below 200000\n",
            "25997 primes below 300000\n"
        ]
    );
    assert_eq!(client.ask(10), ["4 primes below 10\n"]);
    client.send("what is this?\n");
    assert_eq!(client.line(), "0 primes below 1\n");
}

#[test]
fn lines_may_come_in_parts_and_together() {
    let hello = Hello::start();
    let mut client = hello.connect();
    for byte in ["1", "0", "0", "\n", "2", "0"] {
        client.send(byte);
        // The server must read this part alone, and nothing shows that it has.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.lines_until(100), ["25 primes below 100\n"]);
    client.send("0\n300\n400\r\n");
    let mut lines = [client.line(), client.line(), client.line()];
    lines.sort();
    assert_eq!(
        lines,
        [
            "46 primes below 200\n",
            "62 primes below 300\n",
            "78 primes below 400\n"
        ]
    );
    // Beyond 64 bytes it is another line.
    client.send(&format!("{}500\n", "x".repeat(64)));
    let mut lines = [client.line(), client.line()];
    lines.sort();
    assert_eq!(lines, ["0 primes below 1\n", "95 primes below 500\n"]);
}

#[test]
fn a_disconnect_cancels_the_work_of_that_client_alone() {
    let mut hello = Hello::start();
    let (mut leaves, mut stays) = (hello.connect(), hello.connect());
    leaves.send(ENDLESS);
    leaves.send(ENDLESS);
    leaves.line();
    stays.send("1000000\n");
    drop(leaves);
    assert_eq!(hello.report(), "client 1 left, tasks cancelled: 2\n");
    let lines = stays.lines_until(1_000_000);
    assert_eq!(lines[lines.len() - 1], "78498 primes below 1000000\n");
    // An id is not used again. The cancelled work has ended, since the workers are idle.
    let mut third = hello.connect();
    third.ask(100);
    until_idle(hello.child.id());
    third.0.get_mut().shutdown(Shutdown::Write).expect("a socket");
    assert_eq!(hello.report(), "client 3 left, tasks cancelled: 0\n");
}

/// Waits until a process uses no processor time for a while.
fn until_idle(pid: u32) {
    for _ in 0..600 {
        let before = pid::cpu_ticks(pid);
        // Being idle is a matter of time.
        thread::sleep(Duration::from_millis(100));
        if pid::cpu_ticks(pid) == before {
            return;
        }
    }
    panic!("a worker still works");
}

#[test]
fn a_slow_client_and_a_busy_one_do_not_delay_another() {
    let mut hello = Hello::start();
    // One never reads, one has sent half a line, and three keep the workers busy.
    let mut never_reads = hello.connect();
    never_reads.send(&ENDLESS.repeat(3));
    let mut half = hello.connect();
    half.send("10");
    let mut busy: Vec<_> = (0..3).map(|_| hello.connect()).collect();
    for client in &mut busy {
        client.send(ENDLESS);
        client.line();
    }
    let mut other = hello.connect();
    for _ in 0..20 {
        assert_eq!(other.ask(1000), ["168 primes below 1000\n"]);
    }
    half.send("00\n");
    assert_eq!(half.line(), "168 primes below 1000\n");
    drop(busy);
    for _ in 0..3 {
        assert!(hello.report().ends_with(" left, tasks cancelled: 1\n"));
    }
    drop(never_reads);
    assert_eq!(hello.report(), "client 1 left, tasks cancelled: 3\n");
}

/// A client that sends lines and reads nothing fills the kernel's buffers. It is disconnected.
#[test]
fn a_flood_ends_with_a_disconnect_and_the_others_are_served() {
    let mut hello = Hello::start();
    let mut flood = hello.connect();
    let sending = thread::spawn(move || {
        let lines = "3\n".repeat(10_000);
        while flood.0.get_mut().write_all(lines.as_bytes()).is_ok() {}
        flood
    });
    assert!(hello.report().starts_with("client 1 left"));
    drop(sending.join().expect("it ends with an error"));
    let mut other = hello.connect();
    assert_eq!(other.ask(1000), ["168 primes below 1000\n"]);
    let mut end = Vec::new();
    other.0.get_mut().shutdown(Shutdown::Write).expect("a socket");
    other.0.read_to_end(&mut end).expect("a clean end");
}
