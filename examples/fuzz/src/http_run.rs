//! One connection of HTTP/1.1: the parser is driven as `examples::connection` drives it, with an
//! app that answers every request with what it has seen of it.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::BytesMut;
use examples::http::{Http, Parsed, Request, Response, Route};
use examples::limits::Limits;
use examples::origin::AllowedOrigins;
use examples::turn::Turn;
use examples::upgrade;

use crate::wire::Wire;

/// Small, so that short inputs reach them.
const BODY_BYTES: usize = 300;
const PIECE_BYTES: usize = 7;
const HEAD_BYTES: usize = 512;
const PIPELINE_DEPTH: usize = 3;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// When the app answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// When it has all of the request.
    AtOnce,
    /// When nothing more is read without an answer, and the newest request first.
    Late,
    /// When it has the head.
    Early,
}

/// What has become of the bytes of a client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The requests that the app has got and answered, by their numbers.
    pub requests: BTreeMap<u64, Seen>,
    /// What the client has got, without interim answers.
    pub sent: Vec<u8>,
    /// What is left for the WebSocket, after a handshake.
    pub rest: Option<Vec<u8>>,
}

/// A request as the app has got it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Method, path and query.
    line: String,
    body: Vec<u8>,
    /// The answer of a handshake.
    handshake: Option<String>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// More of the body is to come. The parameter: the app has asked for it.
    Receiving(bool),
    Complete,
    Answered,
    /// The body has failed, and the parser has answered.
    Failed,
}

struct Run<'a> {
    http: Http,
    inbox: BytesMut,
    wire: &'a mut Wire,
    limits: Limits,
    origins: AllowedOrigins,
    now: Instant,
    answering: Answering,
    outcome: Outcome,
    upgraded: bool,
}

/// Serves a client that sends `bytes` in pieces with these ends, and then no more.
pub fn serve(wire: &mut Wire, bytes: &[u8], ends: &[usize], answering: Answering) -> Outcome {
    let mut run = Run {
        http: Http::default(),
        inbox: BytesMut::new(),
        wire,
        limits: Limits {
            head_bytes: HEAD_BYTES,
            pipeline_depth: PIPELINE_DEPTH,
            ..Limits::default()
        },
        origins: AllowedOrigins::default(),
        now: Instant::now(),
        answering,
        outcome: Outcome::default(),
        upgraded: false,
    };
    let mut used = 0;
    for end in ends {
        while used < *end && run.goes_on() {
            used += run.read(&bytes[used..*end]);
            run.parse();
        }
    }
    run.settle();
    if run.upgraded {
        run.outcome.rest = Some([&run.inbox, &bytes[used..]].concat());
    } else {
        run.http.end_of_input();
        run.parse();
        run.settle();
    }
    run.send();
    run.outcome.comparable()
}

impl Outcome {
    /// Leaves out what may depend on the time at which the bytes arrive: whether the app gets a
    /// request whose body turns out to be malformed, and whether a client has to wait for the
    /// permission to send a body.
    fn comparable(mut self) -> Self {
        self.requests.retain(|_, seen| seen.state == State::Answered);
        while let Some(at) = self
            .sent
            .windows(CONTINUE.len())
            .position(|bytes| bytes == CONTINUE)
        {
            self.sent.drain(at..at + CONTINUE.len());
        }
        self
    }
}

fn route(path: &str) -> Option<Route> {
    match path {
        "/" => Some(Route::get()),
        "/whole" => Some(Route::post(BODY_BYTES)),
        "/pieces" => Some(Route::post(BODY_BYTES).in_pieces(PIECE_BYTES)),
        "/both" => Some(Route::get_and_post(BODY_BYTES).or_websocket()),
        "/live" => Some(Route::websocket()),
        _ => None,
    }
}

impl Run<'_> {
    /// Whether the server reads: the app answers and the client reads what makes the server wait.
    fn goes_on(&mut self) -> bool {
        if !self.upgraded && !self.http.wants_input(&self.wire.socket, &self.limits) {
            self.settle();
            self.parse();
        }
        !self.upgraded && self.http.wants_input(&self.wire.socket, &self.limits)
    }

    /// One read of the connection. Returns how much it has taken of `input`.
    fn read(&mut self, input: &[u8]) -> usize {
        let read = self.http.read_max().unwrap_or(usize::MAX).min(input.len());
        assert!(read > 0, "a connection without room asks for no input");
        let taken = if self.inbox.is_empty() {
            self.http.take_data(&input[..read])
        } else {
            0
        };
        self.inbox.extend_from_slice(&input[taken..read]);
        read
    }

    /// Parses what has arrived, until more is needed.
    fn parse(&mut self) {
        while !self.upgraded {
            let turn = Turn {
                number: 0,
                limits: &self.limits,
                origins: &self.origins,
                routes: &route,
                not_found: "there is nothing here",
                now: self.now,
                date: "Thu, 01 Jan 1970 00:00:00 GMT",
            };
            match self.http.next(&mut self.inbox, &mut self.wire.socket, &turn) {
                Parsed::Request(request) => self.take_request(&request),
                Parsed::Piece(number, piece) => {
                    assert!(piece.bytes.len() <= PIECE_BYTES, "a piece is too long");
                    self.add(number, &piece.bytes, piece.is_last);
                }
                Parsed::BodyFailed(number) => self.seen(number).state = State::Failed,
                Parsed::Incomplete if !self.ask_for_bodies() => return,
                Parsed::Waiting if !self.settle() => return,
                Parsed::Incomplete | Parsed::Waiting => {}
            }
        }
    }

    fn seen(&mut self, number: u64) -> &mut Seen {
        self.outcome
            .requests
            .get_mut(&number)
            .expect("the app has got this request")
    }

    fn take_request(&mut self, request: &Request) {
        let number = request.number;
        let handshake = request
            .is_handshake
            .then(|| format!("{:?}", upgrade::accept(request, None)));
        let seen = Seen {
            line: format!("{} {} {}", request.method, request.path(), request.query()),
            body: Vec::new(),
            handshake,
            state: State::Receiving(false),
        };
        let before = self.outcome.requests.insert(number, seen);
        assert!(before.is_none(), "a number names one request");
        if self.answering == Answering::Early {
            self.answer(number);
        } else {
            self.add(number, &request.body, !request.body_follows);
        }
    }

    fn add(&mut self, number: u64, bytes: &[u8], is_last: bool) {
        let seen = self.seen(number);
        assert!(matches!(seen.state, State::Receiving(_)), "a piece after the end");
        seen.body.extend_from_slice(bytes);
        assert!(seen.body.len() <= BODY_BYTES, "a body is too long");
        seen.state = if is_last {
            State::Complete
        } else {
            State::Receiving(false)
        };
        if is_last && self.answering == Answering::AtOnce {
            self.answer(number);
        }
    }

    /// Asks for the pieces of bodies. Whether there was one to ask for.
    fn ask_for_bodies(&mut self) -> bool {
        let mut has_asked = false;
        for (number, seen) in &mut self.outcome.requests {
            if seen.state == State::Receiving(false) {
                seen.state = State::Receiving(true);
                self.http.want_body(*number);
                has_asked = true;
            }
        }
        has_asked
    }

    /// Does everything that the parser may wait for. Whether there was something to do.
    fn settle(&mut self) -> bool {
        let mut is_changed = self.ask_for_bodies();
        let complete = |seen: &Seen| seen.state == State::Complete;
        let numbers: Vec<_> = self
            .outcome
            .requests
            .iter()
            .filter(|(_, seen)| complete(seen))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers.into_iter().rev() {
            self.answer(number);
            is_changed = true;
        }
        self.send() || is_changed
    }

    /// Lets the client read. Whether there was something to read.
    fn send(&mut self) -> bool {
        if self.wire.socket.unsent() == 0 {
            return false;
        }
        self.outcome.sent.extend(self.wire.take_sent());
        true
    }

    fn answer(&mut self, number: u64) {
        let seen = self.seen(number);
        seen.state = State::Answered;
        let response = if seen.handshake.is_some() {
            Response::new(101)
        } else {
            let crc = crc32fast::hash(&seen.body);
            Response::text(
                200,
                &format!("{number} {} {} {crc:08x}", seen.line, seen.body.len()),
            )
        };
        self.upgraded |= seen.handshake.is_some();
        let date = "Thu, 01 Jan 1970 00:00:00 GMT";
        self.http.answer(number, response, &mut self.wire.socket, date);
    }
}
