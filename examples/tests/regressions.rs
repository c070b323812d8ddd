//! Faults that the server library had: each test was seen red before its fault was mended.

#[path = "util/in_process.rs"]
mod in_process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::server::App;
use in_process::{connect, exchange, read_all, serve};
use moored::ConnId;
use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/hold` is never answered, `/late` is upgraded when its answer is overdue, `/large` has 64 KiB,
/// `/ws` echoes messages and closes at a text.
#[derive(Default)]
struct Site {
    /// The most requests that one turn of the loop has brought.
    most_in_a_turn: Arc<AtomicUsize>,
    in_this_turn: usize,
    late: Option<Request>,
}

impl App for Site {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/ws" | "/late" => Some(Route::websocket()),
            "/" | "/hold" | "/large" => Some(Route::get()),
            _ => None,
        }
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        self.in_this_turn += 1;
        self.most_in_a_turn.fetch_max(self.in_this_turn, Ordering::SeqCst);
        match request.path() {
            "/ws" => net.upgrade(id, &request, None),
            "/late" => self.late = Some(request),
            "/hold" => {}
            "/large" => {
                let answer = Response::new(200).body("text/plain", vec![b'x'; 65_536]);
                net.answer(id, request.number, answer);
            }
            _ => net.answer(id, request.number, Response::text(200, "here")),
        }
    }

    fn message(&mut self, net: &mut Net, id: ConnId, message: Message) {
        if message.is_text() {
            net.close(id, CloseCode::Normal, "");
        } else {
            net.send(id, &message.into_data());
        }
    }

    fn overdue(&mut self, net: &mut Net, id: ConnId, _request: u64) {
        if let Some(request) = self.late.take() {
            net.upgrade(id, &request, None);
            net.send(id, b"hello");
        }
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, _net: &mut Net) {
        self.in_this_turn = 0;
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn with_site(limits: Limits, client: impl FnOnce(SocketAddr)) {
    serve(limits, Site::default(), client);
}

/// The client's kernel takes little that it has not read.
fn connect_with_small_buffer(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    socket.connect(&address.into()).expect("it listens");
    socket.into()
}

/// Writes until the server reads no more. Panics if it reads on and on.
fn write_until_blocked(stream: &mut TcpStream, bytes: &[u8]) {
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    let mut sent = 0;
    while let Ok(written) = stream.write(bytes) {
        sent += written;
        assert!(sent < 32 << 20, "the server reads on and on");
    }
}

/// S28: a client that pipelines has its share of a turn, and no more.
#[test]
fn one_client_has_its_share_of_a_turn_and_no_more() {
    let site = Site::default();
    let most = Arc::clone(&site.most_in_a_turn);
    serve(Limits::default(), site, |address| {
        let requests = get("/").repeat(5000) + &last("/");
        let mut stream = connect(address);
        let mut writer = stream.try_clone().expect("a socket");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(requests.as_bytes()).expect("sent"));
            let answers = read_all(&mut stream);
            assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 5001);
        });
    });
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 32, "{most} requests in one turn");
}

/// S28: what follows a handshake that waits for an answer stays with the kernel.
#[test]
fn nothing_is_read_behind_a_handshake_that_waits() {
    with_site(Limits::default(), |address| {
        let mut stream = connect(address);
        let requests = get("/hold") + &handshake("/ws");
        stream.write_all(requests.as_bytes()).expect("sent");
        write_until_blocked(&mut stream, &[0; 4096].repeat(16));
    });
}

/// S28: messages without a byte are counted, too.
#[test]
fn empty_messages_that_nobody_reads_are_bounded() {
    with_site(Limits::default(), |address| {
        let mut stream = connect_with_small_buffer(address);
        stream.write_all(handshake("/ws").as_bytes()).expect("sent");
        let mut message = vec![0x82, 0xFE, 0xEA, 0x60, 0, 0, 0, 0];
        message.resize(8 + 60_000, 0);
        stream.write_all(&message.repeat(4)).expect("sent");
        write_until_blocked(&mut stream, &[0x82, 0x80, 0, 0, 0, 0].repeat(10_000));
    });
}

/// S28: reading goes on when what had stopped it is sent, without an event.
#[test]
fn reading_goes_on_once_the_answers_are_sent() {
    with_site(Limits::default(), |address| {
        let begun = Instant::now();
        for _ in 0..8 {
            let answers = exchange(address, (get("/nowhere").repeat(6000) + &last("/")).as_bytes());
            assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 6000);
        }
        // A pause until the next look at the clock takes up to a second, twice an exchange.
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    });
}

/// U22: a client that reads nothing is given up, although it asks on and on.
#[test]
fn a_client_that_asks_and_never_reads_is_given_up() {
    let limits = Limits {
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let mut stream = connect_with_small_buffer(address);
        stream
            .write_all(get("/large").repeat(2).as_bytes())
            .expect("sent");
        let begun = Instant::now();
        while stream.write_all(get("/").as_bytes()).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it may ask for ever");
            // The rate at which it asks.
            thread::sleep(Duration::from_millis(50));
        }
    });
}

/// U22: a client that does not answer the close frame is given up, although it pings.
#[test]
fn a_client_that_never_closes_is_given_up() {
    let limits = Limits {
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let mut stream = connect(address);
        stream.write_all(handshake("/ws").as_bytes()).expect("sent");
        stream.write_all(&[0x81, 0x80, 0, 0, 0, 0]).expect("sent");
        let begun = Instant::now();
        while stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it may ping for ever");
            // The rate at which it pings.
            thread::sleep(Duration::from_millis(50));
        }
    });
}

/// U24: an answer that the server gives by itself is an answer: the client is not silent.
#[test]
fn a_client_that_asks_for_what_is_not_there_is_not_silent() {
    let limits = Limits {
        request_time: Duration::from_secs(1),
        idle_time: Duration::from_secs(2),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let mut stream = connect(address);
        for _ in 0..8 {
            stream.write_all(get("/nowhere").as_bytes()).expect("sent");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 404");
            let mut rest = [0; 4096];
            assert!(stream.read(&mut rest).expect("the rest") > 0);
            // The rate at which it asks.
            thread::sleep(Duration::from_millis(400));
        }
    });
}

/// U24: the time for a request begins with its first byte, not with the wait for it.
#[test]
fn the_time_for_a_request_begins_with_its_first_byte() {
    let limits = Limits {
        request_time: Duration::from_secs(2),
        idle_time: Duration::from_secs(2),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let mut stream = connect(address);
        let (first, second) = ("GET / HTTP/1.1\r\nHo", "st: a\r\nConnection: close\r\n\r\n");
        // The times that pass are what this is about.
        thread::sleep(Duration::from_millis(1500));
        stream.write_all(first.as_bytes()).expect("sent");
        // As above.
        thread::sleep(Duration::from_millis(1200));
        stream.write_all(second.as_bytes()).expect("sent");
        assert!(read_all(&mut stream).starts_with("HTTP/1.1 200 "));
    });
}

/// U24: all overdue answers are given at once, not one at each look at the clock.
#[test]
fn all_overdue_answers_are_given_at_once() {
    let limits = Limits {
        answer_time: Duration::from_millis(500),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let begun = Instant::now();
        let answers = exchange(address, (get("/hold").repeat(15) + &last("/hold")).as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 504 ").count(), 16);
        // There is a look at the clock each second.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    });
}

/// U24: a handshake whose client has got 504 is not upgraded any more.
#[test]
fn a_handshake_that_is_answered_is_not_upgraded() {
    let limits = Limits {
        answer_time: Duration::from_millis(200),
        request_time: Duration::from_secs(1),
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_site(limits, |address| {
        let answer = exchange(address, handshake("/late").as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("too long\n"),
            "{answer}"
        );
    });
}

/// U24: urgent data is data, and what follows it is read, also if all of it arrives at once.
#[test]
fn a_request_after_urgent_data_is_read() {
    with_site(Limits::default(), |address| {
        for _ in 0..20 {
            let mut stream = connect(address);
            stream.write_all(get("/").as_bytes()).expect("sent");
            SockRef::from(&stream).send_out_of_band(b"\n").expect("sent");
            stream.write_all(last("/").as_bytes()).expect("sent");
            assert_eq!(read_all(&mut stream).matches("HTTP/1.1 200 ").count(), 2);
        }
    });
}

/// U25: clients that wait for what they do not read keep no socket of the silent ones.
#[test]
fn slow_clients_do_not_keep_the_sockets_of_silent_ones() {
    const SLOW: usize = 80;
    let limits = Limits {
        sockets: SLOW + 20,
        ..Limits::default()
    };
    with_site(limits, |address| {
        let slow: Vec<_> = (0..SLOW)
            .map(|_| {
                let mut stream = connect_with_small_buffer(address);
                stream.write_all(get("/large").as_bytes()).expect("sent");
                let mut first = [0; 1];
                stream.read_exact(&mut first).expect("the answer begins");
                stream
            })
            .collect();
        let silent: Vec<_> = (0..20).map(|_| connect(address)).collect();
        let begun = Instant::now();
        for _ in 0..5 {
            assert!(exchange(address, last("/").as_bytes()).starts_with("HTTP/1.1 200 "));
        }
        // The time for a request, after which there would be room anyway, is ten seconds.
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        drop((slow, silent));
    });
}
