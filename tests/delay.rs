//! `TaskReturn::Delay`: a task waits for a time without a thread, and its loop is not involved.

mod util;

use moored::{
    ManualClock, Service, Shutdown, Status, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool,
    Timeout,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use util::{Alive, Count, Gate, Log, Loop, PLENTY, Work, eventually, pool, reap, within_patience};

const SECOND: Duration = Duration::from_secs(1);
const INSTANT: Duration = Duration::from_nanos(1);
const SHORT: Duration = Duration::from_micros(300);

fn manual(threads: usize) -> (ThreadPool, ManualClock) {
    util::manual(ThreadPool::builder().threads(threads))
}

/// Returns `Delay` a number of times, with the same duration each time, and then ends.
fn delays(times: u32, time: Duration) -> Work {
    Work::new(move |_, step| {
        if step > times {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Delay(time)
        }
    })
}

#[test]
fn poll_timeout_and_run_pending_respect_a_delay_without_threads() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, delays(1, SECOND)).unwrap();
    lp.enqueue(2, delays(1, 3 * SECOND)).unwrap();
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(lp.run_pending(PLENTY), 2);
    assert_eq!(lp.poll_timeout(), Some(SECOND));
    let counts = pool.counts();
    assert_eq!((counts.waiting, counts.on_worker, counts.parked), (2, 0, 0));
    hand.advance(SECOND.saturating_sub(INSTANT));
    assert_eq!((lp.run_pending(PLENTY), lp.poll_timeout()), (0, Some(INSTANT)));
    hand.advance(INSTANT);
    assert_eq!(
        (lp.poll_timeout(), lp.run_pending(PLENTY)),
        (Some(Duration::ZERO), 1)
    );
    assert_eq!(lp.end().finished().steps, 2);
    assert_eq!(lp.poll_timeout(), Some(2 * SECOND));
    hand.advance(5 * SECOND);
    lp.run_pending(PLENTY);
    lp.end().finished();
    assert_eq!(lp.poll_timeout(), None);
}

#[test]
fn a_dump_shows_how_long_a_task_is_still_delayed() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, delays(1, 3 * SECOND)).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(SECOND);
    let dump = pool.dump();
    let task = &dump.tasks[0];
    assert_eq!(
        (task.status, task.delay_left_us, task.in_status_us),
        (Status::Running, Some(2_000_000), 1_000_000)
    );
    assert_eq!((dump.counts.waiting, lp.peek(id)), (1, Some(Status::Running)));
    assert!(dump.to_string().contains("  delayed 2000 ms  "), "{dump}");
    hand.advance(2 * SECOND);
    lp.run_pending(PLENTY);
    assert_eq!(pool.dump().tasks[0].delay_left_us, None);
    lp.end().finished();
    // The next task in this slot is not delayed.
    lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(pool.dump().tasks[0].delay_left_us, None);
}

#[test]
fn delayed_tasks_run_in_the_order_of_their_times() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for n in [3, 1, 2_u32] {
        let log = log.clone();
        let task = Work::new(move |_, step| {
            if step == 1 {
                return TaskReturn::Delay(SECOND * n);
            }
            log.add(n);
            TaskReturn::TaskDone
        });
        lp.enqueue(u64::from(n), task).unwrap();
    }
    lp.run_pending(PLENTY);
    hand.advance(9 * SECOND);
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), [1, 2, 3]);
}

#[test]
fn every_request_to_stop_ends_the_wait_at_once() {
    let (pool, _hand) = manual(0);
    let alive = Alive::new();
    let mut lp = Loop::new(&pool);
    let forever = || delays(1, Duration::MAX).holding(alive.token());
    let dequeued = lp.enqueue(1, forever()).unwrap();
    let closed = lp.enqueue(2, forever()).unwrap();
    let mut dropped = Loop::new(&pool);
    dropped.enqueue(3, forever()).unwrap();
    let shut_down = lp.enqueue(4, forever()).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.run_pending(PLENTY), 0);
    lp.dequeue(dequeued);
    assert_eq!(lp.run_pending(PLENTY), 1);
    assert_eq!(reap(&mut lp, dequeued).stopped().0, StopReason::Dequeued);
    lp.connection_closed(2);
    assert_eq!(lp.run_pending(PLENTY), 1);
    assert_eq!(reap(&mut lp, closed).stopped().0, StopReason::ConnectionClosed);
    drop(dropped);
    assert_eq!(lp.run_pending(PLENTY), 1);
    assert_eq!(alive.count(), 1);
    pool.shutdown(Shutdown::Cancel);
    assert_eq!(lp.run_pending(PLENTY), 1);
    let (why, task) = reap(&mut lp, shut_down).stopped();
    assert_eq!(
        (why, task.told, task.steps),
        (StopReason::PoolShutdown, Some(why), 2)
    );
}

#[test]
fn a_deadline_ends_the_wait_at_its_time() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = TaskOptions::new().deadline(SECOND);
    lp.enqueue_with(1, delays(1, 5 * SECOND), options).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.poll_timeout(), Some(SECOND));
    hand.advance(SECOND);
    // The loop does not call `take_ready` first.
    assert_eq!(lp.run_pending(PLENTY), 1);
    let (why, task) = lp.end().stopped();
    assert_eq!(
        (why, task.told),
        (StopReason::TimedOut(Timeout::Deadline), Some(why))
    );
}

#[test]
fn a_task_that_outlives_its_connection_keeps_its_delay() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = || TaskOptions::new().outlive_connection();
    let id = lp.enqueue_with(1, delays(1, SECOND), options()).unwrap();
    lp.run_pending(PLENTY);
    lp.connection_closed(1);
    assert_eq!(lp.run_pending(PLENTY), 0);
    assert!(lp.reattach(id, 2));
    assert_eq!(lp.run_pending(PLENTY), 0);
    hand.advance(SECOND);
    assert_eq!(lp.run_pending(PLENTY), 1);
    lp.end().finished();
}

#[test]
fn a_task_that_answers_a_request_to_stop_with_a_delay_ends() {
    let (pool, _hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue(1, Work::stubborn(|_, _| TaskReturn::Delay(SECOND)))
        .unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    lp.run_pending(PLENTY);
    let (why, task) = lp.end().stopped();
    assert_eq!((why, task.steps), (StopReason::Dequeued, 2));
}

#[test]
fn a_delay_of_zero_is_continue() {
    let (pool, _hand) = manual(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, delays(3, Duration::ZERO)).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().finished().steps, 4);
}

#[test]
fn a_delayed_task_counts_as_running_for_the_limit_of_its_connection() {
    let builder = ThreadPool::builder().threads(0).max_running_per_connection(1);
    let (pool, hand) = util::manual(builder);
    let mut lp = Loop::new(&pool);
    let first = lp.enqueue(1, delays(1, SECOND)).unwrap();
    let second = lp.enqueue(1, Work::done()).unwrap();
    assert_eq!(lp.run_pending(PLENTY), 1);
    hand.advance(SECOND);
    lp.run_pending(PLENTY);
    assert_eq!(lp.news(), [first, second]);
}

#[test]
fn idle_workers_run_delayed_tasks_at_their_times() {
    for threads in [1, 2, 4] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        for n in 0..20 {
            lp.enqueue(n, delays(10, SHORT * (1 + n as u32 % 3))).unwrap();
        }
        for (_, end) in lp.ends(20) {
            assert_eq!(end.finished().steps, 11);
        }
    }
}

/// The worker that slept until the earliest time is then inside a long step, so another worker must
/// sleep until the next time.
#[test]
fn a_delayed_task_does_not_wait_for_a_worker_inside_a_long_step() {
    for _ in 0..20 {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        let gate = Gate::guarded();
        let passed = gate.clone();
        let long = Work::new(move |_, step| {
            if step == 1 {
                return TaskReturn::Delay(SHORT * 10);
            }
            passed.pass();
            TaskReturn::TaskDone
        });
        let long = lp.enqueue(1, long).unwrap();
        let short = lp.enqueue(2, delays(1, SHORT * 30)).unwrap();
        gate.wait_for(1);
        assert_eq!(lp.news(), [short]);
        gate.open();
        assert_eq!(lp.news(), [long]);
    }
}

/// A service whose parked task has this timeout. When the timeout runs out, its loop is notified,
/// and the wake-up waits at the gate.
fn blocking_service(pool: &ThreadPool, gate: &Gate, timeout: Duration) -> Service<Work> {
    let (passed, blocks) = (gate.clone(), Arc::new(AtomicBool::new(false)));
    let does_block = Arc::clone(&blocks);
    let mut service = pool.service::<Work>(move || {
        if does_block.load(SeqCst) {
            passed.pass();
        }
    });
    let options = TaskOptions::new().sync_timeout(timeout);
    service.enqueue_with(1, Work::parks(), options).unwrap();
    eventually("the task parks", || service.take_ready().count() == 1);
    blocks.store(true, SeqCst);
    service
}

/// The same with a worker that is inside a wake-up: it notifies a loop whose timeout has run out.
#[test]
fn a_delayed_task_does_not_wait_for_a_worker_inside_a_wake_up() {
    for _ in 0..5 {
        let pool = pool(2);
        let gate = Gate::guarded();
        let _blocking = blocking_service(&pool, &gate, SHORT * 30);
        let mut lp = Loop::new(&pool);
        let short = lp.enqueue(2, delays(1, SHORT * 60)).unwrap();
        assert_eq!(lp.news(), [short]);
        gate.wait_for(1);
    }
}

/// A worker that wakes up because a timeout runs out can take the wake-up for a submission. It is
/// then inside the wake-up of the other loop, so it must wake another worker before that.
#[test]
fn a_submission_does_not_wait_for_a_worker_inside_a_wake_up() {
    for round in 0..200 {
        let pool = pool(2);
        let gate = Gate::guarded();
        let mut lp = Loop::new(&pool);
        let _blocking = blocking_service(&pool, &gate, SHORT * 7);
        // In some rounds the submission and the timeout come at the same moment.
        let moment = Instant::now() + SHORT * 7 + Duration::from_micros(round % 100);
        while Instant::now() < moment {}
        lp.enqueue(2, Work::done()).unwrap();
        lp.end().finished();
    }
}

/// The same with a worker that reports a slow step.
#[test]
fn a_delayed_task_does_not_wait_for_a_worker_inside_a_report() {
    for _ in 0..5 {
        let [long, report] = [(); 2].map(|()| Gate::new());
        let passed = report.clone();
        let builder = ThreadPool::builder().threads(3);
        let (pool, hand) = util::manual(builder.on_slow_step(SECOND, move |_| passed.pass()));
        let _guards = [long.guard(), report.guard()];
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::at(&long)).unwrap();
        long.wait_for(1);
        let ended = Count::new();
        let counts = Arc::clone(&ended);
        let delayed = Work::new(move |_, step| {
            if step == 1 {
                return TaskReturn::Delay(2 * SECOND);
            }
            counts.add(1);
            TaskReturn::TaskDone
        });
        lp.enqueue(2, delayed).unwrap();
        eventually("the task is delayed", || pool.counts().waiting == 1);
        hand.advance(3 * SECOND);
        // The loop makes no call that could report the step.
        ended.wait_for(1);
        report.wait_for(1);
    }
}

/// A worker that is woken for a submission can report a slow step before it takes the task.
#[test]
fn a_submission_does_not_wait_for_a_worker_inside_a_report() {
    for _ in 0..20 {
        let [long, report, started] = [(); 3].map(|()| Gate::new());
        let passed = report.clone();
        let builder = ThreadPool::builder().threads(3);
        let (pool, hand) = util::manual(builder.on_slow_step(SECOND, move |_| passed.pass()));
        let _guards = [long.guard(), report.guard(), started.guard()];
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::at(&long)).unwrap();
        long.wait_for(1);
        hand.advance(2 * SECOND);
        lp.enqueue(2, Work::at(&started)).unwrap();
        // The loop makes no call that could report the step. A worker that was awake when the clock
        // moved may take the task without a report; then the round shows nothing.
        started.wait_for(1);
    }
}

/// If the worker with the time limit is woken for a task, or has more tasks to run, another worker
/// must sleep until the next time.
#[test]
fn delayed_tasks_and_long_steps_share_the_workers() {
    for _ in 0..50 {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        let (gate, ticks) = (Gate::new(), Count::new());
        let _guard = gate.guard();
        let count = Arc::clone(&ticks);
        let ticker = Work::new(move |_, _| {
            count.add(1);
            TaskReturn::Delay(SHORT)
        });
        lp.enqueue(1, ticker).unwrap();
        ticks.wait_for(2);
        lp.enqueue(2, Work::at(&gate)).unwrap();
        gate.wait_for(1);
        let before = ticks.get();
        ticks.wait_for(before + 2);
    }
}

#[test]
fn a_task_that_continues_gives_way_to_one_whose_delay_is_over() {
    let pool = util::hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let delayed = Work::new(move |_, step| {
        if step == 1 {
            return TaskReturn::Delay(SHORT);
        }
        over.store(true, SeqCst);
        TaskReturn::TaskDone
    });
    lp.enqueue(1, delayed).unwrap();
    let continues = Work::new(move |_, _| {
        if is_over.load(SeqCst) {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(2, continues).unwrap();
    lp.ends(2);
}

#[test]
fn workers_notice_that_a_manual_clock_has_moved() {
    let (pool, hand) = manual(2);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, delays(1, SECOND)).unwrap();
    eventually("the task is delayed", || {
        pool.dump().tasks[0].delay_left_us.is_some()
    });
    hand.advance(SECOND);
    lp.end().finished();
}

/// The time of the new task is earlier than the time until which a worker sleeps.
#[test]
fn a_worker_that_sleeps_until_a_later_time_wakes_up_for_an_earlier_one() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let late = lp.enqueue(1, delays(1, PLENTY)).unwrap();
    eventually("the task is delayed", || {
        pool.dump().tasks[0].delay_left_us.is_some() && pool.counts().on_worker == 0
    });
    for _ in 0..20 {
        lp.enqueue(2, delays(1, SHORT)).unwrap();
        lp.end().finished();
    }
    lp.dequeue(late);
    assert_eq!(lp.end().stopped().0, StopReason::Dequeued);
}

#[test]
fn a_pool_with_delayed_tasks_is_dropped_at_once() {
    for threads in [0, 1, 3] {
        let pool = pool(threads);
        let alive = Alive::new();
        let mut lp = Loop::new(&pool);
        for n in 0..10 {
            let task = delays(1, PLENTY).holding(alive.token());
            lp.enqueue(n, task).unwrap();
        }
        if threads == 0 {
            lp.run_pending(PLENTY);
        } else {
            eventually("all are delayed", || {
                let tasks = pool.dump().tasks;
                tasks.iter().all(|task| task.delay_left_us.is_some())
            });
        }
        within_patience("the drop of a pool with delayed tasks", move || drop(pool));
        for (_, end) in lp.ends(10) {
            assert_eq!(end.stopped().0, StopReason::PoolShutdown);
        }
        assert_eq!(alive.count(), 0);
    }
}

/// S8: a request to stop comes when the task begins its delay, or when its delay ends.
#[test]
fn a_request_to_stop_races_the_delay() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    for n in 0..2000_u32 {
        let time = if n % 2 == 0 {
            PLENTY
        } else {
            Duration::from_micros(20)
        };
        let started = Count::new();
        let signal = Arc::clone(&started);
        let task = Work::new(move |_, _| {
            signal.add(1);
            TaskReturn::Delay(time)
        });
        let id = lp.enqueue(1, task).unwrap();
        started.wait_for(1);
        (0..n % 50).for_each(|_| std::hint::spin_loop());
        lp.dequeue(id);
        assert_eq!(lp.end().stopped_as_told(), StopReason::Dequeued);
    }
}

#[test]
fn a_delayed_task_parks_and_is_delayed_again() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let task = Work::new(|_, step| match step {
        1 | 3 => TaskReturn::Delay(SHORT),
        2 | 4 => TaskReturn::Sync,
        _ => TaskReturn::TaskDone,
    });
    let id = lp.enqueue(1, task).unwrap();
    for _ in 0..2 {
        assert_eq!(lp.parked(1), [id]);
        let Some(TaskStatus::Syncing(point)) = lp.task_status(id) else {
            panic!("it is parked");
        };
        point.resume();
    }
    assert_eq!(lp.end().finished().steps, 5);
}
