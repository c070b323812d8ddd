//! Panics in the user's code, in every place where the pool runs it. The pool continues with all
//! its workers, and the loop is notified.

mod util;

use moored::{BoxTask, Status, TaskReturn, ThreadPool, Wake, task_fn};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use util::{Alive, Count, Gate, Loop, PLENTY, Token, Wakes, Work, eventually, panic_silently, pool, reap};

/// Panics when it is dropped. Until then it counts as alive.
struct Bomb(#[allow(dead_code, reason = "it exists to be dropped")] Token);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_silently();
        }
    }
}

/// Runs as many tasks at the same time as the pool has workers. Each needs its own worker.
#[track_caller]
fn all_workers_serve(pool: &ThreadPool, workers: usize) {
    let mut lp = Loop::new(pool);
    lp.occupy(workers).open();
    for (_, end) in lp.ends(workers) {
        end.finished();
    }
    assert_eq!(pool.counts().threads, workers);
}

/// S21: the loop gets the payload, and the values of the task are dropped.
#[test]
fn a_panic_in_a_step_ends_its_task_and_nothing_else() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    for n in 0_u64..100 {
        let work = Work::new(move |_, step| {
            if step == 2 {
                std::panic::resume_unwind(Box::new(n));
            }
            TaskReturn::Sync
        });
        lp.enqueue(n, work.holding(alive.token())).unwrap();
    }
    let mut payloads: Vec<_> = lp
        .ends(100)
        .into_iter()
        .map(|(_, end)| *end.panicked().downcast::<u64>().unwrap())
        .collect();
    payloads.sort_unstable();
    assert_eq!(payloads, (0..100).collect::<Vec<_>>());
    assert_eq!((alive.count(), pool.dump().counters.panicked), (0, 100));
    all_workers_serve(&pool, 2);
}

/// The message of a panic was not in the `Debug` output: a log said `Panicked(..)`, and only stderr
/// had the message.
#[test]
fn a_panic_shows_its_message() {
    let pool = pool(0);
    let mut service = pool.service::<Work>(|| {});
    let payloads: [fn() -> Box<dyn std::any::Any + Send>; 3] = [
        || Box::new("a plain text"),
        || Box::new(format!("row {}", 17)),
        || Box::new(17),
    ];
    let expected = [Some("a plain text"), Some("row 17"), None];
    for (payload, message) in payloads.into_iter().zip(expected) {
        let work = Work::new(move |_, _| std::panic::resume_unwind(payload()));
        let id = service.enqueue(1, work).unwrap();
        service.run_pending(PLENTY);
        let status = service.task_status(id).unwrap();
        let shown = message.map_or("Panicked(..)".to_owned(), |text| format!("Panicked({text:?})"));
        assert_eq!(format!("{status:?}"), shown);
        let moored::TaskStatus::Panicked(panic) = status else {
            panic!("not panicked")
        };
        assert_eq!(panic.message(), message);
        assert!(format!("{panic:?} {panic}").contains(message.unwrap_or("not text")));
        assert_eq!(
            panic.into_payload().downcast_ref(),
            message.is_none().then_some(&17)
        );
    }
}

/// S21: the task panics, and so does its `Drop` on the worker.
#[test]
fn a_panic_in_the_drop_of_a_task_that_has_panicked_is_contained() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let bomb = Bomb(alive.token());
    lp.enqueue(
        1,
        Work::new(move |_, _| {
            let _held = &bomb;
            panic_silently()
        }),
    )
    .unwrap();
    lp.end().panicked();
    assert_eq!(alive.count(), 0);
    all_workers_serve(&pool, 1);
}

/// S21: the service was dropped, so the pool drops the task: queued, running, parked or ended.
#[test]
fn a_panic_in_the_drop_of_an_abandoned_task_is_contained() {
    let pool = pool(2);
    let alive = Alive::new();
    let gate = Gate::guarded();
    let mut lp = Loop::<BoxTask>::new(&pool);
    let armed = || Bomb(alive.token());
    let (ended, parked, running, queued) = (armed(), armed(), armed(), armed());
    lp.enqueue(1, task_fn(move |_| (&ended, TaskReturn::TaskDone).1))
        .unwrap();
    lp.news();
    lp.enqueue(
        1,
        task_fn(move |cx| {
            let _held = &parked;
            if cx.is_stopping() {
                TaskReturn::Stopped
            } else {
                TaskReturn::Sync
            }
        }),
    )
    .unwrap();
    lp.parked(1);
    for held in [Some(running), None] {
        let gate = gate.clone();
        let run = task_fn(move |_| {
            let _held = &held;
            gate.pass();
            TaskReturn::TaskDone
        });
        lp.enqueue(1, run).unwrap();
    }
    gate.wait_for(2);
    lp.enqueue(1, task_fn(move |_| (&queued, TaskReturn::TaskDone).1))
        .unwrap();
    assert_eq!(alive.count(), 4);
    drop(lp);
    gate.open();
    eventually("all are dropped", || alive.count() == 0);
    all_workers_serve(&pool, 2);
}

/// S21: the payload of a panic panics in its `Drop`, and so does the payload of that panic. The
/// third payload is not dropped.
#[test]
fn a_panic_in_the_drop_of_a_payload_is_contained() {
    // Zero-sized, so that a leak leaks nothing.
    struct Payload;
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: LazyLock<Arc<Count>> = LazyLock::new(Count::new);
    impl Drop for Payload {
        fn drop(&mut self) {
            DROPPED.add(1);
            if PANICS.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
                std::panic::resume_unwind(Box::new(Self));
            }
        }
    }
    for (round, panics) in [(1, 1), (2, 2)] {
        PANICS.store(panics, SeqCst);
        let pool = pool(1);
        let gate = Gate::guarded();
        let mut lp = Loop::new(&pool);
        let step_gate = gate.clone();
        lp.enqueue(
            1,
            Work::stubborn(move |_, _| {
                step_gate.pass();
                std::panic::resume_unwind(Box::new(Payload))
            }),
        )
        .unwrap();
        gate.wait_for(1);
        drop(lp); // so that the worker drops the payload
        gate.open();
        DROPPED.wait_for(2 * round);
        all_workers_serve(&pool, 1);
        assert_eq!(
            DROPPED.get(),
            2 * round,
            "the payload of the second panic is leaked"
        );
    }
}

/// S21: a wake-up that panics loses neither a worker nor an announcement.
#[test]
fn a_panic_in_a_wake_up_is_contained() {
    let pool = pool(1);
    let count = Arc::new(AtomicUsize::new(0));
    let on_wake = Arc::clone(&count);
    let mut service = pool.service(move || {
        on_wake.fetch_add(1, SeqCst);
        panic_silently()
    });
    for n in 1..=10 {
        let id = service.enqueue(1, Work::done()).unwrap();
        eventually("it ends", || service.peek(id) == Some(Status::Finished));
        eventually("the loop is woken", || count.load(SeqCst) == n);
        assert_eq!(
            service.take_ready().map(|ready| ready.id).collect::<Vec<_>>(),
            [id]
        );
        reap(&mut service, id).finished();
    }
    let id = service.enqueue(1, Work::done()).unwrap();
    service.dequeue(id); // wakes on this thread, unless a worker has woken before
    all_workers_serve(&pool, 1);
}

/// S21: the last owner of the service drops the wake-up: here a worker.
#[test]
fn a_panic_in_the_drop_of_a_wake_up_is_contained() {
    struct Fragile(#[allow(dead_code, reason = "it exists to be dropped")] Bomb);
    impl Wake for Fragile {
        fn wake_loop(&self) {}
    }
    let pool = pool(1);
    let alive = Alive::new();
    let gate = Gate::guarded();
    let mut service = pool.service(Fragile(Bomb(alive.token())));
    service.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    drop(service);
    gate.open();
    eventually("the wake-up is dropped", || alive.count() == 0);
    all_workers_serve(&pool, 1);
}

#[test]
fn a_panic_in_a_thread_hook_is_contained() {
    let calls = Count::new();
    let hook = |calls: &Arc<Count>| {
        let calls = Arc::clone(calls);
        move |_| {
            calls.add(1);
            panic_silently()
        }
    };
    let builder = ThreadPool::builder()
        .threads(2)
        .on_thread_start(hook(&calls))
        .on_thread_stop(hook(&calls));
    let pool = builder.build().unwrap();
    all_workers_serve(&pool, 2);
    pool.join_timeout(util::PATIENCE)
        .expect("the workers have ended without a panic");
    assert_eq!(calls.get(), 4);
}

/// S21: a panic does not reach a loop that runs the steps itself.
#[test]
fn a_panic_in_a_step_does_not_unwind_into_run_pending() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let panics = lp.enqueue(1, Work::new(|_, _| panic_silently())).unwrap();
    let after = lp.enqueue(2, Work::done()).unwrap();
    assert_eq!(lp.run_pending(PLENTY), 2);
    reap(&mut lp, panics).panicked();
    reap(&mut lp, after).finished();
}

/// Only the loop of a task learns of its panic.
#[test]
fn a_panic_is_announced_to_the_loop_that_owns_the_task() {
    let pool = pool(1);
    let (mut own, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let id = own.enqueue(1, Work::new(|_, _| panic_silently())).unwrap();
    other.enqueue(1, Work::done()).unwrap();
    assert_eq!(own.news(), [id]);
    reap(&mut own, id).panicked();
    other.end().finished();
    let silent: &Wakes = &own.wakes;
    assert_eq!(silent.total(), 1);
}
