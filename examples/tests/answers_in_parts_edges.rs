//! Answers in parts, where their framing, their reports or the time limits are easily wrong.

#[path = "util/in_process.rs"]
mod in_process;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use examples::http::{Piece, Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::server::App;
use in_process::{connect, exchange, read_all, serve};
use moored::ConnId;

const PATIENCE: Duration = Duration::from_secs(30);
/// Parts of an answer that never has to end.
const MANY: usize = 2_000_000;

type Key = (ConnId, u64);

/// `/open` begins an answer and goes on later, `/wait` is answered later, each when another request
/// asks for it: `/go` ends the oldest one of them, `/fail` makes it fail. `/204` and `/304` answer
/// in parts. `/many` gives a part whenever the kernel has the one before it. `/body` takes a body
/// whole,
/// `/pieces` in pieces. `/socket` speaks WebSocket.
struct Edges {
    waiting: VecDeque<Key>,
    many: Option<(Key, usize)>,
    events: mpsc::Sender<String>,
}

impl Edges {
    fn tell(&self, event: String) {
        let _ = self.events.send(event);
    }

    fn next_of_many(&mut self, net: &mut Net, key: Key) {
        match &mut self.many {
            Some((many, left)) if *many == key && *left > 0 => {
                *left -= 1;
                net.send_part(key.0, key.1, Bytes::from_static(b"part"));
            }
            Some((many, _)) if *many == key => {
                net.end_answer(key.0, key.1);
                self.tell("end of many".to_owned());
                self.many = None;
            }
            _ => {}
        }
    }
}

impl App for Edges {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/body" => Some(Route::post(100)),
            "/pieces" => Some(Route::post(100).in_pieces(10)),
            "/socket" => Some(Route::websocket()),
            _ => Some(Route::get()),
        }
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let key = (id, request.number);
        self.tell(format!("got {}", request.path()));
        match request.path() {
            "/open" => {
                net.begin_answer(id, key.1, Response::new(200));
                net.send_part(id, key.1, Bytes::from_static(b"abc"));
                self.waiting.push_back(key);
            }
            "/wait" => self.waiting.push_back(key),
            "/204" | "/304" => {
                let status = if request.path() == "/204" { 204 } else { 304 };
                net.begin_answer(id, key.1, Response::new(status));
                net.send_part(id, key.1, Bytes::from_static(b"abc"));
                net.end_answer(id, key.1);
            }
            "/many" => {
                self.many = Some((key, MANY));
                net.begin_answer(id, key.1, Response::new(200));
                self.next_of_many(net, key);
            }
            "/pieces" => net.want_body(id, key.1),
            "/socket" => net.upgrade(id, &request, None),
            "/body" => net.answer(id, key.1, Response::text(200, "got a body")),
            "/fail" => {
                if let Some((id, number)) = self.waiting.pop_front() {
                    net.answer(id, number, Response::text(500, "it has failed"));
                }
                net.answer(id, key.1, Response::text(200, "failed"));
            }
            _ => {
                if let Some((id, number)) = self.waiting.pop_front() {
                    if net.send_part(id, number, Bytes::from_static(b"def")) {
                        net.end_answer(id, number);
                    } else {
                        net.answer(id, number, Response::text(200, "waited"));
                    }
                }
                net.answer(id, key.1, Response::text(200, "gone on"));
            }
        }
    }

    fn body(&mut self, net: &mut Net, id: ConnId, request: u64, piece: Piece) {
        if piece.is_last {
            net.answer(id, request, Response::text(200, "got a body"));
        } else {
            net.want_body(id, request);
        }
    }

    fn sent(&mut self, net: &mut Net, id: ConnId, request: u64) {
        self.next_of_many(net, (id, request));
    }

    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        net.probe(id);
        self.tell("half closed".to_owned());
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.waiting.retain(|key| *key != (id, request));
        self.tell(format!("overdue {request}"));
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.waiting.retain(|(other, _)| *other != id);
        self.many.take_if(|(key, _)| key.0 == id);
    }

    fn turn(&mut self, _net: &mut Net) {}
}

fn with_server(limits: Limits, client: impl FnOnce(SocketAddr, &mpsc::Receiver<String>)) {
    let (events, seen) = mpsc::channel();
    let app = Edges {
        waiting: VecDeque::new(),
        many: None,
        events,
    };
    serve(limits, app, |address| client(address, &seen));
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

fn send(address: SocketAddr, requests: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(requests.as_bytes()).expect("sent");
    stream
}

fn await_event(seen: &mpsc::Receiver<String>, event: &str) {
    while seen.recv_timeout(PATIENCE).expect(event) != event {}
}

fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        assert_eq!(
            stream.read(&mut byte).expect("no reset"),
            1,
            "an end after {text:?}"
        );
        text.push(char::from(byte[0]));
    }
    text
}

/// A probe in an answer without a body would be the first byte of the next answer.
#[test]
fn the_answer_to_head_is_not_probed() {
    with_server(Limits::default(), |address, seen| {
        let mut stream = send(address, &(request("HEAD", "/open") + &request("GET", "/wait")));
        read_to(&mut stream, "\r\n\r\n");
        stream.shutdown(Shutdown::Write).expect("half closed");
        await_event(seen, "half closed");
        get(address, "/go");
        get(address, "/go");
        let answer = read_all(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("waited\n"), "{answer}");
    });
}

/// RFC 9112, sections 6.1 and 6.3: such an answer has no transfer coding, and ends with its head.
#[test]
fn an_answer_whose_status_has_no_body_has_no_parts() {
    with_server(Limits::default(), |address, _| {
        for path in ["/204", "/304"] {
            let last = "GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let answer = exchange(address, (request("GET", path) + last).as_bytes());
            assert!(!answer.contains("Transfer-Encoding"), "{answer}");
            let (_, rest) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    });
}

/// An answer that ends with its connection must not look whole.
#[test]
fn an_http_1_0_answer_that_a_stop_cuts_off_ends_with_a_reset() {
    let limits = Limits {
        grace: Duration::ZERO,
        ..Limits::default()
    };
    let mut kept = None;
    with_server(limits, |address, _| {
        let mut stream = send(address, "GET /open HTTP/1.0\r\n\r\n");
        read_to(&mut stream, "abc");
        kept = Some(stream);
    });
    let end = kept.expect("a client").read_to_end(&mut Vec::new());
    assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

/// Some clients take the zero of a probe, and the end of the connection, for the last chunk.
#[test]
fn a_probed_answer_that_is_cut_off_ends_with_a_reset() {
    with_server(Limits::default(), |address, seen| {
        let mut stream = send(address, &request("GET", "/open"));
        read_to(&mut stream, "abc\r\n");
        stream.shutdown(Shutdown::Write).expect("half closed");
        await_event(seen, "half closed");
        get(address, "/fail");
        let end = stream.read_to_end(&mut Vec::new());
        assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    });
}

/// The kernel has the parts of an answer to HEAD at once, since nothing is sent.
#[test]
fn an_answer_whose_parts_are_not_sent_leaves_time_for_the_others() {
    with_server(Limits::default(), |address, seen| {
        let _many = send(address, &request("HEAD", "/many"));
        await_event(seen, "got /many");
        assert!(get(address, "/go").ends_with("gone on\n"));
        let events: Vec<_> = seen.try_iter().collect();
        assert_eq!(events, ["got /go"]);
    });
}

/// Time in which a client waits for 100 Continue does not count as time that it takes to send.
#[test]
fn a_body_that_waits_for_an_answer_in_parts_is_not_late() {
    let limits = Limits {
        request_time: Duration::from_millis(500),
        idle_time: Duration::from_millis(200),
        ..Limits::default()
    };
    with_server(limits, |address, _| {
        let body = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut stream = send(address, &(request("GET", "/open") + body));
        read_to(&mut stream, "abc\r\n");
        // Its request is as old as the body, and late.
        let late = exchange(address, b"GET /");
        assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
        get(address, "/go");
        assert_eq!(read_to(&mut stream, "0\r\n\r\n"), "3\r\ndef\r\n0\r\n\r\n");
        let interim = read_to(&mut stream, "\r\n\r\n");
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        // The limits are checked every 25 ms.
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"body").expect("sent");
        let answer = read_to(&mut stream, "\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

#[test]
fn an_upload_that_waits_for_an_answer_in_parts_is_not_overdue() {
    let limits = Limits {
        answer_time: Duration::from_millis(200),
        idle_time: Duration::from_millis(200),
        ..Limits::default()
    };
    with_server(limits, |address, _| {
        let body = "POST /pieces HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut stream = send(address, &(request("GET", "/open") + body));
        read_to(&mut stream, "abc\r\n");
        // Its request is younger, and overdue.
        assert!(get(address, "/wait").starts_with("HTTP/1.1 504 "));
        get(address, "/go");
        read_to(&mut stream, "0\r\n\r\n");
        let interim = read_to(&mut stream, "\r\n\r\n");
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        stream.write_all(b"body").expect("sent");
        let answer = read_to(&mut stream, "got a body\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

/// An app that answers a connection's requests one by one needs time after each.
#[test]
fn the_time_of_an_answer_begins_after_an_answer_in_parts_before_it() {
    let limits = Limits {
        answer_time: Duration::from_secs(1),
        idle_time: Duration::from_millis(200),
        ..Limits::default()
    };
    with_server(limits, |address, seen| {
        let requests = request("GET", "/open") + &request("GET", "/wait");
        let mut stream = send(address, &requests);
        read_to(&mut stream, "abc\r\n");
        // Is younger than the second request, and overdue.
        assert!(get(address, "/wait").starts_with("HTTP/1.1 504 "));
        await_event(seen, "overdue 1");
        let _third = send(address, &request("GET", "/wait"));
        await_event(seen, "got /wait");
        // The limits are checked every 25 ms. The third request is overdue in an earlier check than
        // the second one.
        thread::sleep(Duration::from_millis(200));
        get(address, "/go");
        read_to(&mut stream, "0\r\n\r\n");
        let events = seen.iter().filter(|event| event.starts_with("overdue"));
        assert_eq!(events.take(2).collect::<Vec<_>>(), ["overdue 1", "overdue 2"]);
    });
}

/// A handshake waits until the answers before it have left, and is handed over in a later turn.
#[test]
fn a_handshake_that_waits_for_an_answer_is_not_late() {
    let limits = Limits {
        request_time: Duration::from_millis(50),
        // The limits are checked in every turn.
        idle_time: Duration::from_nanos(8),
        ..Limits::default()
    };
    with_server(limits, |address, seen| {
        let handshake = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        // About every second one was late.
        for _ in 0..20 {
            let mut stream = send(address, &(request("GET", "/wait") + handshake));
            await_event(seen, "got /wait");
            let late = exchange(address, b"GET /");
            assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
            get(address, "/go");
            read_to(&mut stream, "waited\n");
            let upgraded = read_to(&mut stream, "\r\n\r\n");
            assert!(upgraded.starts_with("HTTP/1.1 101 "), "{upgraded}");
        }
    });
}
