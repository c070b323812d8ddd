//! The order of tasks: in order within a connection, in turns between connections, and at once if a
//! worker is idle.

mod util;

use moored::{Status, TaskReturn, ThreadPool};
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

/// A pool without threads whose steps take no time, so that equal shares of time are equal numbers
/// of turns.
fn pool_without_time() -> ThreadPool {
    util::manual(ThreadPool::builder().threads(0)).0
}

#[test]
fn connections_take_turns_if_their_steps_take_equal_time() {
    let pool = pool_without_time();
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
    let pool = pool_without_time();
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
    // On a clock that does not move, batches reach their largest size.
    let (pool, _hand) = util::manual(ThreadPool::builder().threads(3).max_running_per_connection(1));
    let mut lp = Loop::new(&pool);
    for _ in 0..40 {
        let gate = Gate::guarded();
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
    let (pool, hand) = util::manual(
        ThreadPool::builder()
            .threads(0)
            .time_slice(Duration::from_millis(10)),
    );
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
    let (pool, hand) = util::manual(ThreadPool::builder().threads(1).time_slice(Duration::ZERO));
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
/// first task. A task that continues gives way to this task too.
#[test]
fn a_busy_task_gives_way_to_unpublished_tasks() {
    let builder = ThreadPool::builder().threads(1).time_slice(Duration::ZERO);
    let (pool, _) = util::manual(builder);
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

/// S16: a worker takes the number of tasks that should take 20 us, and at most 32. While steps are
/// very short, the time of its last batch limits the number, and the worker takes at most twice as
/// many tasks as then. Otherwise the recent costs of the flows limit it; if they are not known, the
/// worker takes one task. Short steps share a lock, and no task waits behind a batch of long steps.
#[test]
fn a_batch_is_as_large_as_its_steps_are_short() {
    const TASKS: usize = 100;
    for (us_each, batches) in [
        // 2, 4, 8, 16, 32, 32 and the last 6.
        (0, 7),
        // 25 times 4.
        (5, 25),
        (30, 100),
    ] {
        let (pool, hand) = util::manual(ThreadPool::builder().threads(1));
        let mut lp = Loop::new(&pool);
        let gate = Gate::guarded();
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

/// U2: one connection has steps of 10 ms and the other of 1 ms, each with 8 tasks that never end:
/// each gets half of the worker time, not half of the turns.
#[test]
fn connections_share_worker_time_instead_of_turns() {
    let shares = shares_of([(10, 1), (1, 1)]);
    assert!(shares[0].abs_diff(shares[1]) <= 20, "{shares:?} ms");
}

/// The shares of the weights 3 : 1 do not depend on the lengths of the steps.
#[test]
fn weights_divide_worker_time() {
    for millis in [(1, 1), (10, 1), (1, 10)] {
        let shares = shares_of([(millis.0, 3), (millis.1, 1)]);
        assert!(
            shares[0].abs_diff(3 * shares[1]) <= 60,
            "{millis:?}: {shares:?} ms"
        );
    }
}

/// The worker time of two connections in 2 s, in ms. The arguments are the lengths of their steps
/// in ms, and their weights.
fn shares_of(connections: [(u64, u16); 2]) -> [u64; 2] {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let used = [(); 2].map(|()| Count::new());
    for (conn, (millis, weight)) in connections.into_iter().enumerate() {
        lp.set_weight(conn, weight);
        for _ in 0..8 {
            let (hand, used) = (hand.clone(), Arc::clone(&used[conn]));
            let step = move |cx: &mut moored::Context<'_>, _| {
                hand.advance(Duration::from_millis(millis));
                used.add(millis as usize);
                if cx.is_stopping() {
                    TaskReturn::Stopped
                } else {
                    TaskReturn::Sync
                }
            };
            lp.enqueue(conn, Work::new(step)).unwrap();
        }
    }
    for _ in 0..2000 {
        lp.run_pending(Duration::ZERO);
        for ready in lp.take_ready() {
            lp.task_sync(ready.id, moored::Resume::Continue);
        }
        if used[0].get() + used[1].get() >= 2000 {
            break;
        }
    }
    used.map(|used| used.get() as u64)
}

/// U3: beside 1,000 connections whose steps take 100 us, a new connection waits for one step. A
/// connection that becomes active again and has used 40 % of its share waits for one step too.
#[test]
fn a_newcomer_starts_after_one_step_beside_a_thousand_streams() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let work = || {
        let hand = hand.clone();
        Work::new(move |cx, _| {
            hand.advance(Duration::from_micros(100));
            if cx.is_stopping() {
                TaskReturn::Stopped
            } else {
                TaskReturn::Sync
            }
        })
    };
    for conn in 0..1000 {
        lp.enqueue(conn, work()).unwrap();
    }
    let turn = |lp: &mut Loop<Work>| {
        lp.run_pending(Duration::ZERO);
        for ready in lp.take_ready() {
            lp.task_sync(ready.id, moored::Resume::Continue);
        }
    };
    (0..1500).for_each(|_| turn(&mut lp));
    for visit in 0..3 {
        let started = Count::new();
        let notes = Arc::clone(&started);
        let hand = hand.clone();
        let task = Work::new(move |_, _| {
            notes.add(1);
            hand.advance(Duration::from_micros(100));
            TaskReturn::TaskDone
        });
        lp.enqueue(5000, task).unwrap();
        turn(&mut lp);
        turn(&mut lp);
        assert_eq!(started.get(), 1, "visit {visit}");
        (0..2500).for_each(|_| turn(&mut lp));
    }
}

/// U4: without a limit for each connection, a second task of a connection takes turns with a first
/// task that always continues, although the only worker is busy.
#[test]
fn tasks_of_a_connection_take_turns_with_one_that_continues() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let (begun, second) = (Gate::new(), Count::new());
    begun.open();
    let (first_step, seen) = (begun.clone(), Arc::clone(&second));
    let endless = Work::new(move |cx, step| {
        if step == 1 {
            first_step.pass();
        }
        if seen.get() == 1 || cx.is_stopping() {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(1, endless).unwrap();
    begun.wait_for(1);
    let notes = Arc::clone(&second);
    let task = Work::new(move |_, _| {
        notes.add(1);
        TaskReturn::TaskDone
    });
    lp.enqueue(1, task).unwrap();
    second.wait_for(1);
}
