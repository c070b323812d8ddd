//! A message on its way from a producer to the clients.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::Data;

/// A message. It is serialised once; all clients share its bytes.
#[derive(Debug, Clone)]
pub struct Message {
    /// Text or binary.
    pub data: Data,
    pub payload: Bytes,
    pub audience: Audience,
    pub published_at: Instant,
}

/// The clients that a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    All,
    /// All that want the figures of the machine.
    Figures,
    Room(Arc<str>),
}

impl Message {
    pub fn figures(json: String) -> Self {
        Self {
            data: Data::Text,
            payload: json.into(),
            audience: Audience::Figures,
            published_at: Instant::now(),
        }
    }

    pub fn published(data: Data, payload: Bytes, room: Option<Arc<str>>) -> Self {
        Self {
            data,
            payload,
            audience: room.map_or(Audience::All, Audience::Room),
            published_at: Instant::now(),
        }
    }
}
