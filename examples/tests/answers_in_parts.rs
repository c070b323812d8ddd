//! Answers whose bodies an app gives in parts: their form, their order, their pace, and clients
//! that have gone.

#[path = "util/in_process.rs"]
mod in_process;

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::query::Query;
use examples::server::App;
use in_process::{connect, exchange, read_all, serve};
use moored::ConnId;

const PATIENCE: Duration = Duration::from_secs(30);

/// `/parts?count=3&size=5` answers in so many parts, each once the kernel has the one before it.
/// `/at-once` gives all parts in the call. `/cut` fails after the first part, `/fail` before it.
/// `/wait` is answered, and `/open` goes on, when another request asks for `/go`.
struct Parts {
    streams: HashMap<(ConnId, u64), Stream>,
    waiting: VecDeque<(ConnId, u64)>,
    sent: Arc<AtomicUsize>,
    events: mpsc::Sender<String>,
}

#[derive(Clone, Copy)]
struct Stream {
    left: usize,
    size: usize,
    is_failing: bool,
}

impl Parts {
    fn next_part(&mut self, net: &mut Net, key: (ConnId, u64)) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.left == 0 {
            let stream = self.streams.remove(&key).expect("it was found");
            if stream.is_failing {
                net.answer(key.0, key.1, Response::text(500, "it has failed"));
            } else {
                net.end_answer(key.0, key.1);
            }
            return;
        }
        stream.left -= 1;
        assert!(net.send_part(key.0, key.1, part(stream.size)), "it has begun");
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn part(size: usize) -> Bytes {
    (0..size).map(|at| b'a' + (at % 26) as u8).collect()
}

impl App for Parts {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let number = request.number;
        let mut query = Query::new(request.query());
        let stream = Stream {
            left: query.take_number("count", 1, 0..=1_000_000).expect("a number"),
            size: query.take_number("size", 5, 0..=1 << 20).expect("a number"),
            is_failing: matches!(request.path(), "/cut" | "/fail"),
        };
        let head = Response::new(200).header("Content-Type", "text/plain");
        match request.path() {
            "/parts" | "/cut" => {
                net.begin_answer(id, number, head);
                self.streams.insert((id, number), stream);
                self.next_part(net, (id, number));
            }
            "/at-once" => {
                net.begin_answer(id, number, head);
                for _ in 0..stream.left {
                    net.send_part(id, number, part(stream.size));
                }
                net.end_answer(id, number);
                assert!(!net.send_part(id, number, part(1)), "the answer has ended");
            }
            "/whole" => net.answer(id, number, Response::text(200, "whole").with_report()),
            "/wait" => self.waiting.push_back((id, number)),
            "/open" => {
                net.begin_answer(id, number, head);
                net.send_part(id, number, part(stream.size));
                self.waiting.push_back((id, number));
            }
            _ => {
                while let Some((id, number)) = self.waiting.pop_front() {
                    if net.send_part(id, number, part(3)) {
                        net.end_answer(id, number);
                    } else {
                        net.answer(id, number, Response::text(200, "waited"));
                    }
                }
                net.answer(id, number, Response::text(200, "gone on"));
            }
        }
    }

    fn sent(&mut self, net: &mut Net, id: ConnId, request: u64) {
        let _ = self.events.send(format!("sent {request}"));
        self.next_part(net, (id, request));
    }

    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        let _ = self.events.send("half closed".to_owned());
        net.probe(id);
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.waiting.retain(|(other, _)| *other != id);
        self.streams.retain(|(other, _), _| *other != id);
        let _ = self.events.send("closed".to_owned());
    }

    fn turn(&mut self, _net: &mut Net) {}
}

fn with_server(limits: Limits, client: impl FnOnce(SocketAddr, &mpsc::Receiver<String>, &AtomicUsize)) {
    let (events, seen) = mpsc::channel();
    let sent = Arc::new(AtomicUsize::new(0));
    let app = Parts {
        streams: HashMap::new(),
        waiting: VecDeque::new(),
        sent: Arc::clone(&sent),
        events,
    };
    serve(limits, app, |address| client(address, &seen, &sent));
}

fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

/// Waits for `event`. Returns how many others came before it.
fn await_event(seen: &mpsc::Receiver<String>, event: &str) -> usize {
    let mut others = 0;
    while seen.recv_timeout(PATIENCE).expect(event) != event {
        others += 1;
    }
    others
}

/// Reads until `end` has arrived.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(end) {
        let read = stream.read(&mut buffer).expect("no reset");
        assert_ne!(read, 0, "an end after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).expect("ASCII"));
    }
    text
}

/// RFC 9112, section 7.1.
#[test]
fn parts_are_chunks() {
    with_server(Limits::default(), |address, seen, _| {
        let answer = get(address, "/parts?count=2&size=17");
        assert!(answer.contains("\r\nTransfer-Encoding: chunked\r\n"), "{answer}");
        assert!(!answer.contains("Content-Length"), "{answer}");
        let chunk = "11\r\nabcdefghijklmnopq\r\n";
        assert_eq!(body(&answer), format!("{chunk}{chunk}0\r\n\r\n"));
        // Two parts and the end.
        for _ in 0..3 {
            assert_eq!(seen.recv_timeout(PATIENCE).as_deref(), Ok("sent 1"));
        }
        assert_eq!(
            body(&get(address, "/at-once?count=2&size=1")),
            "1\r\na\r\n1\r\na\r\n0\r\n\r\n"
        );
    });
}

/// An empty chunk would end the body.
#[test]
fn empty_parts_are_no_chunks() {
    with_server(Limits::default(), |address, _, _| {
        assert_eq!(body(&get(address, "/parts?count=3&size=0")), "0\r\n\r\n");
        assert_eq!(body(&get(address, "/parts?count=0")), "0\r\n\r\n");
    });
}

#[test]
fn the_connection_goes_on_after_an_answer_in_parts() {
    with_server(Limits::default(), |address, _, _| {
        let request = "GET /parts?count=2&size=1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let last = "GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(address, format!("{request}{request}{last}").as_bytes());
        assert_eq!(
            answer
                .matches("1\r\na\r\n1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n")
                .count(),
            2
        );
        assert!(answer.ends_with("gone on\n"), "{answer}");
    });
}

#[test]
fn parts_wait_for_the_answers_before_them() {
    with_server(Limits::default(), |address, _, _| {
        let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let paths = [
            "/wait",
            "/at-once?count=2&size=1",
            "/parts?count=2&size=1",
            "/open?size=2",
            "/go",
        ];
        let mut stream = connect(address);
        stream
            .write_all(paths.map(get).concat().as_bytes())
            .expect("sent");
        let answers = read_to(&mut stream, "gone on\n");
        let bodies: Vec<_> = answers.split("HTTP/1.1 200 OK\r\n").skip(1).map(body).collect();
        let two = "1\r\na\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(
            bodies,
            [
                "waited\n",
                two,
                two,
                "2\r\nab\r\n3\r\nabc\r\n0\r\n\r\n",
                "gone on\n"
            ]
        );
    });
}

/// Clients of HTTP/1.0 know no chunks: the end of the connection is the end of the body.
#[test]
fn an_http_1_0_client_gets_the_body_without_chunks() {
    let limits = Limits {
        request_time: 2 * PATIENCE,
        ..Limits::default()
    };
    with_server(limits, |address, _, _| {
        let request = "GET /parts?count=2&size=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let answer = exchange(address, request.as_bytes());
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(!answer.contains("Transfer-Encoding"), "{answer}");
        assert_eq!(body(&answer), "abcabc");
    });
}

#[test]
fn the_answer_to_head_has_no_parts() {
    with_server(Limits::default(), |address, _, _| {
        let head = "HEAD /parts?count=2&size=3 HTTP/1.1\r\nHost: a\r\n\r\n";
        let last = "GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(address, format!("{head}{last}").as_bytes());
        let (_, rest) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn an_answer_with_a_report_is_reported_once() {
    with_server(Limits::default(), |address, seen, _| {
        assert!(get(address, "/whole").ends_with("whole\n"));
        assert_eq!(await_event(seen, "sent 1"), 0);
        assert_eq!(await_event(seen, "closed"), 0);
    });
}

#[test]
fn an_answer_that_fails_is_cut_off() {
    with_server(Limits::default(), |address, _, _| {
        assert_eq!(
            body(&get(address, "/cut?count=1&size=3")),
            "3\r\nabc\r\n",
            "no last chunk"
        );
        let mut stream = connect(address);
        stream
            .write_all(b"GET /cut?count=1&size=3 HTTP/1.0\r\n\r\n")
            .expect("sent");
        let end = stream.read_to_end(&mut Vec::new());
        assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    });
}

/// As long as the client has got nothing of the answer, it gets another one.
#[test]
fn an_answer_that_fails_before_its_turn_is_replaced() {
    with_server(Limits::default(), |address, _, _| {
        let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut stream = connect(address);
        let requests = ["/wait", "/cut?count=0", "/go"].map(get).concat();
        stream.write_all(requests.as_bytes()).expect("sent");
        let answers = read_to(&mut stream, "gone on\n");
        assert!(answers.contains("waited\nHTTP/1.1 500 "), "{answers}");
        assert!(answers.contains("it has failed\nHTTP/1.1 200 "), "{answers}");
    });
}

/// S18: a client that does not read holds up its own answer, and memory stays flat.
#[test]
fn a_client_that_does_not_read_stops_the_parts() {
    const PART: usize = 64 * 1024;
    const COUNT: usize = 500;
    with_server(Limits::default(), |address, seen, sent| {
        let mut stream = connect(address);
        let request =
            format!("GET /parts?count={COUNT}&size={PART} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        await_event(seen, "sent 1");
        let mut before = 0;
        while sent.load(Ordering::Relaxed) != before {
            before = sent.load(Ordering::Relaxed);
            // Nothing says that a part will not be taken: the count has to stand still.
            thread::sleep(Duration::from_millis(200));
        }
        assert!(before < COUNT, "the parts have stopped");
        let answer = read_all(&mut stream);
        assert_eq!(body(&answer).matches("\r\nabcdefghijklm").count(), COUNT);
        assert!(answer.ends_with("0\r\n\r\n"));
        assert_eq!(sent.load(Ordering::Relaxed), COUNT);
    });
}

/// A client that has closed its socket is told from one that only sends no more.
#[test]
fn a_client_that_has_gone_is_noticed() {
    for target in ["/wait", "/open?size=3"] {
        with_server(Limits::default(), |address, seen, _| {
            let mut stream = connect(address);
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            if target != "/wait" {
                read_to(&mut stream, "abc\r\n");
            }
            // Is read after the request.
            assert!(get(address, "/parts").ends_with("0\r\n\r\n"));
            await_event(seen, "closed");
            drop(stream);
            await_event(seen, "half closed");
            await_event(seen, "closed");
        });
    }
}

#[test]
fn a_client_that_sends_no_more_gets_its_answer() {
    for (target, end) in [
        ("/wait", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        ("/open?size=3", "3\r\nabc\r\n03\r\nabc\r\n0\r\n\r\n"),
    ] {
        with_server(Limits::default(), |address, seen, _| {
            let mut stream = connect(address);
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            if target != "/wait" {
                answer = read_to(&mut stream, "abc\r\n");
            }
            stream.shutdown(Shutdown::Write).expect("half closed");
            await_event(seen, "half closed");
            assert!(get(address, "/go").ends_with("gone on\n"));
            answer += &read_all(&mut stream);
            assert!(answer.contains(end), "{answer}");
        });
    }
}

/// It has no body, so a probe would become a part of the next answer.
#[test]
fn the_answer_to_head_is_not_probed() {
    with_server(Limits::default(), |address, seen, _| {
        let mut stream = connect(address);
        stream
            .write_all(b"HEAD /open?size=3 HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        let head = read_to(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        stream.shutdown(Shutdown::Write).expect("half closed");
        await_event(seen, "half closed");
        assert!(get(address, "/go").ends_with("gone on\n"));
        assert_eq!(read_all(&mut stream), "");
    });
}

/// A pause between two parts is the app's business, however long it is.
#[test]
fn an_answer_that_has_begun_is_never_overdue() {
    let limits = Limits {
        answer_time: Duration::from_millis(100),
        idle_time: Duration::from_millis(200),
        ..Limits::default()
    };
    with_server(limits, |address, seen, _| {
        let mut stream = connect(address);
        stream
            .write_all(b"GET /open?size=3 HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        read_to(&mut stream, "abc\r\n");
        // The limits are checked every 25 ms. This one has been late for longer than the first.
        assert!(get(address, "/wait").starts_with("HTTP/1.1 504 "));
        await_event(seen, "closed");
        assert!(get(address, "/go").ends_with("gone on\n"));
        assert!(read_to(&mut stream, "0\r\n\r\n").contains("3\r\nabc\r\n"));
    });
}
