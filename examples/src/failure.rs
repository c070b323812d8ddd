//! Answers for requests whose tasks have ended without one.

use std::time::Duration;

use moored::StopReason;

use crate::http::Response;

/// The answer for a stopped task: 504 if its time was up, otherwise 503. For a task that was
/// shed, `wait` returns the time after which the client should try again.
pub fn stopped(why: StopReason, wait: impl FnOnce() -> Duration) -> Response {
    match why {
        StopReason::TimedOut(_) => Response::text(504, "the task took too long"),
        StopReason::PoolShutdown => Response::going_down(),
        StopReason::Shed => Response::busy(wait(), "the server has too many tasks"),
        _ => Response::come_back(1, "the task was stopped"),
    }
}

/// The answer for a task that has panicked: 500.
pub fn panicked() -> Response {
    Response::text(500, "the task has panicked")
}
