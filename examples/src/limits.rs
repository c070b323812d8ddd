//! What a client may cost. Every buffer and every wait of `common` is bounded by one of these.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets open at once, of whatever kind; more wait in the kernel's backlog.
    pub sockets: usize,
    /// A request's head; longer ones are answered with 431.
    pub head_bytes: usize,
    /// A request's body; longer ones are answered with 413.
    pub body_bytes: usize,
    /// From the first wait for a request until all of it has arrived.
    pub request_time: Duration,
    /// Requests of one connection that may wait for their answers; more stay unread.
    pub pipeline_depth: usize,
    /// A WebSocket message from a client; longer ones close with 1009.
    pub message_bytes: usize,
    /// A WebSocket that gives no sign of life for this long is closed; it is pinged after half.
    pub idle_time: Duration,
    /// For the other side to finish a goodbye.
    pub goodbye_time: Duration,
    /// With more than this unsent, nothing more is read from a connection.
    pub unsent_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 4096,
            head_bytes: 16 * 1024,
            body_bytes: 0,
            request_time: Duration::from_secs(10),
            pipeline_depth: 32,
            message_bytes: 64 * 1024,
            idle_time: Duration::from_secs(60),
            goodbye_time: Duration::from_secs(2),
            unsent_bytes: 256 * 1024,
        }
    }
}
