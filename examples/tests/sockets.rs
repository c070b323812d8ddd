//! The sockets that the examples share, `examples/src`, under an app that is none of them:
//! requests with bodies, answers out of turn, messages from a client.

#[path = "util/in_process.rs"]
mod in_process;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use examples::connection::Sent;
use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::server::App;
use in_process::{connect, exchange, read_all, serve};
use moored::ConnId;
use socket2::SockRef;
use tungstenite::Message;

const BODY_MAX: usize = 1 << 20;

/// Answers a body with itself, in pairs: the second of two requests first. Messages, too.
#[derive(Default)]
struct Echo {
    waiting: Option<Request>,
}

impl App for Echo {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get_and_post(BODY_MAX).or_websocket())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        if request.is_handshake {
            net.upgrade(id, &request, None);
            return;
        }
        if request.query() == "hold" && self.waiting.is_none() {
            self.waiting = Some(request);
            return;
        }
        for request in [Some(request), self.waiting.take()].into_iter().flatten() {
            let answer = Response::new(200).body("application/octet-stream", request.body);
            net.answer(id, request.number, answer);
        }
    }

    fn message(&mut self, net: &mut Net, id: ConnId, message: Message) {
        assert_ne!(net.send(id, &message.into_data()), Sent::Gone);
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {
        self.waiting = None;
    }

    fn turn(&mut self, _net: &mut Net) {}
}

fn with_echo(client: impl FnOnce(SocketAddr)) {
    serve(Limits::default(), Echo::default(), client);
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5;note=x\r\nmoor \r\n0006\r\nmooring\r\n0\r\nX-Trailer: 1\r\n\r\n";

#[test]
fn a_body_arrives_whole_however_it_is_cut() {
    let good = CHUNKED.replace("0006", "0007");
    with_echo(|address| {
        assert!(exchange(address, good.as_bytes()).ends_with("\r\n\r\nmoor mooring"));
        for cut in 1..good.len() {
            let mut stream = connect(address);
            stream.set_nodelay(true).expect("a socket");
            stream.write_all(&good.as_bytes()[..cut]).expect("sent");
            thread::yield_now();
            stream.write_all(&good.as_bytes()[cut..]).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("text");
            assert!(answer.ends_with("\r\n\r\nmoor mooring"), "cut at {cut}: {answer}");
        }
    });
}

#[test]
fn a_chunk_that_is_not_as_long_as_it_says_is_refused() {
    with_echo(|address| assert!(exchange(address, CHUNKED.as_bytes()).starts_with("HTTP/1.1 400 ")));
}

#[test]
fn the_largest_body_passes_and_one_byte_more_does_not() {
    let request = |length: usize| {
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        head + &"b".repeat(length)
    };
    with_echo(|address| {
        let answer = exchange(address, request(BODY_MAX).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&"b".repeat(BODY_MAX)));
        assert!(exchange(address, request(BODY_MAX + 1).as_bytes()).starts_with("HTTP/1.1 413 "));
    });
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    let post = |query: &str, body: &str, connection: &str| {
        let length = body.len();
        format!(
            "POST /{query} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    with_echo(|address| {
        let requests: String = (0..20)
            .map(|n| {
                post("?hold", &format!("<{n}a>"), "keep-alive") + &post("", &format!("<{n}b>"), "keep-alive")
            })
            .collect();
        let answer = exchange(address, (requests + &post("", "<end>", "close")).as_bytes());
        let bodies: Vec<_> = answer
            .split('<')
            .skip(1)
            .filter_map(|part| part.split('>').next())
            .collect();
        let expected: Vec<_> = (0..20)
            .flat_map(|n| [format!("{n}a"), format!("{n}b")])
            .chain(["end".to_owned()])
            .collect();
        assert_eq!(bodies, expected);
    });
}

#[test]
fn messages_of_all_sizes_come_back_as_they_went() {
    with_echo(|address| {
        let (mut socket, _) =
            tungstenite::client(format!("ws://{address}/"), connect(address)).expect("upgraded");
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).expect("sent");
            assert_eq!(socket.read().expect("an echo"), message);
        }
        socket.send(Message::binary(vec![7; 65_537])).expect("sent");
        assert!(matches!(socket.read(), Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1009));
    });
}

/// U21: both sides have closed, and something is still unread: no reset.
#[test]
fn a_client_that_sends_and_closes_at_once_sees_no_reset() {
    with_echo(|address| {
        for _ in 0..20 {
            let mut stream = connect(address);
            let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("sent");
            stream.write_all("x".repeat(65_536).as_bytes()).expect("sent");
            let mut first = [0; 1];
            stream.read_exact(&mut first).expect("the answer begins");
            // Both in one segment.
            SockRef::from(&stream).set_tcp_cork(true).expect("a socket");
            stream.write_all(b"x").expect("sent");
            stream.shutdown(Shutdown::Write).expect("half closed");
            assert!(read_all(&mut stream).ends_with("xxx"));
        }
    });
}

/// S28, U22: a client that pings and never reads fills no memory, and is given up: its pings are
/// no sign that it reads.
#[test]
fn a_client_that_only_pings_is_given_up() {
    let limits = Limits {
        idle_time: Duration::from_secs(2),
        ..Limits::default()
    };
    serve(limits, Echo::default(), |address| {
        let (mut socket, _) =
            tungstenite::client(format!("ws://{address}/"), connect(address)).expect("upgraded");
        let ping = Message::Ping(vec![0; 125].into());
        let begun = Instant::now();
        while socket.send(ping.clone()).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it may ping for ever");
        }
    });
}
