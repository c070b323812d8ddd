//! Where a task stands: the one type for it, and the requests that it has received.

use crate::task::status::{Status, StopReason};

/// Where a task stands. The value of a task is always in exactly one place, and what has it owns
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The slot has no task.
    Vacant,
    /// Submitted; no step has run. The value is in the service's submission ring, in the run queue,
    /// or in a worker's batch.
    Queued,
    /// On a worker.
    Running,
    /// Started, and submitted for its next turn. The value is where it is for `Queued`.
    Waiting,
    /// Parked. The value is in a completion ring or in the table.
    Parked,
    /// Ended, as the next two. The value is in a completion ring or in the table.
    Finished,
    Stopped,
    Panicked,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Vacant,
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Parked,
        Self::Finished,
        Self::Stopped,
        Self::Panicked,
    ];
    pub(crate) const BITS: u32 = 3;

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self::ALL[(bits & 7) as usize]
    }

    /// Whether the value has left the workers: it is in a completion ring or in the table.
    #[inline]
    pub(crate) fn is_returned(self) -> bool {
        matches!(
            self,
            Self::Parked | Self::Finished | Self::Stopped | Self::Panicked
        )
    }

    pub(crate) fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Panicked)
    }

    /// The public status of a task in this phase, which was asked to stop or not.
    pub(crate) fn status(self, requests: Requests) -> Status {
        match self {
            Self::Finished => Status::Finished,
            Self::Stopped => Status::Stopped,
            Self::Panicked => Status::Panicked,
            _ if requests.stop().is_some() => Status::Stopping,
            Self::Vacant | Self::Queued => Status::Queued,
            Self::Running | Self::Waiting => Status::Running,
            Self::Parked => Status::Syncing,
        }
    }
}

/// What a task was asked, and what it may: `is timed: 1 | outlives: 1 | detached: 1 | stop: 4`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Requests(u64);

const STOP: u64 = 0xf;
const DETACHED: u64 = 1 << 4;
const OUTLIVES: u64 = 1 << 5;
const TIMED: u64 = 1 << 6;

impl Requests {
    pub(crate) const BITS: u32 = 7;

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits & (STOP | DETACHED | OUTLIVES | TIMED))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Why the task is asked to stop.
    #[inline]
    pub(crate) fn stop(self) -> Option<StopReason> {
        let index = (self.0 & STOP).checked_sub(1)?;
        Some(StopReason::ALL[index as usize])
    }

    /// Whether its connection has closed.
    pub(crate) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    /// Whether it may outlive its connection.
    pub(crate) fn outlives(self) -> bool {
        self.0 & OUTLIVES != 0
    }

    /// Whether the task must not park, since no loop would resume it.
    #[inline]
    pub(crate) fn must_continue(self) -> bool {
        self.0 & (STOP | DETACHED) != 0
    }

    /// The first reason stays.
    pub(crate) fn with_stop(self, reason: StopReason) -> Self {
        if self.stop().is_some() {
            self
        } else {
            Self(self.0 | (reason.index() as u64 + 1))
        }
    }

    /// The connection has closed: the task continues without one if it may, else it is asked to
    /// stop.
    pub(crate) fn with_closed_connection(self) -> Self {
        let detached = Self(self.0 | DETACHED);
        if self.outlives() {
            detached
        } else {
            detached.with_stop(StopReason::ConnectionClosed)
        }
    }

    pub(crate) fn attached(self) -> Self {
        Self(self.0 & !DETACHED)
    }

    pub(crate) fn outliving(self) -> Self {
        Self(self.0 | OUTLIVES)
    }

    /// Whether the task has, or has had, a queue timeout or a deadline.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    pub(crate) fn timed(self) -> Self {
        Self(self.0 | TIMED)
    }
}
