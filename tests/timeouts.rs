//! Timeouts in the queue, in one `Sync`, and of the whole task. Most tests use a manual clock and
//! are exact to the nanosecond, without waiting. Two tests at the end use real time.

mod util;

use moored::{ManualClock, Status, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool, Timeout};
use std::time::Duration;
use util::{Gate, Loop, PLENTY, Work, reap, resume};

const SECOND: Duration = Duration::from_secs(1);
const INSTANT: Duration = Duration::from_nanos(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn almost(time: Duration) -> Duration {
    time.saturating_sub(INSTANT)
}

/// A pool whose clock moves only when the test moves it.
fn manual(threads: usize) -> (ThreadPool, ManualClock) {
    util::manual(ThreadPool::builder().threads(threads))
}

fn timed_out(timeout: Timeout) -> StopReason {
    StopReason::TimedOut(timeout)
}

#[test]
fn a_task_that_waits_too_long_for_its_first_step_never_runs() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::done(), TaskOptions::new().queue_timeout(5 * SECOND))
        .unwrap();
    hand.advance(almost(5 * SECOND));
    assert!(lp.take_ready().is_empty(), "too early");
    hand.advance(INSTANT);
    assert_eq!(lp.ready(), [id]);
    let (why, task) = reap(&mut lp, id).stopped();
    assert_eq!((why, task.steps), (timed_out(Timeout::Queue), 0));
    assert_eq!(lp.run_pending(PLENTY), 0);
}

#[test]
fn a_task_that_has_started_has_no_queue_timeout_any_more() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = || TaskOptions::new().queue_timeout(5 * SECOND);
    let parked = lp.enqueue_with(1, Work::parks(), options()).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(3600 * SECOND);
    assert_eq!(lp.ready(), [parked]);
    assert!(lp.take_ready().is_empty());
    assert_eq!(
        (lp.peek(parked), lp.poll_timeout()),
        (Some(Status::Syncing), None)
    );
}

/// L4: each task has its own `sync_timeout`. Then it is asked to stop, and ends as
/// `Stopped(TimedOut)`.
#[test]
fn a_task_that_is_parked_too_long_is_asked_to_stop() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let short = lp
        .enqueue_with(1, Work::parks(), TaskOptions::new().sync_timeout(SECOND))
        .unwrap();
    let long = lp
        .enqueue_with(2, Work::parks(), TaskOptions::new().sync_timeout(2 * SECOND))
        .unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.take_ready().count(), 2);
    hand.advance(almost(SECOND));
    assert!(lp.take_ready().is_empty());
    assert_eq!(lp.peek(short), Some(Status::Syncing), "too early");
    hand.advance(INSTANT);
    let _ = lp.take_ready().count();
    assert_eq!(
        [short, long].map(|id| lp.peek(id)),
        [Some(Status::Stopping), Some(Status::Syncing)]
    );
    lp.run_pending(PLENTY);
    let (why, task) = reap(&mut lp, short).stopped();
    let reason = timed_out(Timeout::Sync);
    assert_eq!((why, task.told, task.steps), (reason, Some(reason), 2));
}

#[test]
fn the_sync_timeout_begins_anew_at_each_announcement() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::parks_times(4), TaskOptions::new().sync_timeout(SECOND))
        .unwrap();
    for _ in 0..4 {
        lp.run_pending(PLENTY);
        hand.advance(SECOND / 2); // the loop is late
        assert_eq!(lp.news(), [id]);
        assert_eq!(
            lp.poll_timeout(),
            Some(SECOND),
            "the timeout begins at the announcement"
        );
        hand.advance(almost(SECOND));
        assert!(lp.take_ready().is_empty());
        resume(&mut lp, id);
    }
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).finished().steps, 5);
}

/// U8: a task was parked too long before the loop called `take_ready`. It was announced as
/// `Syncing`, and the next call stopped it after any answer.
#[test]
fn a_late_loop_has_the_whole_sync_timeout() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = || TaskOptions::new().sync_timeout(SECOND);
    let id = lp.enqueue_with(1, Work::parks(), options()).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(10 * SECOND);
    assert_eq!(lp.news(), [id]);
    assert_eq!(
        (lp.peek(id), lp.poll_timeout()),
        (Some(Status::Syncing), Some(SECOND))
    );
    assert!(lp.take_ready().is_empty());
    hand.advance(almost(SECOND));
    assert!(lp.take_ready().is_empty());
    assert_eq!(lp.peek(id), Some(Status::Syncing), "too early");
    hand.advance(INSTANT);
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    assert!(lp.take_ready().is_empty());
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Sync));
}

/// U8: the same with a deadline, which does not depend on the loop. The task is never announced as
/// parked.
#[test]
fn a_parked_task_whose_deadline_has_passed_is_stopped_before_it_is_announced() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = TaskOptions::new().deadline(SECOND);
    lp.enqueue_with(1, Work::parks(), options).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(10 * SECOND);
    assert!(lp.take_ready().is_empty());
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

#[test]
fn a_deadline_ends_a_task_in_every_state() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = || TaskOptions::new().deadline(7 * SECOND);
    let parked = lp.enqueue_with(2, Work::parks(), options()).unwrap();
    let in_line = lp.enqueue_with(3, Work::parks(), options()).unwrap();
    lp.run_pending(PLENTY);
    let _ = lp.take_ready().count();
    resume(&mut lp, in_line);
    let queued = lp
        .enqueue_with(1, Work::done(), TaskOptions::new().deadline(5 * SECOND))
        .unwrap();
    hand.advance(5 * SECOND);
    assert_eq!(lp.ready(), [queued]);
    hand.advance(2 * SECOND);
    let _ = lp.take_ready().count();
    lp.run_pending(PLENTY);
    for (id, steps) in [(queued, 0), (parked, 2), (in_line, 2)] {
        let (why, task) = reap(&mut lp, id).stopped();
        assert_eq!((why, task.steps), (timed_out(Timeout::Deadline), steps));
    }
    let stopped = pool.dump().counters.stopped;
    assert_eq!((stopped.deadline, stopped.total()), (3, 3));
}

#[test]
fn a_running_step_can_see_its_deadline() {
    let (pool, hand) = manual(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let sees_it = Work::at_and_then(&gate, |cx| {
        assert_eq!(cx.stop_reason(), Some(timed_out(Timeout::Deadline)));
        TaskReturn::Stopped
    });
    let options = TaskOptions::new().deadline(SECOND);
    let id = lp.enqueue_with(1, sees_it, options).unwrap();
    gate.wait_for(1);
    hand.advance(SECOND);
    let _ = lp.take_ready().count();
    assert_eq!(lp.peek(id), Some(Status::Stopping));
    gate.open();
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

#[test]
fn of_several_timeouts_the_first_one_counts() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = |queue, sync, deadline| {
        let options = TaskOptions::new()
            .queue_timeout(SECOND * queue)
            .sync_timeout(SECOND * sync);
        options.deadline(SECOND * deadline)
    };
    let by_sync = lp.enqueue_with(2, Work::parks(), options(9, 2, 7)).unwrap();
    let by_deadline = lp.enqueue_with(3, Work::parks(), options(9, 8, 3)).unwrap();
    lp.run_pending(PLENTY);
    let by_queue = lp.enqueue_with(1, Work::done(), options(2, 9, 5)).unwrap();
    let queued_past = lp.enqueue_with(1, Work::done(), options(6, 9, 4)).unwrap();
    for _ in 0..10 {
        let _ = lp.take_ready().count();
        hand.advance(SECOND / 2);
    }
    lp.run_pending(PLENTY);
    let reasons = [by_sync, by_deadline, by_queue, queued_past].map(|id| reap(&mut lp, id).stopped().0);
    let expected = [
        Timeout::Sync,
        Timeout::Deadline,
        Timeout::Queue,
        Timeout::Deadline,
    ]
    .map(timed_out);
    assert_eq!(reasons, expected);
}

#[test]
fn poll_timeout_returns_how_long_the_loop_may_block() {
    let (pool, hand) = manual(1); // without threads it is zero while something is pending
    let mut lp = Loop::new(&pool);
    assert_eq!(lp.poll_timeout(), None);
    lp.enqueue(1, Work::parks()).unwrap();
    let long = lp
        .enqueue_with(2, Work::parks(), TaskOptions::new().deadline(9 * SECOND))
        .unwrap();
    let short = lp
        .enqueue_with(3, Work::parks(), TaskOptions::new().deadline(4 * SECOND))
        .unwrap();
    lp.parked(3);
    assert_eq!(lp.poll_timeout(), Some(4 * SECOND));
    hand.advance(SECOND);
    assert_eq!(lp.poll_timeout(), Some(3 * SECOND));
    resume(&mut lp, short);
    lp.parked(1);
    lp.dequeue(short);
    lp.end().stopped();
    assert_eq!(
        lp.poll_timeout(),
        Some(8 * SECOND),
        "an ended task has no timeout"
    );
    hand.advance(20 * SECOND);
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO), "overdue");
    lp.turn_until(|_, id| id == long);
    assert_eq!(lp.poll_timeout(), None);
}

#[test]
fn the_timeout_of_a_reaped_task_is_removed() {
    let (pool, hand) = manual(1);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::done(), TaskOptions::new().deadline(SECOND))
        .unwrap();
    util::eventually("it ends", || lp.peek(id) == Some(Status::Finished));
    reap(&mut lp, id).finished(); // reaped without `take_ready`
    assert_eq!(lp.poll_timeout(), None);
    let next = lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    hand.advance(2 * SECOND);
    let _ = lp.take_ready().count();
    assert_eq!(lp.peek(next), Some(Status::Syncing));
}

#[test]
fn a_stopping_task_does_not_time_out() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::parks(), TaskOptions::new().deadline(SECOND))
        .unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    hand.advance(2 * SECOND);
    let _ = lp.take_ready().count();
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::Dequeued);
}

/// L5: a detached task whose `Sync` timed out ends and is reaped as usual.
#[test]
fn an_outliving_task_that_times_out_is_reaped() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = || TaskOptions::new().outlive_connection().sync_timeout(SECOND);
    let with_client = lp.enqueue_with(1, Work::parks_times(50), options()).unwrap();
    let without = lp.enqueue_with(2, Work::parks_times(50), options()).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.take_ready().count(), 2);
    lp.connection_closed(2);
    hand.advance(SECOND);
    let _ = lp.take_ready().count();
    lp.run_pending(PLENTY);
    assert_eq!(lp.take_ready().count(), 2);
    assert_eq!(reap(&mut lp, with_client).stopped().0, timed_out(Timeout::Sync));
    assert_eq!(
        reap(&mut lp, without).finished().steps,
        51,
        "detached, it never parks"
    );
    assert!(lp.is_empty());
}

/// L26: timeouts of years work, and the longest durations mean "never".
#[test]
fn times_do_not_overflow() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let never = TaskOptions::new()
        .queue_timeout(Duration::MAX)
        .sync_timeout(Duration::MAX)
        .deadline(Duration::MAX);
    let id = lp.enqueue_with(1, Work::parks(), never).unwrap();
    lp.run_pending(PLENTY);
    let _ = lp.take_ready().count();
    for _ in 0..100 {
        hand.advance(YEAR);
        assert!(lp.take_ready().is_empty());
    }
    let dump = pool.dump();
    let century = u64::try_from((100 * YEAR).as_micros()).unwrap();
    assert_eq!(
        (dump.uptime_us, dump.tasks[0].alive_us, dump.tasks[0].in_status_us),
        (century, century, century)
    );
    assert_eq!(lp.peek(id), Some(Status::Syncing));
    assert!(lp.poll_timeout().is_some_and(|left| left > 400 * YEAR));
}

#[test]
fn a_loop_that_blocks_for_poll_timeout_misses_no_timeout() {
    let pool = ThreadPool::builder().threads(1).build().unwrap();
    let (wake, woken) = std::sync::mpsc::channel();
    let mut service = pool.service(move || wake.send(()).unwrap_or_default());
    for n in 1..=20 {
        let options = TaskOptions::new().sync_timeout(n * Duration::from_micros(700));
        service
            .enqueue_with(u64::from(n), Work::parks(), options)
            .unwrap();
    }
    let mut ended = 0;
    while ended < 20 {
        let limit = service.poll_timeout().unwrap_or(util::PATIENCE);
        let woken = woken.recv_timeout(limit);
        assert!(
            woken.is_ok() || limit < util::PATIENCE,
            "nothing would wake the loop"
        );
        for id in service.take_ready().map(|ready| ready.id) {
            match service.task_status(id) {
                Some(TaskStatus::Syncing(_)) => {}
                Some(TaskStatus::Stopped(why, task)) => {
                    assert_eq!((why, task.told), (timed_out(Timeout::Sync), Some(why)));
                    ended += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// S8: the answer races the timeout. The task ends once in both cases.
#[test]
fn an_answer_races_the_timeout() {
    let pool = ThreadPool::builder().threads(2).build().unwrap();
    let mut lp = Loop::new(&pool);
    let mut ends = [0, 0];
    for n in 0..500 {
        let options = TaskOptions::new().sync_timeout(Duration::from_micros(n % 50));
        lp.enqueue_with(1, Work::parks_times(1), options).unwrap();
        loop {
            match lp
                .news()
                .into_iter()
                .next()
                .and_then(|id| lp.service.task_status(id))
            {
                Some(TaskStatus::Syncing(point)) => point.resume(),
                Some(TaskStatus::Finished(task)) => break assert_eq!(task.told, None),
                Some(TaskStatus::Stopped(why, task)) => {
                    ends[1] += 1;
                    break assert_eq!(task.told, Some(why));
                }
                other => panic!("{other:?}"),
            }
        }
        ends[0] += 1;
        assert!(lp.is_empty());
    }
    assert_eq!(ends[0], 500, "{} of them by timeout", ends[1]);
}

/// U7: the worker was busy until the time had run out, the loop did not call `take_ready`, and the
/// worker began the task.
#[test]
fn a_worker_does_not_begin_a_task_whose_time_has_run_out() {
    for limit in [None, Some(3)] {
        let mut builder = ThreadPool::builder().threads(1);
        if let Some(limit) = limit {
            builder = builder.max_running_per_connection(limit);
        }
        let (pool, hand) = util::manual(builder);
        let mut lp = Loop::new(&pool);
        let gate = Gate::guarded();
        let busy = lp.enqueue(1, Work::at(&gate)).unwrap();
        gate.wait_for(1);
        let by_queue = TaskOptions::new().queue_timeout(SECOND).deadline(2 * SECOND);
        let by_deadline = TaskOptions::new().queue_timeout(2 * SECOND).deadline(SECOND);
        let in_time = TaskOptions::new().queue_timeout(2 * SECOND).deadline(9 * SECOND);
        let [queue, deadline, runs] = [by_queue, by_deadline, in_time]
            .map(|options| lp.enqueue_with(2, Work::done(), options).unwrap());
        hand.advance(SECOND);
        gate.open();
        util::eventually("all end", || {
            [busy, queue, deadline, runs]
                .iter()
                .all(|&id| lp.peek(id).is_some_and(Status::is_ended))
        });
        assert_eq!(reap(&mut lp, runs).finished().steps, 1);
        for (id, timeout) in [(queue, Timeout::Queue), (deadline, Timeout::Deadline)] {
            let (why, task) = reap(&mut lp, id).stopped();
            assert_eq!((why, task.steps), (timed_out(timeout), 0));
        }
        let stopped = pool.dump().counters.stopped;
        assert_eq!((stopped.queue_timeout, stopped.deadline), (1, 1));
        assert_eq!(pool.counts().queued, 0);
    }
}

/// U7: the same without threads. No call of `take_ready` comes before the step.
#[test]
fn run_pending_does_not_begin_a_task_whose_time_has_run_out() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let options = TaskOptions::new().queue_timeout(SECOND);
    lp.enqueue_with(1, Work::done(), options).unwrap();
    hand.advance(SECOND);
    lp.run_pending(PLENTY);
    let (why, task) = lp.end().stopped();
    assert_eq!((why, task.steps), (timed_out(Timeout::Queue), 0));
}

/// U7: a step sees without the loop that the deadline has passed, and the reason stays.
#[test]
fn a_step_sees_a_passed_deadline_without_the_loop() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let later = hand.clone();
    let task = Work::stubborn(move |cx, _| {
        assert!(!cx.is_stopping());
        later.advance(almost(SECOND));
        assert!(!cx.is_stopping(), "too early");
        later.advance(INSTANT);
        assert_eq!(cx.stop_reason(), Some(timed_out(Timeout::Deadline)));
        TaskReturn::Stopped
    });
    let options = TaskOptions::new().deadline(SECOND).queue_timeout(SECOND / 2);
    lp.enqueue_with(1, task, options).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

/// U7: a task that would park after its deadline is asked to stop instead, and a later request
/// does not change the reason.
#[test]
fn a_task_does_not_park_after_its_deadline() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let later = hand.clone();
    let task = Work::stubborn(move |cx, step| match step {
        1 => {
            later.advance(SECOND);
            TaskReturn::Sync
        }
        2 => {
            assert_eq!(cx.stop_reason(), Some(timed_out(Timeout::Deadline)));
            TaskReturn::Continue
        }
        _ => TaskReturn::Stopped,
    });
    let id = lp
        .enqueue_with(1, task, TaskOptions::new().deadline(SECOND))
        .unwrap();
    for _ in 0..2 {
        lp.run_pending(Duration::ZERO);
        assert_eq!(lp.peek(id), Some(Status::Stopping));
        lp.dequeue(id);
    }
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

/// Takes the ready tasks, and returns how long the loop may then block.
fn next_timeout(lp: &mut Loop<Work>) -> Option<Duration> {
    let _ = lp.take_ready().count();
    lp.poll_timeout()
}

#[test]
fn a_step_moves_its_deadline_and_the_loop_respects_it() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let later = Work::new(|cx, _| {
        cx.set_deadline(Some(5 * SECOND));
        TaskReturn::Sync
    });
    let options = |seconds| TaskOptions::new().deadline(seconds * SECOND);
    lp.enqueue_with(1, later, options(2)).unwrap();
    hand.advance(SECOND);
    lp.run_pending(PLENTY);
    assert_eq!(next_timeout(&mut lp), Some(5 * SECOND));
    hand.advance(almost(5 * SECOND));
    assert_eq!(next_timeout(&mut lp), Some(INSTANT), "it has moved");
    hand.advance(INSTANT);
    let _ = lp.take_ready().count();
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

#[test]
fn a_step_gives_a_deadline_to_a_task_without_one_makes_it_earlier_and_drops_it() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let task = || {
        Work::new(|cx, step| {
            match step {
                1 => cx.set_deadline(Some(9 * SECOND)),
                // The task gives way between the two steps, so its loop has not received it yet.
                2 | 4 => return TaskReturn::Continue,
                3 => cx.set_deadline(Some(SECOND)),
                _ => cx.set_deadline(None),
            }
            TaskReturn::Sync
        })
    };
    let plain = lp.enqueue(1, task()).unwrap();
    let options = TaskOptions::new().deadline(3 * SECOND);
    let timed = lp.enqueue_with(2, task(), options).unwrap();
    let run = |lp: &mut Loop<Work>| while lp.run_pending(Duration::ZERO) > 0 {};
    run(&mut lp);
    assert_eq!(next_timeout(&mut lp), Some(9 * SECOND));
    for id in [plain, timed] {
        resume(&mut lp, id);
    }
    run(&mut lp);
    assert_eq!(next_timeout(&mut lp), Some(SECOND));
    for id in [plain, timed] {
        resume(&mut lp, id);
    }
    run(&mut lp);
    assert_eq!(next_timeout(&mut lp), None);
    hand.advance(YEAR);
    assert!(lp.take_ready().is_empty());
    assert_eq!([plain, timed].map(|id| lp.peek(id)), [Some(Status::Syncing); 2]);
}

#[test]
fn a_deadline_that_was_seen_cannot_be_moved() {
    let (pool, hand) = manual(0);
    let mut lp = Loop::new(&pool);
    let later = hand.clone();
    let task = Work::stubborn(move |cx, _| {
        later.advance(SECOND);
        // Neither the loop nor a worker has seen this deadline.
        cx.set_deadline(Some(SECOND));
        assert!(!cx.is_stopping());
        later.advance(SECOND);
        assert!(cx.is_stopping());
        cx.set_deadline(None);
        assert_eq!(cx.stop_reason(), Some(timed_out(Timeout::Deadline)));
        TaskReturn::Stopped
    });
    lp.enqueue_with(1, task, TaskOptions::new().deadline(SECOND))
        .unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.end().stopped().0, timed_out(Timeout::Deadline));
}

#[test]
fn should_yield_is_true_when_the_slice_is_used_up_and_others_wait() {
    let builder = ThreadPool::builder().threads(0).time_slice(SECOND);
    let (pool, hand) = util::manual(builder);
    let mut lp = Loop::new(&pool);
    let long = || {
        let hand = hand.clone();
        Work::new(move |cx, _| {
            assert_eq!(cx.time_slice_left(), SECOND);
            hand.advance(almost(SECOND));
            assert_eq!((cx.time_slice_left(), cx.should_yield()), (INSTANT, false));
            hand.advance(SECOND);
            assert_eq!(cx.time_slice_left(), Duration::ZERO);
            if cx.should_yield() {
                TaskReturn::Stopped
            } else {
                TaskReturn::TaskDone
            }
        })
    };
    lp.enqueue(1, long()).unwrap();
    lp.run_pending(PLENTY);
    lp.end().finished();
    lp.enqueue(2, long()).unwrap();
    lp.enqueue(3, Work::done()).unwrap();
    lp.run_pending(Duration::MAX);
    let end = lp.ends(2).remove(0).1;
    assert_eq!(end.stopped().0, StopReason::Returned);
}

#[test]
fn should_yield_is_true_when_the_task_is_stopping_or_the_budget_is_used_up() {
    let (pool, _hand) = manual(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let task = Work::at_and_then(&gate, |cx| {
        assert!(cx.should_yield());
        TaskReturn::Stopped
    });
    let id = lp.enqueue(1, task).unwrap();
    gate.wait_for(1);
    lp.dequeue(id);
    gate.open();
    assert_eq!(lp.end().stopped().0, StopReason::Dequeued);

    let (pool, _hand) = manual(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue(
        1,
        Work::new(|cx, _| {
            assert!(cx.should_yield(), "the budget is zero");
            assert_eq!(cx.time_slice_left(), Duration::ZERO);
            TaskReturn::TaskDone
        }),
    )
    .unwrap();
    lp.run_pending(Duration::ZERO);
    lp.end().finished();
}

/// U8: a loop that blocked for ever, without `poll_timeout`, never stopped a parked task.
#[test]
fn an_idle_worker_notifies_the_loop_when_a_timeout_runs_out() {
    for (options, timeout) in [
        (TaskOptions::new().sync_timeout(SECOND), Timeout::Sync),
        (TaskOptions::new().deadline(SECOND), Timeout::Deadline),
    ] {
        let (pool, hand) = manual(2);
        let mut lp = Loop::new(&pool);
        // The loop first sets the alarm of this later timeout, and must replace it.
        lp.enqueue_with(2, Work::parks(), TaskOptions::new().deadline(YEAR))
            .unwrap();
        lp.parked(1);
        let id = lp.enqueue_with(1, Work::parks(), options).unwrap();
        assert_eq!(lp.parked(1), [id]);
        let before = lp.wakes.total();
        hand.advance(SECOND);
        util::eventually("the loop is notified", || lp.wakes.total() > before);
        lp.turn_until(|service, seen| seen == id && service.peek(id) == Some(Status::Stopped));
        assert_eq!(reap(&mut lp, id).stopped().0, timed_out(timeout));
        drop(lp);
        // The timeout of a dropped service notifies no loop.
        hand.advance(YEAR);
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::done()).unwrap();
        lp.end().finished();
    }
}
