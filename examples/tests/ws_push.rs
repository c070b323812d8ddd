//! The example `ws_push`, as its clients see it: a real process, real sockets. Two of its files
//! have tests of their own, which run here.

#[path = "util/client.rs"]
mod client;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests use the parsers, and the program the rest"
)]
#[path = "../ws_push/figures.rs"]
mod figures;
#[allow(unreachable_pub, reason = "a part of a program")]
#[path = "../ws_push/quantile.rs"]
mod quantile;
#[path = "util/raw_client.rs"]
mod raw_client;
#[path = "util/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use client::Client;
use quantile::quantile;
use raw_client::RawClient;
use serde_json::Value;
use server::pid::{allow_many_files, signal};
use server::{Answer, Server, path_of, read_answer, until};
use tungstenite::Message;

/// The figures come once, at the start, so that a client of published messages gets no others.
const NO_FIGURES: &str = "--interval=3600000";

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_push", arguments)
}

fn clients(server: &Server) -> Value {
    serde_json::from_str(&server.get("/clients.json").body).expect("JSON")
}

/// Waits until so many clients get messages.
fn until_clients(server: &Server, count: u64) {
    until("the clients are there", || {
        (clients(server)["clients"] == count).then_some(())
    });
}

/// The state of the only slow client. Waits until there is one.
fn until_slow(server: &Server) -> Value {
    until("a client is slow", || {
        let clients = clients(server);
        (clients["slow"] == 1).then(|| clients["list"][0].clone())
    })
}

/// Publishes on a connection of its own.
struct Publisher(TcpStream);

impl Publisher {
    fn new(server: &Server) -> Self {
        Self(server.connect())
    }

    fn post(&mut self, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let request = post(path, media_type, body);
        self.0.write_all(&request).expect("sent");
        read_answer(&mut self.0)
    }

    /// Publishes a binary message. The number of its receivers.
    fn publish(&mut self, path: &str, body: &[u8]) -> u64 {
        let answer = self.post(path, "application/octet-stream", body);
        assert_eq!(answer.status, 202, "{}", answer.body);
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        body["receivers"].as_u64().expect("a number")
    }
}

fn post(path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The next message that is not a ping.
fn next(client: &mut Client) -> Message {
    loop {
        match client.0.read().expect("a message") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

#[test]
fn figures_come_in_order_and_are_plausible() {
    let server = start(&["--interval=20"]);
    let mut client = Client::open(&server, "/live");
    let mut last_number = None;
    for _ in 0..20 {
        let text = next(&mut client).into_text().expect("text");
        let figures: Value = serde_json::from_str(&text).expect("JSON");
        let number = figures["number"].as_u64().expect("a number");
        assert_eq!(figures["type"], "figures");
        assert_eq!(number, last_number.map_or(number, |last| last + 1));
        last_number = Some(number);
        let memory = &figures["memory"];
        let used = memory["used"].as_u64().expect("bytes");
        assert!((1..=memory["total"].as_u64().expect("bytes")).contains(&used));
        assert!(figures["network"]["received"].is_number() && figures["network"]["sent"].is_number());
        assert_eq!(figures["load"].as_array().expect("a list").len(), 3);
        // Null if no tick has passed.
        let percent = figures["cpu_percent"].as_f64();
        assert!(percent.is_none_or(|percent| (0.0..=100.0).contains(&percent)));
    }
}

#[test]
fn a_published_message_reaches_its_room_or_all() {
    let server = start(&[NO_FIGURES]);
    let mut all: Vec<_> = [
        "/live?figures=0&room=a",
        "/live?room=a&figures=0",
        "/live?figures=0",
    ]
    .map(|path| Client::open(&server, path))
    .into();
    let mut publisher = Publisher::new(&server);
    let answer = publisher.post("/publish?room=a", "text/plain; charset=utf-8", "für a".as_bytes());
    assert_eq!((answer.status, &*answer.body), (202, "{\"receivers\":2}"));
    assert_eq!(publisher.publish("/publish?room=b", b"for b"), 0);
    assert_eq!(publisher.publish("/publish", &[0, 255, 7]), 3);
    assert_eq!(publisher.post("/publish", "Text/HTML", b"").status, 202);
    for client in &mut all[..2] {
        assert_eq!(next(client), Message::text("für a"));
    }
    for client in &mut all {
        assert_eq!(next(client), Message::binary(vec![0, 255, 7]));
        assert_eq!(next(client), Message::text(""));
    }
    assert_eq!(clients(&server)["list"][1]["room"], "a");
}

#[test]
fn bad_requests_are_told_why() {
    let server = start(&[NO_FIGURES, "--max-message=1000"]);
    for (path, status) in [
        ("/nothing", 404),
        ("/publish", 405),
        ("/live", 426),
        ("/echo", 426),
        ("/live?room=", 400),
        ("/live?room=a&room=b", 400),
        ("/live?figures=2", 400),
        ("/live?rooms=a", 400),
        ("/clients.json?limit=x", 400),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    for (path, media_type, body, status) in [
        ("/publish?room=a/b", "text/plain", &b"x"[..], 400),
        ("/publish?to=a", "text/plain", b"x", 400),
        ("/publish", "text/plain", b"\xFF", 400),
        ("/publish", "text/plain\r\nOrigin: https://example.com", b"x", 403),
        ("/publish", "text/plain", &[b'x'; 1001], 413),
        ("/live", "text/plain", b"x", 405),
    ] {
        let answer = server.exchange(post(path, media_type, body));
        assert_eq!(answer.status, status, "{path} {media_type}: {}", answer.body);
    }
    assert_eq!(clients(&server)["published"], 1, "only the first figures");
}

#[test]
fn a_full_mailbox_is_answered_with_503() {
    let server = start(&[NO_FIGURES, "--mailbox-capacity=1"]);
    until("the figures are out of the mailbox", || {
        (clients(&server)["published"] == 1).then_some(())
    });
    let mut stream = server.connect();
    // In one segment, so that the loop gets both before it looks into the mailbox.
    let both = post("/publish", "text/plain", b"x").repeat(2);
    stream.write_all(&both).expect("sent");
    assert_eq!(read_answer(&mut stream).status, 202);
    let refused = read_answer(&mut stream);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    until("there is room again", || {
        (Publisher::new(&server).publish("/publish", b"x") == 0).then_some(())
    });
}

#[test]
fn an_echo_comes_back_and_a_message_to_live_closes() {
    let server = start(&[NO_FIGURES]);
    let mut echo = Client::open(&server, "/echo");
    for message in [
        Message::text("grün"),
        Message::binary(vec![0; 65_536]),
        Message::text(""),
    ] {
        echo.0.send(message.clone()).expect("sent");
        assert_eq!(next(&mut echo), message);
    }
    echo.0.send(Message::binary(vec![0; 65_537])).expect("sent");
    assert_eq!(echo.close_code(), 1009);
    let mut live = Client::open(&server, "/live?figures=0");
    live.0.send(Message::text("hello")).expect("sent");
    assert_eq!(live.close_code(), 1003);
}

#[test]
fn no_connection_left_is_told_before_the_upgrade() {
    let server = start(&[NO_FIGURES, "--max-connections=2"]);
    let _open = ["/live", "/echo"].map(|path| Client::open(&server, path));
    let answer = server.get("/live");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.get("/").status, 200, "the page is still served");
}

const LONG: usize = 60_000;
const LONG_MESSAGES: usize = 40;

/// A slow client and another one, while long messages are published. The other one gets them all.
/// Returns the server and the slow client, which has read nothing.
fn publish_past(policy: &str) -> (Server, RawClient) {
    let server = start(&[NO_FIGURES, policy]);
    let slow = RawClient::open(server.address, "/live?figures=0", 4096);
    let mut other = Client::open(&server, "/live?figures=0");
    let mut publisher = Publisher::new(&server);
    for number in 0..LONG_MESSAGES {
        publisher.publish("/publish", &vec![b'.'; LONG + number]);
        assert_eq!(next(&mut other).len(), LONG + number);
    }
    (server, slow)
}

/// The page and `/metrics` name the slow client.
fn check_named(server: &Server) -> Value {
    let slow = until_slow(server);
    let metrics = server.get("/metrics").body;
    let line = format!(
        "moored_push_slow_client_dropped{{client=\"{}\"}} {}\n",
        slow["id"], slow["dropped"]
    );
    assert!(metrics.contains(&line), "{line} in {metrics}");
    assert!(metrics.contains("\nmoored_push_slow_clients 1\n"));
    assert!(metrics.contains("\nmoored_message_bytes_copied_total 0\n"));
    slow
}

/// Reads the numbers of the messages until so many bytes were read that no more can wait.
fn check_late_reader(policy: &str) -> Vec<usize> {
    let (server, mut slow) = publish_past(policy);
    let state = check_named(&server);
    assert!(
        state["queued_bytes"].as_u64() <= Some(262_144 + LONG as u64 + 100),
        "{state}"
    );
    let dropped = state["dropped"].as_u64().expect("a number") as usize;
    let reading = thread::spawn(move || slow.read_stream());
    until("it has read everything", || {
        (clients(&server)["slow"] == 0).then_some(())
    });
    server.signal("INT");
    let (lengths, code) = reading.join().expect("whole messages");
    assert_eq!((lengths.len() + dropped, code), (LONG_MESSAGES, Some(1001)));
    assert!(lengths.is_sorted());
    lengths.iter().map(|length| length - LONG).collect()
}

#[test]
fn a_slow_client_loses_the_oldest_messages() {
    let numbers = check_late_reader("--slow=drop-oldest");
    assert!(
        numbers.ends_with(&[LONG_MESSAGES - 3, LONG_MESSAGES - 2, LONG_MESSAGES - 1]),
        "{numbers:?}"
    );
}

#[test]
fn a_slow_client_keeps_the_latest_message() {
    let numbers = check_late_reader("--slow=latest");
    assert_eq!(numbers.last(), Some(&(LONG_MESSAGES - 1)));
}

#[test]
fn a_slow_client_is_disconnected_with_1013() {
    let (server, mut slow) = publish_past("--slow=disconnect");
    assert_eq!(check_named(&server)["state"], "closing");
    let (lengths, code) = slow.read_stream();
    assert_eq!(code, Some(1013));
    assert_eq!(lengths, (LONG..LONG + lengths.len()).collect::<Vec<_>>());
    until_clients(&server, 0);
    assert_eq!(clients(&server)["disconnected"], 1);
}

const READERS: usize = 990;
const THREADS: usize = 8;
const PUBLISHED: u64 = 40;
const PUBLISHED_BYTES: usize = 8192;

/// Publishes to `READERS` clients that read and `slow` ones that never do. Checks that the readers
/// get everything. Returns the time from publish to read below which 99 % of the messages are.
fn publish_beside(slow: usize) -> Duration {
    let server = start(&[NO_FIGURES, "--queue-bytes=65536", "--idle-timeout=600"]);
    let path = "/live?figures=0";
    let _slow: Vec<_> = (0..slow)
        .map(|_| RawClient::open(server.address, path, 4096))
        .collect();
    let (begun, barrier) = (Instant::now(), Barrier::new(THREADS + 1));
    let (server, barrier) = (&server, &barrier);
    let mut delays: Vec<Duration> = thread::scope(|scope| {
        let read = move |thread: usize| {
            let count = READERS / THREADS + usize::from(thread < READERS % THREADS);
            let mut clients: Vec<_> = (0..count).map(|_| Client::open(server, path)).collect();
            barrier.wait();
            let mut delays = Vec::new();
            for number in 0..PUBLISHED {
                for client in &mut clients {
                    let message = next(client).into_data();
                    let numbers = message.as_chunks::<8>().0;
                    assert_eq!(u64::from_le_bytes(numbers[0]), number);
                    let published_at = Duration::from_nanos(u64::from_le_bytes(numbers[1]));
                    delays.push(begun.elapsed().saturating_sub(published_at));
                }
                barrier.wait();
            }
            delays
        };
        let readers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || read(thread)))
            .collect();
        barrier.wait();
        let mut publisher = Publisher::new(server);
        for number in 0..PUBLISHED {
            let mut message = vec![0; PUBLISHED_BYTES];
            message[..8].copy_from_slice(&number.to_le_bytes());
            message[8..16].copy_from_slice(&(begun.elapsed().as_nanos() as u64).to_le_bytes());
            assert_eq!(publisher.publish("/publish", &message), (READERS + slow) as u64);
            barrier.wait();
        }
        let state = clients(server);
        assert_eq!(
            (&state["slow"], &state["copied_bytes"]),
            (&slow.into(), &0.into())
        );
        assert_eq!(state["dropped"].as_u64() > Some(0), slow > 0);
        readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("complete"))
            .collect()
    });
    delays.sort_unstable();
    quantile(&delays, 0.99).expect("there were messages")
}

/// Prints how much slow clients delay the others; the time depends on what else the machine does.
#[test]
fn ten_clients_that_never_read_cost_the_others_nothing() {
    allow_many_files();
    let without = publish_beside(0);
    let with = publish_beside(10);
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("p99 of {READERS} readers: {without:?}; beside 10 that never read: {with:?}; ratio {ratio:.2}");
}

#[test]
fn ctrl_c_sends_what_is_queued_and_closes_with_1001() {
    let mut server = start(&["--interval=1", "--grace=1"]);
    let mut reading: Vec<_> = (0..20)
        .map(|_| Client::open(&server, "/live?figures=0"))
        .collect();
    let mut figures = Client::open(&server, "/live");
    let _deaf = RawClient::open(server.address, "/live?figures=0", 4096);
    let mut publisher = Publisher::new(&server);
    // So many fit into the queue of a client, which reads none of them before the signal.
    for _ in 0..4 {
        publisher.publish("/publish", &vec![b'.'; LONG]);
    }
    let begun = Instant::now();
    server.signal("INT");
    for client in &mut reading {
        for _ in 0..4 {
            assert_eq!(next(client).len(), LONG);
        }
        assert_eq!(client.close_code(), 1001);
    }
    assert_eq!(figures.close_code(), 1001);
    drop((reading, figures));
    assert_eq!(server.wait().code(), Some(0));
    let time = begun.elapsed();
    assert!(time < Duration::from_secs(10), "the grace bounds it: {time:?}");
}

#[test]
fn the_page_and_the_monitor_are_served() {
    let server = start(&[]);
    let page = server.get("/");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let files = page
        .body
        .split(['"'])
        .filter(|part| part.starts_with('/') && part.contains('.'));
    let files: Vec<_> = files.collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(server.get(file).status, 200, "{file}");
    }
    assert!(server.get("/dump").body.contains("mailbox"));
    assert_eq!(server.dump()["counts"]["on_worker"], 0);
}

#[test]
fn a_report_has_the_figures() {
    let mut child = Command::new(path_of("ws_push"))
        .args(["--port=0", "--report=1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is built");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let report = lines
        .map(|line| line.expect("text"))
        .find(|line| line.starts_with("report: "))
        .expect("a report");
    for part in [
        "0 clients, 0 slow",
        "messages/s published",
        "0 bytes copied",
        "memory per client",
        "publish to last write",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    signal(child.id(), "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
