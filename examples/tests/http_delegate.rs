//! `http_delegate` as its clients see it: right answers of each style, on any number of loops and
//! workers.

#[path = "util/delegate.rs"]
mod delegate;

use std::collections::HashSet;

use delegate::server::pid::allow_many_files;
use delegate::server::until;
use delegate::{
    ask, assert_work, body_of, count, event_ids, get, get_last, last_ended, numbered, read_all, read_to,
    requests, send, split, start, threads, until_count,
};
use serde_json::Value;

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
fn a_task_answers_in_parts_and_is_told_of_each() {
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
    assert_eq!(server.dump()["counts"]["threads"], 0);
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
