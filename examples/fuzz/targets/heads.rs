//! The head of a request: only what httparse accepts is accepted, and it is read as httparse reads
//! it.
#![no_main]

use bytes::Bytes;
use examples::http::body::Framing;
use examples::http::{Request, Version};
use examples::origin::AllowedOrigins;
use examples::query::Query;
use examples::upgrade;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| {
    let Ok(request) = Request::parse(&Bytes::copy_from_slice(head)) else {
        return;
    };
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut plain = httparse::Request::new(&mut fields);
    assert!(
        plain.parse(head).is_ok_and(|status| status.is_complete()),
        "httparse rejects it"
    );
    assert_eq!(plain.method, Some(request.method.as_str()));
    assert_eq!(plain.version == Some(1), request.version == Version::Http11);
    for field in plain.headers.iter() {
        let mut values = request.headers.get_all(field.name).iter();
        assert!(
            values.any(|value| value.as_bytes() == field.value),
            "{} is missing",
            field.name
        );
    }
    assert_eq!(request.headers.len(), plain.headers.len());

    let target = plain.path.unwrap_or_default();
    let (path, query) = (request.path(), request.query());
    assert!(path == "*" || path.starts_with('/'), "a path begins with a slash");
    if target.starts_with('/') {
        let written = target.split_once('?').unwrap_or((target, ""));
        assert_eq!((path, query), written);
    }
    check_framing(&request, plain.headers);

    // None of these panics.
    let mut numbers = Query::new(query);
    let _ = (
        numbers.take_number("size", 1, 0..=9),
        numbers.take_decimal("ms", 1.0, 0.0..=9.0),
    );
    let _ = (
        request.wants_websocket(),
        request.keeps_alive(),
        request.expects_continue(),
    );
    let mut trusting = AllowedOrigins::default();
    trusting.trust_proxy();
    if upgrade::check(&request, &trusting).is_ok() {
        assert!(request.wants_websocket());
        let _ = upgrade::accept(&request, None);
    }
});

/// A request with a length has only one (request smuggling).
fn check_framing(request: &Request, headers: &[httparse::Header<'_>]) {
    let count = |name: &str| {
        headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .count()
    };
    let counts = (count("Content-Length"), count("Transfer-Encoding"));
    match Framing::of(request) {
        Ok(Framing::Length(0)) => assert!(counts == (0, 0) || counts == (1, 0)),
        Ok(Framing::Length(_)) => assert_eq!(counts, (1, 0)),
        Ok(Framing::Chunked) => assert!(counts == (0, 1) && request.version == Version::Http11),
        Err(_) => {}
    }
}
