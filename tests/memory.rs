//! Memory does not grow: while many clients come and go, in loops that never call `take_ready`, and
//! while pools come and go. The numbers are those of the process, so the tests of this file run one
//! after the other.
#![cfg(target_os = "linux")]

#[path = "util/process.rs"]
mod process;
mod util;

use moored::{EnqueueError, TaskId, TaskOptions, TaskStatus, ThreadPool};
use process::{file_descriptors, is_address_sanitized, pool_threads, resident_bytes};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use util::{Alive, Loop, PLENTY, Work, eventually, pool, reap};

/// Memory that may change without the test: caches of the allocator, and the test harness.
const SLACK: u64 = 1 << 20;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Repeats an action, and compares the memory after a tenth of the repetitions with the memory at
/// the end. Even 100 bytes kept for each repetition are found.
#[track_caller]
fn does_not_grow(times: u64, mut act: impl FnMut(u64)) {
    (0..times / 10).for_each(&mut act);
    let before = resident_bytes();
    (times / 10..times).for_each(&mut act);
    let after = resident_bytes();
    assert!(
        after < before + SLACK || is_address_sanitized(),
        "grew from {before} to {after} bytes"
    );
}

/// An event was kept for each task that was cancelled before it ran, if the loop reaps by id and
/// never calls `take_ready`.
#[test]
fn a_loop_that_cancels_and_reaps_by_id_does_not_grow() {
    let _alone = alone();
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    does_not_grow(300_000, |n| {
        let id = lp.enqueue(n % 7, Work::done()).unwrap();
        lp.dequeue(id);
        reap(&mut lp, id);
    });
}

/// A task of 4 KiB, which is large compared with the memory that the pool needs for it.
fn large(alive: &Alive) -> Work {
    let (token, ballast) = (alive.token(), vec![1_u8; 4096]);
    Work::new(move |_, _| {
        if ballast[0] == 1 {
            moored::TaskReturn::TaskDone
        } else {
            moored::TaskReturn::Sync
        }
    })
    .holding(token)
}

/// S17: clients come, enqueue and disconnect while all workers are busy. Their tasks are reaped,
/// and no entry of them remains.
#[test]
fn clients_that_come_and_go_while_all_workers_are_busy_leave_nothing() {
    let _alone = alone();
    let pool = pool(2);
    let fds_before = file_descriptors();
    let mut lp = Loop::new(&pool);
    let (alive, gate) = (Alive::new(), lp.occupy(2));
    does_not_grow(10_000, |cycle| {
        let conn = 10 + cycle;
        for _ in 0..3 {
            lp.enqueue_with(
                conn,
                large(&alive),
                TaskOptions::new().deadline(Duration::from_secs(3600)),
            )
            .unwrap();
        }
        assert_eq!(lp.connection_closed(conn), 3);
        for id in lp.take_ready().map(|ready| ready.id) {
            reap(&mut lp, id).stopped();
        }
        assert_eq!((alive.count(), lp.len(), lp.poll_timeout()), (0, 2, None));
    });
    let counts = pool.counts();
    assert_eq!(
        [counts.queued, counts.running(), counts.parked, counts.ended],
        [0, 2, 0, 0]
    );
    gate.open();
    lp.ends(2);
    assert_eq!(pool.dump().counters.steps, 2);
    assert_eq!((pool_threads(), file_descriptors()), (2, fds_before));
}

/// S17: the same with a loop that does not reap. `max_tasks` bounds the memory.
#[test]
fn tasks_that_are_not_reaped_are_bounded_by_max_tasks() {
    let _alone = alone();
    let pool = ThreadPool::builder().threads(0).max_tasks(100).build().unwrap();
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let mut refused = 0;
    does_not_grow(20_000, |conn| {
        match lp.enqueue(conn, large(&alive)) {
            Ok(_) => drop(lp.connection_closed(conn)),
            Err(EnqueueError::TooManyTasks(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(alive.count() <= 100);
    });
    assert_eq!(refused, 20_000 - 100);
    assert_eq!(lp.ends(100).len(), 100);
    assert_eq!(alive.count(), 0);
}

/// A loop may look at its tasks by their ids only. Events that it never reads must not accumulate.
#[test]
fn a_loop_that_polls_and_never_calls_take_ready_does_not_grow() {
    let _alone = alone();
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    does_not_grow(100_000, |conn| {
        let id = lp.enqueue(conn, Work::parks_times(1)).unwrap();
        lp.run_pending(PLENTY);
        util::resume(&mut lp, id);
        lp.run_pending(PLENTY);
        reap(&mut lp, id).finished();
    });
    assert!(lp.take_ready().is_empty());
}

/// The same with workers, with tasks in flight, and with answers by id.
#[test]
fn a_loop_with_workers_that_never_calls_take_ready_does_not_grow() {
    let _alone = alone();
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let mut open: VecDeque<TaskId> = VecDeque::new();
    does_not_grow(100_000, |conn| {
        open.push_back(lp.enqueue(conn, Work::parks_times(1)).unwrap());
        while open.len() > 50 {
            let id = open.pop_front().expect("at least 50 tasks");
            match lp.task_status(id) {
                Some(TaskStatus::Finished(_)) => {}
                Some(TaskStatus::Syncing(point)) => {
                    point.resume();
                    open.push_back(id);
                }
                Some(_) => {
                    open.push_back(id);
                    std::thread::yield_now();
                }
                None => panic!("{id} is lost"),
            }
        }
    });
}

/// Streams without an end: a `Sync` keeps no memory, with and without a timeout.
#[test]
fn a_stream_that_never_ends_does_not_grow() {
    let _alone = alone();
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    lp.enqueue_with(
        1,
        Work::parks(),
        TaskOptions::new().sync_timeout(Duration::from_secs(3600)),
    )
    .unwrap();
    lp.enqueue(2, Work::parks()).unwrap();
    does_not_grow(100_000, |_| {
        lp.run_pending(PLENTY);
        for id in lp.take_ready().map(|ready| ready.id) {
            util::resume(&mut lp, id);
        }
    });
}

/// S17: threads, descriptors and bytes of pools and services that come and go, with tasks that have
/// not ended.
#[test]
fn pools_and_services_that_come_and_go_leave_nothing() {
    let _alone = alone();
    let fds_before = file_descriptors();
    let (alive, keeper) = (Alive::new(), pool(0));
    does_not_grow(500, |round| {
        let pool = pool(2);
        let (mut lp, mut guest) = (Loop::new(&pool), Loop::new(&keeper));
        for conn in 0..8 {
            lp.enqueue(conn, Work::parks().holding(alive.token())).unwrap();
            guest.enqueue(conn, large(&alive)).unwrap();
        }
        if round % 2 == 0 {
            drop(pool);
        }
    });
    eventually("all tasks are dropped", || alive.count() == 0);
    eventually("all threads have ended", || pool_threads() == 0);
    assert_eq!(file_descriptors(), fds_before);
    assert_eq!(keeper.dump().counts.queued, 0);
}

/// S17: one pool, and a service for each client: the memory of a dropped service is freed in the
/// pool, too.
#[test]
fn services_that_come_and_go_leave_nothing_in_their_pool() {
    let _alone = alone();
    let pool = pool(0);
    does_not_grow(6_000, |_| {
        let mut lp = Loop::new(&pool);
        let id = lp.enqueue(1, Work::done()).unwrap();
        lp.run_pending(PLENTY);
        reap(&mut lp, id).finished();
    });
}

/// U6: an idle service took 11 KB, most of it for queues that it never used.
#[test]
fn an_idle_service_takes_under_1536_bytes() {
    const SERVICES: u64 = 10_000;
    let _alone = alone();
    let pool = pool(2);
    let before = resident_bytes();
    let services: Vec<moored::Service<Work>> = (0..SERVICES).map(|_| pool.service(|| {})).collect();
    let each = (resident_bytes() - before) / SERVICES;
    assert!(each < 1536 || is_address_sanitized(), "{each} bytes");
    drop(services);
}
