//! Shedding by time: [`Overload::Codel`].
//!
//! The rule is that of `CoDel` (Nichols, Jacobson: Controlling Queue Delay, ACM Queue 2012; RFC
//! 8289): the pool is overloaded if for a whole interval every wait was above the target and the
//! queue was never empty. While it is overloaded, tasks that have waited for more than twice the
//! target are shed; this is the form for the queues of servers (Maurer: Fail at Scale, ACM Queue
//! 2015).
//!
//! A task that was submitted after the previous task had started has waited only for the end of a
//! running step. It is not shed. If no other task waits when it starts, the queue was empty. So a
//! few long waits are not an overload in a pool that rarely starts tasks.
//!
//! The values are written by all workers without a lock. They are heuristics: a lost update changes
//! which task is shed, and nothing else.

use crate::clock::nanos;
use crate::pool::overload::Overload;
use crate::queue::FlowState;
use crate::task::header::NEVER;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The options, in nanoseconds, and the waits that were observed.
pub(crate) struct Codel {
    target: u64,
    interval: u64,
    /// The waits of tasks that overtake others. These are the tasks of connections, or of groups,
    /// without other tasks and without a debt.
    prompt: CachePadded<ObservedWaits>,
    others: CachePadded<ObservedWaits>,
}

/// The waits of one kind of tasks.
struct ObservedWaits {
    /// When a worker last took a task.
    last: AtomicU64,
    /// Since when every task has waited for too long: the start of the first one. [`NEVER`]: the
    /// last task has not.
    long_since: AtomicU64,
}

impl Codel {
    pub(crate) fn new(overload: Overload) -> Option<Self> {
        let Overload::Codel { target, interval } = overload else {
            return None;
        };
        Some(Self {
            target: nanos(target),
            interval: nanos(interval),
            prompt: CachePadded::new(ObservedWaits::new()),
            others: CachePadded::new(ObservedWaits::new()),
        })
    }

    /// Notes the wait of a task that a worker has taken and that has not started. Returns true if
    /// the task is shed. `others_wait`: whether other tasks wait.
    pub(crate) fn sheds(
        &self,
        state: FlowState,
        waited: u64,
        now: u64,
        others_wait: impl Fn() -> bool,
    ) -> bool {
        let is_prompt = state.is_prompt();
        let waits = if is_prompt { &self.prompt } else { &self.others };
        // A task of the first kind does not wait for the tasks of the second kind.
        let is_queue_empty = || is_prompt || !others_wait();
        // The last waiting task is not shed, because no other task would begin earlier.
        waits.note(self, waited, now, is_queue_empty)
            && waited > self.target.saturating_mul(2)
            && others_wait()
    }
}

impl ObservedWaits {
    fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            long_since: AtomicU64::new(NEVER),
        }
    }

    /// Notes a wait. Returns whether the pool is overloaded and the task has waited for other
    /// tasks. `is_queue_empty`: whether no other task waits that a task of this kind could wait for.
    fn note(&self, codel: &Codel, waited: u64, now: u64, is_queue_empty: impl Fn() -> bool) -> bool {
        let last = self.last.load(Relaxed);
        self.last.store(now, Relaxed);
        let was_next = now.saturating_sub(waited) > last;
        let long_since = self.long_since.load(Relaxed);
        if waited <= codel.target || was_next && is_queue_empty() {
            if long_since != NEVER {
                self.long_since.store(NEVER, Relaxed);
            }
            return false;
        }
        if was_next {
            return false;
        }
        if long_since == NEVER {
            self.long_since.store(now, Relaxed);
        }
        now >= long_since.saturating_add(codel.interval)
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

    /// At each of these times a worker takes a task that has waited for `waited`. Returns the times
    /// at which the task is shed.
    fn shed(codel: &Codel, times: impl Iterator<Item = u64>, waited: impl Fn(u64) -> u64) -> Vec<u64> {
        times
            .filter(|&at| codel.sheds(FlowState::Busy { tag: 0 }, waited(at) * MS, at * MS, || true))
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
    fn one_short_wait_in_each_interval_prevents_shedding() {
        let waited = |at| if at % 100 == 50 { 5 } else { 20 };
        assert!(shed(&codel(), each_10_ms(1000), waited).is_empty());
    }

    #[test]
    fn shedding_ends_with_a_short_wait_and_begins_again_after_an_interval() {
        let sheds = shed(&codel(), each_10_ms(400), |at| if at == 150 { 1 } else { 20 });
        let expected = (100..150).chain(260..400).step_by(10);
        assert_eq!(sheds, expected.collect::<Vec<_>>());
    }

    /// The pool was overloaded before it was idle for a while.
    #[test]
    fn an_interval_that_ended_long_ago_does_not_shed_the_next_burst() {
        let codel = codel();
        assert!(!shed(&codel, each_10_ms(300), |_| 20).is_empty());
        let burst = (10_000..10_090).step_by(10);
        assert!(shed(&codel, burst, |at| at - 10_000).is_empty());
    }

    /// Steps are longer than the interval, and a task waits at all times.
    #[test]
    fn rare_starts_are_enough() {
        let sheds = shed(&codel(), (0..5_000).step_by(1_000), |_| 1_900);
        assert_eq!(sheds, [1_000, 2_000, 3_000, 4_000]);
    }

    /// Each task waits for the end of a step, and not for other tasks. Almost all were shed.
    #[test]
    fn long_waits_of_tasks_that_were_alone_in_the_queue_shed_nothing() {
        for between in [100, 500, 1_000] {
            let sheds = shed(&codel(), (0..10_000).step_by(between), |_| between as u64 - 10);
            assert_eq!(sheds, [0; 0], "a task each {between} ms");
        }
    }

    /// Short overloads, each with a moment at which no task waits.
    #[test]
    fn an_empty_queue_ends_an_overload() {
        let codel = codel();
        for round in (0..1_500).step_by(150) {
            for (at, waited, others_wait) in [(0, 20, true), (20, 20, true), (90, 60, false)] {
                let now = (round + at) * MS;
                let sheds = codel.sheds(FlowState::Busy { tag: 0 }, waited * MS, now, || others_wait);
                assert!(!sheds, "{at} ms in the round {round}");
            }
        }
    }

    #[test]
    fn new_clients_do_not_hide_the_waits_of_the_others() {
        let codel = codel();
        for at in each_10_ms(300) {
            assert!(!codel.sheds(FlowState::Idle { tag: 0 }, 0, at * MS, || true));
            let sheds = codel.sheds(FlowState::InDebt { tag: 0 }, 20 * MS, at * MS, || true);
            assert_eq!(sheds, at >= 100, "{at} ms");
        }
    }

    #[test]
    fn the_other_kinds_observe_no_waits() {
        assert!(Codel::new(Overload::Refuse).is_none() && Codel::new(Overload::ShedFattest).is_none());
    }
}
