//! `Shutdown::Drain`: the pool accepts no more tasks, and every accepted task runs to its end.

mod util;

use moored::{Dequeued, EnqueueError, JoinError, Shutdown, StopReason, TaskStatus, ThreadPool};
use std::time::Duration;
use util::{Loop, PATIENCE, PLENTY, Work, eventually, pool, reap, within_patience};

/// U14: queued tasks run after a task with a long step.
#[test]
fn queued_tasks_run_during_a_drain() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = lp.occupy(1);
    for conn in 0..50 {
        lp.enqueue(conn % 7, Work::done()).unwrap();
    }
    pool.shutdown(Shutdown::Drain);
    let refused = lp.enqueue(1, Work::done()).unwrap_err();
    assert!(matches!(refused, EnqueueError::ShuttingDown(_)));
    let mut late = Loop::new(&pool);
    assert!(late.enqueue(1, Work::done()).is_err());
    gate.open();
    pool.join_timeout(PATIENCE).unwrap();
    for (_, end) in lp.ends(51) {
        assert_eq!(end.finished().told, None);
    }
    assert_eq!(pool.counts().threads, 0);
}

/// U14: parked tasks are served until they end, and `join_timeout` waits for them.
#[test]
fn parked_tasks_are_served_until_they_end() {
    for (threads, limit) in [(1, false), (2, false), (2, true)] {
        let mut builder = ThreadPool::builder().threads(threads);
        if limit {
            builder = builder.max_running_per_connection(1);
        }
        let pool = builder.build().unwrap();
        let mut lp = Loop::new(&pool);
        for conn in 0..20 {
            lp.enqueue(conn % 10, Work::parks_times(3)).unwrap();
        }
        lp.parked(10);
        pool.shutdown(Shutdown::Drain);
        std::thread::scope(|scope| {
            let joins = scope.spawn(|| pool.join_timeout(PATIENCE));
            // `parked` has not resumed these tasks.
            for conn in 0..10 {
                for id in lp.tasks_of(conn) {
                    lp.task_sync(id, moored::Resume::Continue);
                }
            }
            for (_, end) in lp.ends(20) {
                assert_eq!(end.finished().steps, 4);
            }
            assert_eq!(joins.join().unwrap(), Ok(()));
        });
        assert!(lp.is_empty());
    }
}

/// U14: the limit of `join_timeout` holds, and a cancellation ends the remaining tasks.
#[test]
fn a_pool_that_drains_can_be_cancelled() {
    for threads in [0, 1] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        let id = lp.enqueue(1, Work::parks()).unwrap();
        lp.run_pending(PLENTY);
        lp.parked(1);
        pool.shutdown(Shutdown::Drain);
        let left = pool.join_timeout(Duration::ZERO).unwrap_err();
        assert!(matches!(left, JoinError::StillRunning(_)));
        assert!(left.to_string().contains(&id.to_string()), "{left}");
        pool.shutdown(Shutdown::Drain); // nothing changes
        assert!(lp.take_ready().is_empty(), "it is not asked to stop");
        pool.shutdown(Shutdown::Cancel);
        assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
        assert!(lp.take_ready().count() <= 1);
        assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);
    }
}

/// U14, S1: a drain of a pool without tasks, and a second drain.
#[test]
fn an_idle_pool_drains_at_once() {
    within_patience("the joins", || {
        for round in 0..200 {
            let pool = pool(round % 4);
            let mut lp = Loop::new(&pool);
            for conn in 0..round % 3 {
                lp.enqueue(conn as u64, Work::done()).unwrap();
            }
            pool.shutdown(Shutdown::Drain);
            pool.shutdown(Shutdown::Drain);
            assert_eq!(pool.join_timeout(PLENTY), Ok(()));
            assert_eq!(pool.join_timeout(Duration::ZERO), Ok(()));
            lp.ends(round % 3);
        }
    });
}

/// U14: without threads, the thread that joins runs the queued tasks, and the loop serves the
/// others.
#[test]
fn a_pool_without_threads_drains() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::done()).unwrap();
    lp.enqueue(2, Work::parks_times(2)).unwrap();
    pool.shutdown(Shutdown::Drain);
    std::thread::scope(|scope| {
        let joins = scope.spawn(|| pool.join_timeout(PATIENCE));
        while !lp.is_empty() {
            for id in lp.news() {
                match lp.task_status(id) {
                    Some(TaskStatus::Syncing(parked)) => parked.resume(),
                    Some(TaskStatus::Finished(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            lp.run_pending(PLENTY);
        }
        assert_eq!(joins.join().unwrap(), Ok(()));
    });
    assert_eq!(pool.dump().counters.finished, 2);
}

/// U14: the last task may end on a thread that is not a worker.
#[test]
fn the_last_task_may_be_dequeued() {
    for threads in [0, 1] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        let gate = lp.occupy(threads);
        let last = lp.enqueue(9, Work::done()).unwrap();
        pool.shutdown(Shutdown::Drain);
        assert_eq!(lp.dequeue(last), Dequeued::Removed);
        gate.open();
        assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    }
}

/// U14: the drop of a pool does not wait for clients.
#[test]
fn the_drop_of_a_pool_that_drains_cancels() {
    let mut lp = within_patience("the pool's drop", || {
        let pool = pool(1);
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::parks()).unwrap();
        lp.parked(1);
        pool.shutdown(Shutdown::Drain);
        drop(pool);
        lp
    });
    assert_eq!(lp.end().stopped().0, StopReason::PoolShutdown);
}

/// U14: the drop of a service ends its tasks.
#[test]
fn a_pool_drains_after_the_drop_of_a_service() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    pool.shutdown(Shutdown::Drain);
    drop(lp);
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    eventually("the workers have ended", || pool.counts().threads == 0);
}
