//! Decides which origins may open a WebSocket.
//!
//! Browsers let any page open a WebSocket to any host, and say only in `Origin` which page asks.
//! Clients that are no browsers send no `Origin`.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::header::ORIGIN;
use http::uri::Authority;

use crate::http::{Request, is_host};

/// A scheme, a host in lower case and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// The pages that may open a WebSocket: those of this server, and those that are named.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins {
    named: Vec<Origin>,
    all: bool,
    /// A proxy in front of this server sets `X-Forwarded-Host` and `X-Forwarded-Proto`, whatever
    /// its client has sent. Without such a proxy these headers come from the client.
    trusts_proxy: bool,
}

/// A text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrigin;

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "is not an origin: a scheme and a host, such as https://example.org or http://localhost:8080",
        )
    }
}

impl std::error::Error for NotAnOrigin {}

impl Origin {
    fn new(scheme: &str, authority: &Authority) -> Option<Self> {
        if !is_host(authority) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self {
            port: authority.port_u16().unwrap_or(default_port),
            host: authority.host().to_ascii_lowercase(),
            scheme,
        })
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let uri: Uri = text.parse().map_err(|_| NotAnOrigin)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NotAnOrigin);
        };
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.contains(['@', '#']);
        match Self::new(scheme, authority) {
            Some(origin) if is_bare => Ok(origin),
            _ => Err(NotAnOrigin),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl AllowedOrigins {
    /// Trusts the `X-Forwarded-Host` and `X-Forwarded-Proto` headers of a proxy.
    pub fn trust_proxy(&mut self) {
        self.trusts_proxy = true;
    }

    /// Allows the pages of one more origin; `*` allows all.
    pub fn allow(&mut self, origin: &str) -> Result<(), NotAnOrigin> {
        if origin == "*" {
            self.all = true;
        } else {
            self.named.push(origin.parse()?);
        }
        Ok(())
    }

    /// Whether every page may open a WebSocket.
    pub fn are_all(&self) -> bool {
        self.all
    }

    /// Whether the page that sends this request may open a WebSocket.
    pub fn allow_request(&self, request: &Request) -> bool {
        let mut origins = request.headers.get_all(ORIGIN).iter();
        let (first, second) = (origins.next(), origins.next());
        let Some(value) = first else {
            return true;
        };
        if self.all {
            return true;
        }
        let Ok(origin) = value.to_str().unwrap_or_default().parse::<Origin>() else {
            return false;
        };
        second.is_none() && (self.named.contains(&origin) || self.own(request) == Some(origin))
    }

    /// The origin of this server's pages, as the client of this request knows it.
    fn own(&self, request: &Request) -> Option<Origin> {
        // Proxies append: the last value is that of the proxy in front of this server.
        let last = |name: &str| {
            let value = request.headers.get_all(name).iter().next_back()?;
            value.to_str().ok()?.rsplit(',').next().map(str::trim)
        };
        let forwarded = |name: &str| if self.trusts_proxy { last(name) } else { None };
        let scheme = forwarded("x-forwarded-proto").unwrap_or("http");
        match forwarded("x-forwarded-host") {
            Some(host) => Origin::new(scheme, &host.parse().ok()?),
            None => Origin::new(scheme, request.host.as_ref()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &str) -> Request {
        let head = format!("GET /stream HTTP/1.1\r\n{headers}\r\n");
        Request::parse(&head.into()).expect("a request")
    }

    /// U23: case and default ports do not matter, everything else does.
    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let allowed = AllowedOrigins::default();
        for (host, origin, expected) in [
            ("example.org", "http://example.org", true),
            ("example.org", "http://EXAMPLE.org", true),
            ("Example.Org:80", "http://example.org", true),
            ("example.org", "http://example.org:80", true),
            ("example.org:8080", "http://example.org:8080", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("example.org:8080", "http://example.org", false),
            ("example.org", "https://example.org", false),
            ("example.org", "http://evil.example", false),
            ("example.org", "http://example.org.evil.example", false),
            ("example.org", "http://example.org@evil.example", false),
            ("example.org", "null", false),
            ("example.org", "", false),
            ("example.org", "file://", false),
            ("example.org", "example.org", false),
        ] {
            let request = request(&format!("Host: {host}\r\nOrigin: {origin}\r\n"));
            assert_eq!(allowed.allow_request(&request), expected, "{origin:?} at {host}");
        }
        assert!(allowed.allow_request(&request("Host: a\r\n")), "no browser");
        let two = "Host: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n";
        assert!(!allowed.allow_request(&request(two)));
    }

    /// U23: behind a proxy that rewrites `Host`, the origin is named, or the proxy is trusted.
    #[test]
    fn a_rewritten_host_needs_a_name_or_trust() {
        let rewritten = "Host: 127.0.0.1:7681\r\nOrigin: https://example.org\r\n\
                         X-Forwarded-Host: example.org\r\nX-Forwarded-Proto: https\r\n";
        assert!(!AllowedOrigins::default().allow_request(&request(rewritten)));
        let mut trusting = AllowedOrigins::default();
        trusting.trust_proxy();
        assert!(trusting.allow_request(&request(rewritten)));
        let mut named = AllowedOrigins::default();
        named.allow("https://Example.org:443/").expect("an origin");
        assert!(named.allow_request(&request(rewritten)));
        let mut all = AllowedOrigins::default();
        all.allow("*").expect("all");
        assert!(all.are_all() && all.allow_request(&request("Host: a\r\nOrigin: null\r\n")));
        // The last value is the proxy's; what the client has sent stands before it.
        let appended = rewritten.replace("Host: example.org", "Host: evil.example, example.org");
        assert!(trusting.allow_request(&request(&appended)));
        let forged = rewritten.replace("Host: example.org", "Host: example.org, other.example");
        assert!(!trusting.allow_request(&request(&forged)));
        let second = rewritten.replace(
            "X-Forwarded-Host",
            "X-Forwarded-Host: evil.example\r\nX-Forwarded-Host",
        );
        assert!(trusting.allow_request(&request(&second)));
    }

    #[test]
    fn texts_that_are_not_origins_are_refused() {
        for text in [
            "",
            "example.org",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://a?b",
            "http://u@a",
            "http://a:port",
            "http://a:99999",
        ] {
            assert_eq!(
                AllowedOrigins::default().allow(text),
                Err(NotAnOrigin),
                "{text:?}"
            );
        }
    }
}
