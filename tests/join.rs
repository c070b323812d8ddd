//! `join_timeout` returns in time even if code of the user blocks, and names the tasks and threads
//! for which the pool waits.

mod util;

use moored::{JoinError, Shutdown, TaskReturn, ThreadPool};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use util::{Gate, Loop, PATIENCE, Work, eventually, hasty_pool, within_patience};

/// Joins the pool repeatedly, for a short time each, until the error has these names.
#[track_caller]
fn is_kept_by(pool: &Arc<ThreadPool>, names: &[&str]) {
    let (own, names) = (Arc::clone(pool), names.join("; "));
    within_patience("the join", move || {
        eventually(&format!("it is kept by {names}"), || {
            let error = own.join_timeout(Duration::from_millis(1)).unwrap_err();
            error.to_string() == format!("still running: {names}")
        });
    });
}

thread_local! {
    static LAST: RefCell<Option<Slow>> = const { RefCell::new(None) };
}

/// A value whose drop waits at a gate.
struct Slow(Gate);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.pass();
    }
}

/// U12, U13: the destructor of a thread-local took 3 s, and so did a join with a limit of 100 ms.
#[test]
fn a_join_does_not_wait_for_the_destructor_of_a_thread_local() {
    let gate = Gate::new();
    let slow = gate.clone();
    let builder = ThreadPool::builder().threads(2).on_thread_start(move |worker| {
        if worker == 1 {
            LAST.set(Some(Slow(slow.clone())));
        }
    });
    let pool = Arc::new(builder.build().unwrap());
    let _guard = gate.guard();
    is_kept_by(&pool, &["worker 1, dropping its thread-locals"]);
    gate.wait_for(1);
    gate.open();
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
}

/// U12, U13: a thread hook blocks.
#[test]
fn a_join_names_the_worker_in_a_hook() {
    for stops in [false, true] {
        let gate = Gate::new();
        let at_gate = gate.clone();
        let hook = move |_| at_gate.pass();
        let builder = ThreadPool::builder().threads(2);
        let (builder, name) = if stops {
            (builder.on_thread_stop(hook), "on_thread_stop")
        } else {
            (builder.on_thread_start(hook), "on_thread_start")
        };
        let pool = Arc::new(builder.build().unwrap());
        let _guard = gate.guard();
        let names = [0, 1].map(|worker| format!("worker {worker}, in {name}"));
        is_kept_by(&pool, &[&names[0], &names[1]]);
        gate.open();
        assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    }
}

/// U12, U13: a wake blocks on a worker.
#[test]
fn a_join_names_the_worker_in_a_wake() {
    let pool = Arc::new(util::pool(1));
    let gate = Gate::guarded();
    let at_gate = gate.clone();
    let mut service = pool.service(move || at_gate.pass());
    service.enqueue(1, Work::done()).unwrap();
    gate.wait_for(1);
    is_kept_by(&pool, &["worker 0, in a wake-up of a loop"]);
    gate.open();
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
}

/// U12, U13: a wake blocks in the shutdown that `join_timeout` begins.
#[test]
fn a_join_does_not_wait_for_the_wake_of_its_own_shutdown() {
    let pool = Arc::new(util::pool(1));
    let gate = Gate::guarded();
    let at_gate = gate.clone();
    let mut service = pool.service(move || at_gate.pass());
    is_kept_by(&pool, &["the shutdown, in a wake-up of a loop"]);
    gate.wait_for(1);
    assert!(
        service.enqueue(1, Work::done()).is_err(),
        "the pool is shut down in this case too"
    );
    gate.open();
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
}

/// U13: the error named one task of four.
#[test]
fn a_join_names_every_task_that_does_not_stop() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let may_stop = Arc::new(AtomicBool::new(false));
    let ids: Vec<_> = (0..4)
        .map(|conn| {
            let may_stop = Arc::clone(&may_stop);
            let stubborn = Work::stubborn(move |_, _| {
                if may_stop.load(SeqCst) {
                    TaskReturn::Stopped
                } else {
                    TaskReturn::Continue
                }
            });
            lp.enqueue(conn, stubborn).unwrap()
        })
        .collect();
    eventually("all have started", || {
        let counts = pool.counts();
        counts.queued == 0 && counts.running() == 4
    });
    let error = pool.join_timeout(Duration::from_millis(1)).unwrap_err();
    may_stop.store(true, SeqCst);
    let JoinError::StillRunning(names) = &error else {
        panic!("{error:?}")
    };
    for id in ids {
        let is_it = |name: &&String| name.starts_with(&format!("task {id}, "));
        assert_eq!(names.iter().filter(is_it).count(), 1, "{id}: {error}");
    }
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    lp.ends(4);
}

/// U13, U14: the error names the tasks for which a drain waits.
#[test]
fn a_join_names_the_tasks_for_which_a_drain_waits() {
    let pool = Arc::new(
        ThreadPool::builder()
            .threads(1)
            .max_running_per_connection(1)
            .build()
            .unwrap(),
    );
    let mut lp = Loop::new(&pool);
    let [parks, waits] = [Work::parks_times(1), Work::done()].map(|work| lp.enqueue(1, work).unwrap());
    lp.parked(1);
    pool.shutdown(Shutdown::Drain);
    is_kept_by(
        &pool,
        &[
            &format!("task {parks}, parked"),
            &format!("task {waits}, not started"),
        ],
    );
    lp.task_sync(parks, moored::Resume::Continue);
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    lp.ends(2);
}
