//! The effects of a closed connection on its tasks, and tasks without a connection.

mod util;

use moored::{ConnId, Dequeued, Status, StopReason, TaskOptions, TaskReturn, TaskStatus};
use util::{Alive, Gate, Loop, PLENTY, Work, panic_silently, pool, reap, resume};

fn outliving() -> TaskOptions {
    TaskOptions::new().outlive_connection()
}

/// S12: the step never runs, and the task is dropped when it is reaped.
#[test]
fn closed_while_queued_a_task_never_runs() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let id = lp.enqueue(1, Work::done().holding(alive.token())).unwrap();
    assert_eq!(lp.connection_closed(1), 1);
    assert_eq!(lp.run_pending(PLENTY), 0);
    assert_eq!(lp.ready(), [id]);
    let (why, task) = reap(&mut lp, id).stopped();
    assert_eq!((why, task.steps), (StopReason::ConnectionClosed, 0));
    drop(task);
    assert_eq!(alive.count(), 0);
}

/// S13: connections with at least as many parked tasks as there are workers are closed. Parked
/// tasks hold no workers, and their memory is freed.
#[test]
fn closed_while_parked_a_task_stops_and_the_pool_continues() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    for conn in 0..10 {
        lp.enqueue(conn, Work::parks().holding(alive.token())).unwrap();
    }
    lp.parked(10);
    for conn in 0..10 {
        assert_eq!(lp.connection_closed(conn), 1);
    }
    for (_, end) in lp.ends(10) {
        assert_eq!(end.stopped_as_told(), StopReason::ConnectionClosed);
    }
    assert_eq!((alive.count(), lp.len(), pool.counts().threads), (0, 0, 2));
    lp.enqueue(11, Work::done()).unwrap();
    lp.end().finished();
}

/// S14: a result that comes too late belongs to no connection, even if a new connection uses the
/// same id.
#[test]
fn closed_while_running_a_result_reaches_no_other_connection() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let is_alone = Work::at_and_then(&gate, |cx| {
        assert_eq!((cx.is_detached(), cx.connection()), (true, None));
        TaskReturn::TaskDone
    });
    let late = lp.enqueue(1, is_alone).unwrap();
    gate.wait_for(1);
    assert_eq!(lp.connection_of(late), Some(ConnId(1)));
    assert_eq!(lp.connection_closed(1), 1);
    assert_eq!(lp.peek(late), Some(Status::Stopping));
    let new = lp.enqueue(1, Work::done()).unwrap();
    assert_eq!(lp.tasks_of(1), [new], "the new connection has the old task");
    assert_eq!(
        (lp.connection_of(late), lp.connection_of(new)),
        (None, Some(ConnId(1)))
    );
    assert_eq!(lp.connection_closed(1), 1, "only the new task");
    gate.open();
    lp.turn_until(|service, id| id == late && service.connection_of(id).is_none());
    reap(&mut lp, late).finished();
    let (why, task) = reap(&mut lp, new).stopped();
    assert_eq!((why, task.steps), (StopReason::ConnectionClosed, 0));
}

/// L14: tasks that had ended before their connection closed are announced and reaped like the
/// others.
#[test]
fn closed_after_its_end_a_task_is_still_announced_and_reaped() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let id = lp.enqueue(1, Work::done().holding(alive.token())).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(lp.connection_closed(1), 1);
    assert_eq!(lp.connection_of(id), None);
    assert_eq!(lp.ready(), [id]);
    reap(&mut lp, id).finished();
    assert_eq!((alive.count(), lp.len()), (0, 0));
}

#[test]
fn closing_one_connection_leaves_the_others_alone() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let ids: Vec<_> = (0..30)
        .map(|n| lp.enqueue(n % 3, Work::done()).unwrap())
        .collect();
    assert_eq!(lp.connection_closed(1), 10);
    assert_eq!(lp.connection_closed(1), 0, "closed before");
    assert_eq!(lp.connection_closed(99), 0, "an unknown connection");
    assert_eq!(lp.run_pending(PLENTY), 20);
    for (n, id) in ids.into_iter().enumerate() {
        match lp.task_status(id) {
            Some(TaskStatus::Stopped(StopReason::ConnectionClosed, _)) => assert_eq!(n % 3, 1),
            Some(TaskStatus::Finished(_)) => assert_ne!(n % 3, 1),
            other => panic!("{other:?}"),
        }
    }
}

/// L9: a loop over the tasks of a connection may cancel them.
#[test]
fn the_tasks_of_a_connection_are_listed_oldest_first_and_may_be_cancelled_on_the_way() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let parked: Vec<_> = (0..20).map(|_| lp.enqueue(1, Work::parks()).unwrap()).collect();
    lp.enqueue(2, Work::parks()).unwrap();
    lp.parked(21);
    assert_eq!(lp.tasks_of(1), parked);
    for id in lp.tasks_of(1) {
        assert_eq!(lp.dequeue(id), Dequeued::Stopping);
    }
    for (id, end) in lp.ends(20) {
        assert!(parked.contains(&id));
        end.stopped();
    }
    assert!(lp.tasks_of(1).is_empty());
    assert_eq!(lp.tasks_of(2).len(), 1);
}

/// L5, L7, S15: a task that has parked for a client runs to its end without the client, for a
/// hundred more calls, and is reaped.
#[test]
fn an_outliving_task_runs_to_its_own_end() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let options = outliving().sync_timeout(std::time::Duration::from_secs(3600));
    let id = lp.enqueue_with(1, Work::parks_times(100), options).unwrap();
    lp.parked(1);
    assert_eq!(lp.connection_closed(1), 1);
    assert!(lp.tasks_of(1).is_empty());
    assert_eq!(lp.connection_of(id), None);
    let (ended, end) = lp.ends(1).remove(0);
    let task = end.finished();
    assert_eq!((ended, task.steps, task.told), (id, 101, None));
    assert!(lp.is_empty());
}

#[test]
fn an_outliving_task_that_is_queued_still_runs() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue_with(1, Work::parks_times(2), outliving()).unwrap();
    assert_eq!(lp.connection_closed(1), 1);
    assert_eq!(lp.peek(id), Some(Status::Queued));
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).finished().steps, 3);
}

/// L7: a step can decide to outlive its connection.
#[test]
fn a_step_can_ask_to_outlive_its_connection() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let work = || {
        Work::new(|cx, step| {
            if step == 1 {
                cx.outlive_connection();
                return TaskReturn::Sync;
            }
            assert_eq!((cx.is_detached(), cx.connection()), (true, None));
            if step == 100 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        })
    };
    let id = lp.enqueue(1, work()).unwrap();
    lp.run_pending(PLENTY);
    lp.connection_closed(1);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).finished().steps, 100);
}

#[test]
fn an_outliving_task_can_still_be_cancelled() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(1, Work::new(|_, _| TaskReturn::Sync), outliving())
        .unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(id);
    lp.connection_closed(1);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::Dequeued);
}

/// S15: the client connects again with another id and takes over its task, which then parks for the
/// new connection.
#[test]
fn a_reattached_task_delivers_to_its_new_connection() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let step_gate = gate.clone();
    let id = lp
        .enqueue_with(
            1,
            Work::new(move |cx, step| match step {
                1 => {
                    step_gate.pass();
                    assert_eq!(cx.connection(), Some(ConnId(2)));
                    TaskReturn::Sync
                }
                _ => TaskReturn::TaskDone,
            }),
            outliving(),
        )
        .unwrap();
    gate.wait_for(1);
    lp.connection_closed(1);
    assert_eq!(lp.connection_of(id), None);
    assert!(lp.reattach(id, 2));
    assert_eq!(
        (lp.connection_of(id), lp.tasks_of(2)),
        (Some(ConnId(2)), vec![id])
    );
    gate.open();
    assert_eq!(lp.parked(1), [id]);
    assert_eq!(
        lp.connection_closed(1),
        0,
        "the old connection does not own the task any more"
    );
    assert_eq!(lp.peek(id), Some(Status::Syncing));
    resume(&mut lp, id);
    lp.end().finished();
}

#[test]
fn a_queued_task_moves_into_the_flow_of_its_new_connection() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let logs = |name: &'static str| {
        let order = std::sync::Arc::clone(&order);
        Work::new(move |cx, _| {
            order.lock().unwrap().push((name, cx.connection().unwrap().0));
            TaskReturn::TaskDone
        })
    };
    let moved = lp.enqueue(1, logs("moved")).unwrap();
    lp.enqueue(1, logs("stays")).unwrap();
    lp.enqueue(2, logs("first of 2")).unwrap();
    let _ = lp.take_ready().count(); // submits them all
    assert!(lp.reattach(moved, 2));
    lp.run_pending(PLENTY);
    assert_eq!(
        *order.lock().unwrap(),
        [("stays", 1), ("first of 2", 2), ("moved", 2)]
    );
}

#[test]
fn reattaching_a_task_to_its_own_connection_changes_nothing() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let only = lp.enqueue(1, Work::parks_times(1)).unwrap();
    assert!(lp.reattach(only, 1));
    assert_eq!(
        (lp.tasks_of(1), lp.connection_of(only)),
        (vec![only], Some(ConnId(1)))
    );
    lp.run_pending(PLENTY);
    assert!(lp.reattach(only, 1));
    assert_eq!(lp.peek(only), Some(Status::Syncing));
    resume(&mut lp, only);
    lp.run_pending(PLENTY);
    reap(&mut lp, only).finished();
}

#[test]
fn a_stopping_task_that_is_reattached_stays_stopping() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    lp.connection_closed(1);
    assert!(lp.reattach(id, 2));
    assert_eq!(lp.peek(id), Some(Status::Stopping));
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::ConnectionClosed);
}

/// S15: the server answers "202 accepted" with the id, and the client fetches the result later.
#[test]
fn the_result_of_an_outliving_task_can_be_fetched_later_by_its_id() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let token = lp.enqueue_with(1, Work::parks_times(10), outliving()).unwrap();
    lp.connection_closed(1);
    assert_eq!(lp.news(), [token]);
    assert_eq!(
        lp.peek(token),
        Some(Status::Finished),
        "the result was not fetched yet"
    );
    assert!(lp.reattach(token, 2), "the client has connected again");
    assert_eq!(lp.tasks_of(2), [token]);
    assert_eq!(reap(&mut lp, token).finished().steps, 11);
}

#[test]
fn a_close_detaches_outliving_tasks_and_stops_the_others() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let stays = lp.enqueue_with(1, Work::parks_times(3), outliving()).unwrap();
    let goes = lp.enqueue(1, Work::parks_times(3)).unwrap();
    let panics = lp
        .enqueue_with(1, Work::new(|_, _| panic_silently()), outliving())
        .unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(
        lp.connection_closed(1),
        3,
        "ended tasks that were not reaped count, too"
    );
    lp.run_pending(PLENTY);
    reap(&mut lp, stays).finished();
    assert_eq!(reap(&mut lp, goes).stopped().0, StopReason::ConnectionClosed);
    reap(&mut lp, panics).panicked();
}
