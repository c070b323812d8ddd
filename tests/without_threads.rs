//! `threads(0)`: the loop runs the steps itself, at any time and for any duration.

mod util;

use moored::{
    JoinError, Shutdown, Status, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool, Timeout,
};
use std::sync::Arc;
use std::time::Duration;
use util::{Alive, Gate, Loop, PLENTY, Work, pool, reap};

#[test]
fn nothing_runs_before_run_pending() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::done()).unwrap();
    assert!(lp.take_ready().is_empty());
    assert_eq!((lp.peek(id), pool.counts().threads), (Some(Status::Queued), 0));
    assert_eq!(lp.run_pending(PLENTY), 1);
    assert_eq!(lp.run_pending(PLENTY), 0);
    reap(&mut lp, id).finished();
}

#[test]
fn steps_run_on_the_loops_own_thread() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let here = std::thread::current().id();
    lp.enqueue(
        1,
        Work::new(move |cx, _| {
            assert_eq!((std::thread::current().id(), cx.worker()), (here, None));
            TaskReturn::TaskDone
        }),
    )
    .unwrap();
    lp.run_pending(PLENTY);
    lp.end().finished();
}

#[test]
fn a_budget_of_zero_runs_one_step_of_one_task() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::new(|_, _| TaskReturn::Continue)).unwrap();
    lp.enqueue(2, Work::done()).unwrap();
    for steps in 1..=10 {
        assert_eq!(lp.run_pending(Duration::ZERO), 1);
        assert_eq!(pool.dump().counters.steps, steps);
    }
    assert_eq!(lp.peek(id), Some(Status::Running));
}

#[test]
fn a_budget_is_exceeded_by_one_step_at_most() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let endless = Work::new(move |_, _| {
        hand.advance(Duration::from_millis(3));
        TaskReturn::Continue
    });
    let id = lp.enqueue(1, endless).unwrap();
    lp.run_pending(Duration::from_millis(10));
    let steps = pool.dump().counters.steps;
    assert!(
        (3..=4).contains(&steps),
        "{steps} steps of 3 ms with a budget of 10 ms"
    );
    lp.dequeue(id);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::Dequeued);
}

#[test]
fn the_loop_must_not_sleep_while_steps_are_pending() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    assert_eq!(lp.poll_timeout(), None);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    lp.run_pending(PLENTY);
    assert_eq!(lp.news(), [id]);
    assert_eq!(
        lp.poll_timeout(),
        None,
        "the task is parked, so there is nothing to run"
    );
    lp.dequeue(id);
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    lp.run_pending(PLENTY);
    assert_eq!(lp.news(), [id]);
    assert_eq!(lp.poll_timeout(), None);
}

/// U9: a loop that polls, calls `take_ready`, and then runs steps slept for ever: the end of a
/// task, or a park with a timeout, was not announced yet, and no other thread could wake the loop.
#[test]
fn the_loop_must_not_block_while_something_is_unannounced() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let second = Duration::from_secs(1);
    for order in 0..3 {
        // This loop has no wake-up.
        let mut service = pool.service(|| {});
        let parks = service.enqueue_with(1, Work::parks(), TaskOptions::new().sync_timeout(second));
        let parks = parks.unwrap();
        let mut ended = None;
        for turn in 0..20 {
            match service.poll_timeout() {
                Some(timeout) => hand.advance(timeout),
                None => panic!("the loop blocks for ever: {order}, {turn}, {ended:?}"),
            }
            if order == 0 {
                service.run_pending(PLENTY);
            }
            let ready: Vec<_> = service.take_ready().map(|ready| ready.id).collect();
            if order == 1 {
                service.run_pending(PLENTY);
            }
            for id in ready {
                assert_eq!(id, parks);
                if let Some(TaskStatus::Stopped(reason, _)) = service.task_status(id) {
                    ended = Some(reason);
                }
            }
            if order == 2 {
                service.run_pending(PLENTY);
            }
            if ended.is_some() {
                break;
            }
        }
        assert_eq!(ended, Some(StopReason::TimedOut(Timeout::Sync)));
        assert_eq!(service.poll_timeout(), None);
    }
}

/// U9: an ended task that the loop has not reaped through `take_ready` is still unannounced.
#[test]
fn a_cancelled_task_must_be_announced_before_the_loop_blocks() {
    let pool = pool(0);
    let mut service = pool.service(|| {});
    let id = service.enqueue(1, Work::done()).unwrap();
    service.dequeue(id);
    assert_eq!(service.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(service.take_ready().count(), 1);
    assert_eq!(service.poll_timeout(), None);
}

#[test]
fn a_loop_that_follows_poll_timeout_serves_streams_without_any_thread() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in 0..100 {
        lp.enqueue(conn, Work::parks_times(20)).unwrap();
    }
    let mut ended = 0;
    while ended < 100 {
        assert_eq!(
            lp.poll_timeout(),
            Some(Duration::ZERO),
            "the loop would sleep for ever"
        );
        lp.run_pending(Duration::from_micros(50));
        for id in lp.take_ready().map(|ready| ready.id) {
            match lp.task_status(id) {
                Some(moored::TaskStatus::Syncing(point)) => point.resume(),
                Some(moored::TaskStatus::Finished(task)) => {
                    assert_eq!(task.steps, 21);
                    ended += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn any_service_runs_the_tasks_of_the_whole_pool() {
    let pool = pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::<Work>::new(&pool));
    let id = one.enqueue(1, Work::done()).unwrap();
    assert_eq!(other.run_pending(PLENTY), 1);
    assert!(other.take_ready().is_empty());
    assert_eq!(one.news(), [id]);
}

#[test]
fn with_threads_the_loop_helps_the_workers() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let stuck = lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    for _ in 0..10 {
        lp.enqueue(2, Work::done()).unwrap();
    }
    assert_eq!(lp.run_pending(PLENTY), 10, "the only worker is stuck");
    lp.ends(10);
    assert_eq!(lp.peek(stuck), Some(Status::Running));
}

#[test]
fn the_thread_that_ends_the_pool_runs_the_remaining_tasks() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let parked = lp.enqueue(1, Work::parks().holding(alive.token())).unwrap();
    lp.run_pending(PLENTY);
    let queued = lp.enqueue(2, Work::done().holding(alive.token())).unwrap();
    pool.join_timeout(PLENTY).unwrap();
    assert_eq!(
        reap(&mut lp, parked).stopped().1.told,
        Some(StopReason::PoolShutdown)
    );
    assert_eq!(reap(&mut lp, queued).stopped().1.steps, 0);
    assert_eq!(alive.count(), 0);

    let pool = util::pool(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks().holding(alive.token())).unwrap();
    lp.run_pending(PLENTY);
    drop(lp);
    drop(pool);
    assert_eq!(alive.count(), 0);
}

/// S10: the error names a task that does not stop.
#[test]
fn join_timeout_names_the_tasks_that_do_not_stop() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let stubborn = Work::stubborn(move |_, step| {
        hand.advance(Duration::from_secs(1));
        match step {
            1 => TaskReturn::Sync,
            2..100 => TaskReturn::Continue,
            _ => TaskReturn::Stopped,
        }
    });
    let id = lp.enqueue(1, stubborn).unwrap();
    lp.run_pending(PLENTY);
    pool.shutdown(Shutdown::Cancel);
    let _ = lp.take_ready().count(); // until this the parked task is in its completion ring
    let error = pool.join_timeout(Duration::from_secs(10)).unwrap_err();
    let expected = format!("task {id}, waiting for its next turn");
    assert_eq!(error, JoinError::StillRunning(vec![expected]));
    pool.join_timeout(PLENTY).expect("the task stops in the end");
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);
}

/// S26: a join inside a step that the loop runs returns at once.
#[test]
fn a_step_that_the_loop_runs_may_end_the_pool() {
    let pool = Arc::new(pool(0));
    let mut lp = Loop::new(&pool);
    let own = Arc::clone(&pool);
    let other = lp.enqueue(2, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    let ends_it = Work::stubborn(move |cx, _| {
        let _ = own.join_timeout(Duration::from_secs(1));
        assert_eq!(cx.stop_reason(), Some(StopReason::PoolShutdown));
        TaskReturn::Stopped
    });
    let id = lp.enqueue(1, ends_it).unwrap();
    lp.run_pending(PLENTY);
    for id in [id, other] {
        assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);
    }
}
