//! Messages that connections share, and clients that do not read them: the library's part of it,
//! under an app that sends the same messages to all its clients.

#[path = "util/in_process.rs"]
mod in_process;
#[path = "util/raw_client.rs"]
mod raw_client;

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use examples::connection::Sent;
use examples::http::{Request, Route};
use examples::limits::Limits;
use examples::message_queue::{QueueLimit, SlowPolicy};
use examples::net::Net;
use examples::server::App;
use in_process::{connect, serve};
use moored::ConnId;
use raw_client::RawClient;
use tungstenite::protocol::frame::coding::{CloseCode, Data};
use tungstenite::{Message, WebSocket};

const MESSAGES: usize = 300;
/// The length of a message tells its number.
const FIRST_LENGTH: usize = 20_000;
const LIMIT: usize = 256 * 1024;

/// Sends to the clients of `/` what a client of `/control` asks for, and answers with a number.
struct FanOut {
    limit: QueueLimit,
    clients: Vec<ConnId>,
    controls: Vec<ConnId>,
    shared: Bytes,
}

impl FanOut {
    fn new(policy: SlowPolicy) -> Self {
        Self {
            limit: QueueLimit { bytes: LIMIT, policy },
            clients: Vec::new(),
            controls: Vec::new(),
            shared: Bytes::from(vec![b'.'; 1 << 20]),
        }
    }

    fn obey(&mut self, net: &mut Net, command: &str) -> u64 {
        let clients = self.clients.clone();
        match command {
            "count" => clients.len() as u64,
            "share" => {
                for id in clients {
                    assert_eq!(net.send_shared(id, Data::Text, &self.shared), Sent::Partly);
                }
                net.counters().copied_bytes
            }
            "copy" => {
                for id in clients {
                    assert_eq!(net.send(id, &self.shared), Sent::Partly);
                }
                net.counters().copied_bytes
            }
            "is unique" => u64::from(self.shared.is_unique()),
            "send numbered" => {
                let mut dropped = 0;
                for number in 0..MESSAGES {
                    let message = Bytes::from(vec![b'.'; FIRST_LENGTH + number]);
                    for id in &clients {
                        dropped += net.send_limited(*id, Data::Binary, &message, self.limit).dropped;
                    }
                }
                dropped as u64
            }
            "queued" => clients.iter().map(|id| net.queued(*id).bytes as u64).sum(),
            "close" => {
                for id in clients {
                    net.close(id, CloseCode::Normal, "");
                }
                0
            }
            other => panic!("{other}"),
        }
    }
}

impl App for FanOut {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::websocket())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        match request.path() {
            "/control" => self.controls.push(id),
            _ => self.clients.push(id),
        }
        net.upgrade(id, &request, None);
    }

    fn message(&mut self, net: &mut Net, id: ConnId, message: Message) {
        if self.controls.contains(&id) {
            let answer = self.obey(net, message.to_text().expect("text"));
            net.send_text(id, &answer.to_string());
        }
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.clients.retain(|client| *client != id);
    }

    fn turn(&mut self, _net: &mut Net) {}
}

struct Control(WebSocket<TcpStream>);

impl Control {
    fn open(address: SocketAddr) -> Self {
        let url = format!("ws://{address}/control");
        Self(tungstenite::client(url, connect(address)).expect("upgraded").0)
    }

    fn ask(&mut self, command: &str) -> u64 {
        self.0.send(Message::text(command)).expect("sent");
        let answer = self.0.read().expect("an answer");
        answer.to_text().expect("text").parse().expect("a number")
    }
}

#[test]
fn blocked_connections_share_one_buffer() {
    serve(
        Limits::default(),
        FanOut::new(SlowPolicy::DropOldest),
        |address| {
            let blocked: Vec<_> = (0..20).map(|_| RawClient::open(address, "/", 4096)).collect();
            let mut control = Control::open(address);
            assert_eq!(control.ask("is unique"), 1);
            assert_eq!(control.ask("share"), 0, "copied bytes");
            assert_eq!(control.ask("is unique"), 0, "the connections hold references");
            assert!(control.ask("queued") > 0);
            // The counter of copies counts: these messages wait behind the shared one.
            assert_eq!(control.ask("copy"), 20 << 20, "copied bytes");
            drop(blocked);
            while control.ask("count") > 0 {
                // Lets the server see the ends.
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(
                control.ask("is unique"),
                1,
                "closed connections hold no reference"
            );
        },
    );
}

/// Sends the numbered messages to a client that does not read. Then it reads everything: the
/// numbers of the messages, how many were dropped, and the code of the close.
fn read_late(policy: SlowPolicy) -> (Vec<usize>, usize, Option<u16>) {
    let mut seen = (Vec::new(), 0, None);
    serve(Limits::default(), FanOut::new(policy), |address| {
        let mut slow = RawClient::open(address, "/", 4096);
        let mut control = Control::open(address);
        let dropped = control.ask("send numbered") as usize;
        // The rest of a message that is sent in part may wait beside the limit.
        let queued = control.ask("queued") as usize;
        assert!(queued <= LIMIT + FIRST_LENGTH + MESSAGES, "{queued} bytes wait");
        control.ask("close");
        let (lengths, code) = slow.read_stream();
        let numbers = lengths.iter().map(|length| length - FIRST_LENGTH).collect();
        seen = (numbers, dropped, code);
    });
    seen
}

#[test]
fn the_oldest_messages_of_a_slow_client_are_dropped() {
    let (numbers, dropped, code) = read_late(SlowPolicy::DropOldest);
    assert!(numbers.is_sorted() && dropped > 0);
    assert_eq!((numbers.len() + dropped, code), (MESSAGES, Some(1000)));
    // The limit is full of the newest.
    let newest = LIMIT / (FIRST_LENGTH + MESSAGES) - 1;
    let expected: Vec<_> = (MESSAGES - newest..MESSAGES).collect();
    assert_eq!(numbers[numbers.len() - newest..], expected);
}

#[test]
fn a_slow_client_gets_the_latest_message() {
    let (numbers, dropped, code) = read_late(SlowPolicy::Latest);
    assert!(numbers.is_sorted() && dropped > 0);
    assert_eq!((numbers.len() + dropped, code), (MESSAGES, Some(1000)));
    assert_eq!(numbers.last(), Some(&(MESSAGES - 1)));
}

#[test]
fn a_slow_client_is_closed_after_the_message_that_has_begun() {
    let (numbers, dropped, code) = read_late(SlowPolicy::Disconnect);
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    assert!(!numbers.is_empty() && dropped > 0);
    assert_eq!(code, Some(1013));
}
