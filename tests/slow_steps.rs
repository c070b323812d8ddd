//! `on_slow_step`: a step that takes long is reported once, while it runs, by another thread.

mod util;

use moored::{ConnId, ManualClock, SlowStep, TaskOptions, ThreadPool};
use std::time::Duration;
use util::{Gate, Log, Loop, Work, eventually, panic_silently};

const SECOND: Duration = Duration::from_secs(1);

/// A pool that logs the steps that take more than a second.
fn logging(threads: usize) -> (ThreadPool, ManualClock, Log<SlowStep>) {
    let log = Log::new();
    let reports = log.clone();
    let builder = ThreadPool::builder().threads(threads);
    let (pool, hand) = util::manual(builder.on_slow_step(SECOND, move |step| reports.add(step.clone())));
    (pool, hand, log)
}

#[test]
fn a_loop_reports_a_slow_step_once() {
    let (pool, hand, log) = logging(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    hand.advance(9 * SECOND);
    let options = TaskOptions::new().name("slow");
    let id = lp.enqueue_with(7, Work::at(&gate), options).unwrap();
    gate.wait_for(1);
    hand.advance(SECOND.saturating_sub(Duration::from_nanos(1)));
    assert!(lp.take_ready().is_empty());
    let _ = lp.poll_timeout();
    assert_eq!(log.len(), 0, "too early");
    hand.advance(3 * SECOND);
    let _ = lp.poll_timeout();
    hand.advance(SECOND);
    assert!(lp.take_ready().is_empty());
    let _ = lp.poll_timeout();
    let [step] = &log.notes()[..] else { panic!("once") };
    assert_eq!(
        (step.id, step.name.as_deref(), step.connection, step.worker),
        (id, Some("slow"), Some(ConnId(7)), 0)
    );
    assert_eq!(step.elapsed, (4 * SECOND).saturating_sub(Duration::from_nanos(1)));
    gate.open();
    lp.end().finished();
    let _ = lp.poll_timeout();
    assert_eq!(log.len(), 1);
}

#[test]
fn a_worker_reports_the_slow_steps_of_other_workers() {
    let (pool, hand, log) = logging(2);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let id = lp.enqueue(7, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    hand.advance(2 * SECOND);
    // After this line the loop makes no call that could report the step.
    lp.enqueue(8, Work::done()).unwrap();
    eventually("the other worker reports the step", || log.len() == 1);
    assert_eq!(log.notes()[0].id, id);
}

#[test]
fn a_panic_in_a_report_is_contained_and_each_step_has_its_own_report() {
    let log = Log::new();
    let reports = log.clone();
    let builder = ThreadPool::builder().threads(1);
    let (pool, hand) = util::manual(builder.on_slow_step(SECOND, move |step| {
        reports.add(step.id);
        panic_silently();
    }));
    let mut lp = Loop::new(&pool);
    for round in 1..=2 {
        let gate = lp.occupy(1);
        hand.advance(2 * SECOND);
        let _ = lp.poll_timeout();
        assert_eq!(log.len(), round);
        gate.open();
        lp.end().finished();
    }
}
