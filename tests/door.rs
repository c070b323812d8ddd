//! Tasks that are shed because they have waited too long, and the estimate of the wait.

mod util;

use moored::{BuildError, GroupId, ManualClock, Overload, Service, Shutdown, Status};
use moored::{StopReason, TaskReturn, TaskStatus, ThreadPool};
use std::time::Duration;
use util::{Gate, Loop, PLENTY, Work, resume};

const MS: Duration = Duration::from_millis(1);

/// Sheds tasks that have waited for more than 20 ms, after 50 ms in which every task has waited for
/// more than 10 ms.
const CODEL: Overload = Overload::Codel {
    target: Duration::from_millis(10),
    interval: Duration::from_millis(50),
};

/// Reaps all ready tasks. Returns the numbers of finished and of shed tasks.
fn reap_all(service: &mut Service<Work>) -> (usize, usize) {
    let (mut finished, mut shed) = (0, 0);
    for ready in service.take_ready() {
        match service.task_status(ready.id) {
            Some(TaskStatus::Finished(_)) => finished += 1,
            Some(TaskStatus::Stopped(StopReason::Shed, task)) => {
                assert_eq!(task.steps, 0);
                shed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (finished, shed)
}

/// There are many clients with one task each, so no connection has more waiting tasks than another.
#[test]
fn tasks_that_have_waited_too_long_are_shed_while_the_pool_is_overloaded() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for conn in 0..100 {
        lp.enqueue(conn, Work::takes(&time, 10 * MS)).unwrap();
    }
    // The third task is the first one that has waited for more than 10 ms. After 50 ms, all tasks
    // are shed except the last one.
    lp.run_pending(PLENTY);
    assert_eq!(reap_all(&mut lp), (8, 92));
    let counters = pool.dump().counters;
    assert_eq!((counters.finished, counters.stopped.shed), (8, 92));
    assert_eq!((pool.counts().queued, lp.len()), (0, 0));
    // New tasks have not waited.
    lp.enqueue(1, Work::takes(&time, 10 * MS)).unwrap();
    assert_eq!(lp.run_pending(PLENTY), 1);
}

#[test]
fn a_burst_that_is_over_within_the_interval_is_not_shed() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for round in 0..20 {
        for conn in 0..5 {
            lp.enqueue(conn + 10 * round, Work::takes(&time, 10 * MS))
                .unwrap();
        }
        assert_eq!(lp.run_pending(PLENTY), 5);
        assert_eq!(reap_all(&mut lp), (5, 0));
    }
}

/// One client each second, which waits for the rest of a step. Almost all were shed.
#[test]
fn a_task_is_not_shed_if_no_other_task_waits() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for conn in 0..10 {
        lp.enqueue(conn, Work::done()).unwrap();
        time.advance(25 * MS);
        lp.run_pending(PLENTY);
        assert_eq!(reap_all(&mut lp), (1, 0), "{conn}");
        time.advance(975 * MS);
    }
}

/// A new client is the next one whose task starts, so it does not wait for other clients. Almost
/// all were shed.
#[test]
fn a_new_client_that_waits_for_a_long_step_is_not_shed() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for _ in 0..100 {
        lp.enqueue(0, Work::takes(&time, 25 * MS)).unwrap();
    }
    lp.run_pending(Duration::ZERO);
    for conn in 1..20 {
        let id = lp.enqueue(conn, Work::done()).unwrap();
        // The rest of the step of another task.
        time.advance(25 * MS);
        lp.run_pending(Duration::ZERO);
        let status = lp.task_status(id);
        assert!(matches!(status, Some(TaskStatus::Finished(_))), "{status:?}");
        time.advance(10 * MS);
    }
}

/// Each task of client 1 is submitted during a step of client 0, so it waits only for the end of
/// this step. The tasks of client 0 wait for much longer. None of them was shed, because client 1
/// was in debt when it submitted its tasks.
#[test]
fn a_client_with_one_task_at_a_time_does_not_hide_the_waits_of_a_flood() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for _ in 0..100 {
        lp.enqueue(0, Work::takes(&time, 10 * MS)).unwrap();
    }
    lp.run_pending(Duration::ZERO);
    let mut shed = 0;
    for _ in 0..40 {
        let id = lp.enqueue(1, Work::takes(&time, 11 * MS)).unwrap();
        time.advance(14 * MS);
        while !lp.peek(id).is_some_and(Status::is_ended) {
            lp.run_pending(Duration::ZERO);
        }
        let status = lp.task_status(id);
        assert!(matches!(status, Some(TaskStatus::Finished(_))), "{status:?}");
        // The next step of the flood begins.
        lp.run_pending(Duration::ZERO);
        shed += reap_all(&mut lp).1;
    }
    assert!(shed > 5, "{shed}");
}

/// The oldest tasks of a connection are shed first.
#[test]
fn a_flood_is_shed_and_a_new_client_is_not() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    for _ in 0..20 {
        lp.enqueue(0, Work::takes(&time, 10 * MS)).unwrap();
    }
    for conn in 1..20 {
        lp.enqueue(conn, Work::done()).unwrap();
        lp.run_pending(Duration::ZERO);
        lp.run_pending(Duration::ZERO);
    }
    let (mut served, mut shed) = (Vec::new(), Vec::new());
    for ready in lp.take_ready() {
        let conn = ready.connection.unwrap();
        match lp.task_status(ready.id) {
            Some(TaskStatus::Finished(_)) => served.push((conn, ready.id)),
            Some(TaskStatus::Stopped(StopReason::Shed, _)) => shed.push((conn, ready.id)),
            other => panic!("{other:?}"),
        }
    }
    let flood = 0.into();
    assert!(shed.len() >= 5 && shed.iter().all(|(conn, _)| *conn == flood));
    let newcomers = served.iter().filter(|(conn, _)| *conn != flood).count();
    assert_eq!(newcomers, 19);
    assert!(shed.is_sorted(), "the oldest first");
}

#[test]
fn a_started_task_is_not_shed() {
    let (pool, time) = util::manual(ThreadPool::builder().overload(CODEL).threads(0));
    let mut lp = Loop::new(&pool);
    let parks = lp.enqueue(7, Work::parks_times(1)).unwrap();
    lp.run_pending(PLENTY);
    lp.parked(1);
    resume(&mut lp, parks);
    for conn in 0..100 {
        lp.enqueue(conn, Work::takes(&time, 10 * MS)).unwrap();
    }
    time.advance(1000 * MS);
    lp.run_pending(PLENTY);
    let (finished, shed) = reap_all(&mut lp);
    assert!(finished >= 1 && shed > 50, "{finished} {shed}");
    assert_eq!(lp.len(), 0);
}

/// A worker ends the tasks, notifies their loop, and frees their places. The last shed task may be
/// the last task of a pool that drains.
#[test]
fn a_worker_sheds_and_notifies_the_loop() {
    for limit in [None, Some(1)] {
        let mut builder = ThreadPool::builder().overload(CODEL);
        if let Some(limit) = limit {
            builder = builder.max_running_per_connection(limit);
        }
        let (pool, time) = util::manual(builder.threads(1));
        let mut lp = Loop::new(&pool);
        let gates = [(); 2].map(|()| Gate::new());
        let _guards = gates.each_ref().map(Gate::guard);
        for gate in &gates {
            lp.enqueue(1, Work::at(gate)).unwrap();
        }
        // Each gate ends an interval.
        for (first, gate) in [10, 20].into_iter().zip(&gates) {
            gate.wait_for(1);
            for client in 0..3 {
                lp.enqueue(first + client, Work::done()).unwrap();
            }
            time.advance(1000 * MS);
            if first == 20 {
                pool.shutdown(Shutdown::Drain);
            }
            gate.open();
        }
        let ends = lp.ends(8);
        let shed = |end: util::End<_>| matches!(end, util::End::Stopped(StopReason::Shed, _));
        let shed: Vec<_> = ends.into_iter().map(|(_, end)| shed(end)).collect();
        assert!(shed.iter().filter(|&&is_shed| is_shed).count() >= 2, "{shed:?}");
        pool.join_timeout(util::PATIENCE).unwrap();
    }
}

#[test]
fn codel_sheds_the_connection_with_the_most_tasks_at_max_queue_depth() {
    let builder = ThreadPool::builder().max_queue_depth(4).overload(CODEL);
    let (pool, _) = util::manual(builder.threads(0));
    let mut lp = Loop::new(&pool);
    for _ in 0..4 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    lp.enqueue(2, Work::done())
        .expect("the place of a task of connection 1");
    lp.enqueue(1, Work::done())
        .expect_err("connection 1 has the most tasks");
    assert_eq!(reap_all(&mut lp), (0, 1));
}

#[test]
fn wrong_values_are_an_error() {
    let build = |target, interval| {
        let overload = Overload::Codel { target, interval };
        ThreadPool::builder().threads(0).overload(overload).build()
    };
    assert!(build(MS, MS).is_ok());
    for (target, interval) in [(Duration::ZERO, MS), (2 * MS, MS), (MS, Duration::ZERO)] {
        let error = build(target, interval).unwrap_err();
        assert!(matches!(error, BuildError::Codel { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(&format!("{target:?}")) && said.contains("interval"),
            "{said}"
        );
    }
    assert!(build(Duration::MAX, Duration::MAX).is_ok());
}

/// A pool without workers whose connection 1 has steps of 10 ms.
fn with_known_cost(time: &ManualClock, pool: &ThreadPool) -> Loop<Work> {
    let mut lp = Loop::new(pool);
    // Two tasks, so that the first estimate, which is unknown, is replaced.
    for _ in 0..2 {
        lp.enqueue(1, Work::takes(time, 10 * MS)).unwrap();
        lp.enqueue(1, Work::takes(time, 10 * MS)).unwrap();
        lp.run_pending(PLENTY);
        reap_all(&mut lp);
    }
    lp
}

fn within(wait: Duration, expected: Duration) -> bool {
    wait.abs_diff(expected) < MS
}

#[test]
fn an_idle_pool_has_no_wait() {
    for threads in [0, 2] {
        let (pool, time) = util::manual(ThreadPool::builder().threads(threads));
        let mut lp = Loop::new(&pool);
        assert_eq!(
            (pool.estimated_wait(), lp.estimated_wait(1)),
            (Duration::ZERO, Duration::ZERO)
        );
        if threads == 0 {
            lp = with_known_cost(&time, &pool);
            assert_eq!(
                (pool.estimated_wait(), lp.estimated_wait(1)),
                (Duration::ZERO, Duration::ZERO)
            );
        }
        lp.set_weight(3, 7);
        assert_eq!(lp.estimated_wait(3), Duration::ZERO);
    }
}

#[test]
fn a_task_waits_for_the_earlier_tasks_of_its_connection() {
    let (pool, time) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = with_known_cost(&time, &pool);
    for waiting in 1..10 {
        lp.enqueue(1, Work::takes(&time, 10 * MS)).unwrap();
        let wait = lp.estimated_wait(1);
        assert!(within(wait, waiting * 10 * MS), "{waiting}: {wait:?}");
    }
    assert_eq!(lp.estimated_wait(2), Duration::ZERO, "a new connection");
    assert_eq!(pool.estimated_wait(), Duration::ZERO);
}

#[test]
fn a_task_of_a_connection_in_debt_waits_for_the_shares_of_the_others() {
    let (pool, time) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = with_known_cost(&time, &pool);
    for conn in 1..=5 {
        for _ in 0..4 {
            lp.enqueue(conn, Work::takes(&time, 10 * MS)).unwrap();
        }
    }
    // Each has a turn, and then a debt.
    for _ in 0..5 {
        lp.run_pending(Duration::ZERO);
    }
    let wait = lp.estimated_wait(1);
    assert!(within(wait, 150 * MS), "{wait:?}");
    lp.set_weight(1, 4);
    lp.enqueue(1, Work::takes(&time, 10 * MS)).unwrap();
    let wait = lp.estimated_wait(1);
    assert!(
        wait > 60 * MS && wait < 120 * MS,
        "four times the share: {wait:?}"
    );
}

#[test]
fn a_new_connection_waits_for_other_new_connections() {
    let (pool, time) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = with_known_cost(&time, &pool);
    for conn in 100..130 {
        lp.enqueue(conn, Work::takes(&time, 10 * MS)).unwrap();
    }
    let wait = pool.estimated_wait();
    assert!(within(wait, 300 * MS), "{wait:?}");
    assert_eq!(lp.estimated_wait(7), wait);
}

#[test]
fn a_new_connection_waits_for_the_rest_of_the_running_steps() {
    let (pool, time) = util::manual(ThreadPool::builder().threads(1));
    let mut lp = Loop::new(&pool);
    for _ in 0..2 {
        lp.enqueue(1, Work::takes(&time, 10 * MS)).unwrap();
        lp.enqueue(1, Work::takes(&time, 10 * MS)).unwrap();
        lp.ends(2);
    }
    let gate = Gate::guarded();
    lp.enqueue(1, Work::done()).unwrap();
    lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    let known = pool.estimated_wait();
    assert!(known > 5 * MS && known <= 10 * MS, "{known:?}");
    time.advance(4 * MS);
    assert_eq!(pool.estimated_wait() + 4 * MS, known);
    time.advance(10 * MS);
    let late = pool.estimated_wait();
    assert_eq!(late + known, 14 * MS, "it is late by this time");
    gate.open();
    lp.ends(2);
}

/// A task that continues gives way when its time slice is over, however long it has run. Within the
/// time slice its end is not known.
#[test]
fn a_task_that_continues_is_expected_to_give_way() {
    for (slice, expected) in [(10 * MS, MS), (1010 * MS, 10 * MS), (1_000_000 * MS, 1000 * MS)] {
        let wait = wait_beside_one_that_continues(slice);
        assert!(within(wait, expected), "{slice:?}: {wait:?}");
    }
}

/// The wait after 1,000 steps of 1 ms of the first task.
fn wait_beside_one_that_continues(slice: Duration) -> Duration {
    let (pool, time) = util::manual(ThreadPool::builder().time_slice(slice).threads(1));
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let (step_time, step_gate) = (time.clone(), gate.clone());
    lp.enqueue(
        1,
        Work::new(move |_, step| {
            if step <= 1000 {
                step_time.advance(MS);
                return TaskReturn::Continue;
            }
            step_gate.pass();
            TaskReturn::TaskDone
        }),
    )
    .unwrap();
    gate.wait_for(1);
    let wait = pool.estimated_wait();
    gate.open();
    lp.end().finished();
    wait
}

/// The service asked for the record of a connection before it had made its rings.
#[test]
fn an_estimate_in_a_group_needs_no_earlier_task() {
    let (pool, _) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::<Work>::new(&pool);
    lp.set_group(1, GroupId(1));
    assert_eq!(lp.estimated_wait(1), Duration::ZERO);
}

/// The slot of a closed connection with a debt is used again.
#[test]
fn a_new_connection_in_a_group_has_no_debt() {
    let (pool, time) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = with_known_cost(&time, &pool);
    for conn in 2..4 {
        lp.set_group(conn, GroupId(1));
        for _ in 1..conn {
            lp.enqueue(conn, Work::takes(&time, 10 * MS)).unwrap();
        }
    }
    lp.run_pending(Duration::ZERO);
    assert_eq!(reap_all(&mut lp), (1, 0));
    assert_eq!(lp.connection_closed(2), 0);
    let waits = [4, 5].map(|conn| {
        lp.set_group(conn, GroupId(1));
        lp.estimated_wait(conn)
    });
    assert_eq!(waits[0], waits[1]);
}
