//! `http_crc` as its clients see it: right digests in the right order, in flat memory, and no work
//! for clients that have left.

#[path = "util/server.rs"]
mod server;
#[path = "util/upload.rs"]
mod upload;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use server::pid::{allow_many_files, cpu_ticks, peak_bytes};
use server::{Answer, PATIENCE, Server, read_answer, until};
use upload::{chunked, post};

fn start(arguments: &[&str]) -> Server {
    Server::start("http_crc", arguments)
}

/// Bytes that differ from their neighbours, and from those of another seed.
fn sample(length: usize, seed: usize) -> Vec<u8> {
    let byte = |index: usize| (index.wrapping_mul(31) ^ (index >> 8) ^ seed.wrapping_mul(97)) as u8;
    (0..length).map(byte).collect()
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = post(path, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn chunked_request(path: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = post(path, "Transfer-Encoding: chunked\r\n").into_bytes();
    bytes.extend(chunked(body, chunk));
    bytes
}

fn json(body: &[u8]) -> String {
    let digest = crc32fast::hash(body);
    format!("{{\"crc32\":\"{digest:08x}\",\"length\":{}}}\n", body.len())
}

fn digits(body: &[u8]) -> String {
    format!("{:08x}\n", crc32fast::hash(body))
}

fn expect(stream: &mut TcpStream, body: &str) {
    let answer = read_answer(stream);
    assert_eq!((answer.status, &*answer.body), (200, body), "{}", answer.head);
}

/// Waits until so many tasks have this status.
fn until_tasks(server: &Server, state: &str, count: u64) {
    until("the tasks are in this state", || {
        (server.dump()["counts"][state].as_u64() == Some(count)).then_some(())
    });
}

/// Waits until so many tasks were stopped: a body that breaks off ends its task before the
/// connection is closed.
fn until_cancelled(server: &Server, count: u64) {
    until("the tasks have stopped", || {
        let stopped = &server.dump()["counters"]["stopped"];
        let cancelled = stopped["dequeued"].as_u64()? + stopped["connection_closed"].as_u64()?;
        (cancelled == count).then_some(())
    });
}

#[test]
fn bodies_of_all_sizes_in_all_cuts_have_the_right_digest() {
    let server = start(&["--threads=2"]);
    let mut stream = server.connect();
    let sizes = [
        0, 1, 2, 1023, 1024, 4096, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 524_288, 1_000_003,
    ];
    for size in sizes {
        let body = sample(size, size);
        for cut in [usize::MAX, 7, 1000, 65_536, 300_000] {
            // Small cuts of large bodies only cost time.
            if size / cut > 2000 {
                continue;
            }
            let parts = request("/", &body);
            for part in parts.chunks(cut) {
                stream.write_all(part).expect("sent");
            }
            expect(&mut stream, &json(&body));
            let parts = chunked_request("/crc", &body, cut.min(100_000));
            for part in parts.chunks(cut.saturating_add(1)) {
                stream.write_all(part).expect("sent");
            }
            expect(&mut stream, &digits(&body));
        }
        if size < 60_000 {
            stream.write_all(&request("/fast", &body)).expect("sent");
            expect(&mut stream, &digits(&body));
        }
    }
}

/// A head that comes alone is followed by its body in another packet, as many clients send it.
#[test]
fn a_body_that_comes_after_its_head_has_the_right_digest() {
    let server = start(&["--threads=1"]);
    let mut stream = server.connect();
    for length in [1, 1024, 300_000] {
        let body = sample(length, 1);
        let head = post("/", &format!("Content-Length: {length}\r\n"));
        stream.write_all(head.as_bytes()).expect("sent");
        until_tasks(&server, "parked", 1);
        stream.write_all(&body).expect("sent");
        expect(&mut stream, &json(&body));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&["--threads=2"]);
    let bodies: Vec<_> = (0..200)
        .map(|index| sample(index * 331 % 20_000, index))
        .collect();
    let mut stream = server.connect();
    let mut sending = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(|| {
            let requests: Vec<_> = bodies.iter().flat_map(|body| request("/", body)).collect();
            sending.write_all(&requests).expect("sent");
        });
        for body in &bodies {
            expect(&mut stream, &json(body));
        }
    });
    // Long ones, the last of which closes.
    let (first, last) = (sample(700_000, 1), sample(10, 2));
    let mut requests = request("/", &first);
    requests.extend_from_slice(post("/", "Content-Length: 10\r\nConnection: close\r\n").as_bytes());
    requests.extend_from_slice(&last);
    stream.write_all(&requests).expect("sent");
    expect(&mut stream, &json(&first));
    let answer = read_answer(&mut stream);
    assert_eq!(
        (&*answer.body, answer.header("connection")),
        (&*json(&last), Some("close"))
    );
    assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0);
}

#[test]
fn a_client_that_expects_a_100_gets_it_before_it_sends() {
    let server = start(&["--threads=1"]);
    let body = sample(400_000, 3);
    let mut stream = server.connect();
    let head = post("/", "Content-Length: 400000\r\nExpect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream).status, 100);
    stream.write_all(&body).expect("sent");
    expect(&mut stream, &json(&body));
}

/// S20: a thousand requests at once, a thousand right answers. Mongoose loses some 740 of them.
#[test]
fn a_thousand_simultaneous_posts_get_a_thousand_right_answers() {
    const CLIENTS: usize = 1000;
    allow_many_files();
    let server = start(&["--threads=2", "--work-ms=1"]);
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (client, stream) in streams.iter_mut().enumerate() {
        stream
            .write_all(&request("/", &sample(1024 + client, client)))
            .expect("sent");
    }
    let answers: Vec<_> = streams.iter_mut().map(read_answer).collect();
    let right = |(client, answer): &(usize, &Answer)| {
        answer.status == 200 && answer.body == json(&sample(1024 + client, *client))
    };
    let served = answers.iter().enumerate().filter(right).count();
    server::report("simultaneous POSTs", CLIENTS, served, 0);
    assert_eq!(server.counter("/finished"), CLIENTS as u64);
}

#[test]
fn the_connections_of_one_address_can_be_one_group() {
    let server = start(&["--threads=2", "--group-by-address"]);
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(&request("/", &sample(1024, 1))).expect("sent");
        }
        for stream in &mut streams {
            assert_eq!(read_answer(stream).body, json(&sample(1024, 1)));
        }
    }
}

/// S12, S13, S14: whatever phase a client leaves in, its task ends, and others are served.
#[test]
fn a_client_that_leaves_ends_its_task_in_every_phase() {
    // Without the cancels this would take minutes.
    let server = start(&["--threads=1", "--work-ms=30000"]);
    // During the upload: the task is parked.
    let mut uploading = server.connect();
    let head = post("/", "Content-Length: 1000000\r\n");
    uploading.write_all(head.as_bytes()).expect("sent");
    uploading.write_all(&sample(300_000, 1)).expect("sent");
    until_tasks(&server, "parked", 1);
    drop(uploading);
    until_cancelled(&server, 1);
    // During work.
    let mut working = server.connect();
    working.write_all(&request("/", b"abc")).expect("sent");
    until_tasks(&server, "on_worker", 1);
    // In the queue behind it: one that has sent all, and one that has not.
    let mut queued = server.connect();
    queued.write_all(&request("/", b"abc")).expect("sent");
    let mut beginning = server.connect();
    beginning.write_all(head.as_bytes()).expect("sent");
    until_tasks(&server, "queued", 2);
    drop(queued);
    until_cancelled(&server, 2);
    drop(beginning);
    until_cancelled(&server, 3);
    let begun = Instant::now();
    drop(working);
    until_cancelled(&server, 4);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.dump()["tasks"].as_array().map(Vec::len), Some(0));
}

/// A client that only closes its sending half is told that this cancels its request.
#[test]
fn a_half_closed_connection_cancels_with_a_clear_answer() {
    let server = start(&["--threads=1", "--work-ms=30000"]);
    let mut stream = server.connect();
    stream.write_all(&request("/", b"abc")).expect("sent");
    stream.write_all(&request("/", b"def")).expect("sent");
    until_tasks(&server, "queued", 1);
    stream.shutdown(Shutdown::Write).expect("half closed");
    let answers = [read_answer(&mut stream), read_answer(&mut stream)];
    assert!(answers.iter().all(|answer| answer.status == 400), "{answers:?}");
    assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0);
    server.until_stopped(2);
}

#[test]
fn a_full_queue_is_503_with_the_time_to_come_back() {
    let server = start(&["--threads=1", "--max-queue-depth=2", "--work-ms=1500"]);
    // The time of a task is known after the first one.
    let answer = server.exchange(request("/crc", b"abc"));
    assert_eq!(answer.status, 200);
    let mut served: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (index, stream) in served.iter_mut().enumerate() {
        stream.write_all(&request("/crc", b"abc")).expect("sent");
        // One works, the others wait.
        until_tasks(&server, "queued", index as u64);
    }
    // Three tasks of 1.5 s each are before it.
    let answer = server.exchange(request("/crc", b"abc"));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(answer.header("connection"), None, "its body has all been read");
    // A body that has not arrived need not be sent.
    let head = post("/", "Content-Length: 1000000\r\nExpect: 100-continue\r\n");
    let answer = server.exchange(head);
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    assert_eq!(server.get("/fast").status, 200, "the loop goes on");
    for stream in &mut served {
        expect(stream, &digits(b"abc"));
    }
    assert_eq!(server.counter("/refused/queue_full"), 2);
}

/// U1: a client with many requests cannot fill the queue for the others.
#[test]
fn a_request_whose_task_is_shed_is_answered_with_503() {
    let server = start(&["--threads=1", "--max-queue-depth=2", "--work-ms=300"]);
    let mut flood = server.connect();
    for queued in 0..3 {
        flood.write_all(&request("/crc", b"abc")).expect("sent");
        until_tasks(&server, "on_worker", 1);
        until_tasks(&server, "queued", queued);
    }
    let other = server.exchange(request("/crc", b"def"));
    assert_eq!((other.status, &*other.body), (200, &*digits(b"def")));
    expect(&mut flood, &digits(b"abc"));
    expect(&mut flood, &digits(b"abc"));
    let answer = read_answer(&mut flood);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.counter("/stopped/shed"), 1);
}

/// Sends a body of so many MiB in chunks of a MiB, and returns the answer.
fn upload(stream: &mut TcpStream, mebibytes: usize) -> (Answer, String) {
    let block = sample(1 << 20, 5);
    let mut digest = crc32fast::Hasher::new();
    let head = post("/", &format!("Content-Length: {}\r\n", mebibytes << 20));
    stream.write_all(head.as_bytes()).expect("sent");
    for _ in 0..mebibytes {
        stream.write_all(&block).expect("sent");
        digest.update(&block);
    }
    let expected = format!(
        "{{\"crc32\":\"{:08x}\",\"length\":{}}}\n",
        digest.finalize(),
        mebibytes << 20
    );
    (read_answer(stream), expected)
}

/// Bodies cost the same memory, whatever their length.
#[test]
fn a_large_body_takes_flat_memory() {
    const MIB: usize = 1 << 20;
    let server = start(&["--threads=2", "--max-body=1G"]);
    let mut stream = server.connect();
    let (answer, expected) = upload(&mut stream, 1);
    assert_eq!(answer.body, expected);
    let before = peak_bytes(server.pid());
    let (answer, expected) = upload(&mut stream, 256);
    assert_eq!((answer.status, answer.body), (200, expected));
    let grown = peak_bytes(server.pid()).saturating_sub(before);
    println!("256 MiB: the peak has grown by {} KiB", grown / 1024);
    assert!(grown < 4 * MIB, "{} KiB", grown / 1024);
    assert!(server.counter("/steps") >= 257 * 4, "a step for each piece");
}

/// A client sends no more than fits into buffers while its task is not ready for it.
#[test]
fn a_task_that_is_behind_stops_the_client() {
    let body = sample(48 << 20, 6);
    let server = start(&["--threads=1", "--work-ms=4000"]);
    let mut working = server.connect();
    working.write_all(&request("/", b"abc")).expect("sent");
    until_tasks(&server, "on_worker", 1);
    let before = peak_bytes(server.pid());
    let mut stream = server.connect();
    stream
        .write_all(post("/", &format!("Content-Length: {}\r\n", body.len())).as_bytes())
        .expect("sent");
    stream
        .set_write_timeout(Some(Duration::from_millis(400)))
        .expect("a timeout");
    let mut sent = 0;
    while let Ok(taken @ 1..) = stream.write(&body[sent..]) {
        sent += taken;
    }
    println!("{sent} of {} bytes were accepted", body.len());
    assert!(sent < 16 << 20, "{sent}");
    // A loop that waits does nothing.
    let ticks = cpu_ticks(server.pid());
    thread::sleep(Duration::from_millis(500)); // time is what this is about
    assert!(cpu_ticks(server.pid()) - ticks < 10);
    expect(&mut working, &json(b"abc"));
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&body[sent..]).expect("sent");
    expect(&mut stream, &json(&body));
    let grown = peak_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "{} KiB", grown / 1024);
}

/// U25: whoever has sent a request before Ctrl-C gets its answer.
#[test]
fn ctrl_c_gives_the_pending_answers() {
    let mut server = start(&["--threads=2", "--work-ms=200"]);
    let mut pending: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for (client, stream) in pending.iter_mut().enumerate() {
        stream
            .write_all(&request("/", &sample(2000, client)))
            .expect("sent");
    }
    let mut uploading = server.connect();
    let head = post("/", "Content-Length: 600000\r\n");
    uploading.write_all(head.as_bytes()).expect("sent");
    until("all have arrived", || {
        (server.counter("/accepted") == 9).then_some(())
    });
    let idle = server.connect();
    server.signal("INT");
    until("it accepts nobody", || TcpStream::connect(server.address).err());
    uploading.write_all(&sample(600_000, 9)).expect("sent");
    for (client, stream) in pending.iter_mut().enumerate() {
        let answer = read_answer(stream);
        assert_eq!(
            (answer.status, &*answer.body),
            (200, &*json(&sample(2000, client)))
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    expect(&mut uploading, &json(&sample(600_000, 9)));
    drop((pending, uploading, idle));
    assert_eq!(server.wait().code(), Some(0));
}

/// U25: work that takes longer than the grace is answered, too.
#[test]
fn ctrl_c_stops_long_work_with_503() {
    let mut server = start(&["--threads=1", "--work-ms=60000", "--grace=2"]);
    let mut pending: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for stream in &mut pending {
        stream.write_all(&request("/", b"abc")).expect("sent");
    }
    until("all have arrived", || {
        (server.counter("/accepted") == 4).then_some(())
    });
    let begun = Instant::now();
    server.signal("TERM");
    for stream in &mut pending {
        let answer = read_answer(stream);
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    }
    drop(pending);
    assert_eq!(server.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn work_takes_its_time_on_workers_and_not_on_the_loop() {
    let server = start(&["--threads=2", "--work-ms=600"]);
    let begun = Instant::now();
    let mut streams = [server.connect(), server.connect()];
    for stream in &mut streams {
        stream.write_all(&request("/", b"abc")).expect("sent");
    }
    assert_eq!(server.exchange(request("/fast", b"abc")).body, digits(b"abc"));
    assert!(
        begun.elapsed() < Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
    for stream in &mut streams {
        expect(stream, &json(b"abc"));
    }
    assert!(begun.elapsed() >= Duration::from_millis(600));
}

/// S28: what no path takes is refused, with a clear status.
#[test]
fn bad_requests_get_clear_answers() {
    let server = start(&["--max-body=1000"]);
    let statuses = [
        (post("/", "Content-Length: 1001\r\n"), 413),
        (post("/crc", "Transfer-Encoding: chunked\r\n") + "3e9\r\n", 413),
        (post("/fast", "Content-Length: 65537\r\n"), 413),
        (post("/", "Content-Length: x\r\n"), 400),
        (post("/nowhere", ""), 404),
        (post("/dump", ""), 405),
        (post("/", "Expect: more\r\n"), 417),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET /crc HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
    ];
    for (request, status) in statuses {
        assert_eq!(server.exchange(&request).status, status, "{request}");
    }
    // Beyond the limit in the middle, after the task has begun.
    let mut stream = server.connect();
    stream
        .write_all(post("/", "Transfer-Encoding: chunked\r\n").as_bytes())
        .expect("sent");
    until_tasks(&server, "parked", 1);
    stream.write_all(b"3e8\r\n").expect("sent");
    stream.write_all(&[b'.'; 1000]).expect("sent");
    stream.write_all(b"\r\n1\r\n").expect("sent");
    assert_eq!(read_answer(&mut stream).status, 413);
    until("its task has ended", || {
        (server.counter("/stopped/dequeued") == 1).then_some(())
    });
    assert_eq!(server.exchange(request("/", &[b'.'; 1000])).status, 200);
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
        .expect("sent");
    expect(&mut stream, &json(b"abc"));
    assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0);
}

#[test]
fn the_pool_and_the_page_can_be_looked_at() {
    let server = start(&["--threads=2"]);
    server.exchange(request("/", b"abc"));
    let metrics = server.get("/metrics");
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    for line in [
        "moored_threads 2",
        "moored_tasks_finished_total 1",
        "moored_connections 1",
    ] {
        assert!(
            metrics.body.lines().any(|it| it == line),
            "{line} in {}",
            metrics.body
        );
    }
    assert!(
        server
            .get("/dump")
            .body
            .starts_with("pool \"http_crc\": 2 threads")
    );
    assert_eq!(server.get("/dump.json?limit=x").status, 400);
    let tasks = |dump: &Value| dump["tasks"].as_array().map(Vec::len);
    assert_eq!(tasks(&server.dump()), Some(0));
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
    ] {
        let file = server.get(path);
        assert_eq!(file.status, 200);
        assert!(file.header("content-type").is_some_and(|it| it.starts_with(kind)));
        assert!(file.header("content-security-policy").is_some() && !file.body.is_empty());
    }
}
