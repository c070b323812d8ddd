//! The page's files, compiled in.

use examples::http::Response;

/// Everything the page needs comes from this server, and nothing in it is inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at `path`, if it is one of them.
pub fn file(path: &str) -> Option<Response> {
    let (media_type, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", include_str!("page.js")),
        "/favicon.svg" => ("image/svg+xml", include_str!("favicon.svg")),
        _ => return None,
    };
    let answer = Response::new(200).body(media_type, text.as_bytes());
    Some(
        answer
            .header("Content-Security-Policy", POLICY)
            .header("Referrer-Policy", "no-referrer")
            .header("Cache-Control", "no-cache"),
    )
}
