//! `ws_stream` on slow networks and with slow clients: everything that was accepted arrives, and a
//! client that reads stays connected. `examples/clients` tries the same with clients that others
//! wrote.

#[path = "util/client.rs"]
mod client;
#[path = "util/raw_client.rs"]
mod raw_client;
#[path = "util/server.rs"]
mod server;

use std::thread;
use std::time::{Duration, Instant};

use client::Client;
use raw_client::{Frame, RawClient};
use server::{Server, until};

const KIB: usize = 1024;

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_stream", arguments)
}

fn until_finished(server: &Server, tasks: u64) {
    until("the task has finished", || {
        (server.counter("/finished") == tasks).then_some(())
    });
}

/// U21: the kernel holds the message and the close frame, and the client does not read for a while.
/// Nothing is lost, whatever it sends then.
#[test]
fn nothing_is_lost_at_the_end_whatever_the_client_sends() {
    let server = start(&["--threads=2"]);
    let actions: [(&str, &[u8]); 5] = [
        ("nothing", &[]),
        ("a ping", &[0x89, 0x80, 0, 0, 0, 0]),
        ("a text", &[0x81, 0x81, 0, 0, 0, 0, b'a']),
        ("a close frame", &[0x88, 0x82, 0, 0, 0, 0, 3, 232]),
        ("its end", &[]),
    ];
    let mut clients: Vec<_> = actions
        .iter()
        // The client's kernel takes a small part of the message.
        .map(|_| RawClient::open(server.address, "/stream?chunks=1&size=65536", 4 * KIB))
        .collect();
    until_finished(&server, actions.len() as u64);
    // Wait longer than any timeout after which a server could drop the socket.
    thread::sleep(Duration::from_secs(3));
    for ((what, bytes), mut client) in actions.into_iter().zip(clients.drain(..)) {
        client.send_raw(bytes);
        if what == "its end" {
            client.shutdown();
        }
        // The server has seen what was sent when it has answered another client after that.
        server.get("/dump");
        let (messages, close) = client.read_stream();
        assert_eq!((messages, close), (vec![65_536], Some(1000)), "after {what}");
    }
}

/// U21: messages that are accepted arrive before the answer to the client's close frame, also those
/// that the server itself still holds.
#[test]
fn what_was_accepted_arrives_before_the_close_frame() {
    let server = start(&["--threads=2"]);
    let mut client = RawClient::open(server.address, "/stream?chunks=0&size=1048576", 4 * KIB);
    server.until_parked_for_good(1);
    client.send(0x8, &1001_u16.to_be_bytes());
    server.until_stopped(1);
    let (messages, close) = client.read_stream();
    assert_eq!((messages, close), (vec![1 << 20], Some(1001)));
}

/// U21: a close frame that was accepted is sent, although the client has closed its side.
#[test]
fn a_close_frame_is_sent_after_a_half_close() {
    let server = start(&["--threads=2"]);
    let mut client = RawClient::open(server.address, "/stream?chunks=0&size=262144", 4 * KIB);
    server.until_parked_for_good(1);
    client.send(0x8, &1000_u16.to_be_bytes());
    client.shutdown();
    server.until_stopped(1);
    let (messages, close) = client.read_stream();
    assert_eq!((messages, close), (vec![262_144], Some(1000)));
}

/// U21, U22: the kernel holds the rest, so no write shows that the client reads. It is asked.
#[test]
fn a_slow_reader_is_alive_although_everything_is_with_the_kernel() {
    let server = start(&["--threads=2", "--idle-timeout=2"]);
    let mut client = RawClient::open(server.address, "/stream?chunks=1&size=131072", 4 * KIB);
    let mut bytes = Vec::new();
    // Two frames of 64 KiB, and the close frame.
    while bytes.len() < 2 * (65_536 + 10) + 4 {
        let before = bytes.len();
        client.read_into(&mut bytes, 2048);
        assert!(bytes.len() > before, "cut after {before} bytes");
        // A socket that the server had dropped would answer this with a reset.
        if bytes.len() > 120_000 {
            client.try_send(0x9, b"");
        }
        // 20 KiB a second: the stream outlives the idle time three times.
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(bytes[..10], [0x02, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert!(bytes.ends_with(&[0x88, 2, 3, 232]), "no close frame");
}

/// U21, U25: an answer that the kernel holds is not lost when the server stops.
#[test]
fn an_answer_with_the_kernel_survives_a_signal() {
    let mut server = start(&["--threads=2", "--grace=20"]);
    let mut client = RawClient::connect(server.address, 4 * KIB);
    client.send_raw(b"GET /page.css HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    client.read_into(&mut answer, 500);
    // The server has answered, and waits for the next request.
    server.get("/dump");
    server.signal("TERM");
    until("the signal is seen", || {
        std::net::TcpStream::connect(server.address)
            .is_err()
            .then_some(())
    });
    client.try_send_raw(b"GET /page.css HTTP/1.1\r\nHost: a\r\n\r\n");
    while client.read_into(&mut answer, 65_536) > 0 {}
    let text = String::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|it| it.parse().ok()).expect("a length");
    assert!(body.len() >= length, "{} of {length} bytes", body.len());
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

/// U21, U22: a pong does not wait for the end of a long message.
#[test]
fn a_pong_overtakes_a_long_message() {
    let server = start(&["--threads=2"]);
    let mut client = RawClient::open(server.address, "/stream?chunks=1&size=4194304", 4 * KIB);
    server.until_parked_for_good(1);
    client.send(0x9, b"how far?");
    let mut before = 0;
    loop {
        match client.read_frame() {
            Frame::Pong(payload) => {
                assert_eq!(payload, b"how far?");
                break;
            }
            Frame::Data { length, is_final } => {
                before += length;
                assert!(!is_final, "the pong has not come before the end of the message");
            }
            other => panic!("{other:?}"),
        }
    }
    println!("a pong after {} KiB of 4096 KiB", before / KIB);
    assert!(before <= 512 * KIB, "{} KiB", before / KIB);
    let (messages, close) = client.read_stream();
    assert_eq!((messages, close), (vec![(4 << 20) - before], Some(1000)));
}

/// U22: a client that reads slowly is not given up, although its pongs wait; one that reads nothing
/// is, although it sends pings.
#[test]
fn a_reading_client_stays_connected_and_a_client_that_only_sends_is_closed() {
    const IDLE: Duration = Duration::from_secs(2);
    let server = start(&["--threads=2", "--idle-timeout=2"]);
    let mut slow = RawClient::open(server.address, "/stream?chunks=0&size=1024", 16 * KIB);
    let mut never_reads = RawClient::open(server.address, "/stream?chunks=0&size=1024", 16 * KIB);
    let begun = Instant::now();
    let mut is_cut = false;
    let mut read = 0;
    // The slow client must stay connected for several idle times.
    while begun.elapsed() < 4 * IDLE || !is_cut {
        // 64 KiB a second.
        read += client_reads(&mut slow, 6554);
        is_cut = is_cut || !never_reads.try_send(0x9, b"");
        // The rate at which it reads.
        thread::sleep(Duration::from_millis(100));
        assert!(
            begun.elapsed() < server::PATIENCE,
            "the client that only pings is still served"
        );
    }
    println!(
        "the slow client has read {} KiB in {:.1?}",
        read / KIB,
        begun.elapsed()
    );
    server.until_stopped(1);
}

fn client_reads(client: &mut RawClient, bytes: usize) -> usize {
    let read = client.read_some(bytes);
    assert!(read > 0, "the slow client was cut");
    read
}

/// U25: on SIGTERM and on SIGINT, everything that was accepted arrives, then 1001.
#[test]
fn a_signal_ends_streams_with_1001_after_what_was_accepted() {
    for signal in ["TERM", "INT"] {
        let mut server = start(&["--threads=2", "--grace=20"]);
        let mut fast = Client::open(&server, "/stream?chunks=0&size=1024");
        let mut slow = RawClient::open(server.address, "/stream?chunks=0&size=262144", 4 * KIB);
        fast.expect_numbers(0, 10);
        // Perhaps both: nobody reads from the fast one either, until the signal is sent.
        until("a task waits for its client", || {
            (server.parked_for_good() > 0).then_some(())
        });
        server.signal(signal);
        let mut numbers = 10;
        let code = loop {
            match fast.0.read().expect("messages, and then a close frame") {
                tungstenite::Message::Binary(bytes) => {
                    numbers += 1;
                    assert_eq!(bytes[..8], u64::to_le_bytes(numbers));
                }
                tungstenite::Message::Close(frame) => break frame.expect("with a code").code,
                _ => {}
            }
        };
        assert_eq!(u16::from(code), 1001, "after {numbers} messages");
        drop(fast);
        let (messages, close) = slow.read_stream();
        assert!(messages.iter().all(|length| *length == 262_144) && !messages.is_empty());
        assert_eq!(close, Some(1001), "SIG{signal}");
        drop(slow);
        assert_eq!(server.wait().code(), Some(0), "SIG{signal}");
    }
}

/// U25: a client that reads nothing does not keep the server longer than the grace, and a second
/// signal ends it at once.
#[test]
fn the_grace_is_limited_and_a_second_signal_ends_it() {
    let mut server = start(&["--threads=2", "--grace=1"]);
    let never_reads = RawClient::open(server.address, "/stream?chunks=0&size=262144", 4 * KIB);
    server.until_parked_for_good(1);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    drop(never_reads);
    let mut server = start(&["--threads=2", "--grace=3600"]);
    let never_reads = RawClient::open(server.address, "/stream?chunks=0&size=262144", 4 * KIB);
    server.until_parked_for_good(1);
    server.signal("INT");
    until("the first signal is seen", || {
        std::net::TcpStream::connect(server.address)
            .is_err()
            .then_some(())
    });
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    drop(never_reads);
}
