//! How requests to `http_delegate` end: clients that do not read or leave, time limits, a full
//! queue and Ctrl-C. The tasks learn what became of their writes and of their clients.

#[path = "util/delegate.rs"]
mod delegate;
#[path = "util/raw_client.rs"]
mod raw_client;

use std::net::Shutdown;

use delegate::server::pid::resident_bytes;
use delegate::server::{Answer, read_answer, until};
use delegate::{
    ask, assert_work, body_of, count, get, get_last, last_ended, last_ended_of, numbered, read_all, read_to,
    requests, send, split, start, until_count, until_state,
};
use raw_client::RawClient;

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

/// Some of the tasks have begun, and take turns; others wait for their first one.
#[test]
fn clients_that_leave_together_end_all_their_tasks() {
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

/// Such a client may go later, which TCP does not say by itself.
#[test]
fn a_client_that_sends_no_more_and_goes_later_is_noticed() {
    let server = start(&["--threads=1"]);
    for (index, target) in ["/work?ms=3600000", "/stream?parts=2&ms=3600000"]
        .into_iter()
        .enumerate()
    {
        let mut client = ask(&server, &get(target));
        client.shutdown(Shutdown::Write).expect("half closed");
        // The first probe has found it waiting.
        read_to(&mut client, ["HTTP/1.1 100 Continue\r\n\r\n", "\r\n0"][index]);
        drop(client);
        until_count(&server, "/ended/client_gone", index as u64 + 1);
        assert_eq!(last_ended(&server)["task_saw"], "connection closed");
    }
}

/// HTTP/1.0 has nothing to probe with, so its clients may not close one half before the answer.
#[test]
fn a_client_of_http_1_0_that_leaves_is_noticed() {
    let server = start(&["--threads=1"]);
    let mut work = ask(&server, "GET /work?ms=3600000 HTTP/1.0\r\n\r\n");
    until_state(&server, "computing");
    work.shutdown(Shutdown::Write).expect("half closed");
    let answer = read_all(&mut work);
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("closed its side"),
        "{answer}"
    );
    until_count(&server, "/ended/client_gone", 1);
    let stream = ask(&server, "GET /events?ms=3600000 HTTP/1.0\r\n\r\n");
    until_state(&server, "pausing");
    drop(stream);
    until_count(&server, "/ended/client_gone", 2);
    assert_eq!(last_ended(&server)["task_saw"], "connection closed");
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

/// All requests are read in one turn of the loop, before it runs the first task. But a turn ends
/// after a millisecond, so on a loaded machine the loop may run a task between two requests. Then
/// the client sends the requests once more.
#[test]
fn a_full_queue_is_answered_with_503_and_retry_after() {
    let server = start(&["--threads=0", "--max-queue-depth=2"]);
    let targets = ["/work", "/stream", "/work", "/stream", "/events"];
    let requests = targets.map(get).concat() + &get_last("/now");
    let mut refused = 0;
    loop {
        let answers = read_all(&mut ask(&server, &requests));
        let answers: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
        let statuses: Vec<_> = answers.iter().map(|answer| &answer[..3]).collect();
        assert_eq!((statuses.len(), statuses[5]), (6, "200"));
        assert_eq!(statuses[..2], ["200", "200"]);
        for answer in answers.iter().filter(|answer| answer.starts_with("503")) {
            assert!(
                answer.contains("\r\nRetry-After: 1\r\n") && answer.contains("queue full"),
                "{answer}"
            );
            refused += 1;
        }
        assert_eq!(count(&server, "/handled/refused"), refused);
        if statuses[2..5] == ["503"; 3] {
            break;
        }
    }
    // There is room again.
    assert_work(&body_of(&server, "/work?ms=0"), 0);
}

/// U1: a client with many requests cannot fill the queue for the others. The server reads the
/// requests of both in one turn of its loop.
#[test]
fn a_request_whose_task_is_shed_is_answered_with_503() {
    let server = start(&["--threads=0", "--max-queue-depth=2"]);
    let mut clients = [(); 2].map(|()| ask(&server, &get("/now")));
    for client in &mut clients {
        assert_eq!(read_answer(client).status, 200);
    }
    server.signal("STOP");
    let [flood, other] = &mut clients;
    send(flood, &(get("/work").repeat(2) + &get_last("/now")));
    send(other, &get_last("/work"));
    server.signal("CONT");
    let answers = read_all(flood);
    let answers: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
    assert!(answers[0].starts_with("200 ") && answers[2].starts_with("200 "));
    assert!(
        answers[1].starts_with("503 ") && answers[1].contains("\r\nRetry-After: 1\r\n"),
        "{}",
        answers[1]
    );
    assert!(read_all(other).starts_with("HTTP/1.1 200 "));
    assert_eq!(server.counter("/stopped/shed"), 1);
    assert_eq!(count(&server, "/ended/stopped"), 1);
}

#[test]
fn ctrl_c_answers_what_was_accepted_and_ends_events() {
    for [threads, loops] in [["--threads=0", "--loops=1"], ["--threads=1", "--loops=2"]] {
        let mut server = start(&[threads, loops, "--grace=60"]);
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
