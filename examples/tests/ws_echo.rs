//! The answers to pings, and the rest of RFC 6455 as a client of `/echo` of the example `ws_push`
//! sees it. The program `examples/clients/autobahn` runs the test suite of Autobahn against the
//! same path.

#[path = "util/raw_client.rs"]
mod raw_client;
#[path = "util/server.rs"]
mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::time::Instant;

use bytes::BytesMut;
use examples::limits::Limits;
use examples::payload::Payload;
use examples::socket::Socket;
use examples::websocket::{Received, WebSocket};
use mio::{Poll, Token};
use raw_client::{Frame, RawClient};
use server::Server;
use tungstenite::protocol::frame::coding::Data;

/// A text frame that does not end its message, and the last frame of one.
const FIRST: u8 = 0x01;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;

fn open(server: &Server, buffer: usize) -> RawClient {
    RawClient::open(server.address, "/echo", buffer)
}

/// A frame with a mask of zeros. `front` is its first byte: the last frame of a message has the
/// highest bit.
fn frame(front: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short payload");
    [&[front, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// S28: a client that sends pings faster than it gets their answers gets all of them.
#[test]
fn every_ping_of_a_burst_is_answered_in_order() {
    let server = Server::start("ws_push", &[]);
    let mut client = open(&server, 64 * 1024);
    let payloads: Vec<_> = (0..10)
        .map(|number| format!("ping {number}").into_bytes())
        .collect();
    let pings: Vec<_> = payloads.iter().map(|payload| frame(PING, payload)).collect();
    client.send_raw(&pings.concat());
    for expected in payloads {
        let Frame::Pong(payload) = client.read_frame() else {
            panic!("only pongs are due");
        };
        assert_eq!(payload, expected);
    }
}

/// S28: the answer to a ping comes before the answer to what follows it.
#[test]
fn a_ping_between_fragments_is_answered_before_the_message() {
    let server = Server::start("ws_push", &[]);
    let mut client = open(&server, 64 * 1024);
    for _ in 0..20 {
        let frames = [
            frame(FIRST, b"one, "),
            frame(PING, b"still there?"),
            frame(LAST, b"two"),
        ];
        client.send_raw(&frames.concat());
        let Frame::Pong(payload) = client.read_frame() else {
            panic!("the message has overtaken the pong");
        };
        assert_eq!(payload, b"still there?");
        assert!(matches!(
            client.read_frame(),
            Frame::Data {
                length: 8,
                is_final: true
            }
        ));
    }
}

/// A WebSocket without a loop around it.
struct Pair {
    websocket: WebSocket,
    socket: Socket,
    client: RawClient,
    /// The socket is registered there.
    _poll: Poll,
}

impl Pair {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let client = RawClient::connect(listener.local_addr().expect("an address"), 4096);
        let (stream, _) = listener.accept().expect("the client");
        stream.set_nonblocking(true).expect("a socket");
        let poll = Poll::new().expect("a poll");
        let stream = mio::net::TcpStream::from_std(stream);
        Self {
            websocket: WebSocket::new(&Limits::default(), Instant::now()),
            socket: Socket::register(stream, poll.registry(), Token(0)).expect("a socket"),
            client,
            _poll: poll,
        }
    }

    /// Receives pings with these numbers as their payloads.
    fn receive_pings(&mut self, numbers: Range<u32>) {
        let pings = numbers.map(|number| frame(PING, &number.to_be_bytes()));
        let mut inbox = BytesMut::from(&pings.collect::<Vec<_>>().concat()[..]);
        while let Received::Control = self.websocket.receive(&mut inbox) {}
        assert!(inbox.is_empty());
    }
}

/// S28: of the pings that wait for their answers, the oldest ones stay unanswered if there are too
/// many.
#[test]
fn a_flood_of_pings_is_answered_with_the_newest_ones() {
    const PINGS: u32 = 1000;
    let mut pair = Pair::new();
    pair.receive_pings(0..PINGS);
    pair.websocket.flush(&mut pair.socket).expect("sent");
    let Frame::Pong(first) = pair.client.read_frame() else {
        panic!("only pongs are due");
    };
    let first = u32::from_be_bytes(first.try_into().expect("four bytes"));
    assert!(first >= PINGS - 100, "too many answers wait for the client");
    for number in first + 1..PINGS {
        let Frame::Pong(payload) = pair.client.read_frame() else {
            panic!("only pongs are due");
        };
        assert_eq!(payload, number.to_be_bytes());
    }
}

/// S28: pings of a client that reads nothing cost bounded memory, also while it is sent messages.
#[test]
fn pings_of_a_client_that_reads_nothing_do_not_pile_up() {
    let mut pair = Pair::new();
    let large = vec![0; 16 << 20];
    let sent = pair
        .websocket
        .send(&mut pair.socket, Data::Binary, &Payload::borrowed(&large));
    assert!(
        sent.expect("sent") && pair.socket.unsent() > 0,
        "the kernel takes all of it"
    );
    let unsent = pair.socket.unsent();
    for number in 0..1000 {
        pair.receive_pings(number..number + 1);
        let sent = pair
            .websocket
            .send(&mut pair.socket, Data::Binary, &Payload::borrowed(b""));
        assert!(sent.expect("queued"));
        pair.websocket.flush(&mut pair.socket).expect("nothing is sent");
    }
    assert!(pair.socket.unsent() <= unsent);
}
