//! From HTTP to WebSocket: the rules for a handshake, and its answer.

use data_encoding::BASE64;
use http::header;
use tungstenite::handshake::derive_accept_key;

use crate::http::{Request, Response};
use crate::origin::AllowedOrigins;

/// Checks everything about a handshake except whether there is room for it. `Err` is the answer.
pub fn check(request: &Request, origins: &AllowedOrigins) -> Result<(), Response> {
    if !request.wants_websocket() {
        return Err(required());
    }
    if request.header(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let answer = Response::text(426, "this server speaks WebSocket version 13");
        return Err(answer
            .header("Sec-WebSocket-Version", "13")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade"));
    }
    let mut keys = request.headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().and_then(|key| BASE64.decode(key.as_bytes()).ok());
    if keys.next().is_some() || key.is_none_or(|key| key.len() != 16) {
        return Err(Response::text(
            400,
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ));
    }
    if !origins.allow_request(request) {
        return Err(Response::text(
            403,
            "pages of this origin may not connect; the server's option --allow-origin names others",
        ));
    }
    Ok(())
}

/// The answer to a request for something else than a WebSocket.
pub fn required() -> Response {
    Response::text(426, "this path speaks WebSocket only")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
}

/// The answer that makes the connection of a checked request a WebSocket.
pub fn accept(request: &Request, protocol: Option<&'static str>) -> Response {
    let key = request.header(header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    let answer = Response::new(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", derive_accept_key(key.as_bytes()));
    match protocol {
        Some(protocol) => answer.header("Sec-WebSocket-Protocol", protocol),
        None => answer,
    }
}
