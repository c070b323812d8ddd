//! Groups of connections: worker time is first divided between the groups, and then between the
//! connections of each group. When the queue is full, a group counts as one connection.

mod util;

use moored::{
    ConnId, EnqueueError, GroupId, ManualClock, Overload, StopReason, TaskReturn, TaskStatus, ThreadPool,
};
use std::time::Duration;
use util::{Alive, Gate, Log, Loop, PLENTY, Work, pool};

const US: Duration = Duration::from_micros(1);
const GROUP: GroupId = GroupId(1);

/// A pool whose tasks give way after each step, and its clock.
fn timed_pool(threads: usize) -> (ThreadPool, ManualClock) {
    let builder = ThreadPool::builder().threads(threads);
    util::manual(builder.time_slice(Duration::ZERO))
}

/// A step takes `cost`, and adds `note` to the log. The task never ends by itself.
fn endless<N: Clone + Send + 'static>(log: &Log<N>, note: N, time: &ManualClock, cost: Duration) -> Work {
    let (log, time) = (log.clone(), time.clone());
    Work::new(move |_, _| {
        time.advance(cost);
        log.add(note.clone());
        TaskReturn::Continue
    })
}

fn once<N: Clone + Send + 'static>(log: &Log<N>, note: N, time: &ManualClock, cost: Duration) -> Work {
    let (log, time) = (log.clone(), time.clone());
    Work::new(move |_, _| {
        time.advance(cost);
        log.add(note.clone());
        TaskReturn::TaskDone
    })
}

/// The number of notes of each kind.
fn counts<const N: usize>(notes: &[usize]) -> [usize; N] {
    std::array::from_fn(|kind| notes.iter().filter(|&&note| note == kind).count())
}

fn turns(lp: &mut Loop<Work>, count: usize) {
    for _ in 0..count {
        lp.run_pending(Duration::ZERO);
    }
}

#[test]
fn a_group_of_many_connections_has_one_share() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for conn in 0..100 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, endless(&log, 0, &time, 100 * US)).unwrap();
    }
    lp.enqueue(100, endless(&log, 1, &time, 100 * US)).unwrap();
    turns(&mut lp, 4000);
    let [many, one] = counts(&log.notes());
    assert!((1950..=2050).contains(&one), "{many} : {one}");
}

/// The steps of the group are 20 times as long.
#[test]
fn a_group_with_long_steps_has_its_share_of_time() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for conn in 0..10 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, endless(&log, 0, &time, 2000 * US)).unwrap();
    }
    lp.enqueue(10, endless(&log, 1, &time, 100 * US)).unwrap();
    turns(&mut lp, 4200);
    let [long, short] = counts(&log.notes());
    let share = 20 * long * 100 / (20 * long + short);
    assert!(
        (48..=52).contains(&share),
        "{long} long steps, {short} short ones"
    );
}

#[test]
fn a_group_is_the_same_group_in_every_service() {
    let (pool, time) = timed_pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let log = Log::new();
    for lp in [&mut one, &mut other] {
        lp.set_group(1, GROUP);
        lp.enqueue(1, endless(&log, 0, &time, 100 * US)).unwrap();
    }
    other.enqueue(2, endless(&log, 1, &time, 100 * US)).unwrap();
    turns(&mut one, 2000);
    let [group, lone] = counts(&log.notes());
    assert!((980..=1020).contains(&lone), "{group} : {lone}");
}

#[test]
fn a_weight_belongs_to_the_group() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    pool.set_group_weight(GroupId(2), 2);
    for (conn, kind) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)] {
        if kind < 2 {
            lp.set_group(conn, GroupId(kind as u64 + 1));
        }
        lp.enqueue(conn, endless(&log, kind, &time, 100 * US)).unwrap();
    }
    turns(&mut lp, 4000);
    let shares: [usize; 3] = counts(&log.notes());
    for (share, goal) in shares.into_iter().zip([1000, 2000, 1000]) {
        assert!(share.abs_diff(goal) <= 40, "{shares:?}");
    }
    // From now on 1 : 1 : 1.
    pool.set_group_weight(GroupId(2), 0);
    let before = log.len();
    turns(&mut lp, 3000);
    let shares: [usize; 3] = counts(&log.notes()[before..]);
    for share in shares {
        assert!(share.abs_diff(1000) <= 40, "{shares:?}");
    }
}

#[test]
fn a_connection_leaves_its_group_at_once_with_its_waiting_tasks() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for conn in 0..4 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, endless(&log, conn, &time, 100 * US)).unwrap();
    }
    lp.enqueue(4, endless(&log, 4, &time, 100 * US)).unwrap();
    turns(&mut lp, 1000);
    lp.set_group(3, None);
    let before = log.len();
    turns(&mut lp, 3000);
    let shares: [usize; 5] = counts(&log.notes()[before..]);
    assert!(
        shares[3].abs_diff(1000) <= 30 && shares[4].abs_diff(1000) <= 30,
        "{shares:?}"
    );
}

/// A client cannot lose the debt of its group with a new connection.
#[test]
fn a_new_connection_of_a_group_has_the_debt_of_the_group() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    lp.set_group(0, GROUP);
    lp.enqueue(0, once(&log, 0, &time, 10_000 * US)).unwrap();
    lp.enqueue(100, endless(&log, 100, &time, 100 * US)).unwrap();
    turns(&mut lp, 2);
    lp.connection_closed(0);
    let before = log.len();
    lp.set_group(1, GROUP);
    lp.enqueue(1, once(&log, 1, &time, 100 * US)).unwrap();
    turns(&mut lp, 150);
    let notes = &log.notes()[before..];
    let place = notes.iter().position(|&note| note == 1).expect("it has run");
    assert!(
        (90..=110).contains(&place),
        "place {place}; the debt is 100 turns"
    );
}

/// Each connection is new in its group, so that it is served first there, and only there.
#[test]
fn new_connections_without_end_have_one_share_if_they_are_in_one_group() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    lp.enqueue(0_u64, endless(&log, 0, &time, 100 * US)).unwrap();
    for conn in 1..=2000_u64 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, once(&log, 1, &time, 100 * US)).unwrap();
        turns(&mut lp, 1);
        lp.connection_closed(conn);
        for ready in lp.take_ready() {
            drop(lp.task_status(ready.id));
        }
    }
    let [old, new] = counts(&log.notes());
    assert!(old >= 950, "{old} : {new}");
}

/// One worker, and a gate that keeps it busy while the tasks are enqueued.
#[test]
fn a_worker_serves_a_group_and_a_connection_in_turns() {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    let (gate, log) = (Gate::new(), Log::new());
    let _guard = gate.guard();
    let (holds, clock) = (gate.clone(), time.clone());
    // The step is long enough that the worker does not take the next tasks in the order of
    // submission.
    let hold = Work::new(move |_, _| {
        clock.advance(100 * US);
        holds.pass();
        TaskReturn::TaskDone
    });
    lp.enqueue(999, hold).unwrap();
    gate.wait_for(1);
    for conn in 0..50 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, once(&log, 0, &time, 100 * US)).unwrap();
    }
    for _ in 0..50 {
        lp.enqueue(100, once(&log, 1, &time, 100 * US)).unwrap();
    }
    gate.open();
    lp.ends(101);
    let notes = log.notes();
    for end in [20, 60, 100] {
        let [group, lone]: [usize; 2] = counts(&notes[..end]);
        assert!(group.abs_diff(lone) <= 2, "{group} : {lone} of the first {end}");
    }
}

/// While steps are very short, tasks are taken straight from the ring, except tasks of groups.
#[test]
fn every_task_of_a_group_runs_while_steps_are_very_short() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    for n in 0..20_000_u64 {
        let conn = n % 100;
        if n < 100 && conn % 2 == 0 {
            lp.set_group(conn, GroupId(conn % 6));
        }
        lp.enqueue(conn, Work::notes(&log, n)).unwrap();
    }
    lp.ends(20_000);
    let mut notes = log.notes();
    notes.sort_unstable();
    assert!(notes.into_iter().eq(0..20_000));
}

fn shedding_pool(depth: usize) -> ThreadPool {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(depth);
    builder.overload(Overload::ShedFattest).build().unwrap()
}

/// The connections of the tasks that were shed since the last call.
fn shed(lp: &mut Loop<Work>) -> Vec<Option<ConnId>> {
    let mut shed = Vec::new();
    for ready in lp.take_ready() {
        match lp.task_status(ready.id) {
            Some(TaskStatus::Stopped(StopReason::Shed, _)) => shed.push(ready.connection),
            other => panic!("{other:?}"),
        }
    }
    shed
}

/// Each connection of the group has one queued task, so no connection has two more than another.
#[test]
fn a_task_of_another_group_replaces_a_task_of_a_group_with_many_connections() {
    let pool = shedding_pool(100);
    let mut lp = Loop::new(&pool);
    for conn in 0..100_u64 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, Work::done()).unwrap();
    }
    let refused = lp.enqueue(0, Work::done());
    assert!(
        matches!(refused, Err(EnqueueError::QueueFull(_))),
        "a task of the group itself"
    );
    lp.set_group(200, GroupId(2));
    lp.enqueue(200, Work::done()).unwrap();
    lp.enqueue(300, Work::done()).unwrap();
    let shed = shed(&mut lp);
    assert_eq!(shed.len(), 2);
    for conn in shed {
        assert!(conn < Some(ConnId(100)), "{conn:?}");
    }
    assert_eq!(lp.run_pending(PLENTY), 100);
}

/// In one group, a connection with few tasks replaces a task of the connection with the most.
#[test]
fn a_full_queue_is_fair_within_a_group() {
    let pool = shedding_pool(20);
    let mut lp = Loop::new(&pool);
    for conn in [1, 2] {
        lp.set_group(conn, GROUP);
    }
    for _ in 0..20 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    lp.enqueue(2, Work::done()).unwrap();
    assert_eq!(shed(&mut lp), [Some(ConnId(1))]);
    assert!(lp.enqueue(1, Work::done()).is_err());
}

#[test]
fn a_connection_keeps_its_group_while_it_has_no_tasks() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    // More connections than a service keeps without a reason.
    for conn in 0..5000_u64 {
        lp.set_group(conn, GROUP);
        lp.enqueue(conn, Work::done()).unwrap();
        if conn % 100 == 0 {
            lp.run_pending(PLENTY);
            for ready in lp.take_ready() {
                drop(lp.task_status(ready.id));
            }
        }
    }
    lp.run_pending(PLENTY);
    for ready in lp.take_ready() {
        drop(lp.task_status(ready.id));
    }
    lp.enqueue(9999_u64, endless(&log, 1, &time, 100 * US)).unwrap();
    for conn in 0..100_u64 {
        lp.enqueue(conn, endless(&log, 0, &time, 100 * US)).unwrap();
    }
    turns(&mut lp, 2000);
    let [group, lone] = counts(&log.notes());
    assert!((970..=1030).contains(&lone), "{group} : {lone}");
}

/// A step of the task is running while its connection changes its group, and its service is
/// dropped.
#[test]
fn a_service_that_is_dropped_leaves_its_groups() {
    let pool = pool(1);
    let (alive, gate, log) = (Alive::new(), Gate::new(), Log::new());
    let _guard = gate.guard();
    let mut lp = Loop::new(&pool);
    lp.set_group(1, GROUP);
    lp.enqueue(1, Work::parks().holding(alive.token())).unwrap();
    lp.news();
    lp.enqueue(1, Work::at(&gate).holding(alive.token())).unwrap();
    gate.wait_for(1);
    for conn in 1..4 {
        lp.enqueue(conn, Work::done().holding(alive.token())).unwrap();
        lp.set_group(conn, GroupId(2));
    }
    drop(lp);
    let mut other = Loop::new(&pool);
    for conn in 1..4 {
        other.set_group(conn, GROUP);
        other.enqueue(conn, Work::notes(&log, conn)).unwrap();
    }
    gate.open();
    other.ends(3);
    util::eventually("the tasks are dropped", || alive.count() == 0);
}

#[test]
fn a_connection_can_join_and_leave_without_tasks() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    lp.set_group(1, None);
    lp.set_group(1, GROUP);
    lp.set_group(1, GROUP);
    lp.set_group(1, Some(GroupId(2)));
    lp.set_group(1, None);
    lp.enqueue(1, Work::notes(&log, 1)).unwrap();
    lp.set_group(1, GROUP);
    lp.run_pending(PLENTY);
    lp.connection_closed(1);
    lp.enqueue(1, Work::notes(&log, 2)).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), [1, 2]);
}
