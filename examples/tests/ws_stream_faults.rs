//! `examples/ws_stream` among clients that stop, die and hang up, on a bad network, and when it is
//! stopped itself. Each test counts what was tried, what was refused in so many words, and
//! what was lost, which must be nothing: `cargo test --test ws_stream_faults -- --nocapture`.

#[path = "util/client.rs"]
mod client;
#[path = "util/proxy.rs"]
mod proxy;
#[path = "util/server.rs"]
mod server;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, End, Watcher, read_complete_streams, read_complete_streams_at, read_to_end};
use proxy::{Fault, Proxy};
use server::pid::{allow_many_files, open_files, resident_bytes, signal};
use server::{Server, path_of, read_answer, report, until};
use socket2::SockRef;
use tungstenite::Message;

const MIB: usize = 1 << 20;
const ENDLESS: &str = "/stream?chunks=0&size=1024";

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_stream", arguments)
}

/// Clients in a process of their own, which reads until it is interrupted.
fn load(server: &Server, clients: usize) -> Child {
    Command::new(path_of("ws_load"))
        .arg(format!("--addr={}", server.address))
        .arg(format!("--clients={clients}"))
        .arg("--seconds=3600")
        .stdout(Stdio::piped())
        .spawn()
        .expect("built like the server")
}

fn websockets(server: &Server) -> usize {
    server.dump()["tasks"].as_array().map_or(0, Vec::len)
}

/// L1, S18: a stopped process pauses its own tasks only, and goes on where it was.
#[test]
fn a_stopped_client_pauses_and_later_misses_nothing() {
    const CLIENTS: usize = 40;
    let server = start(&["--threads=2"]);
    let before = resident_bytes(server.pid());
    let stopped = load(&server, CLIENTS);
    until("all are connected", || {
        (websockets(&server) == CLIENTS).then_some(())
    });
    signal(stopped.id(), "STOP");
    server.until_parked_for_good(CLIENTS);
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 16 * MIB, "{} KiB", grown / 1024);
    read_complete_streams(&server, "/stream?chunks=200&size=1024", CLIENTS, 200);
    let parked_at = server.counter("/syncs");
    signal(stopped.id(), "CONT");
    until("they go on", || {
        (server.counter("/syncs") > parked_at + 100 * CLIENTS as u64).then_some(())
    });
    signal(stopped.id(), "INT");
    let output = stopped.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    // It checks each number, and does not get here otherwise.
    assert!(
        output.status.success() && text.contains("every sequence complete"),
        "{text}"
    );
    server.until_stopped(CLIENTS);
    report(
        "streams, half of their clients stopped for a while",
        2 * CLIENTS,
        2 * CLIENTS,
        0,
    );
}

/// S13, S18: a killed process takes all its tasks with it, parked or not, and nobody else's.
#[test]
fn a_killed_client_takes_its_own_tasks_with_it() {
    const CLIENTS: usize = 100;
    let server = start(&["--threads=2"]);
    let files = open_files(server.pid());
    let mut staying: Vec<_> = (0..10).map(|_| Client::open(&server, ENDLESS)).collect();
    let mut parked = load(&server, CLIENTS);
    until("all are connected", || {
        (websockets(&server) == CLIENTS + 10).then_some(())
    });
    signal(parked.id(), "STOP");
    let mut running = load(&server, CLIENTS);
    until("all are connected", || {
        (websockets(&server) == 2 * CLIENTS + 10).then_some(())
    });
    for killed in [&mut parked, &mut running] {
        killed.kill().expect("it runs");
        killed.wait().expect("it ends");
    }
    server.until_stopped(2 * CLIENTS);
    for client in &mut staying {
        client.expect_numbers(0, 1000);
    }
    server.until_files(files + 10);
    report("tasks of killed processes", 2 * CLIENTS, 2 * CLIENTS, 0);
}

/// S12, S14: whoever closes half of a WebSocket without a goodbye has gone.
#[test]
fn half_closed_websockets_are_over_and_see_their_end() {
    const CLIENTS: usize = 100;
    let server = start(&["--threads=2"]);
    let files = open_files(server.pid());
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(&server, ENDLESS)).collect();
    for client in &mut clients {
        client.expect_numbers(0, 10);
        client.0.get_ref().shutdown(Shutdown::Write).expect("half closed");
    }
    let mut ended = 0;
    for client in &mut clients {
        let socket = client.0.get_mut();
        ended += usize::from(read_to_end(socket) == End::Closed);
    }
    server.until_stopped(CLIENTS);
    drop(clients);
    server.until_files(files);
    report("half-closed WebSockets", CLIENTS, ended, 0);
}

/// S12, S13, S14: resets at every moment: while streaming, while parked, with a request unsent,
/// half sent and not yet answered.
#[test]
fn resets_cost_nobody_else_anything() {
    const EACH: usize = 50;
    let server = start(&["--threads=2"]);
    let files = open_files(server.pid());
    let mut watcher = Client::open(&server, ENDLESS);
    let reset = |stream: &TcpStream| {
        SockRef::from(stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket");
    };
    for round in 0..EACH {
        let mut streaming = Client::open(&server, ENDLESS);
        streaming.expect_numbers(0, round as u64);
        reset(streaming.0.get_ref());
        let parked = Client::open(&server, "/stream?chunks=0&size=1048576");
        reset(parked.0.get_ref());
        for request in [
            "",
            "GET / HTTP/1.1\r\nHo",
            "GET /dump HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let mut stream = server.connect();
            stream.write_all(request.as_bytes()).expect("sent");
            reset(&stream);
        }
        watcher.expect_numbers(round as u64 * 10, 10);
    }
    server.until_stopped(2 * EACH);
    server.until_files(files + 1);
    report("resets", 5 * EACH, 5 * EACH, 0);
}

/// S20: a slow network cuts messages anywhere, and none is missing, doubled or changed.
#[test]
fn streams_are_complete_on_a_slow_network() {
    let server = start(&["--threads=2"]);
    let by = Duration::from_micros(200);
    let slow = Proxy::start(server.address, Fault::Delay { piece: 1500, by });
    read_complete_streams_at(slow.address, "/stream?chunks=100&size=1024", 50, 100);
    // More than both kernels hold for it, so that the server has to wait in the middle of one.
    let large = Proxy::start(server.address, Fault::Delay { piece: 16_001, by });
    let mut client = Client::open_at(large.address, "/stream?chunks=16&size=1048576");
    for number in 1..=16_u64 {
        let Ok(Message::Binary(bytes)) = client.0.read() else {
            panic!("message {number} is missing");
        };
        assert!(bytes.len() == MIB && bytes[..8] == number.to_le_bytes());
        assert!(bytes[8..].iter().all(|byte| *byte == b'.'));
    }
    assert_eq!(client.next_number(), None);
    report("streams on a slow network", 51, 51, 0);
}

/// S18: clients that have vanished without a word are found out, and the others are not.
#[test]
fn pulled_cables_are_noticed() {
    const CLIENTS: usize = 30;
    let server = start(&["--threads=2", "--idle-timeout=1"]);
    let files = open_files(server.pid());
    let staying = Watcher::open(&server);
    let network = Proxy::start(server.address, Fault::Drop { after: 50_000 });
    let vanished: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::open_at(network.address, ENDLESS);
            client.expect_numbers(0, 40);
            client
        })
        .collect();
    server.until_stopped(CLIENTS);
    server.until_files(files + 1);
    staying.finish();
    drop(vanished);
    report("clients that vanished", CLIENTS, CLIENTS, 0);
}

/// S12, S14: connections cut in the middle of a message, politely or not.
#[test]
fn connections_cut_in_the_middle_stop_their_tasks() {
    const EACH: usize = 40;
    let server = start(&["--threads=2"]);
    let files = open_files(server.pid());
    let half = Proxy::start(server.address, Fault::HalfClose { after: 100_000 });
    let gone = Proxy::start(server.address, Fault::Reset { after: 100_000 });
    let mut ends = Vec::new();
    for index in 0..2 * EACH {
        let network = if index % 2 == 0 { &half } else { &gone };
        let mut client = Client::open_at(network.address, ENDLESS);
        ends.push(read_to_end(client.0.get_mut()));
    }
    let count = |end: End| ends.iter().filter(|it| **it == end).count();
    assert_eq!((count(End::Closed), count(End::Reset)), (EACH, EACH));
    server.until_stopped(2 * EACH);
    server.until_files(files);
    read_complete_streams(&server, "/stream?chunks=10", 8, 10);
    report("connections cut", 2 * EACH, 2 * EACH, 0);
}

/// S19: whatever arrived while the server was stopped has arrived in time.
#[test]
fn a_server_that_was_stopped_blames_no_client() {
    // More than one poll of the server reports.
    const CLIENTS: usize = 1500;
    allow_many_files();
    let server = start(&["--threads=2", "--idle-timeout=3"]);
    let halves = [
        "GET /page.css HTTP/1.1\r\nHo",
        "st: a\r\nConnection: close\r\n\r\n",
    ];
    let files = open_files(server.pid());
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(halves[0].as_bytes()).expect("sent");
    }
    // Who is not accepted yet has no clock that runs.
    server.until_files(files + CLIENTS);
    let begun = Instant::now();
    server.signal("STOP");
    for client in &mut clients {
        client.write_all(halves[1].as_bytes()).expect("sent");
    }
    // The time that passes without the server is all there is to wait for.
    thread::sleep(Duration::from_millis(3500).saturating_sub(begun.elapsed()));
    server.signal("CONT");
    let answered = clients
        .iter_mut()
        .map(read_answer)
        .filter(|answer| answer.status == 200);
    report(
        "requests half sent when the server was stopped",
        CLIENTS,
        answered.count(),
        0,
    );
}
