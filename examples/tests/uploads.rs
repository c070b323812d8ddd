//! Bodies that an app takes in pieces: what it gets, what a client is told, and who waits for whom.

#[path = "util/in_process.rs"]
mod in_process;
#[path = "util/upload.rs"]
mod upload;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use examples::http::{Piece, Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::server::App;
use in_process::{connect, exchange, read_all, serve};
use moored::ConnId;
use upload::{chunked, post};

const PIECE: usize = 1000;
const BODY_MAX: usize = 64 << 20;

/// `/take` answers with the length, the checksum and the number of pieces of a body, `/hold` does
/// so once the test says that it may begin, `/refuse` answers at once. `/large` has large pieces.
struct Taker {
    bodies: HashMap<(ConnId, u64), Taken>,
    facts: Arc<Facts>,
    events: mpsc::Sender<String>,
}

#[derive(Default)]
struct Taken {
    digest: crc32fast::Hasher,
    length: usize,
    pieces: usize,
    is_held: bool,
}

#[derive(Default)]
struct Facts {
    may_begin: AtomicBool,
    longest_piece: AtomicUsize,
}

impl Taken {
    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len();
        self.pieces += 1;
    }

    fn answer(&self) -> Response {
        let digest = self.digest.clone().finalize();
        Response::text(200, &format!("{} {digest:08x} {}", self.length, self.pieces))
    }
}

impl App for Taker {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/large" => Some(Route::post(BODY_MAX).in_pieces(256 * 1024)),
            _ => Some(Route::get_and_post(BODY_MAX).in_pieces(PIECE)),
        }
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let mut taken = Taken::default();
        if request.path() == "/refuse" {
            net.answer(id, request.number, Response::come_back(1, "the queue is full"));
        } else if request.body_follows {
            taken.is_held = request.path() == "/hold";
            if !taken.is_held {
                net.want_body(id, request.number);
            }
            self.bodies.insert((id, request.number), taken);
        } else {
            taken.add(&request.body);
            net.answer(id, request.number, taken.answer());
        }
    }

    fn body(&mut self, net: &mut Net, id: ConnId, request: u64, piece: Piece) {
        self.facts
            .longest_piece
            .fetch_max(piece.bytes.len(), Ordering::SeqCst);
        let taken = self
            .bodies
            .get_mut(&(id, request))
            .expect("a body that was asked for");
        taken.add(&piece.bytes);
        if piece.is_last {
            net.answer(id, request, taken.answer());
            self.bodies.remove(&(id, request));
        } else {
            net.want_body(id, request);
        }
    }

    fn body_failed(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.bodies.remove(&(id, request)).expect("a body that had begun");
        self.events.send("failed".to_owned()).expect("the test listens");
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.bodies.remove(&(id, request));
        self.events.send("overdue".to_owned()).expect("the test listens");
    }

    fn half_closed(&mut self, _net: &mut Net, _id: ConnId) {
        self.events
            .send("half closed".to_owned())
            .expect("the test listens");
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.bodies.retain(|(conn, _), _| *conn != id);
    }

    fn turn(&mut self, net: &mut Net) {
        if self.facts.may_begin.load(Ordering::SeqCst) {
            for ((id, request), taken) in &mut self.bodies {
                if std::mem::take(&mut taken.is_held) {
                    net.want_body(*id, *request);
                }
            }
        }
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        // The test does not wake the loop.
        Some(Duration::from_millis(10))
    }
}

fn with_taker(limits: Limits, client: impl FnOnce(SocketAddr, &Facts, mpsc::Receiver<String>)) {
    let facts = Arc::<Facts>::default();
    let (events, received) = mpsc::channel();
    let app = Taker {
        bodies: HashMap::new(),
        facts: Arc::clone(&facts),
        events,
    };
    serve(limits, app, |address| client(address, &facts, received));
}

/// A head with these headers besides `Host`.
/// Bytes that differ from their neighbours.
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn expected(body: &[u8], pieces: usize) -> String {
    format!("{} {:08x} {pieces}\n", body.len(), crc32fast::hash(body))
}

/// Reads one answer with a body of text.
fn read_one(stream: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head[9..12].parse().expect("a status");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).expect("a body");
    (status, String::from_utf8(body).expect("text"))
}

/// Whether nothing arrives for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let read = stream.read(&mut [0; 1]);
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// A client whose upload waits until the test says that it may begin.
fn hold(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let head = post("/hold", "Content-Length: 5000\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&sample(5000)).expect("sent");
    stream
}

#[test]
fn pieces_are_as_long_as_the_path_says() {
    with_taker(Limits::default(), |address, facts, _| {
        let mut stream = connect(address);
        for length in [1, 999, 1000, 1001, 1999, 2000, 2001, 300_000] {
            let body = sample(length);
            let head = post("/take", &format!("Content-Length: {length}\r\n"));
            // The head alone, so that the body follows.
            stream.write_all(head.as_bytes()).expect("sent");
            assert!(length > 1 || is_silent(&mut stream));
            stream.write_all(&body).expect("sent");
            let (status, text) = read_one(&mut stream);
            assert_eq!(status, 200);
            let (sum, pieces) = text.trim_end().rsplit_once(' ').expect("three words");
            assert_eq!(format!("{sum} 0\n"), expected(&body, 0));
            assert_eq!(pieces.parse(), Ok(length.div_ceil(PIECE)));
        }
        assert_eq!(facts.longest_piece.load(Ordering::SeqCst), PIECE);
    });
}

#[test]
fn a_short_body_that_comes_with_its_head_is_whole_at_once() {
    with_taker(Limits::default(), |address, facts, _| {
        for body in [sample(1), sample(700)] {
            let length = format!("Content-Length: {}\r\n", body.len());
            let mut plain = post("/take", &length).into_bytes();
            plain.extend_from_slice(&body);
            let mut in_chunks = post("/take", "Transfer-Encoding: chunked\r\n").into_bytes();
            in_chunks.extend_from_slice(&chunked(&body, 100));
            for request in [plain, in_chunks] {
                let mut stream = connect(address);
                stream.write_all(&request).expect("sent");
                assert_eq!(read_one(&mut stream), (200, expected(&body, 1)));
            }
        }
        let mut stream = connect(address);
        let empty =
            post("/take", "") + &post("/take", "Content-Length: 0\r\n") + "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(empty.as_bytes()).expect("sent");
        for _ in 0..3 {
            assert_eq!(read_one(&mut stream), (200, expected(b"", 1)));
        }
        assert_eq!(facts.longest_piece.load(Ordering::SeqCst), 0, "nothing followed");
    });
}

#[test]
fn a_chunked_body_comes_in_the_same_pieces() {
    with_taker(Limits::default(), |address, facts, _| {
        let mut stream = connect(address);
        for (length, chunk) in [
            (50_000, 1),
            (50_000, 999),
            (50_000, 1000),
            (300_000, 70_001),
            (1, 1),
        ] {
            let body = sample(length);
            let head = post("/take", "Transfer-Encoding: chunked\r\n");
            stream.write_all(head.as_bytes()).expect("sent");
            for part in chunked(&body, chunk).chunks(8191) {
                stream.write_all(part).expect("sent");
            }
            let (status, text) = read_one(&mut stream);
            assert_eq!(status, 200);
            let (sum, _) = text.trim_end().rsplit_once(' ').expect("three words");
            assert_eq!(format!("{sum} 0\n"), expected(&body, 0));
        }
        assert!(facts.longest_piece.load(Ordering::SeqCst) <= PIECE);
    });
}

/// The interim answer means that the body is welcome: the app has to ask for it first.
#[test]
fn a_100_is_sent_when_the_app_takes_the_body() {
    with_taker(Limits::default(), |address, facts, _| {
        let body = sample(5000);
        let mut stream = connect(address);
        let head = post("/hold", "Content-Length: 5000\r\nExpect: 100-continue\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        assert!(is_silent(&mut stream));
        facts.may_begin.store(true, Ordering::SeqCst);
        assert_eq!(read_one(&mut stream).0, 100);
        stream.write_all(&body).expect("sent");
        assert_eq!(read_one(&mut stream), (200, expected(&body, 5)));
        // A client that does not wait gets none.
        stream.write_all(head.as_bytes()).expect("sent");
        facts.may_begin.store(false, Ordering::SeqCst);
        stream.write_all(&body).expect("sent");
        facts.may_begin.store(true, Ordering::SeqCst);
        let (mut status, mut text) = read_one(&mut stream);
        if status == 100 {
            // Its head alone has arrived before the loop has seen the body.
            (status, text) = read_one(&mut stream);
        }
        assert_eq!((status, text), (200, expected(&body, 5)));
    });
}

/// An interim answer must not overtake the answer to an earlier request.
#[test]
fn a_100_waits_for_the_answers_before_it() {
    with_taker(Limits::default(), |address, facts, _| {
        let mut stream = connect(address);
        let first = post("/hold", "Content-Length: 2000\r\n");
        let second = post("/take", "Content-Length: 3000\r\nExpect: 100-continue\r\n");
        stream.write_all(first.as_bytes()).expect("sent");
        stream.write_all(&sample(2000)).expect("sent");
        stream.write_all(second.as_bytes()).expect("sent");
        assert!(is_silent(&mut stream));
        facts.may_begin.store(true, Ordering::SeqCst);
        assert_eq!(read_one(&mut stream), (200, expected(&sample(2000), 2)));
        assert_eq!(read_one(&mut stream).0, 100);
        stream.write_all(&sample(3000)).expect("sent");
        assert_eq!(read_one(&mut stream), (200, expected(&sample(3000), 3)));
    });
}

#[test]
fn an_answer_before_the_body_closes_the_connection() {
    with_taker(Limits::default(), |address, _, _| {
        let expecting = post("/refuse", "Content-Length: 5000000\r\nExpect: 100-continue\r\n");
        let answer = exchange(address, expecting.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n") && answer.contains("\r\nRetry-After: 1\r\n"));
        // A client that sends all the same gets the answer, and no reset before it.
        let mut request = post("/refuse", "Content-Length: 5000000\r\n").into_bytes();
        request.extend_from_slice(&sample(5_000_000));
        let answer = exchange(address, &request);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        // A body that has all arrived is no reason to close.
        let mut stream = connect(address);
        let short = post("/refuse", "Content-Length: 3\r\n") + "abc";
        stream
            .write_all((short.clone() + &short).as_bytes())
            .expect("sent");
        assert_eq!([read_one(&mut stream).0, read_one(&mut stream).0], [503, 503]);
    });
}

/// S28: a body that grows beyond the limit, or is malformed, in its middle.
#[test]
fn a_body_that_breaks_the_rules_in_the_middle_is_told_to_client_and_app() {
    with_taker(Limits::default(), |address, _, events| {
        let told = || events.recv_timeout(Duration::from_secs(30)).expect("an event");
        let mut stream = connect(address);
        let head = post("/large", "Transfer-Encoding: chunked\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut chunk = b"100000\r\n".to_vec();
        chunk.extend_from_slice(&vec![b'.'; 1 << 20]);
        chunk.extend_from_slice(b"\r\n");
        // One more than there is room for. The server may have closed before the last.
        for _ in 0..=BODY_MAX >> 20 {
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        assert!(read_all(&mut stream).starts_with("HTTP/1.1 413 "));
        assert_eq!(told(), "failed");

        let head = post("/take", "Transfer-Encoding: chunked\r\n");
        let mut stream = connect(address);
        stream
            .write_all((head.clone() + "3\r\nabc\r\n").as_bytes())
            .expect("sent");
        assert!(is_silent(&mut stream));
        stream.write_all(b"3\r\nabcX\r\n").expect("sent");
        assert!(read_all(&mut stream).starts_with("HTTP/1.1 400 "));
        assert_eq!(told(), "failed");

        // Too long from the start: the app never hears of it.
        let long = post("/take", &format!("Content-Length: {}\r\n", 1_u64 << 40));
        assert!(exchange(address, long.as_bytes()).starts_with("HTTP/1.1 413 "));
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn a_body_that_breaks_off_is_told_to_the_app() {
    with_taker(Limits::default(), |address, _, events| {
        let told = || events.recv_timeout(Duration::from_secs(30)).expect("an event");
        for headers in ["Content-Length: 5000\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut stream = connect(address);
            stream
                .write_all((post("/take", headers) + "3\r\nabc").as_bytes())
                .expect("sent");
            assert!(is_silent(&mut stream));
            stream.shutdown(Shutdown::Write).expect("half closed");
            let answer = read_all(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert_eq!(told(), "failed");
        }
        // Also while the app takes nothing: what the client has sent is not read, but it has gone.
        let mut stream = connect(address);
        stream
            .write_all(post("/hold", "Content-Length: 500000\r\n").as_bytes())
            .expect("sent");
        stream.write_all(&sample(100_000)).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        while told() != "half closed" {}
    });
}

#[test]
fn time_in_which_the_app_takes_nothing_does_not_count_against_the_client() {
    let limits = Limits {
        request_time: Duration::from_millis(300),
        body_rate: 1 << 20,
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_taker(limits, |address, facts, events| {
        let mut held = hold(address);
        let mut slow = connect(address);
        slow.write_all(post("/take", "Content-Length: 5000\r\n").as_bytes())
            .expect("sent");
        slow.write_all(&sample(1500)).expect("sent");
        // The slow one is told; the held one waits for the app all the time.
        assert!(read_all(&mut slow).starts_with("HTTP/1.1 408 "));
        assert_eq!(
            events.recv_timeout(Duration::from_secs(30)).as_deref(),
            Ok("failed")
        );
        assert!(is_silent(&mut held));
        facts.may_begin.store(true, Ordering::SeqCst);
        assert_eq!(read_one(&mut held), (200, expected(&sample(5000), 5)));
    });
}

#[test]
fn an_app_that_takes_nothing_is_overdue_and_a_long_upload_is_not() {
    let limits = Limits {
        answer_time: Duration::from_millis(500),
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_taker(limits, |address, _, events| {
        let mut held = hold(address);
        let mut long = connect(address);
        let begun = Instant::now();
        long.write_all(post("/take", "Content-Length: 20000\r\n").as_bytes())
            .expect("sent");
        assert!(read_all(&mut held).starts_with("HTTP/1.1 504 "));
        assert_eq!(
            events.recv_timeout(Duration::from_secs(30)).as_deref(),
            Ok("overdue")
        );
        for part in sample(20_000).chunks(1000) {
            long.write_all(part).expect("sent");
            // The upload has to take longer than the limit for answers.
            std::thread::sleep(Duration::from_millis(60));
        }
        assert!(begun.elapsed() > Duration::from_secs(1));
        assert_eq!(read_one(&mut long), (200, expected(&sample(20_000), 20)));
    });
}

#[test]
fn an_app_that_takes_nothing_stops_the_client() {
    with_taker(Limits::default(), |address, facts, _| {
        let body = sample(BODY_MAX);
        let mut stream = connect(address);
        let head = post("/hold", &format!("Content-Length: {BODY_MAX}\r\n"));
        stream.write_all(head.as_bytes()).expect("sent");
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        let mut sent = 0;
        while let Ok(taken @ 1..) = stream.write(&body[sent..]) {
            sent += taken;
        }
        // The buffers of both kernels.
        assert!(sent < 16 << 20, "{sent}");
        facts.may_begin.store(true, Ordering::SeqCst);
        stream.set_write_timeout(None).expect("no timeout");
        stream.write_all(&body[sent..]).expect("sent");
        assert_eq!(
            read_one(&mut stream),
            (200, expected(&body, BODY_MAX.div_ceil(PIECE)))
        );
    });
}

#[test]
fn requests_behind_a_body_are_answered_in_order() {
    with_taker(Limits::default(), |address, facts, _| {
        let mut stream = connect(address);
        let mut requests = post("/hold", "Content-Length: 70000\r\n").into_bytes();
        requests.extend_from_slice(&sample(70_000));
        requests.extend_from_slice(post("/take", "Content-Length: 3\r\n").as_bytes());
        requests.extend_from_slice(b"abc");
        requests.extend_from_slice(post("/take", "Content-Length: 3000\r\nConnection: close\r\n").as_bytes());
        requests.extend_from_slice(&sample(3000));
        stream.write_all(&requests).expect("sent");
        assert!(is_silent(&mut stream));
        facts.may_begin.store(true, Ordering::SeqCst);
        assert_eq!(read_one(&mut stream), (200, expected(&sample(70_000), 70)));
        assert_eq!(read_one(&mut stream), (200, expected(b"abc", 1)));
        assert_eq!(read_one(&mut stream).0, 200);
        assert_eq!(read_all(&mut stream), "");
    });
}
