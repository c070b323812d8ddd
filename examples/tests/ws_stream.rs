//! The main job, `examples/ws_stream`, as its clients see it: a real process, real sockets.
//! What it makes of input it does not like is in `ws_stream_input.rs`.

#[path = "util/client.rs"]
mod client;
#[path = "util/server.rs"]
mod server;

use std::collections::HashMap;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, read_complete_streams};
use server::pid::resident_bytes;
use server::{Server, read_answer, until};
use tungstenite::{ClientRequestBuilder, Message};

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_stream", arguments)
}

/// L2, S20: no message is missing, none comes twice, no client is forgotten.
#[test]
fn a_thousand_streams_are_complete_on_two_threads() {
    let server = start(&["--threads=2"]);
    read_complete_streams(&server, "/stream?chunks=100&size=64", 1000, 100);
    until("all tasks are reaped", || {
        (server.counter("/finished") == 1000).then_some(())
    });
    assert_eq!(server.counter("/syncs"), 100_000);
}

/// L1: clients that do not read hold no thread.
#[test]
fn healthy_clients_finish_beside_two_that_never_read() {
    let server = start(&["--threads=2"]);
    let stuck: Vec<_> = (0..2)
        .map(|_| Client::open(&server, "/stream?chunks=0&size=65536"))
        .collect();
    server.until_parked_for_good(2);
    read_complete_streams(&server, "/stream?chunks=100&size=256", 254, 100);
    until("the healthy have ended", || {
        (server.counter("/finished") == 254).then_some(())
    });
    assert_eq!(server.dump()["counts"]["parked"], 2);
    drop(stuck);
}

/// S12, S13, S14: a client that goes takes its own task with it.
#[test]
fn cancelling_a_hundred_stops_a_hundred_and_no_other() {
    let server = start(&["--threads=2"]);
    let mut leaving: Vec<_> = (0..100)
        .map(|_| Client::open(&server, "/stream?chunks=0&size=512"))
        .collect();
    let mut staying: Vec<_> = (0..100)
        .map(|_| Client::open(&server, "/stream?chunks=60&size=512"))
        .collect();
    for client in leaving.iter_mut().chain(&mut staying) {
        client.expect_numbers(0, 20);
    }
    // Half of them say goodbye, the others just go.
    for (index, mut client) in leaving.into_iter().enumerate() {
        if index % 2 == 0 {
            client.0.close(None).expect("a goodbye can be sent");
        }
    }
    until("their tasks have stopped", || {
        (server.counter("/stopped/connection_closed") == 100).then_some(())
    });
    for client in &mut staying {
        client.expect_numbers(20, 40);
        assert_eq!(client.next_number(), None);
    }
    until("the others have finished", || {
        (server.counter("/finished") == 100).then_some(())
    });
    assert_eq!(server.counter("/stopped/connection_closed"), 100);
}

/// S18: a client that stops reading pauses its task only, and what waits for it is bounded.
#[test]
fn stalled_clients_cost_a_message_or_two_each() {
    const STALLED: usize = 20;
    const MIB: usize = 1 << 20;
    let server = start(&["--threads=2"]);
    let before = resident_bytes(server.pid());
    let mut stalled: Vec<_> = (0..STALLED)
        .map(|_| Client::open(&server, "/stream?chunks=0&size=1048576"))
        .collect();
    server.until_parked_for_good(STALLED);
    // The message itself, what the socket has not taken of it, and some slack for the allocator.
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < STALLED * 2 * MIB + 8 * MIB, "{} KiB", grown / 1024);
    // One of them reads on, as if nothing had happened; the others are killed.
    stalled.truncate(1);
    until("the tasks of the killed have stopped", || {
        (server.counter("/stopped/connection_closed") == STALLED as u64 - 1).then_some(())
    });
    stalled[0].expect_numbers(0, 100);
}

#[test]
fn a_client_of_the_lws_example_gets_an_endless_stream() {
    let server = start(&[]);
    let uri = format!("ws://{}/", server.address).parse().expect("a URI");
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("lws-minimal");
    let (socket, answer) = tungstenite::client(request, server.connect()).expect("it is upgraded");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "lws-minimal");
    let mut client = Client(socket);
    client.expect_numbers(0, 500);
    assert!(matches!(client.0.read(), Ok(Message::Binary(bytes)) if bytes.len() == 1024));
}

/// What the messages of a socket of `/tiles` have brought: per tile its rectangle, and the pixels.
type Tiles = HashMap<u32, ([u32; 4], Vec<u8>)>;

/// Reads until the server closes the socket with code 1000. `padding`: bytes after the pixels of
/// each message.
fn read_tiles(client: &mut Client, padding: usize) -> Tiles {
    let mut tiles = Tiles::new();
    loop {
        let bytes = match client.0.read().expect("a message") {
            Message::Binary(bytes) => bytes,
            Message::Close(frame) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1000));
                return tiles;
            }
            other => panic!("{other:?}"),
        };
        let field = |index: usize| {
            let bytes = bytes[4 * index..][..4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let (_, pixels) = tiles
            .entry(field(0))
            .or_insert(([field(1), field(2), field(3), field(4)], Vec::new()));
        assert_eq!(
            pixels.len(),
            4 * field(5) as usize,
            "no pixel is missing or doubled"
        );
        let end = 28 + 4 * field(6) as usize;
        assert_eq!(bytes.len(), end + padding);
        pixels.extend_from_slice(&bytes[28..end]);
    }
}

#[test]
fn a_tile_comes_whole() {
    let server = start(&[]);
    for padding in [0, 5_000] {
        let path = format!("/tiles?tile=200&of=256&samples=1&padding={padding}");
        let tiles = read_tiles(&mut Client::open(&server, &path), padding);
        let (area, pixels) = &tiles[&200];
        assert_eq!((tiles.len(), area), (1, &[480, 480, 60, 40]));
        assert_eq!(pixels.len(), 4 * 60 * 40);
        assert!(
            pixels.chunks(4).all(|pixel| pixel[3] == 255),
            "every pixel has a colour"
        );
    }
}

/// One WebSocket, 500 tasks: it is closed when the last has ended.
#[test]
fn one_socket_can_ask_for_many_tiles() {
    let server = start(&["--threads=2"]);
    let path = "/tiles?tile=12&count=500&of=512&samples=1&iterations=50";
    let tiles = read_tiles(&mut Client::open(&server, path), 0);
    assert_eq!(tiles.len(), 500);
    for (tile, (area, pixels)) in tiles {
        assert!((12..512).contains(&tile));
        assert_eq!(area, [tile % 32 * 30, tile / 32 * 40, 30, 40]);
        assert_eq!(pixels.len(), 4 * 30 * 40);
    }
    until("all are reaped", || {
        (server.counter("/finished") == 500).then_some(())
    });
}

/// A client that does not read holds up its own tasks only, and a message or two of each; when it
/// reads on, nothing is missing.
#[test]
fn many_tiles_of_a_client_that_does_not_read_wait_for_it() {
    let server = start(&["--threads=2"]);
    let path = "/tiles?tile=0&count=64&of=64&samples=1&iterations=50&padding=65536";
    let mut slow = Client::open(&server, path);
    until("all its tasks are parked or have ended", || {
        let dump = server.dump();
        let counts = &dump["counts"];
        let is_quiet = ["queued", "waiting", "on_worker"]
            .iter()
            .all(|state| counts[state] == 0);
        (is_quiet && counts["parked"] != 0).then_some(())
    });
    let other = read_tiles(&mut Client::open(&server, "/tiles?tile=0&of=64&samples=1"), 0);
    assert_eq!(other[&0].1.len(), 4 * 120 * 80);
    assert_eq!(read_tiles(&mut slow, 1 << 16).len(), 64);
}

/// If the queue has no room for all of them, none is accepted.
#[test]
fn a_client_that_asks_for_more_tiles_than_the_queue_holds_is_told_so() {
    let server = start(&["--threads=1", "--max-queue-depth=100"]);
    let answer = server.exchange(upgrade(&server, "/tiles?tile=0&count=500&of=512"));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.body.contains("queue"), "{}", answer.body);
    let why = server.get("/tiles?tile=0&count=500&of=512");
    assert_eq!(
        (why.status, &*why.body),
        (503, "tasks: 500, room in the queue: 100\n")
    );
    until("those that were accepted are cancelled", || {
        (server.dump()["tasks"].as_array().map(Vec::len) == Some(0)).then_some(())
    });
    let tiles = read_tiles(&mut Client::open(&server, "/tiles?count=50&of=512&samples=1"), 0);
    assert_eq!(tiles.len(), 50);
}

/// U1: a client with many tiles cannot fill the queue for the others. Its WebSocket is closed with
/// 1013 (try again later).
#[test]
fn a_client_whose_tile_is_shed_is_told_to_try_again_later() {
    let server = start(&["--threads=1", "--max-queue-depth=100"]);
    let path = "/tiles?tile=0&count=100&of=512&x=-0.1&y=0.7&width=0.1&samples=400&iterations=10000";
    let mut flood = Client::open(&server, path);
    let mut other = Client::open(&server, "/tiles?tile=0&count=10&of=512&samples=1");
    assert_eq!(flood.close_code(), 1013);
    assert_eq!(read_tiles(&mut other, 0).len(), 10);
    assert!(server.counter("/stopped/shed") >= 1);
}

/// S12: the client leaves, and all its tasks stop.
#[test]
fn a_client_that_leaves_takes_all_its_tiles_with_it() {
    let server = start(&["--threads=2"]);
    let path = "/tiles?tile=0&count=500&of=512&x=-0.1&y=0.7&width=0.1&samples=400&iterations=10000";
    let client = Client::open(&server, path);
    assert_eq!(server.counter("/accepted"), 500);
    drop(client);
    until("its tasks have stopped", || {
        (server.counter("/stopped/connection_closed") + server.counter("/finished") == 500).then_some(())
    });
}

/// S10: Ctrl-C ends everything, also a client that does not listen.
#[test]
fn ctrl_c_says_goodbye_and_exits_with_success() {
    let mut server = start(&["--threads=2", "--grace=1"]);
    let mut reading: Vec<_> = (0..20)
        .map(|_| Client::open(&server, "/stream?chunks=0&size=64"))
        .collect();
    let _deaf = Client::open(&server, "/stream?chunks=0&size=65536");
    for client in &mut reading {
        client.expect_numbers(0, 10);
    }
    let start = Instant::now();
    server.signal("INT");
    for client in &mut reading {
        assert_eq!(client.close_code(), 1001);
    }
    drop(reading);
    assert_eq!(server.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// A reader answers pings by reading; one that does not is dead for all the server knows.
#[test]
fn pings_tell_the_living_from_the_dead() {
    let server = start(&["--idle-timeout=1"]);
    let mut alive = Client::open(&server, "/stream?chunks=0&size=8");
    let _dead = Client::open(&server, "/stream?chunks=0&size=65536");
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(matches!(alive.0.read().expect("it stays open"), Message::Ping(_)));
    }
    until("the dead has been given up", || {
        alive.0.read().expect("it stays open");
        (server.counter("/stopped/connection_closed") == 1).then_some(())
    });
    assert_eq!(server.dump()["tasks"].as_array().map(Vec::len), Some(1));
}

/// S19: a server that was stopped for longer than the idle timeout gives nobody up for it.
#[test]
fn a_server_that_was_away_goes_on_with_all_its_clients() {
    // So long that nobody is given up who answers late, since this machine has other things to do.
    let server = start(&["--idle-timeout=3"]);
    thread::scope(|scope| {
        scope.spawn(|| read_complete_streams(&server, "/stream?chunks=5000&size=64", 16, 5000));
        until("they are in the middle of it", || {
            (server.counter("/syncs") > 8000).then_some(())
        });
        server.signal("STOP");
        // The time that passes without the server is all there is to wait for.
        thread::sleep(Duration::from_millis(3500));
        server.signal("CONT");
    });
    assert_eq!(server.counter("/stopped/connection_closed"), 0);
}

#[test]
fn no_connection_left_is_told_before_the_upgrade() {
    let server = start(&["--max-connections=3"]);
    let open: Vec<_> = (0..3)
        .map(|_| Client::open(&server, "/stream?chunks=0&size=8"))
        .collect();
    let answer = server.exchange(upgrade(&server, "/stream"));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.get("/").status, 200, "the page is still served");
    // A browser does not tell a page why its WebSocket has failed: a plain request does.
    assert_eq!(server.get("/tiles").status, 503);
    drop(open);
    until("there is room again", || {
        (server.exchange(upgrade(&server, "/stream")).status == 101).then_some(())
    });
}

/// A queue of one, and many at once who want to be in it.
#[test]
fn a_full_queue_is_told_before_the_upgrade() {
    let server = start(&["--threads=1", "--max-queue-depth=1"]);
    let mut streams: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for stream in &mut streams {
        let request = upgrade(&server, "/tiles?tile=0&of=8&width=0.01&x=-0.75&y=0.1&samples=100");
        stream
            .write_all(request.as_bytes())
            .expect("a request can be sent");
    }
    let answers: Vec<_> = streams.iter_mut().map(read_answer).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(
        !refused.is_empty() && refused.len() < 64,
        "{} refused",
        refused.len()
    );
    assert!(
        refused
            .iter()
            .all(|answer| answer.header("retry-after") == Some("1"))
    );
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 101).count(),
        64 - refused.len()
    );
    assert_eq!(server.counter("/refused/queue_full"), refused.len() as u64);
}

fn upgrade(server: &Server, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    )
}
