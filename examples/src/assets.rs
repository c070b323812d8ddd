//! The files of a page, compiled into the server.

use std::fmt::Write;

use bytes::Bytes;
use http::header::IF_NONE_MATCH;

use crate::http::{Request, Response};

/// Everything that the page needs comes from its server, and nothing in it is inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of a page.
#[derive(Debug, Clone)]
pub struct Asset {
    media_type: &'static str,
    bytes: Bytes,
    /// Changes with the file.
    tag: String,
}

impl Asset {
    pub fn new(media_type: &'static str, bytes: Bytes) -> Self {
        let mut tag = String::new();
        let digest = crc32fast::hash(&bytes);
        write!(tag, "\"{digest:08x}-{:x}\"", bytes.len()).expect("a String takes everything");
        Self {
            media_type,
            bytes,
            tag,
        }
    }

    /// The file, or 304 if the client has it.
    pub fn answer(&self, request: &Request) -> Response {
        let answer = if self.is_known_to(request) {
            Response::new(304)
        } else {
            Response::new(200)
                .body(self.media_type, self.bytes.clone())
                .header("Content-Security-Policy", POLICY)
                .header("Referrer-Policy", "no-referrer")
        };
        answer
            .header("ETag", self.tag.clone())
            // The client asks each time whether its copy is still the file.
            .header("Cache-Control", "no-cache")
    }

    fn is_known_to(&self, request: &Request) -> bool {
        let values = request.headers.get_all(IF_NONE_MATCH);
        let mut tags = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim);
        tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.tag)
    }
}
