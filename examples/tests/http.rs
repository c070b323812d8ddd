//! RFC 9110 and 9112 for an origin server, as a checklist: one test a rule.
//!
//! The section that a rule is from stands above its test. Rules about the length of a body are
//! also in `parser_tests`.

#[path = "util/in_process.rs"]
mod in_process;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use examples::assets::Asset;
use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::server::App;
use in_process::{connect, serve};
use moored::ConnId;

const BODY_MAX: usize = 1000;

/// `GET /` is a file, `POST /echo` answers a body with itself, `GET /host` says which host was
/// asked for, `/ws` speaks WebSocket only, `/both` speaks it as well.
struct Site {
    file: Asset,
}

impl App for Site {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/" | "/host" | "/target" => Some(Route::get()),
            "/echo" => Some(Route::post(BODY_MAX)),
            "/ws" => Some(Route::websocket()),
            "/both" => Some(Route::get().or_websocket()),
            _ => None,
        }
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let number = request.number;
        if request.is_handshake {
            net.upgrade(id, &request, None);
            return;
        }
        let answer = match request.path() {
            "/" => self.file.answer(&request),
            "/host" => {
                let host = request.host.as_ref().map_or("none", |host| host.as_str());
                Response::text(200, host)
            }
            "/target" => Response::text(200, &format!("{} {}", request.path(), request.query())),
            _ => Response::new(200).body("application/octet-stream", request.body),
        };
        net.answer(id, number, answer);
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, _net: &mut Net) {}
}

/// An answer out of the bytes of a connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

fn with_site(client: impl FnOnce(SocketAddr)) {
    let site = Site {
        file: Asset::new("text/html; charset=utf-8", Bytes::from_static(b"<p>moored</p>")),
    };
    serve(Limits::default(), site, client);
}

/// Sends `requests` on one connection, closes the sending half, and reads to the end.
fn ask(requests: &str) -> Vec<Answer> {
    let mut bytes = Vec::new();
    with_site(|address| {
        let mut stream = connect(address);
        stream.write_all(requests.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        stream.read_to_end(&mut bytes).expect("an end, not a reset");
    });
    split(
        &String::from_utf8(bytes).expect("text"),
        requests.starts_with("HEAD"),
    )
}

/// The one answer to `request`.
fn ask_one(request: &str) -> Answer {
    let mut answers = ask(request);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

fn split(mut text: &str, is_head: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((head, rest)) = text.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Answer {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |it| it.parse().expect("a number"));
        let (body, rest) = rest.split_at(if is_head { 0 } else { length });
        body.clone_into(&mut answer.body);
        text = rest;
        answers.push(answer);
    }
    assert_eq!(text, "", "what follows the last answer");
    answers
}

fn statuses(requests: &str) -> Vec<u16> {
    ask(requests).iter().map(|answer| answer.status).collect()
}

/// A request line and a Host header, without the empty line.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n")
}

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

// ---- RFC 9112, section 2: messages ----------------------------------------------------------

/// U24: RFC 9112, 2.2.
#[test]
fn empty_lines_before_a_request_are_ignored() {
    assert_eq!(statuses(&format!("\r\n\r\n{}\r\n", get("/"))), [200]);
}

/// U24: RFC 9112, 2.2: a lone LF may end a line.
#[test]
fn a_line_may_end_with_lf_alone() {
    assert_eq!(statuses("GET / HTTP/1.1\nHost: a\n\n"), [200]);
}

/// U24: RFC 9112, 2.2: white space before the first header is an attack or an error.
#[test]
fn white_space_before_the_first_header_is_refused() {
    assert_eq!(statuses("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), [400]);
}

/// U24: RFC 9112, 2.3 and RFC 9110, 15.6.6.
#[test]
fn other_versions_are_refused_with_505() {
    assert_eq!(statuses("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), [505]);
    assert_eq!(statuses("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), [505]);
}

/// U24: RFC 9112, 3: what is no request line gets 400 at once, not after a timeout.
#[test]
fn input_that_is_not_http_is_refused_at_the_first_byte() {
    with_site(|address| {
        // The first bytes of TLS.
        let mut stream = connect(address);
        stream.write_all(&[0x16, 3, 1, 0, 200]).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    });
}

// ---- RFC 9112, section 3: targets and Host --------------------------------------------------

/// U24: RFC 9112, 3.2.1.
#[test]
fn an_origin_form_has_a_path_and_a_query() {
    assert_eq!(
        ask_one(&format!("{}\r\n", get("/target?a=b?c"))).body,
        "/target a=b?c\n"
    );
}

/// U24: RFC 9112, 3.2.2: a server must accept the absolute form, also over HTTP/1.0.
#[test]
fn an_absolute_form_is_accepted() {
    assert_eq!(
        ask_one(&format!("{}\r\n", get("http://a/target?x"))).body,
        "/target x\n"
    );
    assert_eq!(statuses(&format!("{}\r\n", get("http://a"))), [200]);
    assert_eq!(statuses(&format!("{}\r\n", get("HTTPS://a:443/"))), [200]);
    assert_eq!(statuses("GET http://a/ HTTP/1.0\r\n\r\n"), [200]);
}

/// U24: RFC 9112, 3.2.2: the host of an absolute form counts, not that of the header.
#[test]
fn the_host_of_an_absolute_form_counts() {
    let answer = ask_one("GET http://example.org:81/host HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(answer.body, "example.org:81\n");
}

/// U24: RFC 9112, 3.2.2.
#[test]
fn an_absolute_form_of_another_scheme_is_refused() {
    assert_eq!(statuses(&format!("{}\r\n", get("ftp://a/"))), [400]);
    assert_eq!(statuses(&format!("{}\r\n", get("http://user@a/"))), [400]);
}

/// U24: RFC 9112, 3.2.3: only a proxy has CONNECT.
#[test]
fn an_authority_form_is_refused_with_501() {
    assert_eq!(
        statuses("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"),
        [501]
    );
    assert_eq!(statuses(&format!("{}\r\n", get("example.org:443"))), [400]);
}

/// U24: RFC 9112, 3.2.4 and RFC 9110, 9.3.7.
#[test]
fn an_asterisk_form_is_for_options_alone() {
    let answer = ask_one("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    assert!(
        answer
            .header("allow")
            .is_some_and(|allow| allow.contains("OPTIONS"))
    );
    assert_eq!(statuses(&format!("{}\r\n", get("*"))), [400]);
}

/// U24: RFC 9110, 4.1 and 7.1: a fragment never belongs to a target.
#[test]
fn a_target_with_a_fragment_is_refused() {
    assert_eq!(statuses(&format!("{}\r\n", get("/#part"))), [400]);
}

/// U24: RFC 9112, 3.2.
#[test]
fn http_1_1_needs_exactly_one_host() {
    assert_eq!(statuses("GET / HTTP/1.1\r\n\r\n"), [400]);
    assert_eq!(statuses("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), [400]);
    assert_eq!(statuses("GET http://a/ HTTP/1.1\r\n\r\n"), [400]);
    assert_eq!(statuses("GET / HTTP/1.0\r\n\r\n"), [200]);
    assert_eq!(statuses("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), [400]);
}

/// U24: RFC 9112, 3.2: a client without an authority sends an empty Host.
#[test]
fn an_empty_host_is_accepted() {
    assert_eq!(ask_one("GET /host HTTP/1.1\r\nHost:\r\n\r\n").body, "none\n");
}

/// U24: RFC 9112, 3.2.
#[test]
fn a_malformed_host_is_refused() {
    for host in [
        "a b", "a/b", "user@a", "a:port", "a:99999", "[::1", "http://a", ":80",
    ] {
        assert_eq!(
            statuses(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            [400],
            "{host}"
        );
    }
    for host in ["a", "a:80", "a:", "127.0.0.1:1", "[::1]:8080", "A.example"] {
        assert_eq!(
            statuses(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            [200],
            "{host}"
        );
    }
}

// ---- RFC 9112, section 5: headers -----------------------------------------------------------

/// U24: RFC 9112, 5.1: a space before the colon has been used to smuggle requests.
#[test]
fn a_space_before_the_colon_is_refused() {
    assert_eq!(statuses("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), [400]);
}

/// U24: RFC 9112, 5.2.
#[test]
fn a_folded_header_is_refused() {
    assert_eq!(statuses(&format!("{}X: a\r\n b\r\n\r\n", get("/"))), [400]);
}

/// U24: RFC 9110, 5.1 and 5.5: names are not case-sensitive, and white space around a value does
/// not belong to it.
#[test]
fn names_and_white_space_do_not_matter() {
    assert_eq!(ask_one("GET /host HTTP/1.1\r\nhOST: \t a \r\n\r\n").body, "a\n");
}

/// U24: RFC 6585, 5.
#[test]
fn a_head_that_is_too_long_is_refused_with_431() {
    assert_eq!(
        statuses(&format!("{}X: {}\r\n\r\n", get("/"), "x".repeat(20_000))),
        [431]
    );
    assert_eq!(
        statuses(&format!("{}{}\r\n", get("/"), "X: y\r\n".repeat(100))),
        [431]
    );
    assert_eq!(
        statuses(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000))),
        [431]
    );
}

// ---- RFC 9112, sections 6 and 7: bodies -----------------------------------------------------

/// U24: RFC 9112, 6.3.
#[test]
fn two_lengths_or_a_length_beside_a_coding_are_refused() {
    let post = |headers: &str| statuses(&format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\nabc"));
    assert_eq!(post("Content-Length: 3\r\nContent-Length: 3\r\n"), [400]);
    assert_eq!(post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), [400]);
    assert_eq!(post("Content-Length: 3x\r\n"), [400]);
    assert_eq!(post("Content-Length: 3\r\n"), [200]);
}

/// U24: RFC 9112, 6.1: a coding that is not known is refused with 501.
#[test]
fn unknown_codings_are_refused_with_501() {
    let post = |coding: &str| {
        statuses(&format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        ))
    };
    assert_eq!(post("gzip"), [501]);
    assert_eq!(post("gzip, chunked"), [501]);
    assert_eq!(post("Chunked"), [200]);
}

/// U24: RFC 9112, 6.1: a coding in an HTTP/1.0 request is an attack or an error.
#[test]
fn a_coding_in_http_1_0_is_refused() {
    assert_eq!(
        statuses("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        [400]
    );
}

/// U24: RFC 9112, 7.1: chunk extensions and trailers are ignored.
#[test]
fn chunk_extensions_and_trailers_are_ignored() {
    let answer = ask_one(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=\"b\"\r\nabc\r\n0\r\nX-Trailer: 1\r\nContent-Length: 9\r\n\r\n",
    );
    assert_eq!((answer.status, &*answer.body), (200, "abc"));
}

/// U24: RFC 9112, 7.1.2: endless trailers are not read.
#[test]
fn endless_trailers_are_refused() {
    let trailers = format!("X: {}\r\n", "y".repeat(900)).repeat(20);
    let request =
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n");
    assert_eq!(statuses(&request), [431]);
}

/// U24: RFC 9110, 15.5.14.
#[test]
fn a_body_that_is_too_long_is_refused_with_413() {
    let post = |length: usize| {
        let body = "b".repeat(length);
        statuses(&format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    };
    assert_eq!(post(BODY_MAX), [200]);
    assert_eq!(post(BODY_MAX + 1), [413]);
}

/// U24: RFC 9112, 8: half a request is not served.
#[test]
fn half_a_request_is_not_served() {
    let answers = ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert!(answers.is_empty(), "{answers:?}");
}

// ---- RFC 9112, section 9: connections -------------------------------------------------------

/// U24: RFC 9112, 9.3: HTTP/1.1 keeps a connection unless it is told otherwise.
#[test]
fn http_1_1_keeps_the_connection() {
    let request = format!("{}\r\n", get("/"));
    let answers = ask(&request.repeat(3));
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer.header("connection").is_none()));
}

/// U24: RFC 9112, 9.6: nothing is served after `close`.
#[test]
fn nothing_is_served_after_close() {
    let answers = ask(&format!(
        "{}Connection: foo, Close\r\n\r\n{}\r\n",
        get("/"),
        get("/")
    ));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].header("connection"), Some("close"));
}

/// U24: RFC 9112, 9.3: HTTP/1.0 closes, unless the client asks for `keep-alive`, as `ab -k` does.
#[test]
fn http_1_0_keeps_the_connection_on_request() {
    let keep = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    let answers = ask(&keep.repeat(3));
    assert_eq!(answers.len(), 3);
    assert!(
        answers
            .iter()
            .all(|answer| answer.header("connection") == Some("keep-alive"))
    );
    let answers = ask(&"GET / HTTP/1.0\r\n\r\n".repeat(2));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].header("connection"), Some("close"));
}

/// U24: RFC 9112, 9.3.2: answers to pipelined requests leave in the order of the requests, those
/// that the server gives by itself among them.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests =
        ["/target?1", "/nowhere", "/target?3", "/ws", "/target?5"].map(|path| format!("{}\r\n", get(path)));
    assert_eq!(statuses(&requests.concat()), [200, 404, 200, 426, 200]);
}

// ---- RFC 9110, section 6 to 8: answers ------------------------------------------------------

/// U24: RFC 9110, 6.6.1 and 5.6.7.
#[test]
fn every_answer_has_a_date() {
    let requests = ["/", "/nowhere", "/ws"].map(|path| format!("{}\r\n", get(path)));
    let garbage = "garbage\r\n\r\n".to_owned();
    for answer in ask(&(requests.concat() + &garbage)) {
        let date = answer.header("date").expect("a date");
        let date = httpdate::parse_http_date(date).expect("a date of the right form");
        let age = SystemTime::now().duration_since(date).unwrap_or_default();
        assert!(age.as_secs() < 60, "{answer:?}");
    }
}

/// U24: RFC 9110, 7.8: an upgrade to another protocol is ignored.
#[test]
fn unknown_upgrades_are_ignored() {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    assert_eq!(statuses(&(get("/") + h2c)), [200]);
    // A path that speaks no WebSocket ignores that, too.
    assert_eq!(statuses(&format!("{}{UPGRADE}{KEY}\r\n", get("/"))), [200]);
    // HTTP/1.0 has no upgrades.
    assert_eq!(
        statuses(&format!("GET /both HTTP/1.0\r\n{UPGRADE}{KEY}\r\n")),
        [200]
    );
    // An upgrade is not asked for without its `Connection`.
    assert_eq!(
        statuses(&format!("{}Upgrade: websocket\r\n{KEY}\r\n", get("/both"))),
        [200]
    );
}

/// U24: RFC 9110, 15.5.22.
#[test]
fn a_path_for_websocket_alone_answers_426() {
    let answer = ask_one(&format!("{}\r\n", get("/ws")));
    assert_eq!(
        (answer.status, answer.header("upgrade")),
        (426, Some("websocket"))
    );
    assert_eq!(answer.header("connection"), Some("Upgrade"));
}

/// U24: RFC 9110, 8.3: a text says which characters it has.
#[test]
fn texts_name_their_charset() {
    let answers = ask(&(format!("{}\r\n", get("/")) + &format!("{}\r\n", get("/nowhere"))));
    assert_eq!(
        answers[0].header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        answers[1].header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

/// U24: RFC 9110, 8.8.3 and 13.1.2.
#[test]
fn a_file_that_the_client_has_gives_304() {
    let first = ask_one(&format!("{}\r\n", get("/")));
    let tag = first.header("etag").expect("a tag").to_owned();
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let answer = ask_one(&format!("{}If-None-Match: {known}\r\n\r\n", get("/")));
        assert_eq!((answer.status, &*answer.body), (304, ""), "{known}");
        assert_eq!(answer.header("etag"), Some(&*tag));
        assert_eq!(answer.header("content-length"), None);
    }
    let other = ask_one(&format!("{}If-None-Match: \"x\"\r\n\r\n", get("/")));
    assert_eq!((other.status, &*other.body), (200, "<p>moored</p>"));
}

/// U24: RFC 9110, 14.2: a server may ignore `Range`.
#[test]
fn ranges_are_ignored() {
    assert_eq!(
        ask_one(&format!("{}Range: bytes=0-2\r\n\r\n", get("/"))).body,
        "<p>moored</p>"
    );
}

// ---- RFC 9110, section 9: methods -----------------------------------------------------------

/// U24: RFC 9110, 9.3.2.
#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let head = ask_one("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let get = ask_one(&format!("{}\r\n", get("/")));
    for name in ["content-length", "content-type", "etag", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!((head.status, head.header("content-length")), (200, Some("13")));
}

/// U24: RFC 9110, 9.3.2: also if the request is refused.
#[test]
fn a_refused_head_has_no_body() {
    for headers in ["Content-Length: 5\r\n", "Host: b\r\n", "Content-Length: x\r\n"] {
        let answer = ask_one(&format!("HEAD / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert!((400..500).contains(&answer.status), "{headers}");
    }
}

/// U24: RFC 9110, 9.3.7 and 10.2.1.
#[test]
fn options_lists_the_methods_of_a_path() {
    for (path, allow) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/echo", "POST, OPTIONS"),
        ("/ws", "GET, OPTIONS"),
    ] {
        let answer = ask_one(&format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some(allow)),
            "{path}"
        );
    }
}

/// U24: RFC 9110, 15.5.6: 405 names the methods, and comes before 413.
#[test]
fn a_method_that_the_path_does_not_support_gives_405_whatever_the_body() {
    let body = "b".repeat(BODY_MAX + 1);
    let answers = ask(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0].status, answers[0].header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    assert_eq!(answers[0].header("connection"), Some("close"));
    assert_eq!(statuses("DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n"), [405]);
}

/// U24: RFC 9110, 15.5.5: 404 comes before 405 and 413.
#[test]
fn a_path_that_is_not_there_gives_404_whatever_the_method() {
    assert_eq!(statuses("DELETE /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"), [404]);
    assert_eq!(
        statuses("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"),
        [404]
    );
}

/// U24: RFC 9110, 9.1 and 15.6.2: a method that no path has gives 501.
#[test]
fn an_unknown_method_gives_501() {
    for method in ["BREW", "get", "TRACE", "PROPFIND"] {
        assert_eq!(
            statuses(&format!("{method} /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")),
            [501],
            "{method}"
        );
    }
}

// ---- RFC 9110, section 10.1.1: Expect -------------------------------------------------------

/// U24: RFC 9110, 10.1.1: the client waits, and gets 100 before it sends the body.
#[test]
fn a_client_that_waits_gets_100() {
    with_site(|address| {
        let mut stream = connect(address);
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).expect("an interim answer");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"ok").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
    });
}

/// U24: RFC 9110, 10.1.1: a request that is refused is refused at once, without 100.
#[test]
fn a_refused_request_gets_no_100() {
    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        statuses(&format!("POST / HTTP/1.1\r\nHost: a\r\n{expect}")),
        [405]
    );
    assert_eq!(
        statuses(&format!("POST /nowhere HTTP/1.1\r\nHost: a\r\n{expect}")),
        [404]
    );
    let long = expect.replace("5\r", "5000\r");
    assert_eq!(
        statuses(&format!("POST /echo HTTP/1.1\r\nHost: a\r\n{long}")),
        [413]
    );
}

/// U24: RFC 9110, 10.1.1: other expectations are refused, and HTTP/1.0 has none.
#[test]
fn unknown_expectations_give_417() {
    let post = |version: &str, expect: &str| {
        statuses(&format!(
            "POST /echo {version}\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\nok"
        ))
    };
    assert_eq!(post("HTTP/1.1", "tea"), [417]);
    assert_eq!(post("HTTP/1.0", "100-continue"), [200]);
    // The body is here already: no interim answer is needed.
    assert_eq!(post("HTTP/1.1", "100-continue"), [200]);
}

// ---- RFC 6455, section 4.2: the handshake ---------------------------------------------------

/// U24: RFC 6455, 4.2.1: the key is 16 bytes in base64.
#[test]
fn a_key_that_is_not_16_bytes_is_refused() {
    let upgrade = |key: &str| {
        let headers = format!("{UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n");
        ask(&(get("/ws") + &headers)).first().map(|answer| answer.status)
    };
    assert_eq!(upgrade("dGhlIHNhbXBsZSBub25jZQ=="), Some(101));
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWVl",
        "not base64, not at all==",
        "!!!!!!!!!!!!!!!!!!!!!!==",
    ] {
        assert_eq!(upgrade(key), Some(400), "{key:?}");
    }
}

/// U24: RFC 6455, 4.2.2: another version is refused with the one that is known.
#[test]
fn another_version_of_websocket_gives_426() {
    let answer = ask_one(&format!("{}{UPGRADE}{}\r\n", get("/ws"), KEY.replace("13", "8")));
    assert_eq!(
        (answer.status, answer.header("sec-websocket-version")),
        (426, Some("13"))
    );
}
