//! The phase of a task, and the requests that it has received. All code uses these types for the
//! state of a task.

use crate::task::status::{Status, StopReason};

/// The phase of a task. Its value is always in exactly one place, and the owner of that place owns
/// the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The slot is vacant.
    Vacant,
    /// Submitted, and no step has run. The value is in the submission ring of the service, in the
    /// run queue, or in the batch of a worker.
    Queued,
    /// On a worker.
    Running,
    /// Started, and submitted for the next turn. The value is in one of the places of `Queued`.
    Waiting,
    /// Parked. The value is in a completion ring or in the table.
    Parked,
    /// Ended, like the next two phases. The value is in a completion ring or in the table.
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
        self == Self::Parked || self.is_ended()
    }

    #[inline]
    pub(crate) fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Panicked)
    }

    /// The public status of a task in this phase that has these requests.
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

/// The requests and permissions of a task: `ignored: 16 | timed: 1 |
/// stays parked: 1 | outlives: 1 | detached: 1 | stop: 4`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Requests(u64);

const STOP: u64 = 0xf;
const DETACHED: u64 = 1 << 4;
const OUTLIVES: u64 = 1 << 5;
const STAYS_PARKED: u64 = 1 << 6;
const TIMED: u64 = 1 << 7;
const IGNORED_SHIFT: u32 = 8;

/// A task ignores the request to stop if it returns `Continue` more times than this after the
/// request.
pub(crate) const IGNORED_MAX: u16 = 1000;

impl Requests {
    pub(crate) const BITS: u32 = IGNORED_SHIFT + u16::BITS;

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Why the task was asked to stop.
    #[inline]
    pub(crate) fn stop(self) -> Option<StopReason> {
        let index = (self.0 & STOP).checked_sub(1)?;
        Some(StopReason::ALL[index as usize])
    }

    /// Whether the connection of the task has closed.
    pub(crate) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    /// Whether the task may outlive its connection.
    pub(crate) fn outlives(self) -> bool {
        self.0 & OUTLIVES != 0
    }

    /// Whether the task must not park, since no loop would resume it.
    #[inline]
    pub(crate) fn must_continue(self) -> bool {
        self.0 & STOP != 0 || self.0 & (DETACHED | STAYS_PARKED) == DETACHED
    }

    /// Only the first reason is kept.
    pub(crate) fn with_stop(self, reason: StopReason) -> Self {
        if self.stop().is_some() {
            self
        } else {
            Self(self.0 | (reason.index() as u64 + 1))
        }
    }

    /// The connection has closed. The task continues without one if it may; otherwise it is asked
    /// to stop.
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

    pub(crate) fn staying_parked(self) -> Self {
        Self(self.0 | OUTLIVES | STAYS_PARKED)
    }

    /// The number of steps that returned `Continue` although they could see the request to stop.
    /// The count ends at 65,535.
    pub(crate) fn ignored(self) -> u16 {
        (self.0 >> IGNORED_SHIFT) as u16
    }

    pub(crate) fn with_ignored(self) -> Self {
        if self.ignored() == u16::MAX {
            self
        } else {
            Self(self.0 + (1 << IGNORED_SHIFT))
        }
    }
}
