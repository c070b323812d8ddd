//! The source of the pool's time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The clock of a pool: the monotonic clock of the system, or a clock that a test moves.
///
/// The system clock is the time stamp counter of the processor if that is reliable (through the
/// crate `quanta`; a read takes about 10 ns, and the resolution is well under a microsecond).
/// Otherwise it is the monotonic clock of the operating system. The pool reads it once for each
/// step.
///
/// The first clock of a process compares the counter with the clock of the operating system. This
/// usually takes less than 1 ms, but up to 200 ms on a busy machine.
///
/// With [`Clock::manual`] and `threads(0)` a test of timeouts needs no thread and no waiting:
///
/// ```
/// use moored::{BoxTask, Clock, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool};
/// use moored::{Timeout, task_fn};
/// use std::time::Duration;
///
/// let (clock, time) = Clock::manual();
/// let pool = ThreadPool::builder().threads(0).clock(clock).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
///
/// let task = task_fn(|cx| if cx.is_stopping() { TaskReturn::Stopped } else { TaskReturn::Sync });
/// let options = TaskOptions::new().sync_timeout(Duration::from_secs(5));
/// let id = service.enqueue_with(7, task, options)?;
/// service.run_pending(Duration::MAX); // the task parks
/// assert_eq!(service.take_ready().count(), 1); // the timeout begins here
/// assert_eq!(service.poll_timeout(), Some(Duration::from_secs(5)));
///
/// time.advance(Duration::from_secs(5));
/// drop(service.take_ready()); // acts on the timeout: the task is asked to stop
/// service.run_pending(Duration::MAX); // its last step
/// let end = service.task_status(id);
/// assert!(matches!(end, Some(TaskStatus::Stopped(StopReason::TimedOut(Timeout::Sync), _))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System { clock: quanta::Clock, origin: u64 },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The monotonic clock of the system. This is the default.
    pub fn system() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self(Kind::System { clock, origin })
    }

    /// A clock whose time changes only when its [`ManualClock`] moves it.
    pub fn manual() -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Kind::Manual(Arc::clone(&now))), ManualClock(now))
    }

    /// Nanoseconds since the clock was made. A `u64` lasts for 584 years.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Kind::System { clock, origin } => clock.delta_as_nanos(*origin, clock.raw()),
            Kind::Manual(now) => now.load(Ordering::Relaxed),
        }
    }
}

impl Clock {
    /// Converts nanoseconds of this clock to the time that a thread may sleep. A manual clock does
    /// not notify threads when it moves, so the thread checks again after a millisecond.
    pub(crate) fn real_time(&self, nanos: u64) -> Duration {
        match self.0 {
            Kind::System { .. } => Duration::from_nanos(nanos),
            Kind::Manual(_) => Duration::from_millis(1),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::System { .. } => "Clock::system()",
            Kind::Manual(_) => "Clock::manual()",
        })
    }
}

/// Moves the time of a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time forward by `by`, from any thread. A timeout has run out when the clock
    /// reaches it; the next [`take_ready`](crate::Service::take_ready) acts on it.
    pub fn advance(&self, by: Duration) {
        let later = |now: u64| Some(now.saturating_add(nanos(by)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

/// A duration as whole nanoseconds, at most 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
