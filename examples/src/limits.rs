//! Limits for each client. The buffers and waits of this library are bounded by them, or by a
//! constant beside the buffer.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of open sockets. At the limit, the server closes the connection that has been
    /// silent longest without a request.
    pub sockets: usize,
    /// A request's head; longer ones are answered with 431.
    pub head_bytes: usize,
    /// Time limit for a request's head, from its first byte. A body has one more second for each
    /// [`body_rate`](Self::body_rate) bytes that have arrived.
    pub request_time: Duration,
    /// Bytes a second of a body, at least; slower ones are answered with 408.
    pub body_rate: u64,
    /// Time until a request is answered, or until the answer begins if it is given in parts; then
    /// its client gets 504. While an answer in parts goes on, no answer behind it is overdue.
    pub answer_time: Duration,
    /// Requests of one connection that may wait for their answers; more stay unread.
    pub pipeline_depth: usize,
    /// A WebSocket message from a client; longer ones close with 1009.
    pub message_bytes: usize,
    /// A connection is closed if its client's kernel acknowledges nothing for this long although
    /// there is something to send. If there is nothing to send, the client gets a ping after half
    /// of this time, and has this time to answer.
    pub idle_time: Duration,
    /// Bytes of answers that wait for the client to read them. With more, nothing more is read
    /// from an HTTP connection.
    pub unsent_bytes: usize,
    /// Time limit for sending what was accepted when the server stops.
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
