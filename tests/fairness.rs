//! The order of tasks: in order within a connection, in turns between connections, and at once if a
//! worker is idle.

mod util;

use moored::{Clock, Status, TaskReturn, ThreadPool};
use std::sync::Arc;
use std::time::Duration;
use util::{Count, Gate, Log, Loop, PLENTY, Work, hasty_pool, pool};

#[test]
fn the_tasks_of_a_connection_start_in_order() {
    for threads in [0, 1] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        let log = Log::new();
        for n in 0..3_000 {
            lp.enqueue(n % 7, Work::notes(&log, n)).unwrap();
        }
        if threads == 0 {
            lp.run_pending(PLENTY);
        }
        lp.ends(3_000);
        for conn in 0..7 {
            let own: Vec<_> = log.notes().into_iter().filter(|n| n % 7 == conn).collect();
            assert!(own.is_sorted(), "connection {conn}, {threads} threads");
            assert_eq!(own.len(), (3_000 - conn as usize).div_ceil(7));
        }
    }
}

#[test]
fn connections_take_turns() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for (conn, tasks) in [(1, 5), (2, 2), (3, 3)] {
        for n in 0..tasks {
            lp.enqueue(conn, Work::notes(&log, (conn, n))).unwrap();
        }
    }
    lp.run_pending(PLENTY);
    let turns = [
        (1, 0),
        (2, 0),
        (3, 0),
        (1, 1),
        (2, 1),
        (3, 1),
        (1, 2),
        (3, 2),
        (1, 3),
        (1, 4),
    ];
    assert_eq!(log.notes(), turns);
}

/// The second task of the connection takes the turn, although it was enqueued after the tasks of
/// the other connections.
#[test]
fn a_connection_whose_first_task_is_cancelled_keeps_its_turn() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    let ids = [0, 0, 1, 2].map(|conn| lp.enqueue(conn, Work::notes(&log, conn)).unwrap());
    lp.run_pending(Duration::ZERO);
    lp.enqueue(1, Work::notes(&log, 10)).unwrap();
    lp.dequeue(ids[2]);
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), [0, 10, 2, 0]);
}

#[test]
fn the_connections_of_several_services_take_turns_too() {
    let pool = pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let log = Log::new();
    for n in 0..3 {
        one.enqueue(1, Work::notes(&log, ("one", n))).unwrap();
    }
    for n in 0..3 {
        other.enqueue(1, Work::notes(&log, ("other", n))).unwrap();
    }
    assert_eq!(
        one.run_pending(PLENTY),
        6,
        "a loop without threads runs the tasks of the whole pool"
    );
    let turns = [0, 1, 2].map(|n| [("one", n), ("other", n)]);
    assert_eq!(log.notes(), turns.concat());
}

/// S16: without threads the order is exact: the task is the second to run.
#[test]
fn a_flood_does_not_delay_another_connection() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for n in 0..100_000 {
        lp.enqueue(1, Work::notes(&log, n)).unwrap();
    }
    for _ in 0..10 {
        assert!(lp.run_pending(Duration::ZERO) > 0);
    }
    let before = log.len();
    lp.enqueue(2, Work::notes(&log, 1_000_000)).unwrap();
    while !log.notes().contains(&1_000_000) && log.len() < before + 10 {
        lp.run_pending(Duration::ZERO);
    }
    let place = log
        .notes()
        .iter()
        .position(|&n| n == 1_000_000)
        .expect("it has run");
    assert!(
        place <= before + 1,
        "{} tasks of the flood ran first",
        place - before
    );
}

/// S16: each of two workers is inside a step of the flood, and its batch has more steps. The other
/// connection's task starts when each worker has ended one step.
#[test]
fn a_flood_delays_another_connection_by_one_step_of_each_worker() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let (arrived, permits) = (Count::new(), Count::new());
    permits.add(1_000); // enough short steps for the batches to grow
    let flood = |n| {
        let (arrived, permits) = (Arc::clone(&arrived), Arc::clone(&permits));
        (
            n,
            Work::new(move |_, _| {
                arrived.add(1);
                permits.take_one();
                TaskReturn::TaskDone
            }),
        )
    };
    for (_, task) in (0..50_000).map(flood) {
        lp.enqueue(1, task).unwrap();
    }
    arrived.wait_for(1_002);
    for (_, task) in (0..50_000).map(flood) {
        lp.enqueue(1, task).unwrap();
    }
    let gate = Gate::new();
    gate.open();
    lp.enqueue(2, Work::at(&gate)).unwrap();
    permits.add(2);
    gate.wait_for(1);
    permits.add(100_000);
}

/// With a limit, one connection has many queued tasks, but only one of them may run.
#[test]
fn no_task_waits_while_a_worker_is_idle() {
    let (clock, _hand) = Clock::manual(); // on a clock that does not move, batches reach their largest size
    let pool = ThreadPool::builder()
        .threads(3)
        .max_running_per_connection(1)
        .clock(clock)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    for _ in 0..40 {
        let gate = Gate::new();
        let _guard = gate.guard();
        for conn in 0..4 {
            lp.enqueue(conn, Work::at(&gate)).unwrap();
        }
        for _ in 0..10 {
            lp.enqueue(0, Work::done()).unwrap();
        }
        gate.wait_for(3);
        gate.open();
        lp.ends(14);
        // In the next round all workers should be asleep. There is no fact to wait for, and the
        // test passes in both cases.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn continue_keeps_the_turn_for_a_time_slice_while_others_wait() {
    let (clock, hand) = Clock::manual();
    let pool = ThreadPool::builder()
        .threads(0)
        .clock(clock)
        .time_slice(Duration::from_millis(10))
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for conn in [1, 2] {
        let (hand, log) = (hand.clone(), log.clone());
        let slow = Work::new(move |_, step| {
            hand.advance(Duration::from_millis(4));
            log.add((conn, step));
            if step == 4 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        });
        lp.enqueue(conn, slow).unwrap();
    }
    lp.run_pending(PLENTY);
    // 12 ms is the first multiple of 4 ms that is not less than the slice.
    let turns = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (1, 4), (2, 4)];
    assert_eq!(log.notes(), turns);
}

#[test]
fn continue_keeps_the_worker_while_no_task_waits() {
    let (clock, hand) = Clock::manual();
    let pool = ThreadPool::builder()
        .threads(1)
        .clock(clock)
        .time_slice(Duration::ZERO)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let slow = Work::new(move |_, step| {
        hand.advance(Duration::from_secs(1));
        if step == 1_000 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(1, slow).unwrap();
    assert_eq!(lp.end().finished().steps, 1_000);
    let counters = pool.dump().counters;
    assert_eq!(
        counters.batches + counters.steals,
        1,
        "the task was put back into the queue: {counters:?}"
    );
}

#[test]
fn a_task_that_gives_way_is_running_while_it_waits() {
    let pool = hasty_pool(0);
    let mut lp = Loop::new(&pool);
    let endless = lp.enqueue(1, Work::new(|_, _| TaskReturn::Continue)).unwrap();
    lp.enqueue(2, Work::new(|_, _| TaskReturn::Continue)).unwrap();
    lp.run_pending(Duration::ZERO);
    assert_eq!(lp.peek(endless), Some(Status::Running));
    let task = &pool.dump().tasks[0];
    assert_eq!(
        (task.id, task.status, task.worker),
        (endless, Status::Running, None)
    );
}

#[test]
fn a_busy_task_gives_way_to_another_connection_on_a_single_thread() {
    let pool = ThreadPool::builder()
        .threads(1)
        .time_slice(Duration::from_micros(1))
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let seen = Gate::new();
    let other_ran = seen.clone();
    // It continues for ever unless the task of another connection gets a turn on the only thread.
    let endless = Work::new(move |_, _| {
        if other_ran.arrived() == 1 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(1, endless).unwrap();
    seen.open();
    lp.enqueue(2, Work::at(&seen)).unwrap();
    for (_, end) in lp.ends(2) {
        end.finished();
    }
}

/// A loop with unread announcements will soon enqueue more, so busy workers are not notified of its
/// first task. A task that continues gives way to it all the same.
#[test]
fn a_busy_task_gives_way_to_unpublished_tasks() {
    let (clock, _) = Clock::manual();
    let builder = ThreadPool::builder().threads(1).clock(clock);
    let pool = builder.time_slice(Duration::ZERO).build().unwrap();
    let mut lp = Loop::new(&pool);
    let (begun, seen) = (Gate::new(), Gate::new());
    begun.open();
    seen.open();
    lp.enqueue(0, Work::new(|_, _| TaskReturn::TaskDone)).unwrap();
    let announced = lp.news();
    let (begins, other_ran) = (begun.clone(), seen.clone());
    let endless = Work::new(move |cx, step| {
        if step == 1 {
            begins.pass();
        }
        if other_ran.arrived() == 1 || cx.is_stopping() {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(1, endless).unwrap();
    begun.wait_for(1);
    lp.enqueue(2, Work::at(&seen)).unwrap();
    seen.wait_for(1);
    assert_eq!(announced.len(), 1);
}

/// S16: by the time of its last batch, a worker takes as many tasks as should take 20 us, at most
/// twice as many as before, and at most 32. So short steps share a lock, and no task waits behind a
/// batch of long steps.
#[test]
fn a_batch_is_as_large_as_its_steps_are_short() {
    const TASKS: usize = 100;
    for (us_each, batches) in [
        // 2, 4, 8, 16, 32, 32 and the last 6.
        (0, 7),
        // 2, then 24 times 4, and the last 2.
        (5, 26),
        (30, 100),
    ] {
        let (clock, hand) = Clock::manual();
        let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
        let mut lp = Loop::new(&pool);
        let gate = Gate::new();
        let _guard = gate.guard();
        let work = |gate: Option<Gate>| {
            let hand = hand.clone();
            Work::new(move |_, _| {
                gate.iter().for_each(Gate::pass);
                hand.advance(Duration::from_micros(us_each));
                TaskReturn::TaskDone
            })
        };
        lp.enqueue(0, work(Some(gate.clone()))).unwrap();
        gate.wait_for(1);
        let before = pool.dump().counters.batches;
        for conn in 1..=TASKS {
            lp.enqueue(conn as u64, work(None)).unwrap();
        }
        assert!(lp.take_ready().is_empty());
        gate.open();
        lp.ends(TASKS + 1);
        assert_eq!(
            pool.dump().counters.batches - before,
            batches,
            "{us_each} us each"
        );
    }
}

/// A loop enqueues a task and then does something else. The worker runs a task that always
/// continues, and must still find the new task.
#[test]
fn a_busy_task_gives_way_although_the_loop_never_looks() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let (begun, others) = (Gate::new(), Count::new());
    begun.open();
    let (first_step, seen) = (begun.clone(), Arc::clone(&others));
    let endless = Work::new(move |_, step| {
        if step == 1 {
            first_step.pass();
        }
        if seen.get() < 3 {
            TaskReturn::Continue
        } else {
            TaskReturn::TaskDone
        }
    });
    lp.enqueue(0, endless).unwrap();
    begun.wait_for(1);
    for n in 1..=3 {
        let ran = Arc::clone(&others);
        let other = Work::new(move |_, _| {
            ran.add(1);
            TaskReturn::TaskDone
        });
        lp.enqueue(n, other).unwrap();
        others.wait_for(n as usize);
    }
}

/// A submitted task waits, whether or not a worker has noticed it. A task that gives way goes
/// behind it.
#[test]
fn a_task_that_gives_way_goes_behind_submitted_tasks() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let (gate, log) = (Gate::new(), Log::new());
    let _guard = gate.guard();
    let (held, notes) = (gate.clone(), log.clone());
    let long = Work::new(move |_, step| {
        notes.add(1);
        if step == 1 {
            held.pass();
        }
        if step == 3 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    let id = lp.enqueue(1, long).unwrap();
    util::eventually("it runs", || lp.service.peek(id) == Some(Status::Running));
    lp.enqueue(2, Work::notes(&log, 2)).unwrap();
    gate.open();
    lp.ends(2);
    assert_eq!(log.notes(), [1, 2, 1, 1]);
}
