//! A dump can be made anywhere and at any time, and does not block other threads.

mod util;

use moored::{BoxTask, PoolDump, Resume, Status, TaskReturn, TaskStatus, ThreadPool, task_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use util::{Count, Loop, Work, panic_silently, pool, within_patience};

/// S27: in a step, in a `Drop` on a worker and on the loop's thread, in a wake-up, and while a task
/// is borrowed.
#[test]
fn a_dump_can_be_taken_from_anywhere() {
    struct DumpsOnDrop(Arc<ThreadPool>, Arc<Count>);
    impl Drop for DumpsOnDrop {
        fn drop(&mut self) {
            self.1.add(1);
            assert!(!self.0.dump().pool.is_empty() && !format!("{:?}", self.0).is_empty());
        }
    }
    within_patience("a dump", || {
        let pool = Arc::new(pool(2));
        let dumps = Count::new();
        let (woken, on_wake) = (Arc::clone(&pool), Arc::clone(&dumps));
        let mut service = pool.service::<BoxTask>(move || {
            on_wake.add(1);
            drop(woken.dump());
        });
        for n in 0..50 {
            let on_drop = DumpsOnDrop(Arc::clone(&pool), Arc::clone(&dumps));
            let step = task_fn(move |cx| {
                let dump = on_drop.0.dump();
                assert!(
                    dump.tasks
                        .iter()
                        .any(|task| task.id == cx.task_id() && task.worker.map(usize::from) == cx.worker())
                );
                match n % 3 {
                    0 => panic_silently(), // dropped on the worker
                    1 if !cx.is_stopping() => TaskReturn::Sync,
                    _ => TaskReturn::TaskDone,
                }
            });
            service.enqueue(n, step).unwrap();
        }
        let mut ended = 0;
        while ended < 50 {
            for id in service.take_ready().map(|ready| ready.id) {
                match service.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => {
                        let dump = pool.dump();
                        assert!(
                            dump.tasks
                                .iter()
                                .any(|task| task.id == id && task.status == Status::Syncing)
                        );
                        point.stop();
                    }
                    Some(TaskStatus::Finished(_) | TaskStatus::Stopped(..) | TaskStatus::Panicked(_)) => {
                        ended += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(dumps.get() > 50);
    });
}

/// Asks the threads of a scope to end, even if the test panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// S27: dumps block no other thread, and each dump is complete.
#[test]
fn four_threads_dump_in_a_tight_loop_under_load() {
    let pool = pool(2);
    let (over, dumps) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let dump = pool.dump();
                    assert!(dump.tasks.len() <= 1_000 && dump.counters.accepted >= dump.counters.finished);
                    assert!(format!("{pool:?} {dump:.3}").contains("accepted"));
                    dumps.fetch_add(1, SeqCst);
                }
            });
        }
        let _over = Over(&over);
        let mut lp = Loop::new(&pool);
        let mut ended = 0;
        while ended < 5_000 || dumps.load(SeqCst) < 100 {
            for conn in 0..100 {
                lp.enqueue(conn, Work::parks_times(2)).unwrap();
            }
            ended += lp.ends(100).len();
        }
    });
}

/// A dump is not a snapshot: a worker may already have the next task when that task is copied. But
/// each worker is shown with at most one task.
#[test]
fn a_dump_under_load_shows_at_most_one_task_on_each_worker() {
    const THREADS: usize = 2;
    let pool = pool(THREADS);
    let mut lp = Loop::new(&pool);
    let over = Arc::new(AtomicBool::new(false));
    for conn in 0..1_000 {
        let over = Arc::clone(&over);
        let work = Work::new(move |_, _| {
            if over.load(SeqCst) {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Sync
            }
        });
        lp.enqueue(conn, work).unwrap();
    }
    std::thread::scope(|scope| {
        let guard = Over(&over);
        let dumps = scope.spawn(|| {
            let mut seen = 0;
            let mut dumps = 0;
            // Under load the kernel may have stopped a worker during every dump.
            while dumps < 300 || seen == 0 {
                dumps += 1;
                let dump = pool.dump();
                let mut workers: Vec<_> = dump.tasks.iter().filter_map(|task| task.worker).collect();
                assert_eq!(workers.len(), dump.counts.on_worker);
                workers.sort_unstable();
                workers.dedup();
                assert_eq!(
                    workers.len(),
                    dump.counts.on_worker,
                    "a worker is shown with two tasks"
                );
                assert!(dump.counts.on_worker <= THREADS, "{:?}", dump.counts);
                seen += dump.counts.on_worker;
            }
        });
        while !dumps.is_finished() {
            for id in lp.take_ready().map(|ready| ready.id) {
                lp.task_sync(id, Resume::Continue);
            }
        }
        drop(guard);
        dumps.join().unwrap();
    });
}

/// S27: a dump of a hundred thousand tasks while a worker continues.
#[test]
fn a_hundred_thousand_tasks_are_dumped_without_holding_up_a_worker() {
    const TASKS: usize = 100_000;
    let pool = pool(1);
    let (mut crowd, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let gate = crowd.occupy(1);
    for conn in 1..TASKS {
        crowd.enqueue((conn % 1_000) as u64, Work::done()).unwrap();
    }
    let (over, dumped) = (AtomicBool::new(false), Count::new());
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let dump: PoolDump = pool.dump();
                assert!(dump.tasks.len() >= TASKS);
                dumped.add(1);
            }
        });
        dumped.wait_for(1);
        gate.open();
        for _ in 0..20 {
            other.enqueue(1, Work::done()).unwrap();
            other.end().finished();
        }
    });
    let dump = pool.dump();
    assert_eq!((dump.tasks.len(), crowd.len()), (TASKS, TASKS));
    let distinct: std::collections::HashSet<_> = dump.tasks.iter().map(|task| task.id).collect();
    assert_eq!(distinct.len(), TASKS);
    assert!(format!("{dump:.5}").ends_with(&format!("... and {} more\n", TASKS - 5)));
}
