//! Notifications of the loop: each is delivered, and at most one between two calls of `take_ready`,
//! for each kind of wake-up.

#[cfg(target_os = "linux")]
#[path = "util/process.rs"]
mod process;
mod util;

use moored::{
    ManualClock, Resume, Shutdown, Status, StopReason, TaskOptions, TaskReturn, TaskStatus, ThreadPool, Wake,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use util::{Gate, Log, Loop, PATIENCE, PLENTY, Wakes, Work, eventually, panic_silently, pool, reap};

use mio::{Events, Poll, Token, Waker};

/// S4: a thousand tasks end before the loop looks. It is woken once, and all are announced.
#[test]
fn there_is_one_wake_up_between_two_calls_of_take_ready() {
    // Without threads, because a worker may still notify the loop of its last task after the loop
    // has received that task.
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for round in 1..=5 {
        for conn in 0..1_000 {
            lp.enqueue(conn, Work::done()).unwrap();
        }
        lp.run_pending(PLENTY);
        assert_eq!((pool.counts().ended, lp.wakes.total()), (1_000, round));
        assert_eq!(lp.ends(1_000).len(), 1_000);
        assert_eq!(
            lp.wakes.total(),
            round,
            "woken for tasks that were announced already"
        );
    }
    assert_eq!(pool.dump().counters.wakes, 5);
}

/// S4: the same with workers, as far as it is deterministic. The next `take_ready` announces all
/// ended tasks, and before it the loop is woken once.
#[test]
fn all_ended_tasks_are_announced_by_one_take_ready() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    for _ in 0..5 {
        let before = lp.wakes.total();
        let ids: Vec<_> = (0..1_000)
            .map(|conn| lp.enqueue(conn, Work::done()).unwrap())
            .collect();
        eventually("all have ended", || {
            ids.iter().all(|&id| lp.peek(id).is_some_and(Status::is_ended))
        });
        assert!(lp.wakes.total() <= before + 1);
        for id in ids {
            // The status of a task changes before the loop can receive it. This waits until it can.
            assert!(!lp.task_sync(id, Resume::Continue));
        }
        let ids = lp.ready();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            reap(&mut lp, id);
        }
    }
}

/// S4: neither a thousand spurious wake-ups nor a `take_ready` without a wake-up does harm.
#[test]
fn correctness_does_not_depend_on_the_number_of_wakes() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    for _ in 0..20 {
        for conn in 0..50 {
            lp.enqueue(conn, Work::parks_times(1)).unwrap();
        }
        for _ in 0..1_000 {
            lp.wakes.wake_loop();
        }
        lp.ends(50);
        assert!(lp.take_ready().is_empty() && lp.is_empty());
    }
}

/// A loop that looks until it finds nothing is woken for each event after that.
#[test]
fn a_loop_that_looks_until_it_finds_nothing_is_woken_for_the_next_event() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in 0..6 {
        let id = lp.enqueue(conn, Work::done()).unwrap();
        let before = lp.wakes.total();
        lp.run_pending(PLENTY);
        assert_eq!(lp.wakes.total(), before + 1);
        let found: Vec<_> = lp.take_ready().collect();
        let [ready] = found[..] else {
            panic!("only the new end: {found:?}")
        };
        assert_eq!((ready.id, ready.connection), (id, Some(moored::ConnId(conn))));
        reap(&mut lp, id).finished();
        if conn % 3 == 2 {
            assert!(lp.take_ready().is_empty());
        }
    }
}

/// S3: the same with workers. An event between the last look and the sleep must end the sleep.
#[test]
fn a_loop_that_looks_until_it_finds_nothing_misses_nothing() {
    for threads in [1, 2] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        let (mut sent, mut ended, mut looks) = (0, 0, 0);
        while ended < 20_000 {
            // Only three tasks are in flight, so that the loop often finds nothing.
            while sent < ended + 3 {
                lp.enqueue(sent, Work::parks_times(1)).unwrap();
                sent += 1;
            }
            looks += 1;
            let ready = lp.take_ready();
            if ready.is_empty() {
                lp.wakes.wait();
            }
            for id in ready.map(|ready| ready.id) {
                match lp.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => point.resume(),
                    Some(TaskStatus::Finished(_)) => ended += 1,
                    other => panic!("{id} was announced, but is {other:?}"),
                }
            }
        }
        // Each look allows one wake-up, and one is allowed at the start.
        let wakes = lp.wakes.total();
        assert!(wakes <= looks + 1, "{wakes} wake-ups for {looks} looks");
    }
}

/// S5: no task runs, so only the call itself can wake the loop: `dequeue`, a close, `shutdown`.
#[test]
fn cancelling_the_only_queued_task_wakes_the_loop() {
    let cancels: [fn(&mut Loop<Work>, &moored::ThreadPool) -> StopReason; 3] = [
        |lp, _| {
            let id = lp.tasks_of(1)[0];
            lp.dequeue(id);
            StopReason::Dequeued
        },
        |lp, _| {
            lp.connection_closed(1);
            StopReason::ConnectionClosed
        },
        |_, pool| {
            pool.shutdown(Shutdown::Cancel);
            StopReason::PoolShutdown
        },
    ];
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for cancel in cancels {
        let id = lp.enqueue(1, Work::done()).unwrap();
        let _ = lp.take_ready().count();
        let before = lp.wakes.total();
        let reason = cancel(&mut lp, &pool);
        assert_eq!(lp.wakes.total(), before + 1);
        assert_eq!(lp.news(), [id]);
        assert_eq!(reap(&mut lp, id).stopped().0, reason);
    }
}

/// The loop has looked at a parked task, left it parked, and sleeps. The task ends when the loop
/// calls its service.
#[test]
fn a_shutdown_notifies_a_loop_that_left_its_task_parked() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    assert!(matches!(lp.task_status(id), Some(moored::TaskStatus::Syncing(_))));
    let before = lp.wakes.total();
    pool.shutdown(Shutdown::Cancel);
    let wakes = Arc::clone(&lp.wakes);
    eventually("the loop is woken", || wakes.total() > before);
    assert_eq!(lp.end().stopped().0, StopReason::PoolShutdown);
}

/// Notifications may be deferred while steps are short. A long step must not delay a deferred
/// notification. There is only one long step, because a short task may wait behind it if every
/// worker is in one. The clock does not move, so connections take turns in the order of their
/// tasks.
#[test]
fn an_end_is_announced_while_its_worker_is_in_the_next_step() {
    for threads in [1, 2, 3] {
        let (pool, _) = util::manual(ThreadPool::builder().threads(threads));
        let mut lp = Loop::new(&pool);
        for round in 0..60 {
            let gate = Gate::guarded();
            for conn in 0..round {
                lp.enqueue(conn, Work::done()).unwrap();
            }
            lp.enqueue(1_000, Work::at(&gate)).unwrap();
            lp.ends(round as usize);
            gate.open();
            lp.ends(1);
        }
    }
}

/// When the loop is woken for an end, the task has its final status, and all counters contain it.
#[test]
fn an_end_is_counted_before_the_loop_is_woken_for_it() {
    for threads in [0, 1] {
        let (pool, hand) = util::manual(ThreadPool::builder().threads(threads));
        let pool = Arc::new(pool);
        let (looked, dumps) = (Arc::downgrade(&pool), Log::new());
        let log = dumps.clone();
        let mut service = pool.service(move || {
            if let Some(pool) = looked.upgrade() {
                log.add(pool.dump());
            }
        });
        let ends = [Status::Finished, Status::Stopped, Status::Panicked];
        for (before, end) in ends.into_iter().enumerate() {
            let hand = hand.clone();
            let task = Work::new(move |_, _| {
                hand.advance(Duration::from_secs(1));
                match end {
                    Status::Finished => TaskReturn::TaskDone,
                    Status::Stopped => TaskReturn::Stopped,
                    _ => panic_silently(),
                }
            });
            let id = service.enqueue(1, task).unwrap();
            if threads == 0 {
                service.run_pending(PLENTY);
            }
            eventually("the loop is woken", || dumps.len() > before);
            let dump = dumps.notes().pop().unwrap();
            let counted = &dump.counters;
            let ended = [counted.finished, counted.stopped.total(), counted.panicked];
            let so_far = [1, u64::from(before > 0), u64::from(before > 1)];
            assert_eq!(ended, so_far, "{end} on {threads} threads");
            assert_eq!((dump.counts.running(), dump.counts.ended), (0, 1));
            let task = &dump.tasks[0];
            assert_eq!((task.status, task.alive_us), (end, 1_000_000));
            assert!((task.run_percent - 100.0).abs() < 0.1, "{dump}");
            let _ = service.take_ready().count();
            drop(service.task_status(id));
        }
    }
}

#[test]
fn each_loop_is_woken_for_its_own_tasks_only() {
    let pool = pool(1);
    let (mut own, other) = (Loop::new(&pool), Loop::<Work>::new(&pool));
    for _ in 0..100 {
        own.enqueue(1, Work::parks_times(3)).unwrap();
    }
    own.ends(100);
    assert_eq!(other.wakes.total(), 0);
}

#[test]
fn an_idle_pool_wakes_no_loop() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    // A wake-up is counted after it was made.
    eventually("the wake-up is counted", || {
        pool.dump().counters.wakes == lp.wakes.total() as u64
    });
    let before = pool.dump().counters;
    for _ in 0..1_000 {
        assert!(lp.take_ready().is_empty());
        assert_eq!(lp.run_pending(PLENTY), 0);
        let _ = (pool.counts(), lp.poll_timeout(), lp.tasks_of(1));
    }
    let after = pool.dump().counters;
    assert_eq!(
        (after.wakes, after.worker_wakes, after.steps),
        (before.wakes, before.worker_wakes, before.steps)
    );
}

/// Workers search for a while between short tasks. When there are no more tasks, all of them sleep
/// and stay asleep.
#[cfg(target_os = "linux")]
#[test]
fn the_workers_of_an_idle_pool_stay_asleep() {
    const NAME: &str = "still";
    for threads in [1, 3] {
        let pool = ThreadPool::builder().name(NAME).threads(threads).build().unwrap();
        let mut lp = Loop::new(&pool);
        for round in 0..3 {
            for conn in 0..100 {
                lp.enqueue(conn, Work::parks_times(round)).unwrap();
            }
            lp.ends(100);
            let (mut sleeps, mut looks) = (Vec::new(), 0);
            eventually("every worker sleeps and stays asleep", || {
                let now = process::sleeps_of(NAME).filter(|now| now.len() == threads);
                looks = if now.as_ref() == Some(&sleeps) {
                    looks + 1
                } else {
                    0
                };
                sleeps = now.unwrap_or_default();
                looks == 20
            });
        }
    }
}

#[test]
fn anything_that_can_be_called_is_a_wake_up() {
    struct Custom(Arc<AtomicUsize>);
    impl Wake for Custom {
        fn wake_loop(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let pool = pool(0);
    let count = Arc::new(AtomicUsize::new(0));
    let closure = {
        let count = Arc::clone(&count);
        move || drop(count.fetch_add(1, SeqCst).to_string())
    };
    let wakes = Wakes::new();
    let mut services = [
        pool.service(closure.clone()),
        pool.service(Arc::new(closure)),
        pool.service(Custom(Arc::clone(&count))),
        pool.service(Arc::new(Custom(Arc::clone(&count))) as Arc<dyn Wake>),
        pool.service(Arc::clone(&wakes)),
    ];
    for service in &mut services {
        service.enqueue(1, Work::done()).unwrap();
    }
    services[0].run_pending(PLENTY);
    assert_eq!((count.load(SeqCst), wakes.total()), (4, 1));
}

/// U26: with `use moored::*`, a call of mio's own method called the method of the trait.
#[test]
fn the_method_of_wake_hides_no_method_of_mio() {
    #[allow(unused_imports, reason = "the test checks that they hide nothing")]
    use moored::*;
    let mut selector = mio::Poll::new().unwrap();
    let mut events = Events::with_capacity(1);
    let waker = Arc::new(Waker::new(selector.registry(), Token(7)).unwrap());
    let woken: std::io::Result<()> = waker.wake();
    woken.unwrap();
    sleep_in(&mut selector, &mut events);
    assert_eq!(events.iter().count(), 1);
}

/// Polls once. The time limit is so long that only a lost wake-up exceeds it.
#[track_caller]
fn sleep_in(selector: &mut Poll, events: &mut Events) {
    let until = Instant::now() + PATIENCE;
    match selector.poll(events, Some(PATIENCE)) {
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
        other => other.unwrap(),
    }
    assert!(Instant::now() < until, "a wake-up was lost");
}

/// S2, S3: one task at a time. Before each task the worker goes to sleep, and it ends the task
/// while the loop goes to its poll. If either side misses a wake-up, the test hangs and fails.
#[test]
fn a_mio_loop_and_a_worker_never_miss_each_other() {
    const TOKEN: Token = Token(3);
    let mut selector = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let waker = Arc::new(Waker::new(selector.registry(), TOKEN).unwrap());
    let pool = pool(1);
    let mut service = pool.service(waker);
    for _ in 0..5_000 {
        let id = service.enqueue(1, Work::done()).unwrap();
        let ready = loop {
            let ready = service.take_ready();
            if !ready.is_empty() {
                break ready;
            }
            sleep_in(&mut selector, &mut events);
            assert!(events.iter().all(|event| event.token() == TOKEN));
        };
        assert_eq!(ready.map(|ready| ready.id).collect::<Vec<_>>(), [id]);
        reap(&mut service, id).finished();
    }
}

/// S4: the same with many tasks at once, and with a waker that is also used elsewhere.
#[test]
fn a_mio_loop_gets_everything_whatever_the_number_of_events() {
    let mut selector = Poll::new().unwrap();
    let mut events = Events::with_capacity(1);
    let waker = Arc::new(Waker::new(selector.registry(), Token(0)).unwrap());
    let pool = pool(2);
    let mut service = pool.service(Arc::clone(&waker));
    for conn in 0..1_000 {
        service.enqueue(conn, Work::parks_times(3)).unwrap();
        waker.wake().unwrap();
    }
    let mut ended = 0;
    while ended < 1_000 {
        sleep_in(&mut selector, &mut events);
        for id in service.take_ready().map(|ready| ready.id) {
            match service.task_status(id) {
                Some(moored::TaskStatus::Syncing(point)) => point.resume(),
                Some(moored::TaskStatus::Finished(_)) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// S3: the task ends, and the loop is notified, between `take_ready` and the sleep.
#[test]
fn a_wake_up_that_comes_before_the_sleep_ends_it_at_once() {
    let mut selector = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let pool = pool(1);
    let mut service = pool.service(Waker::new(selector.registry(), Token(0)).unwrap());
    assert!(service.take_ready().is_empty());
    let id = service.enqueue(1, Work::done()).unwrap();
    eventually("it ends", || service.peek(id) == Some(Status::Finished));
    sleep_in(&mut selector, &mut events);
    assert_eq!(
        service.take_ready().map(|ready| ready.id).collect::<Vec<_>>(),
        [id]
    );
    selector.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "one wake-up, heard once");
}

/// A task that was resumed before its announcement is not announced for that `Sync`. The loop is
/// woken for the next event.
#[test]
fn a_task_that_was_resumed_before_its_announcement_is_announced_when_it_ends() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks_times(1)).unwrap();
    lp.run_pending(PLENTY);
    assert!(lp.task_sync(id, moored::Resume::Continue), "it has parked");
    assert!(lp.take_ready().is_empty());
    let before = lp.wakes.total();
    lp.run_pending(PLENTY);
    assert_eq!(lp.wakes.total(), before + 1);
    assert_eq!(lp.news(), [id]);
}

/// Five short tasks, and one that waits at the gate.
fn enqueue_six(lp: &mut Loop<Work>, gate: &Gate) {
    for conn in 1..=5 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    lp.enqueue(6, Work::at(gate)).unwrap();
}

/// A loop that may poll: the only worker has run five short tasks and waits at the gate.
fn beside_short_steps() -> (ThreadPool, ManualClock, Loop<Work>, Gate) {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(1));
    let (lp, gate) = beside_short_steps_of(&pool);
    (pool, hand, lp, gate)
}

/// The same, but the only worker is free.
fn beside_short_steps_of(pool: &ThreadPool) -> (Loop<Work>, Gate) {
    let mut lp = Loop::new(pool);
    let gates = [(); 2].map(|()| Gate::new());
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    enqueue_six(&mut lp, &gates[1]);
    assert_eq!(lp.poll_timeout(), None, "no step has been measured");
    gates[0].open();
    gates[1].wait_for(1);
    assert_eq!(lp.ends(6).len(), 6);
    let [_, gate] = gates;
    (lp, gate)
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// S3, S4: a loop that has called `poll_timeout` is not woken for each of many short steps. It
/// looks again in time without a notification, even if it calls `poll_timeout` many times, and even
/// if a worker is in a long step.
#[test]
fn a_loop_polls_while_its_worker_has_more_to_do_in_short_steps() {
    let (_pool, hand, mut lp, gate) = beside_short_steps();
    let last = Gate::new();
    let _open = [&gate, &last].map(Gate::guard);
    assert_eq!(lp.poll_timeout(), Some(micros(5_000)));
    let before = lp.wakes.total();
    enqueue_six(&mut lp, &last);
    gate.open();
    last.wait_for(1);
    assert_eq!(
        lp.wakes.total(),
        before,
        "the loop is not woken for the six tasks"
    );
    hand.advance(micros(400));
    assert_eq!(lp.poll_timeout(), Some(micros(4_600)));
    hand.advance(micros(4_700));
    assert_eq!(lp.poll_timeout(), Some(micros(0)));
    assert_eq!(lp.take_ready().count(), 6);
    let timed = TaskOptions::new().queue_timeout(micros(300));
    lp.enqueue_with(7, Work::done(), timed).unwrap();
    assert_eq!(
        lp.poll_timeout(),
        Some(micros(300)),
        "the earlier of the two times"
    );
}

/// S3: a loop that polls is notified after 20 us, even by a worker that runs many short steps of
/// one task.
#[test]
fn a_loop_that_polls_is_notified_between_the_steps_of_a_turn() {
    let (_pool, hand, mut lp, gate) = beside_short_steps();
    let last = Gate::new();
    let _open = [&gate, &last].map(Gate::guard);
    assert!(lp.poll_timeout().is_some());
    let before = lp.wakes.total();
    let at_last = last.clone();
    let steps = Work::new(move |_, step| {
        if step == 1 {
            hand.advance(micros(30));
            return TaskReturn::Continue;
        }
        at_last.pass();
        TaskReturn::TaskDone
    });
    lp.enqueue(1, Work::done()).unwrap();
    lp.enqueue(2, steps).unwrap();
    gate.open();
    last.wait_for(1);
    assert_eq!(lp.wakes.total(), before + 1);
}

/// S3: a deferred notification is not sent after its service was dropped, since the loop may have
/// ended.
#[test]
fn the_loop_of_a_dropped_service_is_not_woken() {
    let (pool, _hand, mut lp, gate) = beside_short_steps();
    let last = Gate::new();
    let _open = [&gate, &last].map(Gate::guard);
    assert!(lp.poll_timeout().is_some());
    enqueue_six(&mut lp, &last);
    gate.open();
    last.wait_for(1);
    let wakes = Arc::clone(&lp.wakes);
    drop(lp);
    let before = wakes.total();
    last.open();
    drop(pool);
    assert_eq!(wakes.total(), before);
}

/// S4: after a burst of short steps, a loop that obeys `poll_timeout` may look once without being
/// woken. Then it sleeps until it is woken, even while a task takes long.
#[test]
fn a_long_task_does_not_keep_the_loop_awake() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let gate = Gate::new();
    let _opens = gate.guard();
    let long = lp.enqueue(0, Work::at(&gate)).unwrap();
    for _ in 0..20 {
        for conn in 1..100 {
            lp.enqueue(conn, Work::done()).unwrap();
        }
        let mut told = 0;
        while told < 99 {
            if lp.poll_timeout().is_none() {
                lp.wakes.wait();
            }
            for id in lp.take_ready().map(|ready| ready.id) {
                reap(&mut lp, id);
                told += 1;
            }
        }
        // The answer can change while the worker records the time of its last batch.
        let mut naps = 0;
        eventually("the loop may sleep", || {
            let timeout = lp.poll_timeout();
            naps += u32::from(timeout.is_some());
            assert!(lp.take_ready().is_empty());
            timeout.is_none()
        });
        assert!(naps <= 1, "{naps} naps");
    }
    gate.open();
    assert_eq!(lp.ends(1)[0].0, long);
}

/// A worker looks for work after it has woken the loop. Until the wake-up returns, other workers
/// must run the tasks.
#[test]
fn work_runs_while_a_worker_is_inside_a_wake_up() {
    let pool = pool(8);
    for _ in 0..5 {
        let (gate, slow) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let _guard = gate.guard();
        let (wakes, held, is_slow) = (Wakes::new(), gate.clone(), Arc::clone(&slow));
        let seen = Arc::clone(&wakes);
        let service = pool.service(move || {
            seen.wake_loop();
            // Only one task: other workers may still be in the wake-ups for the short steps.
            if is_slow.swap(0, SeqCst) > 0 {
                held.pass();
            }
        });
        let mut lp = Loop { service, wakes };
        for conn in 0..64 {
            lp.enqueue(conn, Work::done()).unwrap(); // so that short steps are measured
        }
        lp.ends(64);
        slow.store(1, SeqCst);
        while gate.arrived() == 0 {
            lp.enqueue(1, Work::done()).unwrap();
            lp.ends(1);
        }
        let log = Log::new();
        lp.enqueue(2, Work::notes(&log, ())).unwrap();
        eventually("another worker runs the task", || log.len() == 1);
        gate.open();
        lp.ends(1);
    }
}
