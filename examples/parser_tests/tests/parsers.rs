//! The parsers of `examples/src` against whatever a client may send: request heads, chunked
//! bodies and queries, cut anywhere. The bytes of WebSocket frames are tungstenite's business.

use examples::http::body::Framing;
use examples::http::{Refusal, Request};
use examples::query::Query;
use parser_tests::{BODY_MAX, take_cut, take_pieces};
use proptest::collection::vec;
use proptest::prelude::*;

fn parse(bytes: &[u8]) -> Result<Request, Refusal> {
    Request::parse(&bytes.to_vec().into())
}

/// The status that a request with these further headers is refused with, or its framing.
fn framing(headers: &str) -> Result<Framing, u16> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let outcome = parse(head.as_bytes()).and_then(|request| Framing::of(&request));
    outcome.map_err(|Refusal(status, _)| status)
}

/// S28: a length that two servers could read differently is refused (request smuggling).
#[test]
fn only_one_reading_of_a_length_is_accepted() {
    for (headers, expected) in [
        ("", Ok(Framing::Length(0))),
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("Content-Length: 005\r\n", Ok(Framing::Length(5))),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length: \r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        (
            "Content-Length: 99999999999999999999999\r\n",
            Ok(Framing::Length(usize::MAX)),
        ),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            Err(501),
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: x\r\n", Err(400)),
        ("Transfer-Encoding : chunked\r\n", Err(400)),
        (" Transfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding:\r\n chunked\r\n", Err(400)),
        ("Transfer-Encoding\0: chunked\r\n", Err(400)),
        ("X: a\0b\r\n", Err(400)),
        ("X: a\rContent-Length: 5\r\n", Err(400)),
    ] {
        assert_eq!(framing(headers), expected, "{headers:?}");
    }
    let old = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    let old = parse(old.as_bytes()).and_then(|request| Framing::of(&request));
    assert!(matches!(old, Err(Refusal(400, _))));
}

/// S28: chunks are what the standard says, or refused.
#[test]
fn only_proper_chunks_are_accepted() {
    let long = "x".repeat(3000);
    for (bytes, expected) in [
        ("0\r\n\r\n", Ok(Some(""))),
        ("3\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
        (
            "0003;a=b;c=\"d\"\r\nabc\r\n0;end\r\nX: y\r\n\r\n",
            Ok(Some("abc")),
        ),
        (
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            Ok(Some("01234567890123456789")),
        ),
        ("3\r\nabc\r\n0\r\n", Ok(None)),
        // Another server may take LF or CR alone for the end of a line.
        ("5;a\nb\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("5;\n\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("0\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        ("0\r\nX: a\rY: b\r\n\r\n", Err(400)),
        ("0\r\nno colon\r\n\r\n", Err(400)),
        ("0\r\nX: a\0b\r\n\r\n", Err(400)),
        ("0\r\nX: y\r\nZ:\r\n\r\n", Ok(Some(""))),
        ("3\r\nabc\r\n", Ok(None)),
        ("3\r\nab", Ok(None)),
        ("3\r\nabcd\r\n0\r\n\r\n", Err(400)),
        ("3\r\nabc\n0\r\n\r\n", Err(400)),
        ("3\nabc\r\n0\r\n\r\n", Err(400)),
        ("\r\n3\r\nabc", Err(400)),
        ("-3\r\nabc", Err(400)),
        ("+3\r\nabc", Err(400)),
        ("0x3\r\nabc", Err(400)),
        ("3 3\r\nabc", Err(400)),
        ("g\r\n", Err(400)),
        ("1001\r\n", Err(413)),
        ("ffffffffffffffff\r\n", Err(413)),
        ("fffffffffffffffff\r\n", Err(400)),
        (&format!("3;{long}\r\n"), Err(400)),
        (&format!("3;{long}"), Err(400)),
        (&format!("0\r\n{long}"), Err(400)),
    ] {
        let outcome = take_cut(Framing::Chunked, bytes.as_bytes(), Vec::new());
        let outcome = outcome.map(|(body, _)| body).map_err(|Refusal(status, _)| status);
        let expected = expected.map(|body| body.map(|text| text.as_bytes().to_vec()));
        assert_eq!(outcome, expected, "{:?}", &bytes[..bytes.len().min(40)]);
    }
}

/// A request head: its bytes, and what is to be read from them.
fn head() -> impl Strategy<Value = (String, String, Vec<(String, String)>)> {
    let headers = vec(("[A-Za-z][A-Za-z0-9-]{0,20}", "[!-~]([ -~]{0,30}[!-~])?"), 0..20);
    ("/[a-z0-9/.%]{0,30}", headers).prop_map(|(path, mut headers)| {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        headers.push(("Host".to_owned(), "a".to_owned()));
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let lines = lines.concat();
        (format!("GET {path}?q HTTP/1.1\r\n{lines}\r\n"), path, headers)
    })
}

proptest! {
    // More by hand: `PROPTEST_CASES=20000`. A failure prints its input, so no file has to keep it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S28: a head is read as it was written.
    #[test]
    fn a_head_is_read_as_it_was_written((bytes, path, headers) in head()) {
        let request = parse(bytes.as_bytes()).expect("it can be read");
        prop_assert_eq!((request.path(), request.query()), (&*path, "q"));
        for (name, value) in &headers {
            let mut values = request.headers.get_all(name).iter();
            prop_assert!(values.any(|it| it == value), "{}: {}", name, value);
        }
    }

    /// S28: whatever arrives is a request, or refused with a status.
    #[test]
    fn noise_is_refused_with_a_status(noise: Vec<u8>, lines in "(GET|[ -~]{0,9}) [ -~]{0,20} (HTTP/1.[0-2]|[ -~]{0,9})\r?\n([ -~\t\r\n]{0,200})(\r\n\r\n)?") {
        for bytes in [&noise[..], lines.as_bytes()] {
            match parse(bytes) {
                // None of these panics.
                Ok(request) => drop((Framing::of(&request), request.wants_websocket(), request.keeps_alive())),
                Err(Refusal(status, why)) => prop_assert!([400, 431, 505].contains(&status) && !why.is_empty()),
            }
        }
    }

    /// S28: a chunked body is put together wherever it is cut, and takes nothing of what follows.
    #[test]
    fn chunks_are_put_together(chunks in vec(vec(any::<u8>(), 1..200), 0..10), cuts in vec(0..3000_usize, 0..20), behind: Vec<u8>) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        let (body, used) = take_cut(Framing::Chunked, &bytes, cuts).map_err(|Refusal(_, why)| TestCaseError::fail(why))?;
        prop_assert_eq!((body, used), (Some(chunks.concat()), length));
    }

    /// S28: a body in pieces has the same bytes, and no piece is longer than it may be.
    #[test]
    fn pieces_of_a_body_are_put_together(chunks in vec(vec(any::<u8>(), 1..200), 0..10), cuts in vec(0..3000_usize, 0..20), piece_max in 1..300_usize, behind: Vec<u8>) {
        let content = chunks.concat();
        let mut chunked = Vec::new();
        for chunk in &chunks {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        for (framing, body) in [(Framing::Chunked, chunked), (Framing::Length(content.len()), content.clone())] {
            let bytes = [&body[..], &behind].concat();
            let (pieces, used) = take_pieces(framing, &bytes, cuts.clone(), piece_max)
                .map_err(|Refusal(_, why)| TestCaseError::fail(why))?;
            let pieces = pieces.ok_or_else(|| TestCaseError::fail("not whole"))?;
            prop_assert!(pieces.iter().all(|piece| piece.len() <= piece_max));
            prop_assert_eq!((pieces.concat(), used), (content.clone(), body.len()));
        }
    }

    /// S28: of any noise, no more than the limit is kept, and what it is called does not depend on the cuts.
    #[test]
    fn noise_for_a_body_stays_within_the_limit(noise in "([0-9a-fA-F]{0,4}(;[a-z]{0,5})?\r\n|[ -~]{0,30}\r\n|[ -~]{0,9}){0,40}", cuts in vec(0..1000_usize, 0..20)) {
        let whole = take_cut(Framing::Chunked, noise.as_bytes(), Vec::new());
        let cut = take_cut(Framing::Chunked, noise.as_bytes(), cuts);
        match (whole, cut) {
            (Ok(whole), Ok(cut)) => {
                prop_assert!(whole.0.as_ref().is_none_or(|body| body.len() <= BODY_MAX));
                prop_assert_eq!(whole, cut);
            }
            (Err(whole), Err(cut)) => prop_assert_eq!(whole.0, cut.0),
            (whole, cut) => prop_assert!(false, "{whole:?} in one piece, {cut:?} in several"),
        }
    }

    /// S28: numbers of a query come out as they went in, and everything else is an error.
    #[test]
    fn a_query_is_read_or_refused(first: u64, second in 0..=255_u8, noise in "[ -~]{0,40}", order: bool) {
        let (first_text, second_text) = (format!("first={first}"), format!("second={second}"));
        let text = if order { format!("{first_text}&{second_text}") } else { format!("{second_text}&&{first_text}") };
        let mut query = Query::new(&text);
        prop_assert_eq!(query.take_number("second", 1, 0..=255_u8), Ok(second));
        prop_assert_eq!(query.take_number("first", 1, 0..=u64::MAX), Ok(first));
        prop_assert_eq!(query.take_number("third", 3, 0..=9), Ok(3));
        prop_assert!(query.finish().is_ok());
        let mut query = Query::new(&noise);
        prop_assert!(query.take_number("first", 5, 5..=7).is_ok_and(|number| (5..=7).contains(&number)) || noise.contains("first"));
        prop_assert_eq!(query.finish().is_ok(), noise.chars().all(|c| c == '&'));
    }
}
