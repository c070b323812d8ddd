//! A client of `/live`, as the server knows it.

use std::sync::Arc;
use std::time::Instant;

use examples::http::Request;
use examples::net::Net;
use moored::ConnId;
use serde_json::{Value, json};

use crate::message::Audience;

const ROOM_BYTES_MAX: usize = 64;

/// What a client has asked for, and how it keeps up.
#[derive(Debug)]
pub struct Client {
    room: Option<Arc<str>>,
    wants_figures: bool,
    connected_at: Instant,
    /// Messages that were sent or wait for it.
    pub messages: u64,
    /// Messages that it did not get because it was slow.
    pub dropped: u64,
    /// Messages were dropped since the client has last read everything.
    pub is_slow: bool,
    /// It was too slow, and gets nothing more.
    pub is_closing: bool,
}

impl Client {
    /// The client that `/live?room=x&figures=0` describes.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut client = Self {
            room: None,
            wants_figures: true,
            connected_at: Instant::now(),
            messages: 0,
            dropped: 0,
            is_slow: false,
            is_closing: false,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("room", name)) if client.room.is_none() => client.room = Some(room(name)?),
                Some(("figures", "1")) => client.wants_figures = true,
                Some(("figures", "0")) => client.wants_figures = false,
                Some(("figures", _)) => return Err("figures must be 0 or 1".to_owned()),
                _ => return Err(format!("parameter not known, or given twice: {pair:?}")),
            }
        }
        Ok(client)
    }

    pub fn is_in(&self, audience: &Audience) -> bool {
        !self.is_closing
            && match audience {
                Audience::All => true,
                Audience::Figures => self.wants_figures,
                Audience::Room(room) => self.room.as_ref() == Some(room),
            }
    }

    /// The state of the client, for the page.
    pub fn to_json(&self, id: ConnId, net: &Net) -> Value {
        let queued = net.queued(id);
        let state = match () {
            () if self.is_closing => "closing",
            () if self.is_slow => "slow",
            () if queued.bytes > 0 => "waiting",
            () => "ok",
        };
        json!({
            "id": id.0,
            "room": self.room.as_deref(),
            "state": state,
            "queued_bytes": queued.bytes,
            "queued_messages": queued.messages,
            "messages": self.messages,
            "dropped": self.dropped,
            "seconds": self.connected_at.elapsed().as_secs(),
        })
    }
}

/// The room that a request to publish names. None for all clients.
pub fn room_of(request: &Request) -> Result<Option<Arc<str>>, String> {
    match request.query().split_once('=') {
        None if request.query().is_empty() => Ok(None),
        Some(("room", name)) => room(name).map(Some),
        _ => Err(format!(
            "the only parameter is room, but the query is {:?}",
            request.query()
        )),
    }
}

/// The characters are those that need no escape in a query, in JSON and in `/metrics`.
fn room(name: &str) -> Result<Arc<str>, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > ROOM_BYTES_MAX || !name.bytes().all(is_good) {
        return Err(format!(
            "room must be 1 to {ROOM_BYTES_MAX} letters, digits, hyphens, underscores or dots"
        ));
    }
    Ok(name.into())
}
