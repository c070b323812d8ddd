//! Shedding by time: [`Overload::Codel`].
//!
//! `CoDel` (Nichols, Jacobson: Controlling Queue Delay, ACM Queue 2012) in the form for the queues of
//! servers (Maurer: Fail at Scale, ACM Queue 2015): the lowest wait within an interval says whether
//! the queue is standing. In a standing queue, tasks that have waited for more than twice the
//! target are shed.
//!
//! The values are written by all workers without a lock. They are heuristics: a lost update changes
//! which task is shed, and nothing else.

use crate::clock::nanos;
use crate::pool::overload::Overload;
use crate::queue::FlowState;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// In nanoseconds.
pub(crate) struct Codel {
    target: u64,
    interval: u64,
    /// Of tasks that overtake others: those of connections, or of groups, without other tasks and
    /// without a debt.
    prompt: CachePadded<Window>,
    others: CachePadded<Window>,
}

/// The waits of one kind of tasks.
#[derive(Default)]
struct Window {
    /// When the present interval ends.
    end: AtomicU64,
    /// The lowest wait of the present interval.
    lowest: AtomicU64,
    /// Whether the lowest wait of the last interval was above the target.
    is_standing: AtomicBool,
}

impl Codel {
    pub(crate) fn new(overload: Overload) -> Option<Self> {
        let Overload::Codel { target, interval } = overload else {
            return None;
        };
        Some(Self {
            target: nanos(target),
            interval: nanos(interval),
            prompt: CachePadded::default(),
            others: CachePadded::default(),
        })
    }

    /// A worker has taken a task that has not started. Returns true if the task is shed.
    pub(crate) fn sheds(&self, state: FlowState, waited: u64, now: u64) -> bool {
        let window = if state.is_prompt() {
            &self.prompt
        } else {
            &self.others
        };
        window.note(self, waited, now) && waited > self.target.saturating_mul(2)
    }
}

impl Window {
    /// Notes a wait. Returns whether the queue is standing.
    fn note(&self, codel: &Codel, waited: u64, now: u64) -> bool {
        let (lowest, end) = (self.lowest.load(Relaxed), self.end.load(Relaxed));
        let next = now.saturating_add(codel.interval);
        if now >= end && self.end.compare_exchange(end, next, Relaxed, Relaxed).is_ok() {
            // This wait counts in both intervals: the first one may have ended long ago.
            self.is_standing.store(lowest.min(waited) > codel.target, Relaxed);
            self.lowest.store(waited, Relaxed);
        } else if waited < lowest {
            self.lowest.store(waited, Relaxed);
        }
        self.is_standing.load(Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: u64 = 1_000_000;

    fn codel() -> Codel {
        Codel::new(Overload::Codel {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        })
        .expect("it is Codel")
    }

    /// The times at which tasks that have waited this long are shed, of one task each 10 ms.
    fn shed(codel: &Codel, times: impl Iterator<Item = u64>, waited: impl Fn(u64) -> u64) -> Vec<u64> {
        times
            .filter(|&at| codel.sheds(FlowState::Busy { tag: 0 }, waited(at) * MS, at * MS))
            .collect()
    }

    fn each_10_ms(until: u64) -> impl Iterator<Item = u64> {
        (0..until).step_by(10)
    }

    #[test]
    fn tasks_are_shed_after_a_whole_interval_of_long_waits() {
        let sheds = shed(&codel(), each_10_ms(300), |_| 20);
        // The first interval ends with the first task, and began with no wait.
        assert_eq!(sheds, (100..300).step_by(10).collect::<Vec<_>>());
    }

    #[test]
    fn waits_between_the_target_and_twice_the_target_shed_nothing() {
        assert!(shed(&codel(), each_10_ms(300), |_| 10).is_empty());
    }

    #[test]
    fn one_short_wait_in_each_interval_means_that_the_queue_is_not_standing() {
        let waited = |at| if at % 100 == 50 { 5 } else { 20 };
        assert!(shed(&codel(), each_10_ms(1000), waited).is_empty());
    }

    #[test]
    fn shedding_ends_after_an_interval_with_a_short_wait() {
        let sheds = shed(&codel(), each_10_ms(400), |at| if at == 150 { 1 } else { 20 });
        assert_eq!(sheds.first(), Some(&100));
        assert!(!sheds.contains(&150) && sheds.contains(&190));
        assert!(!sheds.contains(&200) && !sheds.contains(&290));
        assert_eq!(sheds.last(), Some(&390));
    }

    /// The pool was overloaded before it was idle for a while.
    #[test]
    fn an_interval_that_ended_long_ago_does_not_shed_the_next_burst() {
        let codel = codel();
        assert!(!shed(&codel, each_10_ms(300), |_| 20).is_empty());
        let burst = (10_000..10_090).step_by(10);
        assert!(shed(&codel, burst, |at| at - 10_000).is_empty());
    }

    /// Steps are longer than the interval.
    #[test]
    fn rare_starts_are_enough() {
        let sheds = shed(&codel(), (0..5_000).step_by(1_000), |_| 900);
        assert_eq!(sheds, [1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn new_clients_do_not_hide_the_waits_of_the_others() {
        let codel = codel();
        for at in each_10_ms(300) {
            assert!(!codel.sheds(FlowState::Idle { tag: 0 }, 0, at * MS));
            let sheds = codel.sheds(FlowState::InDebt { tag: 0 }, 20 * MS, at * MS);
            assert_eq!(sheds, at >= 100, "{at} ms");
        }
    }

    #[test]
    fn the_other_kinds_have_no_windows() {
        assert!(Codel::new(Overload::Refuse).is_none() && Codel::new(Overload::ShedFattest).is_none());
    }
}
