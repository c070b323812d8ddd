//! A request, and its head out of bytes.

use super::Refusal;

const HEADERS_MAX: usize = 64;

#[derive(Debug)]
pub struct Request {
    /// Names the request when it is answered; counts up on each connection.
    pub number: u64,
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    minor_version: u8,
}

impl Request {
    /// Parses a head: the request without its body, and the bytes the head took. None if more
    /// has to arrive.
    pub fn parse(bytes: &[u8], head_bytes_max: usize) -> Result<Option<(Self, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let used = match head.parse(bytes) {
            Ok(httparse::Status::Complete(used)) if used <= head_bytes_max => used,
            Ok(httparse::Status::Partial) if bytes.len() <= head_bytes_max => return Ok(None),
            Ok(_) => return Err(Refusal(431, "the request's head is too long")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal(431, "the request has too many headers"));
            }
            Err(httparse::Error::Version) => {
                return Err(Refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"));
            }
            Err(_) => return Err(Refusal(400, "this is not an HTTP request")),
        };
        let target = head.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let request = Self {
            number: 0,
            method: head.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: Vec::new(),
            headers: head
                .headers
                .iter()
                .map(|h| (h.name.to_owned(), text(h.value)))
                .collect(),
            minor_version: head.version.unwrap_or_default(),
        };
        if request.minor_version == 1 && request.all("host").count() != 1 {
            return Err(Refusal(400, "HTTP/1.1 asks for one Host header"));
        }
        // Whoever passed it on may have read its length in another way.
        if request.minor_version == 0 && request.header("transfer-encoding").is_some() {
            return Err(Refusal(400, "HTTP/1.0 knows no transfer codings"));
        }
        Ok(Some((request, used)))
    }

    /// The first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers called `name`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = move |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.trim())
    }

    /// Whether the comma-separated header `name` lists `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    pub fn is_upgrade(&self) -> bool {
        self.minor_version == 1 && self.lists("connection", "upgrade") && self.header("upgrade").is_some()
    }

    pub fn keeps_alive(&self) -> bool {
        match self.minor_version {
            1 => !self.lists("connection", "close"),
            _ => self.lists("connection", "keep-alive"),
        }
    }

    pub fn expects_continue(&self) -> bool {
        self.header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}
