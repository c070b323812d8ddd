//! Cancelling: `dequeue`, and its effects on a task in each state and on its loop.

mod util;

use moored::{Dequeued, Resume, Shutdown, Status, StopReason, TaskId, TaskReturn, TaskStatus};
use std::collections::HashMap;
use util::{Alive, Gate, Loop, PLENTY, Work, pool, reap, resume};

/// L11: the return value is correct, and the id stays valid as it says.
#[test]
fn dequeue_returns_the_state_that_it_found() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let queued = lp.enqueue(1, Work::done()).unwrap();
    assert_eq!(lp.dequeue(queued), Dequeued::Removed);
    assert_eq!(lp.peek(queued), Some(Status::Stopped), "it has not been reaped");
    assert_eq!(lp.dequeue(queued), Dequeued::AlreadyDone);
    reap(&mut lp, queued).stopped();
    assert_eq!(lp.dequeue(queued), Dequeued::Unknown);

    let parked = lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.dequeue(parked), Dequeued::Stopping);
    assert_eq!(lp.peek(parked), Some(Status::Stopping));
    assert_eq!(lp.dequeue(parked), Dequeued::Stopping, "asked before");
    lp.run_pending(PLENTY);
    assert_eq!(lp.dequeue(parked), Dequeued::AlreadyDone);
    reap(&mut lp, parked).stopped();

    let done = lp.enqueue(1, Work::done()).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.dequeue(done), Dequeued::AlreadyDone);
    assert_eq!(
        lp.peek(done),
        Some(Status::Finished),
        "a finished task stays finished"
    );
    reap(&mut lp, done).finished();
}

#[test]
fn a_running_task_is_asked_to_stop() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let sees_it = Work::at_and_then(&gate, |cx| {
        assert_eq!(
            cx.stop_reason(),
            Some(StopReason::Dequeued),
            "the running step sees the request"
        );
        TaskReturn::Stopped
    });
    let id = lp.enqueue(1, sees_it).unwrap();
    gate.wait_for(1);
    assert_eq!(lp.dequeue(id), Dequeued::Stopping);
    gate.open();
    let (why, task) = lp.end().stopped();
    assert_eq!((why, task.steps), (StopReason::Dequeued, 1));
}

#[test]
fn a_queued_task_that_is_cancelled_never_runs() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let ids: Vec<_> = (0..100)
        .map(|n| lp.enqueue(n % 3, Work::done()).unwrap())
        .collect();
    for id in ids.iter().step_by(2) {
        assert_eq!(lp.dequeue(*id), Dequeued::Removed);
    }
    assert_eq!(lp.run_pending(PLENTY), 50);
    for (n, id) in ids.into_iter().enumerate() {
        if n % 2 == 0 {
            let (why, task) = reap(&mut lp, id).stopped();
            assert_eq!((why, task.steps), (StopReason::Dequeued, 0));
        } else {
            assert_eq!(reap(&mut lp, id).finished().steps, 1);
        }
    }
}

/// L13: a task that has started is asked to stop, whether it is parked, waits for its turn or runs,
/// and for each way to cancel it.
#[test]
fn a_started_task_always_sees_the_request() {
    type Ask = fn(&mut Loop<Work>, TaskId);
    let asks: [(Ask, StopReason); 5] = [
        (
            |lp, id| assert_eq!(lp.dequeue(id), Dequeued::Stopping),
            StopReason::Dequeued,
        ),
        (
            |lp, id| assert!(lp.task_sync(id, Resume::Stop)),
            StopReason::Dequeued,
        ),
        (
            |lp, _| assert_eq!(lp.connection_closed(1), 1),
            StopReason::ConnectionClosed,
        ),
        (
            |lp, id| match lp.task_status(id) {
                Some(TaskStatus::Syncing(point)) => point.stop(),
                other => panic!("{other:?}"),
            },
            StopReason::Dequeued,
        ),
        (
            |lp, id| {
                resume(lp, id);
                assert_eq!(lp.dequeue(id), Dequeued::Stopping, "it waits for its next step");
            },
            StopReason::Dequeued,
        ),
    ];
    for threads in [0, 2] {
        let pool = pool(threads);
        let mut lp = Loop::new(&pool);
        for round in 0..100 {
            let (ask, reason) = asks[round % asks.len()];
            if threads > 0 && round % asks.len() == 4 {
                continue; // a worker may start it before: see the race below
            }
            let id = lp.enqueue(1, Work::parks()).unwrap();
            lp.run_pending(PLENTY);
            lp.parked(1);
            ask(&mut lp, id);
            lp.run_pending(PLENTY);
            let (why, task) = lp.end().stopped();
            assert_eq!((why, task.told, task.steps), (reason, Some(reason), 2));
        }
    }
}

/// L3: a cancelled parked task waits for its turn at once, even before a task that was just
/// enqueued.
#[test]
fn cancelling_a_parked_task_takes_one_turn() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let parked: Vec<_> = (0..10)
        .map(|conn| lp.enqueue(conn, Work::parks()).unwrap())
        .collect();
    lp.run_pending(PLENTY);
    for (conn, &id) in (0..).zip(&parked) {
        if conn % 2 == 0 {
            lp.dequeue(id);
        } else {
            lp.connection_closed(conn);
        }
        lp.enqueue(conn, Work::done()).unwrap();
        assert_eq!(
            lp.run_pending(PLENTY),
            2,
            "one turn for the cancelled task, one for the new task"
        );
        let (_, task) = reap(&mut lp, id).stopped();
        assert!(task.told.is_some());
    }
}

#[test]
fn the_first_reason_stays() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    lp.connection_closed(1);
    pool.shutdown(Shutdown::Cancel);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped_as_told(), StopReason::Dequeued);
}

#[test]
fn a_task_that_is_stopping_may_continue_and_may_finish() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue(
            1,
            Work::stubborn(|cx, step| match step {
                1 => TaskReturn::Sync,
                2..=5 => {
                    assert!(cx.is_stopping());
                    TaskReturn::Continue
                }
                _ => TaskReturn::TaskDone,
            }),
        )
        .unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    lp.run_pending(PLENTY);
    let task = reap(&mut lp, id).finished();
    assert_eq!((task.steps, task.told), (6, Some(StopReason::Dequeued)));
}

#[test]
fn a_task_that_a_worker_has_taken_but_not_begun_can_be_cancelled() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    // Short steps make the worker take large batches. One of the steps blocks it.
    for conn in 0..2_000 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    let gate = Gate::guarded();
    lp.enqueue(2_000, Work::at(&gate)).unwrap();
    let behind: Vec<_> = (0..40)
        .map(|conn| lp.enqueue(3_000 + conn, Work::done()).unwrap())
        .collect();
    gate.wait_for(1);
    for &id in &behind {
        assert_eq!(lp.dequeue(id), Dequeued::Removed);
    }
    gate.open();
    let ends: HashMap<_, _> = lp.ends(2_041).into_iter().collect();
    for id in behind {
        assert!(matches!(&ends[&id], util::End::Stopped(StopReason::Dequeued, task) if task.steps == 0));
    }
    assert_eq!(pool.dump().counters.steps, 2_001);
}

/// S8: calls that cancel, close, answer and look race the workers. Each task has one end, one
/// announcement and one drop.
#[test]
fn cancelling_races_everything_and_every_task_ends_once() {
    const TASKS: usize = 4_000;
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let mut open: HashMap<TaskId, usize> = HashMap::new();
    let mut ended = 0;
    for n in 0..TASKS {
        let returns = [TaskReturn::Continue, TaskReturn::Sync, TaskReturn::TaskDone];
        let work = Work::new(move |_, step| returns[(n + step as usize) % 3]).holding(alive.token());
        let id = lp.enqueue((n / 4) as u64, work).unwrap();
        open.insert(id, n);
        match n % 7 {
            0 => drop(lp.dequeue(id)),
            1 => drop(lp.task_sync(id, Resume::Stop)),
            2 => drop(lp.task_sync(id, Resume::Continue)),
            3 => drop(lp.connection_closed((n / 4) as u64)),
            4 => drop(lp.peek(id)),
            _ => {}
        }
        ended += take_turn(&mut lp, &mut open);
    }
    while ended < TASKS {
        for &id in open.keys() {
            lp.service.dequeue(id);
        }
        lp.wakes.wait();
        ended += take_turn(&mut lp, &mut open);
    }
    assert_eq!((open.len(), alive.count(), lp.len()), (0, 0, 0));
}

/// Resumes parked tasks, and removes ended tasks from `open`, which must contain them.
fn take_turn(lp: &mut Loop<Work>, open: &mut HashMap<TaskId, usize>) -> usize {
    let before = open.len();
    for id in lp.take_ready().map(|ready| ready.id) {
        match lp.task_status(id) {
            Some(TaskStatus::Syncing(point)) => point.resume(),
            Some(TaskStatus::Finished(_)) => drop(open.remove(&id).expect("the only end")),
            Some(TaskStatus::Stopped(why, task)) => {
                open.remove(&id).expect("the only end");
                let never_ran = task.steps == 0;
                assert!(
                    never_ran || task.told == Some(why),
                    "stopped without a request: {why:?} {task:?}"
                );
            }
            Some(TaskStatus::Running | TaskStatus::Stopping) => {}
            other => panic!("{other:?}"),
        }
    }
    before - open.len()
}
