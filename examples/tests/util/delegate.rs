//! `http_delegate` in a process of its own: requests to it, checks of its answers, and what it says
//! of its requests.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

#[path = "../../http_delegate/lines.rs"]
mod lines;
#[path = "server.rs"]
pub mod server;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use server::{Server, until};

pub fn start(arguments: &[&str]) -> Server {
    Server::start("http_delegate", arguments)
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub fn get_last(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

pub fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).expect("sent");
}

/// Opens a connection, and sends a request on it.
pub fn ask(server: &Server, request: &str) -> TcpStream {
    let mut stream = server.connect();
    send(&mut stream, request);
    stream
}

/// Reads until the server closes.
pub fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an end, not a reset");
    String::from_utf8(bytes).expect("text")
}

/// Reads until `end` has arrived.
pub fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("no reset"), 1, "{text}");
        text.push(byte[0].into());
    }
    text
}

/// The answer to a request that ends its connection: the head, and the body without its chunks.
/// None instead of the body if the last chunk is missing.
pub fn split(answer: &str) -> (&str, Option<String>) {
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

pub fn body_of(server: &Server, target: &str) -> String {
    let answer = read_all(&mut ask(server, &get_last(target)));
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {head}");
    body.unwrap_or_else(|| panic!("{target} is cut off"))
}

/// The first bytes of the numbered lines.
pub fn numbered(size: usize) -> String {
    String::from_utf8(lines::part(0, size).to_vec()).expect("digits")
}

/// Checks the answer of `/work`: its number of primes, its size, and the lines behind it.
pub fn assert_work(body: &str, size: usize) {
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

pub fn primes_below(below: usize) -> usize {
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
pub fn event_ids(body: &str) -> Vec<u64> {
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

pub fn requests(server: &Server) -> Value {
    serde_json::from_str(&server.get("/requests.json").body).expect("JSON")
}

/// One of the counts: `/ended/done`, `/writes/lost`.
pub fn count(server: &Server, path: &str) -> u64 {
    let counts = &requests(server)["counts"];
    counts
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{path} in {counts}"))
}

pub fn until_count(server: &Server, path: &str, expected: u64) {
    until(path, || (count(server, path) == expected).then_some(()));
}

/// Waits until the one request that is being answered has this state.
pub fn until_state(server: &Server, state: &str) {
    until(state, || {
        let live = &requests(server)["live"];
        assert!(live.as_array().is_some_and(|live| live.len() <= 1), "{live}");
        (live[0]["state"] == state).then_some(())
    });
}

/// The request that has ended last.
pub fn last_ended(server: &Server) -> Value {
    requests(server)["ended"][0].clone()
}

pub fn threads(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/task", server.pid()))
        .expect("Linux")
        .count()
}

/// The newest request that has ended so.
pub fn last_ended_of(server: &Server, state: &str) -> Value {
    let requests = requests(server);
    let mut ended = requests["ended"].as_array().expect("a list").iter();
    ended
        .find(|ended| ended["state"] == state)
        .unwrap_or_else(|| panic!("{state} in {requests}"))
        .clone()
}
