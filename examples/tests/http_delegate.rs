//! `http_delegate` as its clients see it: right answers of each style, on any number of loops and
//! workers, and tasks that learn what became of their writes and of their clients.

#[path = "../http_delegate/lines.rs"]
#[allow(unreachable_pub, reason = "the program uses it, too")]
mod lines;
#[path = "util/raw_client.rs"]
mod raw_client;
#[path = "util/server.rs"]
mod server;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use raw_client::RawClient;
use serde_json::Value;
use server::pid::{allow_many_files, resident_bytes};
use server::{Answer, Server, read_answer, until};

fn start(arguments: &[&str]) -> Server {
    Server::start("http_delegate", arguments)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn get_last(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).expect("sent");
}

/// Opens a connection, and sends a request on it.
fn ask(server: &Server, request: &str) -> TcpStream {
    let mut stream = server.connect();
    send(&mut stream, request);
    stream
}

/// Reads until the server closes.
fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an end, not a reset");
    String::from_utf8(bytes).expect("text")
}

/// Reads until `end` has arrived.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("no reset"), 1, "{text}");
        text.push(byte[0].into());
    }
    text
}

/// The answer to a request that ends its connection: the head, and the body without its chunks. None
/// instead of the body if the last chunk is missing.
fn split(answer: &str) -> (&str, Option<String>) {
    // The probe for a client that sends no more.
    let answer = answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
    let (head, mut rest) = answer.split_once("\r\n\r\n").expect("a head");
    if !head.contains("Transfer-Encoding: chunked") {
        return (head, Some(rest.to_owned()));
    }
    let mut body = String::new();
    loop {
        let Some((size, after)) = rest.split_once("\r\n") else {
            return (head, None);
        };
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            assert_eq!(after, "\r\n");
            return (head, Some(body));
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("the end of a chunk");
    }
}

fn body_of(server: &Server, target: &str) -> String {
    let answer = read_all(&mut ask(server, &get_last(target)));
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {head}");
    body.unwrap_or_else(|| panic!("{target} is cut off"))
}

/// The first bytes of the numbered lines.
fn numbered(size: usize) -> String {
    String::from_utf8(lines::part(0, size).to_vec()).expect("digits")
}

/// Checks the answer of `/work`: its number of primes, its size, and the lines behind it.
fn assert_work(body: &str, size: usize) {
    let (first, rest) = body.split_once('\n').expect("a line");
    let result = first.strip_prefix("primes below ").expect(body);
    let (below, count) = result.split_once(": ").expect(body);
    assert_eq!(
        primes_below(below.parse().expect(body)),
        count.parse::<usize>().expect(body)
    );
    assert_eq!(body.len(), size.max(first.len() + 1));
    assert_eq!(rest, numbered(rest.len()));
}

fn primes_below(below: usize) -> usize {
    let mut is_composite = vec![false; below];
    let mut count = 0;
    for number in 2..below {
        if !is_composite[number] {
            count += 1;
            for multiple in (number * number..below).step_by(number) {
                is_composite[multiple] = true;
            }
        }
    }
    count
}

/// The events of a body: their ids, which are the numbers in their data, too.
fn event_ids(body: &str) -> Vec<u64> {
    let events = body.split("\n\n").filter(|event| event.contains("data:"));
    let id = |event: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix("id: "));
        let data = event.lines().find_map(|line| line.strip_prefix("data: "));
        let id: u64 = line.expect(event).parse().expect(event);
        let data: Value = serde_json::from_str(data.expect(event)).expect(event);
        assert_eq!(data["number"], id);
        id
    };
    events.map(id).collect()
}

fn requests(server: &Server) -> Value {
    serde_json::from_str(&server.get("/requests.json").body).expect("JSON")
}

/// One of the counts: `/ended/done`, `/writes/lost`.
fn count(server: &Server, path: &str) -> u64 {
    let counts = &requests(server)["counts"];
    counts
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{path} in {counts}"))
}

fn until_count(server: &Server, path: &str, expected: u64) {
    until(path, || (count(server, path) == expected).then_some(()));
}

/// Waits until the one request that is being answered has this state.
fn until_state(server: &Server, state: &str) {
    until(state, || {
        let live = &requests(server)["live"];
        assert!(live.as_array().is_some_and(|live| live.len() <= 1), "{live}");
        (live[0]["state"] == state).then_some(())
    });
}

/// The request that has ended last.
fn last_ended(server: &Server) -> Value {
    requests(server)["ended"][0].clone()
}

fn threads(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/task", server.pid()))
        .expect("Linux")
        .count()
}

#[test]
fn a_handler_answers_inside_the_call_or_rejects() {
    let server = start(&["--threads=1"]);
    let now: Value = serde_json::from_str(&server.get("/now").body).expect("JSON");
    assert!(now["unix_ms"].as_u64() > Some(0) && now["loop"] == 0, "{now}");
    let echo = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(server.exchange(echo).body, "hello");
    for status in [400, 403, 429, 503, 599] {
        let answer = server.get(&format!("/reject?status={status}"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.body, "the handler has rejected this request\n");
    }
    assert_eq!(server.get("/reject").status, 403);
    assert_eq!(count(&server, "/handled/rejected"), 6);
    assert_eq!(count(&server, "/handled/accepted"), 0);
    assert_eq!(server.counter("/accepted"), 0, "no task");
}

#[test]
fn bad_parameters_are_rejected_with_their_ranges() {
    let server = start(&["--threads=1"]);
    for (target, expected) in [
        (
            "/reject?status=200",
            "status must be a whole number from 400 to 599\n",
        ),
        ("/work?ms=-1", "ms must be a whole number from 0 to 3600000\n"),
        (
            "/work?size=1048577",
            "size must be a whole number from 0 to 1048576\n",
        ),
        (
            "/stream?parts=0",
            "parts must be a whole number from 1 to 1000000000\n",
        ),
        (
            "/stream?size=0",
            "size must be a whole number from 1 to 1048576\n",
        ),
        ("/events?ms=0", "ms must be a whole number from 1 to 3600000\n"),
        ("/work?mss=1", "parameter not known, or given twice: \"mss\"\n"),
        (
            "/requests.json?limit=x",
            "limit must be a whole number from 0 to 18446744073709551615\n",
        ),
    ] {
        let answer = server.get(target);
        assert_eq!((answer.status, &*answer.body), (400, expected), "{target}");
    }
    assert_eq!(server.get("/nothing").status, 404);
    let answer = server.exchange("DELETE /work HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}

#[test]
fn a_task_answers_as_a_whole() {
    let server = start(&["--threads=2"]);
    for (ms, size) in [(0, 0), (1, 100), (20, 1), (3, 70_000)] {
        let answer = server.get(&format!("/work?ms={ms}&size={size}"));
        assert_eq!(answer.status, 200);
        assert_work(&answer.body, size);
    }
    until_count(&server, "/ended/done", 4);
    assert_eq!(count(&server, "/writes/asked"), 4);
    assert_eq!(count(&server, "/writes/written"), 4);
}

#[test]
fn a_task_answers_in_parts_and_hears_of_each() {
    let server = start(&["--threads=2"]);
    for (parts, size) in [(1, 1), (3, 17), (100, 1024), (5, 1 << 20)] {
        let target = format!("/stream?parts={parts}&size={size}");
        assert!(body_of(&server, &target) == numbered(parts * size), "{target}");
        // The parts, and the end.
        until("all writes are with the kernel", || {
            let ended = last_ended(&server);
            (ended["target"] == *target).then_some(())?;
            assert_eq!(ended["state"], "done");
            assert_eq!(ended["asked"], parts + 1);
            assert_eq!((&ended["written"], &ended["lost"]), (&ended["asked"], &0.into()));
            Some(())
        });
    }
}

/// <https://html.spec.whatwg.org/multipage/server-sent-events.html>
#[test]
fn events_go_on_after_the_last_one_that_the_client_has_got() {
    let server = start(&["--threads=1"]);
    let ask_after = |id: &str| {
        let request = format!(
            "GET /events?count=5&ms=1 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\nConnection: close\r\n\r\n"
        );
        read_all(&mut ask(&server, &request))
    };
    let answer = ask_after("");
    let (head, body) = split(&answer);
    assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
    let body = body.expect("an end");
    assert!(body.starts_with("retry: 1000\n\nid: 1\n"), "{body}");
    assert_eq!(event_ids(&body), [1, 2, 3, 4, 5]);
    let after = |id| event_ids(&split(&ask_after(id)).1.expect("an end"));
    assert_eq!(after("3"), [4, 5]);
    assert_eq!(after("not from here"), [1, 2, 3, 4, 5]);
    for id in ["5", "6", "18446744073709551615"] {
        assert!(
            ask_after(id).starts_with("HTTP/1.1 204 "),
            "a browser asks no more"
        );
    }
}

/// `RESTinio`'s first rule: no hidden threads.
#[test]
fn without_workers_there_is_only_the_thread_of_the_loop() {
    let server = start(&["--threads=0"]);
    let mut events = ask(&server, &get("/events?ms=10"));
    let mut stream = ask(&server, &get("/stream?parts=1000000000&size=100&ms=1"));
    read_to(&mut events, "id: 3\n");
    read_to(&mut stream, "000000000000003\n");
    let mut work = ask(&server, &get_last("/work?ms=300"));
    until("three tasks are alive", || {
        (server.dump()["tasks"].as_array()?.len() == 3).then_some(())
    });
    assert_eq!(threads(&server), 1);
    assert_work(split(&read_all(&mut work)).1.as_deref().expect("a body"), 0);
    assert_eq!(threads(&server), 1);
    assert_eq!(server.dump()["threads"], 0);
}

#[test]
fn loops_and_workers_are_all_the_threads() {
    let server = start(&["--threads=3", "--loops=2"]);
    body_of(&server, "/stream?parts=3");
    assert_eq!(threads(&server), 5);
    let server = start(&["--threads=0", "--loops=4"]);
    body_of(&server, "/stream?parts=3");
    assert_eq!(threads(&server), 4);
}

#[test]
fn every_loop_accepts_calls_handlers_and_writes() {
    let server = start(&["--threads=0", "--loops=4"]);
    let mut seen = HashSet::new();
    until("every loop has answered", || {
        let now: Value = serde_json::from_str(&server.get("/now").body).expect("JSON");
        seen.insert(now["loop"].as_u64());
        (seen.len() == 4).then_some(())
    });
    let mut loops = HashSet::new();
    until("every loop has a task", || {
        body_of(&server, "/stream?parts=2&size=5");
        let requests = requests(&server);
        let ended = requests["ended"].as_array()?.iter();
        loops.extend(ended.filter_map(|ended| Some(ended["request"].as_str()?[..1].to_owned())));
        (loops.len() == 4).then_some(())
    });
}

/// The request of client `index`.
fn mixed(index: usize) -> String {
    get_last(&match index % 5 {
        0 => "/now".to_owned(),
        1 => format!("/work?ms=1&size={index}"),
        2 => format!("/stream?parts=5&size={}", 1000 + index),
        3 => "/events?count=4&ms=1".to_owned(),
        _ => "/reject?status=429".to_owned(),
    })
}

fn assert_mixed(index: usize, body: &str) {
    match index % 5 {
        0 => assert!(body.contains("unix_ms"), "{body}"),
        1 => assert_work(body, index),
        2 => assert!(body == numbered(5 * (1000 + index)), "client {index}"),
        3 => assert_eq!(event_ids(body), [1, 2, 3, 4]),
        _ => assert_eq!(body, "the handler has rejected this request\n"),
    }
}

/// S20: a thousand requests at once get a thousand right answers, whatever threads there are.
#[test]
fn a_thousand_mixed_requests_get_right_answers_on_any_loops_and_workers() {
    const CLIENTS: usize = 1000;
    allow_many_files();
    for workers in ["0", "2", "100"] {
        for loops in ["1", "4"] {
            let server = start(&["--threads", workers, "--loops", loops]);
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
            for (index, client) in clients.iter_mut().enumerate() {
                send(client, &mixed(index));
            }
            for (index, client) in clients.iter_mut().enumerate() {
                let answer = read_all(client);
                assert_mixed(index, &split(&answer).1.expect("an end"));
            }
            let accepted = 3 * CLIENTS as u64 / 5;
            until_count(&server, "/ended/done", accepted);
            assert_eq!(count(&server, "/handled/accepted"), accepted);
            assert_eq!(count(&server, "/writes/lost"), 0);
            println!("{workers} workers, {loops} loops: {CLIENTS} right answers");
        }
    }
}

#[test]
fn pipelined_requests_of_all_styles_are_answered_in_order() {
    let server = start(&["--threads=2"]);
    let targets = [
        "/work?ms=30",
        "/stream?parts=2&size=3",
        "/now",
        "/events?count=1",
        "/work?ms=0",
    ];
    let mut stream = ask(&server, &targets.map(get).concat());
    send(&mut stream, &get_last("/reject"));
    let answers = read_all(&mut stream);
    let types: Vec<_> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| {
            (
                &answer[..3],
                answer.contains("event-stream"),
                answer.contains("chunked"),
            )
        })
        .collect();
    let whole = ("200", false, false);
    let expected = [
        whole,
        ("200", false, true),
        whole,
        ("200", true, true),
        whole,
        ("403", false, false),
    ];
    assert_eq!(types, expected);
    assert!(answers.contains("3\r\n000\r\n3\r\n000\r\n0\r\n\r\n"), "{answers}");
}

#[test]
fn head_and_http_1_0_get_the_form_that_they_know() {
    let server = start(&["--threads=1"]);
    // HEAD of an answer in parts needs no task, however long the answer would be.
    for target in ["/stream?parts=1000000000", "/events"] {
        let head = format!("HEAD {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = read_all(&mut ask(&server, &head));
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
    assert_eq!(server.counter("/accepted"), 0);
    let head = "HEAD /work?ms=0&size=500 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = read_all(&mut ask(&server, head));
    assert!(
        answer.contains("\r\nContent-Length: 500\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let old = "GET /stream?parts=3&size=20 HTTP/1.0\r\n\r\n";
    let answer = read_all(&mut ask(&server, old));
    assert!(!answer.contains("chunked"), "{answer}");
    assert_eq!(split(&answer).1.as_deref(), Some(&*numbered(60)));
}

/// A pause is a timer of the loop: the only worker serves others meanwhile.
#[test]
fn tasks_that_pause_hold_no_worker() {
    let server = start(&["--threads=1"]);
    let mut streams: Vec<_> = (0..50)
        .map(|_| ask(&server, &get("/stream?parts=2&size=16&ms=3600000")))
        .collect();
    for stream in &mut streams {
        read_to(stream, "000000000000000\n\r\n");
    }
    server.until_parked_for_good(50);
    assert_work(&body_of(&server, "/work?ms=5"), 0);
    drop(streams);
    server.until_stopped(50);
    until_count(&server, "/ended/client_gone", 50);
    assert_eq!(count(&server, "/writes/lost"), 0, "every part had arrived");
}

/// S18: `flush` waits for the client. Its task is parked, memory is flat, and others are served.
#[test]
fn a_client_that_does_not_read_parks_its_task_and_loses_one_write() {
    let server = start(&["--threads=1"]);
    let mut client = RawClient::connect(server.address, 16 * 1024);
    client.send_raw(get("/stream?parts=1000000&size=65536").as_bytes());
    server.until_parked_for_good(1);
    until_state(&server, "writing");
    let before = &requests(&server)["live"][0];
    assert_eq!(
        before["asked"].as_u64(),
        before["written"].as_u64().map(|written| written + 1)
    );
    let memory = resident_bytes(server.pid());
    for _ in 0..20 {
        assert_work(&body_of(&server, "/work?ms=1"), 0);
    }
    assert_eq!(
        requests(&server)["live"][0]["asked"],
        before["asked"],
        "it is still parked"
    );
    let grown = resident_bytes(server.pid()).saturating_sub(memory);
    assert!(grown < 4 << 20, "{grown} bytes more");
    // It goes on when the client reads.
    let mut bytes = Vec::new();
    while requests(&server)["live"][0]["written"] == before["written"] {
        assert!(client.read_into(&mut bytes, 65_536) > 0);
    }
    server.until_parked_for_good(1);
    until_state(&server, "writing");
    drop(client);
    until_count(&server, "/ended/client_gone", 1);
    let ended = last_ended_of(&server, "client_gone");
    assert_eq!(
        (&ended["lost"], &ended["task_saw"]),
        (&1.into(), &"connection closed".into())
    );
    assert_eq!(count(&server, "/writes/lost"), 1);
}

/// The newest request that has ended so.
fn last_ended_of(server: &Server, state: &str) -> Value {
    let requests = requests(server);
    let mut ended = requests["ended"].as_array().expect("a list").iter();
    ended
        .find(|ended| ended["state"] == state)
        .unwrap_or_else(|| panic!("{state} in {requests}"))
        .clone()
}

/// S12, S13, S14: whatever its task does when a client leaves, the task sees it.
#[test]
fn a_task_sees_that_its_client_has_gone() {
    for workers in ["--threads=0", "--threads=1"] {
        let server = start(&[workers]);
        for (index, (target, state)) in [
            ("/work?ms=3600000", "computing"),
            ("/stream?parts=2&ms=3600000", "pausing"),
            ("/events?ms=3600000", "pausing"),
        ]
        .into_iter()
        .enumerate()
        {
            let client = ask(&server, &get(target));
            until_state(&server, state);
            until("the task has begun", || {
                (server.dump()["counts"]["queued"] == 0).then_some(())
            });
            drop(client);
            let ended = index as u64 + 1;
            until_count(&server, "/ended/client_gone", ended);
            let last = last_ended(&server);
            assert_eq!((&last["target"], &last["lost"]), (&target.into(), &0.into()));
            assert_eq!(last["task_saw"], "connection closed");
            assert_eq!(server.counter("/stopped/connection_closed"), ended);
        }
    }
}

/// A task that waits for a worker is never begun.
#[test]
fn a_client_that_leaves_the_queue_costs_no_step() {
    let server = start(&["--threads=1"]);
    let _working = ask(&server, &get("/work?ms=3600000"));
    until_state(&server, "computing");
    let clients: Vec<_> = (0..20).map(|_| ask(&server, &get("/work?ms=3600000"))).collect();
    until("they are in the queue", || {
        (server.counter("/accepted") == 21).then_some(())
    });
    drop(clients);
    until_count(&server, "/ended/client_gone", 20);
    assert_eq!(server.counter("/stopped/connection_closed"), 20);
}

/// Half of a connection may be closed: such a client gets its answer.
#[test]
fn a_client_that_only_sends_no_more_gets_its_answer() {
    let server = start(&["--threads=1"]);
    let mut work = ask(&server, &get("/work?ms=200&size=30"));
    work.shutdown(Shutdown::Write).expect("half closed");
    assert_work(split(&read_all(&mut work)).1.as_deref().expect("a body"), 30);
    let mut stream = ask(&server, &get("/stream?parts=5&size=20&ms=20"));
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(split(&read_all(&mut stream)).1, Some(numbered(100)));
}

#[test]
fn a_late_answer_is_504_with_a_body_and_the_task_stops() {
    for workers in ["--threads=0", "--threads=1"] {
        let server = start(&[workers, "--request-timeout=1"]);
        let mut stream = ask(&server, &get("/work?ms=3600000"));
        let Answer { status, body, .. } = read_answer(&mut stream);
        assert_eq!((status, &*body), (504, "the answer took too long\n"));
        until_count(&server, "/ended/timed_out", 1);
        let ended = last_ended(&server);
        assert_eq!(
            (&ended["task_saw"], &ended["asked"]),
            (&"dequeued".into(), &0.into())
        );
        assert_eq!(server.counter("/stopped/dequeued"), 1);
        // The connection goes on.
        send(&mut stream, &get("/now"));
        assert_eq!(read_answer(&mut stream).status, 200);
    }
}

#[test]
fn a_stream_that_takes_too_long_is_cut_off() {
    let server = start(&["--threads=1", "--stream-timeout=1"]);
    for target in ["/stream?parts=1000&size=16&ms=10", "/events?ms=3600000"] {
        let answer = read_all(&mut ask(&server, &get(target)));
        let (head, body) = split(&answer);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, None, "no last chunk");
        assert!(answer.ends_with("\n\r\n"), "whole parts: {answer}");
    }
    until_count(&server, "/ended/timed_out", 2);
    assert_eq!(last_ended(&server)["task_saw"], "deadline");
    // A whole answer has the other limit.
    assert_work(&body_of(&server, "/work?ms=1200"), 0);
}

#[test]
fn a_full_queue_is_answered_with_503_and_retry_after() {
    let server = start(&["--threads=1", "--max-queue-depth=2"]);
    let _working = ask(&server, &get("/work?ms=3600000"));
    until_state(&server, "computing");
    let mut waiting: Vec<_> = (0..2).map(|_| ask(&server, &get("/work?ms=3600000"))).collect();
    until("the queue is full", || {
        (server.counter("/accepted") == 3).then_some(())
    });
    for target in ["/work", "/stream", "/events"] {
        let answer = server.get(target);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{target}"
        );
    }
    assert_eq!(server.get("/now").status, 200);
    assert_eq!(count(&server, "/handled/refused"), 3);
    waiting.clear();
    until("there is room", || {
        (server.counter("/stopped/connection_closed") == 2).then_some(())
    });
    let _accepted = ask(&server, &get("/work?ms=3600000"));
    until("it is accepted", || {
        (server.counter("/accepted") == 4).then_some(())
    });
}

#[test]
fn ctrl_c_answers_what_was_accepted_and_ends_events() {
    for options in [["--threads=0", "--loops=1"], ["--threads=1", "--loops=2"]] {
        let mut server = start(&options);
        let mut events = ask(&server, &get("/events?ms=3600000"));
        read_to(&mut events, "}\n\n\r\n");
        let mut stream = ask(&server, &get("/stream?parts=20&size=10&ms=20"));
        read_to(&mut stream, "0\r\n");
        let mut work = ask(&server, &get("/work?ms=300"));
        until("all are accepted", || {
            (server.counter("/accepted") == 3).then_some(())
        });
        server.signal("INT");
        assert_eq!(read_all(&mut events), "0\r\n\r\n", "the end, not a cut");
        assert!(read_all(&mut stream).ends_with("\r\n0\r\n\r\n"));
        assert_work(split(&read_all(&mut work)).1.as_deref().expect("a body"), 0);
        // Otherwise the server waits for these clients until the grace ends.
        drop((events, stream, work));
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// What does not end within the grace is told so, or cut off.
#[test]
fn ctrl_c_ends_what_is_too_long() {
    let mut server = start(&["--threads=1", "--grace=3"]);
    let mut stream = ask(&server, &get("/stream?parts=1000000&size=10&ms=50"));
    read_to(&mut stream, "0\r\n");
    let mut work = ask(&server, &get("/work?ms=3600000"));
    until("both are accepted", || {
        (server.counter("/accepted") == 2).then_some(())
    });
    server.signal("TERM");
    let answer = read_answer(&mut work);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(!read_all(&mut stream).ends_with("0\r\n\r\n"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn figures_and_records_are_shown() {
    let server = start(&["--threads=2", "--loops=2"]);
    body_of(&server, "/stream?parts=3");
    until_count(&server, "/ended/done", 1);
    let metrics = server.get("/metrics").body;
    for line in [
        "moored_handled_total{decision=\"accepted\"} 1",
        "moored_ended_total{end=\"done\"} 1",
        "moored_writes_total{state=\"written\"} 4",
        "moored_writes_total{state=\"lost\"} 0",
        "moored_loops 2",
        "moored_tasks_finished_total 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
    // More than the server remembers.
    for _ in 0..110 {
        body_of(&server, "/work?ms=0");
    }
    let ended = |limit: usize| {
        let body = server.get(&format!("/requests.json?limit={limit}")).body;
        let json: Value = serde_json::from_str(&body).expect("JSON");
        json["ended"].as_array().expect("a list").len()
    };
    assert_eq!([0, 1, 50].map(ended), [0, 1, 50]);
    assert!(ended(10_000) <= 200);
}
