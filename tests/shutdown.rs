//! The end of a pool: `shutdown`, `join_timeout`, and drops in any order, on any thread.

mod util;

use moored::{
    EnqueueError, JoinError, Shutdown, Status, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool,
};
use std::sync::Arc;
use std::time::Duration;
use util::{Alive, Count, Gate, Loop, PATIENCE, PLENTY, Work, eventually, pool, reap, within_patience};

/// L8, L6: every task stops: queued, waiting, parked, running and outliving tasks.
#[test]
fn a_shutdown_stops_every_task() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    for _ in 0..50 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    lp.ends(50);
    let outliving = || TaskOptions::new().outlive_connection();
    for conn in 0..20 {
        lp.enqueue_with(conn, Work::parks(), outliving()).unwrap();
    }
    lp.parked(20);
    let gate = Gate::guarded();
    for conn in [30, 31] {
        let gate = gate.clone();
        let run = Work::stubborn(move |cx, _| {
            gate.pass();
            assert!(cx.is_stopping());
            TaskReturn::Stopped
        });
        lp.enqueue_with(conn, run, outliving()).unwrap();
    }
    gate.wait_for(2);
    lp.connection_closed(30);
    let queued: Vec<_> = (0..100)
        .map(|conn| lp.enqueue(conn, Work::done()).unwrap())
        .collect();
    pool.shutdown(Shutdown::Cancel);
    lp.connection_closed(u64::MAX); // the loop calls its service
    assert!(
        queued.iter().all(|&id| lp.peek(id) == Some(Status::Stopped)),
        "queued tasks end at once"
    );
    gate.open();
    for (id, end) in lp.ends(122) {
        let (why, task) = end.stopped();
        assert_eq!(why, StopReason::PoolShutdown);
        let never_ran = queued.contains(&id);
        assert_eq!((task.steps == 0, task.told.is_none()), (never_ran, never_ran));
    }
    assert!(lp.is_empty());
    eventually("the workers end", || pool.counts().threads == 0);
}

/// S10: a second shutdown, and a shutdown of a pool without tasks.
#[test]
fn a_shutdown_may_be_repeated() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    pool.shutdown(Shutdown::Cancel);
    pool.shutdown(Shutdown::Cancel);
    assert_eq!(lp.end().stopped().0, StopReason::PoolShutdown);
    pool.shutdown(Shutdown::Cancel);
    pool.join_timeout(PATIENCE).unwrap();
    pool.join_timeout(Duration::ZERO).expect("there is no task");
    drop(pool);
    assert!(lp.take_ready().is_empty());
}

#[test]
fn a_pool_after_its_shutdown_returns_every_task() {
    let pool = pool(1);
    let mut before = Loop::new(&pool);
    pool.shutdown(Shutdown::Cancel);
    let mut after = Loop::new(&pool);
    for lp in [&mut before, &mut after] {
        let refused = lp.enqueue(1, Work::done()).unwrap_err();
        assert!(matches!(refused, EnqueueError::ShuttingDown(_)) && !refused.is_full());
        assert_eq!(refused.into_task().steps, 0);
    }
    drop(pool);
    assert!(matches!(
        before.enqueue(1, Work::done()),
        Err(EnqueueError::ShuttingDown(_))
    ));
    assert!(before.is_empty() && after.is_empty());
}

/// U14, S9: each task runs, is stopped and announced as stopped, or is refused and returned. A drain
/// stops none.
#[test]
fn enqueueing_races_a_shutdown() {
    for (round, how) in (0..200).zip([Shutdown::Cancel, Shutdown::Drain].into_iter().cycle()) {
        let pool = pool(2);
        let alive = Alive::new();
        std::thread::scope(|scope| {
            let (pool, alive) = (&pool, &alive);
            let started = Count::new();
            let told = Arc::clone(&started);
            scope.spawn(move || {
                let mut lp = Loop::new(pool);
                let make = || Work::parks_times(1).holding(alive.token());
                let (accepted, refused) = lp.enqueue_until_refused(make, &told);
                assert!(matches!(refused, EnqueueError::ShuttingDown(_)), "{refused:?}");
                drop(refused);
                lp.ends(accepted);
                assert!(lp.is_empty());
            });
            started.wait_for(round / 2 * 5);
            pool.shutdown(how);
            assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
        });
        assert_eq!(alive.count(), 0);
        let counters = pool.dump().counters;
        assert_eq!(counters.accepted, counters.finished + counters.stopped.total());
        assert!(how == Shutdown::Cancel || counters.stopped.total() == 0);
    }
}

/// L6, L3: a parked task does not delay the end of its pool, and is asked to stop.
#[test]
fn dropping_a_pool_with_parked_tasks_is_immediate() {
    let mut lp = within_patience("the pool's drop", || {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        for conn in 0..10 {
            lp.enqueue(conn, Work::parks()).unwrap();
        }
        lp.parked(10);
        drop(pool);
        lp
    });
    for (_, end) in lp.ends(10) {
        assert_eq!(end.stopped_as_told(), StopReason::PoolShutdown);
    }
}

/// S1: the pool is dropped while workers start, search for work, or go to sleep.
#[test]
fn dropping_a_pool_whose_workers_go_to_sleep_returns() {
    within_patience("a drop", || {
        for round in 0..500 {
            let pool = pool(round % 3 + 1);
            let mut lp = Loop::new(&pool);
            for conn in 0..round % 4 {
                lp.enqueue(conn as u64, Work::done()).unwrap();
            }
            if round % 2 == 0 {
                lp.ends(round % 4);
            }
        }
    });
}

/// S10: the error names a stuck task when the timeout is over. After the task has ended, the join
/// succeeds.
#[test]
fn join_timeout_names_the_tasks_that_still_run() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let named = lp
        .enqueue_with(1, Work::at(&gate), TaskOptions::new().name("the stuck task"))
        .unwrap();
    let plain = lp.enqueue(2, Work::at(&gate)).unwrap();
    // This task waits for a worker, and holds none.
    lp.enqueue(3, Work::done()).unwrap();
    gate.wait_for(2);
    let error = pool.join_timeout(Duration::from_millis(5)).unwrap_err();
    let JoinError::StillRunning(tasks) = &error else {
        panic!("{error:?}")
    };
    let mut tasks = tasks.clone();
    for task in &mut tasks {
        let end = task.find(" on worker ").expect("the worker of a step");
        task.truncate(end);
    }
    let expected = [
        format!("task {named} (the stuck task), in a step"),
        format!("task {plain}, in a step"),
    ];
    assert_eq!(tasks, expected);
    assert!(error.to_string().contains("the stuck task"), "{error}");
    gate.open();
    pool.join_timeout(Duration::MAX)
        .expect("the workers continue, and a second call waits again");
    assert_eq!(pool.counts().threads, 0);
    assert_eq!(lp.ends(3).len(), 3, "the ends are still announced");
}

/// S26: an error at once instead of a deadlock, in a step and in a thread hook.
#[test]
fn a_worker_cannot_join_its_own_pool() {
    let pool = Arc::new(pool(1));
    let mut lp = Loop::new(&pool);
    let (tell, told) = std::sync::mpsc::channel();
    let own = Arc::clone(&pool);
    let join = Work::stubborn(move |_, _| {
        tell.send(own.join_timeout(PATIENCE)).unwrap();
        TaskReturn::TaskDone
    });
    lp.enqueue(1, join).unwrap();
    assert_eq!(
        told.recv_timeout(PATIENCE).expect("no deadlock"),
        Err(JoinError::OnWorker)
    );
    assert!(JoinError::OnWorker.to_string().contains("another thread"));
    assert!(
        lp.enqueue(2, Work::done()).is_err(),
        "`join_timeout` shuts the pool down"
    );
    lp.end().finished();
}

/// S26: the loop's own thread may wait, since the workers do not need it.
#[test]
fn a_loop_may_join_its_pool() {
    within_patience("the join", || {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        for conn in 0..100 {
            lp.enqueue(conn, Work::parks()).unwrap();
        }
        pool.join_timeout(Duration::MAX).unwrap();
        lp.ends(100);
    });
}

/// A server shuts down: one thread ends the pool while a task is parked and its loop has borrowed
/// it.
#[test]
fn a_borrowed_task_ends_after_the_workers_have_ended() {
    for (threads, answer) in [(0, 0), (1, 0), (1, 1), (2, 2), (2, 3)] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        let alive = Alive::new();
        let id = lp
            .enqueue(1, Work::parks_times(1).holding(alive.token()))
            .unwrap();
        lp.run_pending(PLENTY);
        lp.parked(1);
        let Some(TaskStatus::Syncing(point)) = lp.service.task_status(id) else {
            panic!("not parked")
        };
        within_patience("the pool's drop", move || drop(pool));
        match answer {
            0 => {} // not answered
            1 => point.resume(),
            2 => point.stop(),
            _ => {
                drop(lp);
                eventually("the task is dropped", || alive.count() == 0);
                continue;
            }
        }
        assert_eq!(lp.news(), [id]);
        assert_eq!(reap(&mut lp, id).stopped_as_told(), StopReason::PoolShutdown);
    }
}

/// The same while the loop and the workers are at full speed.
#[test]
fn the_end_of_a_pool_races_a_loop_that_answers() {
    for round in 0..200 {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        for conn in 0..20 {
            lp.enqueue(conn, Work::parks()).unwrap();
        }
        let finisher = std::thread::spawn({
            let seen = Arc::clone(&lp.wakes);
            move || {
                eventually("the loop works", || seen.total() > round % 20);
                drop(pool);
            }
        });
        for (_, end) in lp.ends(20) {
            assert_eq!(end.stopped().0, StopReason::PoolShutdown);
        }
        finisher.join().unwrap();
    }
}

/// The thread of `join_timeout` that notifies the loops calls wakes. If a wake drops the pool, the
/// drop does not wait, because the workers end after the wake.
#[test]
fn a_wake_of_the_thread_that_notifies_the_loops_may_drop_the_pool() {
    within_patience("a drop of the pool inside a wake", || {
        let pool = Arc::new(pool(1));
        let (owner, to_drop) = std::sync::mpsc::channel::<Arc<ThreadPool>>();
        let (dropped, is_dropped) = std::sync::mpsc::channel();
        let to_drop = std::sync::Mutex::new(to_drop);
        let service = pool.service::<Work>(move || {
            if let Ok(pool) = to_drop.lock().unwrap().recv() {
                drop(pool);
                dropped
                    .send(std::thread::current().name().map(str::to_owned))
                    .unwrap();
            }
        });
        let joined = pool.join_timeout(Duration::ZERO);
        assert!(matches!(joined, Err(JoinError::StillRunning(_))), "{joined:?}");
        owner.send(pool).unwrap();
        let thread = is_dropped.recv().unwrap();
        assert!(
            thread.as_deref().is_some_and(|name| name.starts_with("end of ")),
            "{thread:?}"
        );
        drop(owner);
        drop(service);
    });
}
