//! The cost of a call must not depend on the number of other tasks in the pool. `benches/` measures
//! the cost. Here a call may be a few times slower with many other tasks (because of caches), but
//! not a hundred times, as it would be if it visited each of them.

mod util;

use moored::{Dequeued, Resume, Service, TaskId, ThreadPool};
use std::time::{Duration, Instant};
use util::{Loop, PLENTY, Work, reap};

const FEW: u64 = 1_000;
const MANY: u64 = 100_000;
/// The number of tasks that are measured, among the others.
const SAMPLE: usize = 100;

/// Queued tasks, two on each connection, and half as many parked ones.
fn crowd(pool: &ThreadPool, size: u64) -> (Loop<Work>, Vec<TaskId>, Vec<TaskId>) {
    let mut lp = Loop::new(pool);
    let parked: Vec<_> = (0..size / 2)
        .map(|n| lp.enqueue(size + n, Work::parks()).unwrap())
        .collect();
    lp.run_pending(PLENTY);
    let queued = (0..size)
        .map(|n| lp.enqueue(n / 2, Work::done()).unwrap())
        .collect();
    let _ = lp.take_ready().count();
    (lp, parked, queued)
}

/// The shortest time that `act` takes for one of three samples, all among the same other tasks.
fn cost(size: u64, act: fn(&mut Loop<Work>, &[TaskId], &[TaskId])) -> Duration {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(200_000)
        .max_tasks(200_000)
        .build()
        .unwrap();
    let (mut lp, parked, queued) = crowd(&pool, size);
    let tries = (1..=3).map(|n| {
        // Not from the ends of a list, where access is fast.
        let sample = |ids: &[TaskId]| ids[ids.len() * n / 5..][..SAMPLE].to_vec();
        let (parked, queued) = (sample(&parked), sample(&queued));
        let begun = Instant::now();
        act(&mut lp, &parked, &queued);
        begun.elapsed()
    });
    tries.min().expect("three tries")
}

#[track_caller]
fn is_flat(what: &str, act: fn(&mut Loop<Work>, &[TaskId], &[TaskId])) {
    let (few, many) = (cost(FEW, act), cost(MANY, act));
    let limit = 15 * few.max(Duration::from_micros(50));
    assert!(
        many < limit,
        "{what}: {few:?} among {FEW} tasks, {many:?} among {MANY}"
    );
}

/// LC: cancelling queued tasks, and reaping them.
#[test]
fn the_cost_of_dequeue_does_not_grow_with_the_queue() {
    is_flat("dequeue and reap", |lp, _, queued| {
        for &id in queued {
            assert_eq!(lp.dequeue(id), Dequeued::Removed);
            reap(lp, id).stopped();
        }
    });
}

/// LC: the cost of closing a connection depends on its own tasks only.
#[test]
fn the_cost_of_a_closed_connection_does_not_grow_with_the_others() {
    is_flat("connection_closed", |lp, _, queued| {
        for &id in queued.iter().step_by(2) {
            let conn = lp.connection_of(id).expect("it is open");
            assert_eq!(lp.tasks_of(conn).len(), 2);
            assert_eq!(lp.connection_closed(conn), 2);
        }
        assert_eq!(lp.take_ready().count(), SAMPLE);
    });
}

/// LC: looking at tasks, answering them, and the next step of the answered tasks.
#[test]
fn the_cost_of_an_answer_does_not_grow_with_the_parked_tasks() {
    is_flat("task_status and task_sync", |lp, parked, _| {
        for &id in parked {
            assert!(matches!(lp.task_status(id), Some(moored::TaskStatus::Syncing(_))));
            assert!(lp.task_sync(id, Resume::Continue));
            assert!(lp.peek(id).is_some());
        }
    });
}

/// LC: enqueueing a task, and the start of the next task.
#[test]
fn the_cost_of_enqueue_and_start_does_not_grow_with_the_queue() {
    is_flat("enqueue and start", |lp, _, _| {
        for conn in 0..SAMPLE as u64 {
            lp.enqueue(10 * MANY + conn, Work::parks()).unwrap();
            assert_eq!(lp.run_pending(Duration::ZERO), 1);
        }
    });
}

/// LC: `counts` does not visit tasks.
#[test]
fn the_cost_of_counts_and_timeouts_does_not_grow_with_the_tasks() {
    is_flat("len, poll_timeout, take_ready", |lp, _, _| {
        for _ in 0..SAMPLE {
            assert!(lp.len() > SAMPLE && lp.poll_timeout().is_some());
            let _ = lp.take_ready().count();
        }
    });
}

/// The time of `act` in a pool with this number of services; the shortest of three runs. Each
/// service has a task that has not started.
fn cost_among_services(services: usize, act: impl Fn(&mut Vec<Service<Work>>)) -> Duration {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(services);
    let pool = builder.build().unwrap();
    let tries = (0..3).map(|_| {
        let mut all: Vec<Service<Work>> = (0..services).map(|_| pool.service(|| {})).collect();
        for service in &mut all {
            service.enqueue(1, Work::done()).unwrap();
        }
        // The first drop moves the tasks of all services, once, into the run queue.
        drop(all.pop());
        let begun = Instant::now();
        act(&mut all);
        begun.elapsed()
    });
    tries.min().expect("three tries")
}

#[track_caller]
fn is_flat_among_services(what: &str, act: impl Fn(&mut Vec<Service<Work>>)) {
    let (few, many) = (
        cost_among_services(SAMPLE, &act),
        cost_among_services(20_000, &act),
    );
    let limit = 15 * few.max(Duration::from_micros(50));
    assert!(
        many < limit,
        "{what}: {few:?} among {SAMPLE} services, {many:?} among 20,000"
    );
}

/// U6: each refusal added up the counters of all services.
#[test]
fn the_cost_of_a_refusal_does_not_grow_with_the_services() {
    is_flat_among_services("enqueue into a full queue", |services| {
        let first = &mut services[0];
        first
            .enqueue(1, Work::done())
            .expect("the dropped service has made room");
        assert!((0..SAMPLE).all(|_| first.enqueue(1, Work::done()).is_err()));
    });
}

/// U6: each drop looked at every service that had submitted a task.
#[test]
fn the_cost_of_a_dropped_service_does_not_grow_with_the_services() {
    is_flat_among_services("drop", |services| services.truncate(services.len() - SAMPLE / 2));
}

/// The time of refusals because this number of tasks of the connection wait; the shortest of three
/// runs.
fn cost_of_refusals(queued: usize) -> Duration {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(2 * queued)
        .max_queued_per_connection(queued)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    for _ in 0..queued {
        lp.enqueue(1, Work::done()).unwrap();
    }
    let tries = (0..3).map(|_| {
        let begun = Instant::now();
        assert!((0..SAMPLE).all(|_| lp.enqueue(1, Work::done()).is_err()));
        begun.elapsed()
    });
    tries.min().expect("three tries")
}

/// U6: each refusal looked at all tasks of the connection.
#[test]
fn the_cost_of_a_refusal_does_not_grow_with_the_tasks_of_the_connection() {
    let (few, many) = (cost_of_refusals(SAMPLE), cost_of_refusals(MANY as usize));
    let limit = 15 * few.max(Duration::from_micros(50));
    assert!(many < limit, "{few:?} with {SAMPLE} tasks, {many:?} with {MANY}");
}

/// The time of estimates in a pool in which this number of connections had a task each; the
/// shortest of three runs.
fn cost_of_estimates(connections: u64) -> Duration {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(MANY as usize)
        .max_tasks(2 * MANY as usize)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    for conn in 0..connections {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    lp.run_pending(PLENTY);
    for ready in lp.take_ready() {
        reap(&mut lp, ready.id);
    }
    for _ in 0..2 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    let tries = (0..3).map(|_| {
        let begun = Instant::now();
        (0..SAMPLE).for_each(|_| _ = lp.estimated_wait(1));
        begun.elapsed()
    });
    tries.min().expect("three tries")
}

/// U6: an estimate looked at all connections that had a task before.
#[test]
fn the_cost_of_an_estimate_does_not_grow_with_the_connections_without_tasks() {
    let (few, many) = (cost_of_estimates(FEW), cost_of_estimates(MANY));
    let limit = 15 * few.max(Duration::from_micros(50));
    assert!(many < limit, "{few:?} after {FEW} tasks, {many:?} after {MANY}");
}
