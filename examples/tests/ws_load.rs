//! `examples/ws_load` against servers that break the protocol, and its frame parser alone.

#[allow(dead_code, reason = "the test uses the parser, and the program the rest")]
#[path = "../ws_load/frames.rs"]
mod frames;
#[path = "util/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use frames::Frames;
use server::path_of;

const PING: [u8; 2] = [0x89, 0];

/// A frame without a mask: its first byte, its length, its payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![first];
    match length {
        0..126 => frame.push(length as u8),
        126..65_536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// The payload of a message: its number, then dots.
fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(size, b'.');
    payload
}

/// A message in frames of at most `limit` bytes, with a ping between them.
fn fragments(number: u64, size: usize, limit: usize) -> Vec<u8> {
    let payload = payload(number, size);
    let count = size.div_ceil(limit);
    let mut bytes = Vec::new();
    for (index, part) in payload.chunks(limit).enumerate() {
        let opcode = if index == 0 { 2 } else { 0 };
        let last = if index + 1 == count { 0x80 } else { 0 };
        bytes.extend(frame(opcode | last, part));
        bytes.extend(PING);
    }
    bytes
}

/// Parses `bytes` in pieces of `piece` bytes.
fn parse(size: u64, bytes: &[u8], piece: usize) -> (Frames, Result<(), String>) {
    let mut frames = Frames::new(size);
    let outcome = bytes.chunks(piece).try_for_each(|piece| frames.parse(piece));
    (frames, outcome)
}

#[test]
fn messages_of_every_length_are_counted_however_they_are_cut() {
    for size in [8, 125, 126, 127, 65_535, 65_536, 70_000] {
        let bytes: Vec<u8> = (1..=3)
            .flat_map(|number| frame(0x82, &payload(number, size)))
            .collect();
        for piece in [1, 2, 7, 4096, bytes.len()] {
            let (frames, outcome) = parse(size as u64, &bytes, piece);
            assert_eq!(outcome, Ok(()), "{size} bytes in pieces of {piece}");
            assert_eq!(frames.messages(), 3);
        }
    }
}

#[test]
fn a_message_in_fragments_with_pings_between_them_is_one_message() {
    // The first fragment may be shorter than the number that the message begins with.
    for (size, limit) in [
        (200_000, 65_536),
        (131_072, 65_536),
        (4 << 20, 65_536),
        (20, 3),
        (8, 1),
    ] {
        let mut bytes = fragments(1, size, limit);
        bytes.extend(frame(0x82, &payload(2, size)));
        bytes.extend(fragments(3, size, limit));
        let mut pieces = vec![bytes.len(), 1000];
        pieces.extend((size < 1000).then_some(1));
        for piece in pieces {
            let (mut frames, outcome) = parse(size as u64, &bytes, piece);
            assert_eq!(outcome, Ok(()), "{size} bytes in pieces of {piece}");
            assert_eq!(frames.messages(), 3);
            let pings = 2 * size.div_ceil(limit);
            assert_eq!(frames.take_pongs().len(), pings * 6);
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let (mut frames, outcome) = parse(8, &frame(0x89, b"here?"), 1);
    assert_eq!(outcome, Ok(()));
    assert_eq!(frames.take_pongs(), b"\x8A\x85\0\0\0\0here?");
    assert_eq!(frames.take_pongs(), b"");
}

#[test]
fn a_wrong_frame_is_an_error_that_says_what_is_wrong() {
    let whole = |number| frame(0x82, &payload(number, 8));
    for (bytes, error) in [
        (whole(2), "message 2 has come instead of message 1"),
        (
            [whole(1), whole(1)].concat(),
            "message 1 has come instead of message 2",
        ),
        (frame(0x82, &payload(1, 9)), "a message is longer than 8 bytes"),
        (frame(0x82, &[1, 0]), "message 1 has 2 bytes instead of 8"),
        (
            frame(0x81, b"12345678"),
            "a frame is neither binary nor a whole control frame: 0x81",
        ),
        (
            frame(0x09, b""),
            "a frame is neither binary nor a whole control frame: 0x09",
        ),
        (
            frame(0x89, &[0; 126]),
            "a frame is neither binary nor a whole control frame: 0x89",
        ),
        (frame(0xC2, b"12345678"), "a frame has reserved bits: 0xc2"),
        (frame(0x80, b"12345678"), "a continuation frame has no message"),
        (
            [frame(0x02, b"1"), whole(1)].concat(),
            "a message has begun before the last one has ended",
        ),
        (vec![0x82, 0x88], "a frame of the server is masked"),
        (
            frame(0x88, &[0x03, 0xF3]),
            "the server has closed a stream with code 1011",
        ),
        (frame(0x88, b""), "the server has closed a stream with code 1005"),
        (
            [&[0x82, 127][..], &[0xFF; 17]].concat(),
            "a message is longer than 8 bytes",
        ),
    ] {
        for piece in [1, bytes.len()] {
            assert_eq!(parse(8, &bytes, piece).1, Err(error.to_owned()), "{bytes:?}");
        }
    }
}

/// A server that answers one client's request with `answer` and closes.
fn fake_server(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(&stream).lines();
        while lines
            .next()
            .is_some_and(|line| !line.expect("a request").is_empty())
        {}
        (&stream).write_all(&answer).expect("sent");
    });
    address
}

fn load(address: SocketAddr) -> Output {
    Command::new(path_of("ws_load"))
        .args([
            format!("--addr={address}"),
            "--clients=1".to_owned(),
            "--size=8".to_owned(),
        ])
        .output()
        .expect("`cargo test` has built the examples")
}

fn expect_failure(answer: &[u8], error: &str) {
    let address = fake_server(answer.to_vec());
    let output = load(address);
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stderr}");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr, format!("ws_load: client 0 of {address}: {error}\n"));
}

#[test]
fn a_failed_check_is_exit_code_1_and_names_the_server() {
    let upgraded = |frames: Vec<u8>| [b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), frames].concat();
    let messages = [frame(0x82, &payload(1, 8)), frame(0x82, &payload(3, 8))].concat();
    expect_failure(&upgraded(messages), "message 3 has come instead of message 2");
    expect_failure(&upgraded(Vec::new()), "the server has closed the connection");
    expect_failure(
        &upgraded(frame(0x82, &payload(1, 8))),
        "the server has closed the connection",
    );
    expect_failure(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n",
        "the server answers \"HTTP/1.1 503 Service Unavailable\"",
    );
    expect_failure(&"x".repeat(20_000).into_bytes(), "the server does not speak HTTP");
}
