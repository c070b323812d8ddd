//! Parking: a task that waits for its client holds no thread, and the loop borrows it until it
//! answers.

mod util;

use moored::{Resume, Status, StopReason, TaskId, TaskOptions, TaskReturn, TaskStatus, ThreadPool};
use std::collections::HashMap;
use std::time::Duration;
use util::{Gate, Loop, PLENTY, Work, eventually, hasty_pool, pool, reap, resume, within_patience};

/// L1: the tasks of two clients that never read are parked for ever. All 254 other tasks finish on
/// the same two threads.
#[test]
fn a_parked_task_holds_no_thread() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let stuck = [1, 2].map(|conn| lp.enqueue(conn, Work::parks()).unwrap());
    lp.parked(2);
    for conn in 3..257 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    for (_, end) in lp.ends(254) {
        end.finished();
    }
    assert_eq!(stuck.map(|id| lp.peek(id)), [Some(Status::Syncing); 2]);
    assert_eq!(pool.counts().parked, 2);
}

#[test]
fn two_workers_serve_many_parked_streams() {
    const STREAMS: u64 = 65_536;
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    for conn in 0..STREAMS {
        lp.enqueue(conn, Work::parks_times(1)).unwrap();
    }
    let parked = lp.parked(STREAMS as usize);
    assert_eq!(pool.counts().parked, STREAMS as usize);
    for id in parked {
        assert!(lp.task_sync(id, Resume::Continue));
    }
    for (_, end) in lp.ends(STREAMS as usize) {
        assert_eq!(end.finished().steps, 2);
    }
}

/// L2: a hundred clients get numbered chunks at full speed, and the loop looks at each task again
/// after its answer.
#[test]
fn no_chunk_is_sent_twice_and_none_is_lost() {
    const CLIENTS: usize = 100;
    const CHUNKS: u32 = 100;
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let mut sent: HashMap<TaskId, Vec<u32>> = HashMap::new();
    for conn in 0..CLIENTS {
        let id = lp.enqueue(conn as u64, Work::parks_times(CHUNKS)).unwrap();
        sent.insert(id, Vec::new());
    }
    let mut open = CLIENTS;
    while open > 0 {
        for id in lp.news() {
            // The second iteration does what a second "writable" callback would do.
            for _ in 0..2 {
                match lp.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => {
                        sent.get_mut(&id).unwrap().push(point.steps);
                        point.resume();
                    }
                    Some(TaskStatus::Finished(_)) => open -= 1,
                    Some(TaskStatus::Running) | None => {}
                    Some(other) => panic!("{other:?}"),
                }
            }
        }
    }
    let whole: Vec<u32> = (1..=CHUNKS).collect();
    assert!(
        sent.values().all(|chunks| *chunks == whole),
        "chunks were lost, repeated or out of order"
    );
}

/// L20, S7: a parked task is not resumed by wake-ups, by looks, by `take_ready`, or by other tasks.
#[test]
fn only_an_answer_resumes_a_parked_task() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let parked = lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    for round in 0..200 {
        lp.enqueue(round % 2 + 1, Work::done()).unwrap();
        lp.end().finished();
        match lp.task_status(parked) {
            Some(TaskStatus::Syncing(point)) => assert_eq!(point.steps, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pool.dump().counters.syncs, 1);
}

#[test]
fn a_borrowed_task_can_be_changed() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks_times(3)).unwrap();
    lp.run_pending(PLENTY);
    match lp.task_status(id) {
        Some(TaskStatus::Syncing(mut point)) => {
            point.steps += 2; // the loop skips two chunks
            point.resume();
        }
        other => panic!("{other:?}"),
    }
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).finished().steps, 4);
}

#[test]
fn the_service_may_be_used_while_a_parked_task_is_in_hand() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(7, Work::parks_times(1)).unwrap();
    lp.run_pending(PLENTY);
    match lp.service.task_status(id) {
        Some(TaskStatus::Syncing(mut point)) => {
            point.steps += 10;
            // The borrow has ended. The task is still parked, and has the value that the loop has
            // set.
            lp.service.enqueue(8, Work::done()).unwrap();
            assert_eq!(lp.service.peek(id), Some(Status::Syncing));
            assert!(lp.service.task_sync(id, Resume::Continue));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(lp.run_pending(PLENTY), 2);
    assert_eq!(reap(&mut lp, id).finished().steps, 12);
}

#[test]
fn a_look_without_an_answer_leaves_the_task_parked() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks_times(1)).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.ready(), [id]);
    for _ in 0..5 {
        assert!(matches!(lp.task_status(id), Some(TaskStatus::Syncing(_))));
        assert_eq!(lp.peek(id), Some(Status::Syncing));
        assert_eq!(lp.run_pending(PLENTY), 0, "the task ran without an answer");
        assert!(lp.take_ready().is_empty(), "a look announced the task again");
    }
    assert!(lp.task_sync(id, Resume::Continue), "answered later");
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).finished().steps, 2);
}

#[test]
fn task_sync_is_true_for_a_parked_task_only_and_else_does_nothing() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for resume in [Resume::Continue, Resume::Stop] {
        let id = lp.enqueue(1, Work::parks_times(1)).unwrap();
        assert!(!lp.task_sync(id, resume), "queued");
        assert_eq!(lp.peek(id), Some(Status::Queued));
        lp.run_pending(PLENTY);
        assert!(lp.task_sync(id, Resume::Continue), "parked");
        assert!(!lp.task_sync(id, resume), "answered");
        assert_eq!(
            lp.peek(id),
            Some(Status::Running),
            "it waits: neither parked nor stopping"
        );
        lp.run_pending(PLENTY);
        assert!(!lp.task_sync(id, resume), "ended");
        let task = reap(&mut lp, id).finished();
        assert_eq!((task.steps, task.told), (2, None));
    }
}

#[test]
fn both_ways_to_answer_stop_reach_the_step() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let by_id = lp.enqueue(1, Work::parks()).unwrap();
    let by_point = lp.enqueue(2, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    assert!(lp.task_sync(by_id, Resume::Stop));
    match lp.task_status(by_point) {
        Some(TaskStatus::Syncing(point)) => point.stop(),
        other => panic!("{other:?}"),
    }
    for id in [by_id, by_point] {
        assert_eq!(lp.peek(id), Some(Status::Stopping));
    }
    lp.run_pending(PLENTY);
    for id in [by_id, by_point] {
        let (why, task) = reap(&mut lp, id).stopped();
        assert_eq!(
            (why, task.told, task.steps),
            (StopReason::Dequeued, Some(StopReason::Dequeued), 2)
        );
    }
}

#[test]
fn each_sync_is_announced_once_and_not_after_its_answer() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks_times(2)).unwrap();
    lp.run_pending(PLENTY);
    // The loop finds the task parked, and answers before it was announced.
    resume(&mut lp, id);
    assert!(lp.take_ready().is_empty(), "an answered sync was announced");
    lp.run_pending(PLENTY);
    resume(&mut lp, id);
    lp.run_pending(PLENTY);
    assert_eq!(
        lp.ready(),
        [id],
        "there were two events, but only the end is current"
    );
    reap(&mut lp, id).finished();
}

#[test]
fn each_sync_is_announced_once_to_a_loop_that_polled_for_long() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let [parks_again, answered, left_alone] = [1, 2, 3].map(|conn| lp.enqueue(conn, Work::parks()).unwrap());
    lp.run_pending(PLENTY);
    for _ in 0..5_000 {
        let id = lp.enqueue(4, Work::done()).unwrap();
        lp.run_pending(PLENTY);
        reap(&mut lp, id).finished();
    }
    resume(&mut lp, parks_again);
    lp.run_pending(PLENTY);
    resume(&mut lp, answered);
    let mut ready = lp.ready();
    ready.sort_unstable();
    assert_eq!(ready, [parks_again, left_alone]);
    assert!(lp.take_ready().is_empty());
}

/// U11: a task that never checked whether it should stop did not end, and occupied its worker.
#[test]
fn sync_ends_a_task_that_is_stopping() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::stubborn(|_, _| TaskReturn::Sync)).unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    lp.run_pending(Duration::from_secs(1));
    let (why, task) = reap(&mut lp, id).stopped();
    assert_eq!((why, task.steps), (StopReason::Dequeued, 2));
    assert_eq!(task.told, Some(why));
    assert_eq!(pool.dump().counters.syncs, 1);
}

/// U11, L13: the next step sees a request that comes during a step, and is the last step.
#[test]
fn a_task_that_is_asked_to_stop_during_its_step_has_one_more_step() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let at_gate = gate.clone();
    let work = Work::stubborn(move |_, _| {
        at_gate.pass();
        TaskReturn::Sync
    });
    let id = lp.enqueue(1, work).unwrap();
    gate.wait_for(1);
    lp.dequeue(id);
    gate.open();
    let (why, task) = lp.end().stopped();
    assert_eq!((why, task.steps), (StopReason::Dequeued, 2));
    assert_eq!(task.told, Some(why));
}

/// U11: the pool could not be dropped, because the tasks were resumed after each turn.
#[test]
fn tasks_that_only_sync_end_with_their_pool() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    for conn in 0..3 {
        let outliving = TaskOptions::new().outlive_connection();
        let work = Work::stubborn(|_, _| TaskReturn::Sync);
        lp.enqueue_with(conn, work, outliving).unwrap();
        lp.connection_closed(conn);
    }
    eventually("each has a turn", || pool.dump().counters.steps >= 100);
    within_patience("the drop of the pool", move || drop(pool));
    for (_, end) in lp.ends(3) {
        assert_eq!(end.stopped().0, StopReason::PoolShutdown);
    }
}

/// U11: the dump shows that a task continues although it should stop.
#[test]
fn a_task_that_ignores_the_request_to_stop_shows_in_the_dump() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue(
            1,
            Work::stubborn(|_, step| {
                if step < 75_000 {
                    TaskReturn::Continue
                } else {
                    TaskReturn::Stopped
                }
            }),
        )
        .unwrap();
    let step = |lp: &mut Loop<Work>, steps: usize| {
        (0..steps).for_each(|_| assert_eq!(lp.run_pending(Duration::ZERO), 1));
        let dump = pool.dump();
        (dump.tasks[0].ignored_stop, dump.counters.ignored_stops)
    };
    assert_eq!(step(&mut lp, 2_000), (0, 0), "it was not asked yet");
    lp.dequeue(id);
    assert_eq!(step(&mut lp, 1_000), (1_000, 0));
    assert!(!pool.dump().to_string().contains("ignores"));
    assert_eq!(step(&mut lp, 203), (1_203, 1));
    let text = pool.dump().to_string();
    assert!(text.contains("  ignores stop: 1203 steps  "), "{text}");
    assert!(text.contains("  ignored it 1\n"), "{text}");
    assert_eq!(step(&mut lp, 70_000), (u16::MAX, 1));
}

/// L7: the `Sync` of a detached task does not park it, since there is no loop to answer.
#[test]
fn sync_while_detached_does_not_park() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::parks_times(100), TaskOptions::new().outlive_connection())
        .unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.connection_closed(1), 1);
    lp.run_pending(PLENTY);
    let task = reap(&mut lp, id).finished();
    assert_eq!((task.steps, task.told), (101, None));
    assert_eq!(pool.dump().counters.syncs, 1);
}

/// U4: a stream that is resumed many times cannot prevent the start of the other tasks of its
/// connection.
#[test]
fn a_resumed_task_runs_after_earlier_submissions_of_its_connection() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let (order, ran) = std::sync::mpsc::channel();
    let stream = lp
        .enqueue(1, {
            let order = order.clone();
            Work::new(move |_, step| {
                order.send("stream").unwrap();
                if step == 1 {
                    TaskReturn::Sync
                } else {
                    TaskReturn::TaskDone
                }
            })
        })
        .unwrap();
    lp.run_pending(PLENTY);
    let fresh = Work::new(move |_, _| {
        order.send("fresh").unwrap();
        TaskReturn::TaskDone
    });
    lp.enqueue(1, fresh).unwrap();
    resume(&mut lp, stream);
    lp.run_pending(PLENTY);
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), ["stream", "fresh", "stream"]);
}

#[test]
fn a_parked_task_counts_as_parked_and_not_as_running() {
    let pool = ThreadPool::builder().threads(0).build().unwrap();
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    let counts = || {
        let counts = pool.counts();
        [counts.queued, counts.running(), counts.parked, counts.ended]
    };
    assert_eq!(counts(), [1, 0, 0, 0]);
    lp.run_pending(PLENTY);
    assert_eq!(counts(), [0, 0, 1, 0]);
    lp.task_sync(id, Resume::Stop);
    assert_eq!(counts(), [0, 1, 0, 0]);
    lp.run_pending(PLENTY);
    assert_eq!(counts(), [0, 0, 0, 1]);
    reap(&mut lp, id);
    assert_eq!(counts(), [0, 0, 0, 0]);
}
