//! Where the pool takes its time from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pool's clock: the system's monotonic one, or one that a test moves by hand.
///
/// The system clock is the processor's time stamp counter where it is reliable (through `quanta`,
/// about 10 ns a read; its resolution is well under a microsecond) and the operating system's
/// monotonic clock elsewhere. The pool reads it once per step, not once per status change.
///
/// ```
/// use moored::{Clock, ThreadPool};
/// use std::time::Duration;
///
/// let (clock, hand) = Clock::manual();
/// let pool = ThreadPool::builder().threads(0).clock(clock).build()?;
/// hand.advance(Duration::from_secs(5));
/// assert_eq!(pool.dump().uptime_us, 5_000_000);
/// # Ok::<(), moored::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { clock: quanta::Clock, origin: u64 },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's monotonic clock; the default.
    pub fn system() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self(Source::System { clock, origin })
    }

    /// A clock that stands still until its [`ManualClock`] moves it.
    pub fn manual() -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&now))), ManualClock(now))
    }

    /// Nanoseconds since the clock was made: 584 years fit.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::System { clock, origin } => clock.delta_as_nanos(*origin, clock.raw()),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }
}

impl Clock {
    /// How long a thread may sleep until so many nanoseconds have passed on this clock. A manual
    /// clock does not tell when it is moved, so the thread looks again after a millisecond.
    pub(crate) fn real_time(&self, nanos: u64) -> Duration {
        match self.0 {
            Source::System { .. } => Duration::from_nanos(nanos),
            Source::Manual(_) => Duration::from_millis(1),
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
            Source::System { .. } => "Clock::system()",
            Source::Manual(_) => "Clock::manual()",
        })
    }
}

/// The hand that moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock on by `by`. Callable from any thread.
    pub fn advance(&self, by: Duration) {
        let later = |now: u64| Some(now.saturating_add(nanos(by)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

/// A duration as whole nanoseconds, the longest ones cut to 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
