//! What a client may cost. One of these limits bounds each buffer and each wait of this library.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets open at once, of whatever kind. When they run out, the client that has been silent
    /// longest without a request loses its socket.
    pub sockets: usize,
    /// A request's head; longer ones are answered with 431.
    pub head_bytes: usize,
    /// Time for a request's head to arrive, and for its body as much more as
    /// [`body_rate`](Self::body_rate) allows.
    pub request_time: Duration,
    /// Bytes a second of a body, at least; slower ones are answered with 408.
    pub body_rate: u64,
    /// Time until a request is answered; then its client gets 504.
    pub answer_time: Duration,
    /// Requests of one connection that may wait for their answers; more stay unread.
    pub pipeline_depth: usize,
    /// A WebSocket message from a client; longer ones close with 1009.
    pub message_bytes: usize,
    /// A client that makes no progress for this long is given up: it reads nothing while there is
    /// something to read, or does not answer a ping, which is sent after half of this time.
    pub idle_time: Duration,
    /// Bytes of answers that wait for the client to read them. With more, nothing more is read
    /// from an HTTP connection.
    pub unsent_bytes: usize,
    /// Time for what was accepted to reach the clients when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 4096,
            head_bytes: 16 * 1024,
            request_time: Duration::from_secs(10),
            body_rate: 1024,
            answer_time: Duration::from_secs(60),
            pipeline_depth: 32,
            message_bytes: 64 * 1024,
            idle_time: Duration::from_secs(60),
            unsent_bytes: 256 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}
