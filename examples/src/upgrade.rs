//! From HTTP to WebSocket: what a handshake has to look like, and its answer.

use tungstenite::handshake::derive_accept_key;

use super::http::{Request, Response};

/// Checks everything about an upgrade but whether there is room for it. `Err` is the answer.
pub fn check(request: &Request) -> Result<(), Response> {
    if request.method != "GET" {
        return Err(Response::method_not_allowed("GET"));
    }
    if !request.is_upgrade() || !request.lists("upgrade", "websocket") {
        let answer = Response::text(426, "this path speaks WebSocket only");
        return Err(answer
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade"));
    }
    if request.header("sec-websocket-version") != Some("13") {
        let answer = Response::text(426, "only WebSocket version 13 is spoken here");
        return Err(answer.header("Sec-WebSocket-Version", "13"));
    }
    // 16 bytes in base64.
    if !request
        .header("sec-websocket-key")
        .is_some_and(|key| key.len() == 24 && key.ends_with("=="))
    {
        return Err(Response::text(400, "Sec-WebSocket-Key is missing or malformed"));
    }
    if !is_same_origin(request) {
        return Err(Response::text(403, "pages of other origins may not connect"));
    }
    Ok(())
}

/// The answer that makes a checked request's connection a WebSocket.
pub fn accept(request: &Request, protocol: Option<&'static str>) -> Response {
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let answer = Response::new(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", derive_accept_key(key.as_bytes()));
    match protocol {
        Some(protocol) => answer.header("Sec-WebSocket-Protocol", protocol),
        None => answer,
    }
}

/// Browsers let any page open a WebSocket to any host, and say only in `Origin` whose page it
/// is. What is no browser sends none.
fn is_same_origin(request: &Request) -> bool {
    let Some(origin) = request.header("origin") else {
        return true;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == request.header("host")
}
