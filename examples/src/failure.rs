//! Answers for requests whose tasks have ended without one.

use moored::{StopReason, TaskStatus};

use crate::http::Response;

/// 500 if the task has panicked, 503 if it was stopped, 504 if its time was up. None if it has
/// finished, or goes on.
pub fn answer<T>(status: &TaskStatus<'_, T>) -> Option<Response>
where
    T: moored::Task,
{
    match status {
        TaskStatus::Panicked(_) => Some(Response::text(500, "the task has panicked")),
        TaskStatus::Stopped(StopReason::TimedOut(_), _) => {
            Some(Response::text(504, "the task took too long"))
        }
        TaskStatus::Stopped(StopReason::PoolShutdown, _) => Some(Response::going_down()),
        TaskStatus::Stopped(..) => Some(Response::come_back(1, "the task was stopped")),
        _ => None,
    }
}
