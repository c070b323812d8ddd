//! What `examples/ws_stream` makes of input it does not like: a clear answer, and no harm to
//! others.

#[path = "util/client.rs"]
mod client;
#[path = "util/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::Shutdown;

use client::{Client, read_complete_streams};
use server::{Server, read_answer, until};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::{Bytes, Message};

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_stream", arguments)
}

/// A WebSocket handshake for `path` with these further headers.
fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.test:1\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\n{headers}\r\n"
    )
}

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn a_request_that_will_not_do_is_told_why() {
    let server = start(&[]);
    for (path, expected) in [
        ("/stream?chunks=-1", "chunks must be a whole number"),
        ("/stream?chunks=many", "chunks must be a whole number"),
        ("/stream?size=7", "size must be a whole number from 8 to 4194304"),
        (
            "/stream?size=4194305",
            "size must be a whole number from 8 to 4194304",
        ),
        ("/stream?size=8&size=9", "given twice: \"size\""),
        ("/stream?chunk=5", "not known, or given twice: \"chunk\""),
        ("/tiles?of=7", "of must be a power of two"),
        ("/tiles?tile=8&of=8", "tile must be a whole number from 0 to 7"),
        (
            "/tiles?tile=8&of=16&count=9",
            "count must be a whole number from 1 to 8",
        ),
        ("/tiles?x=nan", "x must be a number from -4 to 4"),
        ("/tiles?y=-inf", "y must be a number from -4 to 4"),
        ("/tiles?y=4.1", "y must be a number from -4 to 4"),
        (
            "/tiles?width=1e-13",
            "width must be a number from 0.000000000001 to 8",
        ),
        ("/tiles?width=0", "width must be a number"),
        ("/tiles?width=wide", "width must be a number"),
        (
            "/tiles?iterations=20001",
            "iterations must be a whole number from 1 to 20000",
        ),
        (
            "/tiles?samples=0",
            "samples must be a whole number from 1 to 4096",
        ),
        ("/tiles?count=65&of=128&padding=1048576", "count times padding"),
        ("/tiles?samples=4096&iterations=1000", "samples times iterations"),
        (
            "/tiles?padding=1048577",
            "padding must be a whole number from 0 to 1048576",
        ),
        ("/", "lws-minimal"),
    ] {
        let answer = server.exchange(upgrade(path, KEY));
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains(expected), "{path}: {}", answer.body);
    }
    assert_eq!(server.exchange(upgrade("/nowhere", KEY)).status, 404);
    assert_eq!(server.get("/nowhere").status, 404);
    assert_eq!(server.get("/dump.json?limit=x").status, 400);
    assert_eq!(server.get("/stream").status, 426);
    assert_eq!(server.get("/tiles?x=nan").status, 400);
}

#[test]
fn a_handshake_has_to_be_one() {
    let server = start(&[]);
    let of_version = |version: u8| KEY.replace("13", &version.to_string());
    assert_eq!(server.exchange(upgrade("/stream", &of_version(8))).status, 426);
    assert_eq!(
        server
            .exchange(upgrade("/stream", "Sec-WebSocket-Version: 13\r\n"))
            .status,
        400
    );
    let from = |origin: &str| {
        server
            .exchange(upgrade("/stream", &format!("{KEY}Origin: {origin}\r\n")))
            .status
    };
    assert_eq!(from("https://evil.example"), 403);
    assert_eq!(from("null"), 403);
    assert_eq!(from("http://example.test:2"), 403);
    assert_eq!(from("http://example.test:1"), 101);
}

#[test]
fn the_page_allows_itself_nothing_it_does_not_need() {
    let server = start(&[]);
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/base.css", "text/css; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
        ("/dom.js", "text/javascript; charset=utf-8"),
        ("/pool.js", "text/javascript; charset=utf-8"),
        ("/poll.js", "text/javascript; charset=utf-8"),
        ("/reconnect.js", "text/javascript; charset=utf-8"),
        ("/server.js", "text/javascript; charset=utf-8"),
        ("/sockets.js", "text/javascript; charset=utf-8"),
        ("/tiles.js", "text/javascript; charset=utf-8"),
        ("/view.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(media_type))
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
}

#[test]
fn head_is_get_without_the_body_and_other_methods_are_refused() {
    let server = start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("text until the end");
    let length = format!("Content-Length: {}\r\n", server.get("/").body.len());
    assert!(
        all.starts_with("HTTP/1.1 200 OK\r\n") && all.contains(&length) && all.ends_with("\r\n\r\n"),
        "{all}"
    );
    let answer = server.exchange("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&[]);
    let mut stream = server.connect();
    let requests = ["nowhere", "dump.json", "page.css"]
        .map(|path| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .concat()
        .repeat(33);
    stream.write_all(requests.as_bytes()).expect("sent");
    for index in 0..99 {
        let answer = read_answer(&mut stream);
        let expected = [
            "text/plain; charset=utf-8",
            "application/json",
            "text/css; charset=utf-8",
        ][index % 3];
        assert_eq!(answer.header("content-type"), Some(expected), "answer {index}");
    }
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let server = start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /page.js HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(read_answer(&mut stream).status, 200);
    assert_eq!(stream.read(&mut [0]).expect("an end, not a reset"), 0);
}

/// S28: what is no request is answered with a status, whatever else is going on.
#[test]
fn garbled_requests_get_a_status() {
    let server = start(&[]);
    let mut watcher = Client::open(&server, "/stream?chunks=0&size=64");
    let long = "x".repeat(20_000);
    let many = "X-Many: 1\r\n".repeat(100);
    for (status, request) in [
        (400, "\u{1}\u{2}\u{3}\u{ff}\u{fe} garbage\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        (
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(),
        ),
        (
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ),
        (
            413,
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n".to_owned(),
        ),
        (
            413,
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                "9".repeat(40)
            ),
        ),
        (
            413,
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n".to_owned(),
        ),
        (431, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        (
            501,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
        ),
        (505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned()),
    ] {
        assert_eq!(
            server.exchange(&request).status,
            status,
            "{}",
            &request[..request.len().min(90)]
        );
        watcher.next_number().expect("the others are served");
    }
    // A client that leaves in the middle of a request gets no answer.
    server.connect().write_all(b"GET / HT").expect("sent");
    read_complete_streams(&server, "/stream?chunks=10", 8, 10);
}

/// S28: a request that never ends is ended.
#[test]
fn a_request_that_trickles_in_is_timed_out() {
    let server = start(&["--idle-timeout=1"]);
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        .expect("sent");
    assert_eq!(read_answer(&mut stream).status, 408);
    let mut silent = server.connect();
    assert_eq!(silent.read(&mut [0]).expect("an end, not a reset"), 0);
}

/// S28: frames against the rules close with the code that says which.
#[test]
fn garbled_frames_get_a_close_code() {
    let server = start(&[]);
    let raw = |code: u16, bytes: &[u8]| {
        let mut client = Client::open(&server, "/stream?chunks=0&size=64");
        client.0.get_mut().write_all(bytes).expect("sent");
        assert_eq!(client.close_code(), code, "{bytes:02x?}");
    };
    raw(1002, &[0x82, 0x01, 0x00]); // no mask
    raw(1002, &[0xF2, 0x80, 0, 0, 0, 0]); // reserved bits
    raw(1002, &[0x83, 0x80, 0, 0, 0, 0]); // an unknown opcode
    raw(1002, &[0x09, 0x80, 0, 0, 0, 0]); // a fragmented ping
    raw(1002, &[0x80, 0x80, 0, 0, 0, 0]); // a continuation of nothing
    raw(1009, &[0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]); // 1 GiB
    raw(
        1009,
        &[
            0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4,
        ],
    );
    raw(1007, &[0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28]); // no UTF-8
    until("their tasks have stopped", || {
        (server.counter("/stopped/connection_closed") == 8).then_some(())
    });
    read_complete_streams(&server, "/stream?chunks=10", 8, 10);
}

/// S28: neither endless fragments nor a flood of pings fill the memory.
#[test]
fn a_message_in_endless_fragments_is_refused() {
    let server = start(&[]);
    let mut client = Client::open(&server, "/stream?chunks=0&size=64");
    for index in 0..20 {
        let kind = if index == 0 { Data::Binary } else { Data::Continue };
        let header = FrameHeader {
            is_final: false,
            opcode: OpCode::Data(kind),
            ..FrameHeader::default()
        };
        let frame = Frame::from_payload(header, Bytes::from(vec![0; 16 * 1024]));
        // The server may have given up before the last of them.
        if client.0.send(Message::Frame(frame)).is_err() {
            break;
        }
    }
    assert_eq!(client.close_code(), 1009);
}
