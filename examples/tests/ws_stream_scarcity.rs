//! `examples/ws_stream` with more coming in than it wants, and with less to run on than it needs.
//! Each test counts what was tried, what was refused in so many words, and what was lost, which
//! must be nothing: `cargo test --test ws_stream_scarcity -- --nocapture`.

#[path = "util/client.rs"]
mod client;
#[path = "util/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, End, Watcher, read_to_end};
use server::pid::{allow_many_files, cpu_ticks, open_files, peak_bytes, resident_bytes, signal};
use server::{Answer, Server, limited, read_answer, report, until};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

fn start(arguments: &[&str]) -> Server {
    Server::start("ws_stream", arguments)
}

/// S20: a thousand at the same moment, and each gets its answer.
#[test]
fn a_thousand_requests_at_once_get_a_thousand_answers() {
    const REQUESTS: usize = 1000;
    allow_many_files();
    let server = start(&["--threads=2"]);
    let files = open_files(server.pid());
    // So that the kernel has all of them at once, too.
    server.signal("STOP");
    let mut clients: Vec<_> = (0..REQUESTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client
            .write_all(b"GET /page.js HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
    }
    server.signal("CONT");
    let answers: Vec<Answer> = clients.iter_mut().map(read_answer).collect();
    let whole = answers
        .iter()
        .filter(|answer| answer.status == 200 && answer.body == answers[0].body);
    report("requests at once", REQUESTS, whole.count(), 0);
    drop(clients);
    server.until_files(files);
}

/// S28: without a free file descriptor, and without a silent client that could lose its own, the
/// server waits without spinning. Clients that are connected stay connected, and the others are
/// served as soon as there is room.
#[test]
fn without_free_files_it_neither_spins_nor_loses_a_client() {
    const FILES: usize = 40;
    const CROWD: usize = 100;
    // The limit is a hard one, which the server cannot raise.
    let limit = format!("--nofile={FILES}:{FILES}");
    let server = Server::start_limited(&limit, "ws_stream", &["--threads=2"]);
    // Nobody reads these streams, so the server has nothing to do.
    let mut parked = Vec::new();
    while open_files(server.pid()) < FILES {
        parked.push(Client::open(&server, "/stream?chunks=0&size=65536"));
    }
    let ask = || {
        let mut client = server.connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("sent");
        client
    };
    let mut crowd: Vec<_> = (0..CROWD).map(|_| ask()).collect();
    let (before, begun) = (cpu_ticks(server.pid()), Instant::now());
    // What is measured is a rate.
    thread::sleep(Duration::from_secs(1));
    let (ticks, time) = (cpu_ticks(server.pid()) - before, begun.elapsed());
    println!("out of files: {ticks} ticks of 10 ms in {time:.2?}");
    assert!(ticks <= 20, "{ticks} ticks in {time:?}: it spins");
    for client in &mut parked {
        client.expect_numbers(0, 200);
    }
    parked.truncate(1);
    let answered = crowd
        .iter_mut()
        .map(read_answer)
        .filter(|answer| answer.status == 200)
        .count();
    parked[0].expect_numbers(200, 200);
    report("connections to a server without free files", CROWD, answered, 0);
}

/// U25: when sockets run out, silent clients lose theirs, and nobody waits for them.
#[test]
fn silent_clients_make_room_for_the_others() {
    const SILENT: usize = 3000;
    allow_many_files();
    let server = start(&["--threads=2", "--max-connections=500"]);
    let mut watcher = Client::open(&server, "/stream?chunks=0&size=64");
    let before = resident_bytes(server.pid());
    let mut silent: Vec<_> = (0..SILENT).map(|_| server.connect()).collect();
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(server.get("/dump").status, 200);
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("a dump beside {SILENT} silent clients: median {:.2?}", times[10]);
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    println!("memory: {} bytes for each of 755 connections", grown / 755);
    watcher.expect_numbers(0, 100);
    // The oldest were closed, the newest were not.
    silent[0].set_nonblocking(false).expect("a socket");
    assert_eq!(silent[0].read(&mut [0]).expect("an end, not a reset"), 0);
    let newest = silent.last_mut().expect("there are some");
    newest
        .write_all(b"GET /dump HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    assert_eq!(read_answer(newest).status, 200);
}

/// U25: a client whose request has arrived is not silent, although the server has not seen it yet.
#[test]
fn requests_that_wait_in_the_kernel_are_not_silence() {
    // One poll of the server reports 1,024 of them.
    const OLD: usize = 2256;
    allow_many_files();
    let server = start(&["--threads=2", "--max-connections=2000"]);
    let files = open_files(server.pid());
    let mut old: Vec<_> = (0..OLD).map(|_| server.connect()).collect();
    server.until_files(files + OLD);
    server.signal("STOP");
    // The poll reports these first.
    let new: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for client in &mut old {
        client
            .write_all(b"GET /favicon.svg HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
    }
    server.signal("CONT");
    let answered = old
        .iter_mut()
        .map(read_answer)
        .filter(|answer| answer.status == 200);
    report("requests beside new clients", OLD, answered.count(), 0);
    drop(new);
}

/// U25: a connection that was busy costs as little as one that was silent all the time.
#[test]
fn a_connection_that_was_busy_costs_no_more_than_a_silent_one() {
    const CLIENTS: usize = 200;
    const REQUESTS: usize = 1100;
    let server = start(&["--threads=2"]);
    let busy = || {
        let mut client = server.connect();
        let requests = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS);
        client.write_all(requests.as_bytes()).expect("sent");
        let (mut answers, mut piece) = (Vec::new(), vec![0; 65_536]);
        while memchr::memmem::find_iter(&answers, b"HTTP/1.1 404 ").count() < REQUESTS
            || !answers.ends_with(b"\n")
        {
            let read = client.read(&mut piece).expect("answers");
            assert!(read > 0, "an end instead of answers");
            answers.extend_from_slice(&piece[..read]);
        }
        client
    };
    drop(busy());
    let before = resident_bytes(server.pid());
    let clients: Vec<_> = (0..CLIENTS).map(|_| busy()).collect();
    let grown = resident_bytes(server.pid()).saturating_sub(before) / CLIENTS;
    println!("memory: {grown} bytes for each connection that was busy");
    assert!(grown < 4096, "{grown} bytes");
    drop(clients);
}

/// S22, S23: a server that cannot have its files or its threads says so, and that is its end.
#[test]
fn a_server_that_cannot_start_says_why() {
    let (mut tried, mut started, mut refused) = (0, 0, 0);
    // With fewer than 4 files not even its libraries can be loaded.
    let files = (4..16).map(|files| (format!("--nofile={files}"), "2"));
    // A gigabyte of addresses for each stack, and enough beside them for all else.
    let threads = [0, 1, 2, 4].map(|stacks| (format!("--as={}", stacks * GIB + GIB / 2), "16"));
    for (limit, threads) in files.chain(threads) {
        let mut command = limited(&limit, "ws_stream");
        command.args(["--port=0", "--threads", threads]);
        let mut child = command
            .env("RUST_MIN_STACK", GIB.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prlimit is there");
        let listens = child
            .stdout
            .as_mut()
            .expect("piped")
            .read(&mut [0; 512])
            .expect("output or its end");
        if listens > 0 {
            signal(child.id(), "TERM");
        }
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        tried += 1;
        if listens > 0 && output.status.success() {
            started += 1;
        } else if output.status.code() == Some(1)
            && text.starts_with("ws_stream: ")
            && text.lines().count() == 1
        {
            refused += 1;
        } else {
            println!("{limit}: {}: {text}", output.status);
        }
    }
    assert!(refused >= 5, "{refused} of {tried}");
    report("starts without files or threads", tried, started, refused);
}

/// S28: a body of 1 GiB is refused at its announcement, and what is sent of it all the same is
/// not kept.
#[test]
fn bodies_of_a_gigabyte_are_refused_and_not_kept() {
    const CLIENTS: usize = 16;
    let server = start(&["--threads=2"]);
    let before = resident_bytes(server.pid());
    let piece = vec![b'b'; MIB];
    let refused = thread::scope(|scope| {
        let send = || {
            let mut client = server.connect();
            client
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n")
                .expect("sent");
            // The server reads on for a while, so that its answer is not lost, and then resets.
            let sent = (0..64).take_while(|_| client.write_all(&piece).is_ok()).count();
            assert!(sent > 0);
            usize::from(read_answer(&mut client).status == 405)
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("no panic"))
            .sum()
    });
    let grown = peak_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 4 * MIB, "{} KiB", grown / 1024);
    report("bodies of 1 GiB", CLIENTS, 0, refused);
}

/// S28: requests that trickle in are cut off, many as they are, and the others are served.
#[test]
fn slow_requests_are_cut_off_and_the_others_are_served() {
    const SLOW: usize = 500;
    allow_many_files();
    let server = start(&["--threads=2", "--idle-timeout=3", "--max-connections=600"]);
    let watcher = Watcher::open(&server);
    let begin = || {
        let mut stream = server.connect();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            .expect("sent");
        stream
    };
    let mut slow: Vec<_> = (0..SLOW).map(|_| Some(begin())).collect();
    let mut refused = 0;
    until("all are cut off", || {
        for client in &mut slow {
            let Some(stream) = client else { continue };
            // One byte at a time, from each.
            if stream.write_all(b"X").is_err() || has_arrived(stream) {
                let answer = read_answer(stream);
                refused += usize::from(answer.status == 408);
                *client = None;
            }
        }
        assert_eq!(server.get("/page.css").status, 200);
        slow.iter().all(Option::is_none).then_some(())
    });
    println!("meanwhile another client got {} messages", watcher.finish());
    report("requests that trickle in", SLOW, 0, refused);
}

/// S28: noise is answered with a status or an end, and does no harm.
#[test]
fn noise_is_answered_or_ended() {
    const NOISES: usize = 600;
    let server = start(&["--threads=2", "--idle-timeout=3"]);
    let before = resident_bytes(server.pid());
    let watcher = Watcher::open(&server);
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        // xorshift
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut refused = 0;
    for index in 0..NOISES {
        let noise: Vec<u8> = (0..random() % 4096).map(|_| random() as u8).collect();
        let ended = if index % 2 == 0 {
            let mut stream = server.connect();
            stream.write_all(&noise).expect("sent");
            stream.write_all(b"\r\n\r\n").expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an end, not a reset");
            answer.starts_with(b"HTTP/1.1 4")
        } else {
            let mut client = Client::open(&server, "/stream?chunks=0&size=64");
            client.0.get_mut().write_all(&noise).expect("sent");
            // Whatever the noise happened to mean, now no more of it comes.
            client.0.get_ref().shutdown(Shutdown::Write).expect("half closed");
            read_to_end(client.0.get_mut()) == End::Closed
        };
        refused += usize::from(ended);
    }
    server.until_stopped(NOISES / 2);
    watcher.finish();
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 8 * MIB, "{} KiB", grown / 1024);
    report("noises", NOISES, 0, refused);
}

/// Whether there is something to read, or an end.
fn has_arrived(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let arrived = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).expect("a socket");
    arrived
}
