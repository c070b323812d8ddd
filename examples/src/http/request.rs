//! A request, and the parser of its head.

use bytes::Bytes;
use http::header::{self, AsHeaderName, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};

use super::Refusal;

const HEADERS_MAX: usize = 64;

const NOT_HTTP: Refusal = Refusal(400, "this is not an HTTP request");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A request. Its header values share the bytes of its head.
#[derive(Debug)]
pub struct Request {
    /// Names the request when it is answered; counts up on each connection.
    pub number: u64,
    pub method: Method,
    pub version: Version,
    /// The host and the port that the client asks for. None if it says neither.
    pub host: Option<Authority>,
    pub headers: HeaderMap,
    /// The whole body, unless [`body_follows`](Self::body_follows).
    pub body: Bytes,
    /// The body has not all arrived: the app gets it in pieces when it asks for them.
    pub body_follows: bool,
    /// The request asks for a WebSocket on a path that supports it.
    pub is_handshake: bool,
    /// None for `*`.
    target: Option<PathAndQuery>,
}

impl Request {
    /// Parses a head that is whole.
    pub fn parse(head: &Bytes) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal(431, "the request has too many headers"));
            }
            Err(httparse::Error::Version) => {
                return Err(Refusal(505, "this server speaks HTTP/1.0 and HTTP/1.1"));
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(NOT_HTTP),
        }
        let version = match parsed.version {
            Some(1) => Version::Http11,
            _ => Version::Http10,
        };
        let method =
            Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| NOT_HTTP)?;
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NOT_HTTP)?;
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| NOT_HTTP)?;
            headers.append(name, value);
        }
        let host = host(&headers, version)?;
        let target = parsed.path.unwrap_or_default();
        let target = Target::parse(&method, &head.slice_ref(target.as_bytes()))?;
        Ok(Self {
            number: 0,
            method,
            version,
            // The host of an absolute target counts, not that of the header.
            host: target.host.or(host),
            headers,
            body: Bytes::new(),
            body_follows: false,
            is_handshake: false,
            target: target.path,
        })
    }

    /// The path of the target: `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.target.as_ref().map_or("*", PathAndQuery::path)
    }

    /// What follows `?`, without it.
    pub fn query(&self) -> &str {
        self.target
            .as_ref()
            .and_then(PathAndQuery::query)
            .unwrap_or_default()
    }

    /// The first header called `name`, if it is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the comma-separated header `name` lists `token`.
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        let values = self.headers.get_all(name);
        let mut parts = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        parts.any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the client asks for a WebSocket. Upgrades to other protocols are ignored, as
    /// RFC 9110, section 7.8, requires.
    pub fn wants_websocket(&self) -> bool {
        self.version == Version::Http11
            && self.method == Method::GET
            && self.lists(header::CONNECTION, "upgrade")
            && self.lists(header::UPGRADE, "websocket")
    }

    /// Whether the connection serves another request after this one.
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.lists(header::CONNECTION, "close"),
            Version::Http10 => self.lists(header::CONNECTION, "keep-alive"),
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body. An expectation that is not
    /// known is refused.
    pub fn expects_continue(&self) -> Result<bool, Refusal> {
        match self.headers.get(header::EXPECT) {
            None => Ok(false),
            // HTTP/1.0 has no interim answers.
            Some(_) if self.version == Version::Http10 => Ok(false),
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Refusal(417, "the only expectation known here is 100-continue")),
        }
    }
}

/// What a request is about.
struct Target {
    host: Option<Authority>,
    path: Option<PathAndQuery>,
}

impl Target {
    /// Parses the four forms of RFC 9112, section 3.2.
    fn parse(method: &Method, target: &Bytes) -> Result<Self, Refusal> {
        let malformed = Refusal(400, "the request's target is malformed");
        match &target[..] {
            // The method of `CONNECT host:port` is refused later.
            target if *method == Method::CONNECT || (*method == Method::OPTIONS && target == b"*") => {
                Ok(Self {
                    host: None,
                    path: None,
                })
            }
            // A fragment never belongs to a target.
            [b'*', ..] => Err(malformed),
            text if text.contains(&b'#') => Err(malformed),
            [b'/', ..] => {
                let path = PathAndQuery::from_maybe_shared(target.clone()).map_err(|_| malformed)?;
                Ok(Self {
                    host: None,
                    path: Some(path),
                })
            }
            _ => {
                let uri = Uri::from_maybe_shared(target.clone()).map_err(|_| malformed)?;
                let parts = uri.into_parts();
                let is_http = parts
                    .scheme
                    .is_some_and(|scheme| scheme == Scheme::HTTP || scheme == Scheme::HTTPS);
                match (is_http, parts.authority) {
                    (true, Some(host)) if is_host(&host) => Ok(Self {
                        host: Some(host),
                        path: Some(parts.path_and_query.unwrap_or(PathAndQuery::from_static("/"))),
                    }),
                    _ => Err(malformed),
                }
            }
        }
    }
}

/// The host of the header, after the rules of RFC 9112, section 3.2.
fn host(headers: &HeaderMap, version: Version) -> Result<Option<Authority>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http10 => Ok(None),
        (None, _) => Err(Refusal(400, "HTTP/1.1 asks for a Host header")),
        (Some(_), Some(_)) => Err(Refusal(400, "the request has two Host headers")),
        (Some(host), None) if host.is_empty() => Ok(None),
        (Some(host), None) => match Authority::try_from(host.as_bytes()) {
            Ok(host) if is_host(&host) => Ok(Some(host)),
            _ => Err(Refusal(400, "the Host header is malformed")),
        },
    }
}

/// Whether this is a host and perhaps a port, with no user.
pub fn is_host(authority: &Authority) -> bool {
    let after_host = authority.as_str().strip_prefix(authority.host());
    let port_is_right = match after_host {
        Some("" | ":") => true,
        Some(_) => authority.port_u16().is_some(),
        None => false,
    };
    port_is_right && !authority.host().is_empty()
}
