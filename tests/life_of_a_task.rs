//! The life of a task, from `enqueue` to its only end, as the loop and the step see it.

mod util;

use moored::{
    BoxTask, ConnId, Context, Dequeued, Resume, Service, Status, StopReason, Task, TaskId, TaskOptions,
    TaskReturn, TaskStatus, ThreadPool, task_fn,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use util::{Alive, Gate, Log, Loop, PLENTY, Twice, Work, panic_silently, pool, reap, resume};

#[test]
fn a_task_runs_step_by_step_and_comes_back_by_value() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let returns = [
        TaskReturn::Continue,
        TaskReturn::Sync,
        TaskReturn::Continue,
        TaskReturn::TaskDone,
    ];
    lp.enqueue(1, Work::new(move |_, step| returns[step as usize - 1]))
        .unwrap();
    assert_eq!(lp.end().finished().steps, 4);
}

#[test]
fn every_status_is_seen_by_the_loop() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let step_gate = gate.clone();
    let blocker = lp
        .enqueue(
            1,
            Work::stubborn(move |cx, step| match (step, cx.is_stopping()) {
                (1, _) => TaskReturn::Sync,
                (2, _) => {
                    step_gate.pass();
                    TaskReturn::Continue
                }
                (_, true) => TaskReturn::Stopped,
                (_, false) => TaskReturn::Continue,
            }),
        )
        .unwrap();
    lp.parked(1);
    assert_eq!(lp.peek(blocker), Some(Status::Syncing));
    let Some(TaskStatus::Syncing(point)) = lp.task_status(blocker) else {
        panic!("not parked")
    };
    assert_eq!(
        format!("{point:?}"),
        "SyncPoint(Work { steps: 1, told: None, .. })"
    );
    resume(&mut lp, blocker);
    gate.wait_for(1);
    assert_eq!(lp.peek(blocker), Some(Status::Running));
    assert!(matches!(lp.task_status(blocker), Some(TaskStatus::Running)));
    let queued = lp.enqueue(2, Work::done()).unwrap();
    assert_eq!(lp.peek(queued), Some(Status::Queued));
    assert!(matches!(lp.task_status(queued), Some(TaskStatus::Queued)));
    assert_eq!(lp.dequeue(blocker), Dequeued::Stopping);
    assert_eq!(lp.peek(blocker), Some(Status::Stopping));
    assert!(matches!(lp.task_status(blocker), Some(TaskStatus::Stopping)));
    let panics = lp.enqueue(3, Work::new(|_, _| panic_silently())).unwrap();
    gate.open();
    // A worker counts an end before it changes the status.
    util::eventually("three ends", || {
        [blocker, queued, panics].map(|id| lp.peek(id))
            == [Status::Stopped, Status::Finished, Status::Panicked].map(Some)
    });
    assert!(matches!(
        lp.task_status(blocker),
        Some(TaskStatus::Stopped(StopReason::Dequeued, _))
    ));
    assert!(matches!(lp.task_status(queued), Some(TaskStatus::Finished(_))));
    assert!(matches!(lp.task_status(panics), Some(TaskStatus::Panicked(_))));
}

/// `TaskStatus` implements `Debug` even if the task does not.
#[test]
fn a_status_is_shown_without_its_task() {
    struct NoDebug(Vec<TaskReturn>);
    impl Task for NoDebug {
        fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
            if cx.is_stopping() {
                return TaskReturn::Stopped;
            }
            self.0.pop().unwrap_or_else(|| panic_silently())
        }
    }
    fn shown(service: &mut Service<NoDebug>, id: TaskId) -> String {
        format!("{:?}", service.task_status(id).expect("not reaped"))
    }
    let pool = pool(0);
    let mut service = pool.service::<NoDebug>(|| {});
    let finishes = NoDebug(vec![TaskReturn::TaskDone, TaskReturn::Sync, TaskReturn::Continue]);
    let id = service.enqueue(1, finishes).unwrap();
    assert_eq!(shown(&mut service, id), "Queued");
    service.run_pending(Duration::ZERO);
    assert_eq!(shown(&mut service, id), "Running");
    service.run_pending(PLENTY);
    assert_eq!(shown(&mut service, id), "Syncing(..)");
    assert!(service.task_sync(id, Resume::Continue));
    service.run_pending(PLENTY);
    assert_eq!(shown(&mut service, id), "Finished(..)");
    let id = service.enqueue(1, NoDebug(vec![TaskReturn::Sync])).unwrap();
    service.run_pending(PLENTY);
    service.dequeue(id);
    assert_eq!(shown(&mut service, id), "Stopping");
    service.run_pending(PLENTY);
    assert_eq!(shown(&mut service, id), "Stopped(Dequeued, ..)");
    let id = service.enqueue(1, NoDebug(Vec::new())).unwrap();
    service.run_pending(PLENTY);
    assert_eq!(shown(&mut service, id), "Panicked(\"silent\")");
}

/// A parked task that implements `Debug` is printed with its value.
#[test]
fn a_parked_task_is_shown_as_it_is() {
    let pool = pool(0);
    let mut service = pool.service::<Work>(|| {});
    let id = service.enqueue(1, Work::parks()).unwrap();
    service.run_pending(PLENTY);
    match service.task_status(id) {
        Some(TaskStatus::Syncing(point)) => {
            assert_eq!(format!("{point:?}"), format!("SyncPoint({:?})", *point));
            assert!(format!("{point:?}").contains("steps: 1"));
        }
        other => panic!("not parked: {other:?}"),
    }
}

#[test]
fn a_status_says_whether_it_is_an_end_and_has_its_lws_name() {
    let named = [
        (Status::Queued, "queued", false),
        (Status::Running, "running", false),
        (Status::Syncing, "syncing", false),
        (Status::Stopping, "stopping", false),
        (Status::Finished, "finished", true),
        (Status::Stopped, "stopped", true),
        (Status::Panicked, "panicked", true),
    ];
    for (status, name, is_end) in named {
        assert_eq!(status.to_string(), name);
        assert_eq!(format!("{status:>9}").len(), 9);
        assert_eq!(status.is_ended(), is_end);
    }
}

#[test]
fn a_reaped_task_is_unknown_to_every_call() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::done()).unwrap();
    assert_eq!((lp.len(), lp.is_empty()), (1, false));
    lp.run_pending(PLENTY);
    assert_eq!(
        (lp.len(), lp.is_empty()),
        (1, false),
        "the task has ended and was not reaped"
    );
    reap(&mut lp, id).finished();
    assert_eq!((lp.len(), lp.is_empty()), (0, true));
    assert!(lp.task_status(id).is_none());
    assert_eq!(lp.peek(id), None);
    assert_eq!(lp.connection_of(id), None);
    assert_eq!(lp.dequeue(id), Dequeued::Unknown);
    assert!(!lp.task_sync(id, Resume::Continue));
    assert!(!lp.task_sync(id, Resume::Stop));
    assert!(!lp.reattach(id, 2));
    assert!(lp.tasks_of(1).is_empty());
    assert!(lp.take_ready().is_empty(), "a reaped task is announced");
}

/// U18: tasks that a loop had not taken out of the iterator were never announced again.
#[test]
fn tasks_left_in_the_iterator_are_announced_by_the_next_call() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let enqueue = |lp: &mut Loop<Work>, conn: u64| lp.enqueue(conn, Work::parks_times(1)).unwrap();
    let ids = [0, 1, 2, 3, 4].map(|conn| enqueue(&mut lp, conn));
    lp.run_pending(PLENTY);
    let mut ready = lp.take_ready();
    assert_eq!(ready.next().map(|ready| ready.id), Some(ids[0]));
    let woken = lp.wakes.total();
    drop(ready);
    assert_eq!(lp.wakes.total(), woken + 1, "the loop must look once more");
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    // Before that, the loop resumes one task, which ends: it is announced once.
    assert!(lp.task_sync(ids[2], Resume::Continue));
    let new = enqueue(&mut lp, 5);
    lp.run_pending(PLENTY);
    let again: Vec<_> = lp
        .take_ready()
        .map(|ready| (ready.id, ready.connection))
        .collect();
    let expected = [(ids[1], 1), (ids[2], 2), (ids[3], 3), (ids[4], 4), (new, 5)];
    assert_eq!(again, expected.map(|(id, conn)| (id, Some(ConnId(conn)))));
    assert_eq!((lp.poll_timeout(), lp.take_ready().count()), (None, 0));
    assert_eq!(pool.dump().counters.wakes, lp.wakes.total() as u64);
}

/// U18: the iterator may be dropped late, on any thread, or after its service.
#[test]
fn the_iterator_may_be_dropped_anywhere() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let ids = [1, 2].map(|conn| lp.enqueue(conn, Work::done()).unwrap());
    lp.run_pending(PLENTY);
    let ready = lp.take_ready();
    reap(&mut lp, ids[0]).finished();
    std::thread::spawn(move || drop(ready)).join().unwrap();
    assert_eq!(lp.news(), [ids[1]]);
    let late = {
        lp.enqueue(3, Work::parks()).unwrap();
        lp.run_pending(PLENTY);
        lp.take_ready()
    };
    let wakes = Arc::clone(&lp.wakes);
    drop(lp);
    let woken = wakes.total();
    drop(late);
    assert_eq!(wakes.total(), woken);
}

/// The service lists a task when it receives the task from a worker.
#[test]
fn a_task_is_announced_with_the_connection_that_it_has_at_that_time() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let [reaped, closed, moved] = [1, 2, 3].map(|conn| lp.enqueue(conn, Work::done()).unwrap());
    lp.run_pending(PLENTY);
    // This call receives all three tasks.
    reap(&mut lp, reaped).finished();
    lp.connection_closed(2);
    assert!(lp.reattach(moved, 4));
    let ready: Vec<_> = lp
        .take_ready()
        .map(|ready| (ready.id, ready.connection))
        .collect();
    assert_eq!(ready, [(closed, None), (moved, Some(ConnId(4)))]);
}

#[test]
fn an_end_is_announced_once_even_if_nobody_reaps_it() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let finished = lp.enqueue(1, Work::done()).unwrap();
    let panicked = lp.enqueue(2, Work::new(|_, _| panic_silently())).unwrap();
    let stopped = lp.enqueue(3, Work::new(|_, _| TaskReturn::Stopped)).unwrap();
    let cancelled = lp.enqueue(4, Work::done()).unwrap();
    assert_eq!(lp.dequeue(cancelled), Dequeued::Removed);
    lp.run_pending(PLENTY);
    let mut ready = lp.take_ready();
    assert_eq!((ready.len(), ready.is_empty()), (4, false));
    let mut ids: Vec<_> = ready.by_ref().map(|ready| ready.id).collect();
    assert!(ready.is_empty());
    ids.sort_unstable();
    assert_eq!(ids, [finished, panicked, stopped, cancelled]);
    for _ in 0..3 {
        assert!(lp.take_ready().is_empty(), "an end was announced twice");
    }
    assert_eq!(lp.len(), 4, "the ended tasks were not reaped");
    for id in ids {
        reap(&mut lp, id);
    }
}

#[test]
fn a_task_that_stops_by_itself_has_the_reason_returned() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::new(|_, _| TaskReturn::Stopped)).unwrap();
    lp.run_pending(PLENTY);
    let (why, task) = reap(&mut lp, id).stopped();
    assert_eq!((why, task.steps, task.told), (StopReason::Returned, 1, None));
}

#[test]
fn a_step_knows_its_task_its_connection_and_its_worker() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let (tell, told) = std::sync::mpsc::channel();
    let id = lp
        .enqueue(
            77,
            Work::new(move |cx, _| {
                tell.send((
                    cx.task_id(),
                    cx.connection(),
                    cx.is_detached(),
                    cx.worker(),
                    cx.stop_reason(),
                ))
                .unwrap();
                TaskReturn::TaskDone
            }),
        )
        .unwrap();
    lp.end().finished();
    let (task_id, connection, detached, worker, stop) = told.recv().unwrap();
    assert_eq!(
        (task_id, connection, detached, stop),
        (id, Some(ConnId(77)), false, None)
    );
    assert!(worker.is_some_and(|n| n < 2), "{worker:?}");
}

#[test]
fn tasks_of_several_kinds_run_on_one_service_in_boxes() {
    let pool = pool(0);
    let mut service = pool.service::<BoxTask>(|| {});
    let alive = Alive::new();
    let token = alive.token();
    assert_eq!(format!("{:?}", BoxTask::new(Twice::default())), "BoxTask");
    let ids = [
        service.enqueue(1, BoxTask::new(Twice::default())).unwrap(),
        service
            .enqueue(
                1,
                task_fn(move |_| {
                    let _held = &token;
                    TaskReturn::TaskDone
                }),
            )
            .unwrap(),
    ];
    service.run_pending(PLENTY);
    assert_eq!(alive.count(), 1);
    for id in ids {
        assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
    }
    assert_eq!(alive.count(), 0, "the reaped task was dropped");
}

#[test]
fn a_pool_serves_loops_of_different_types_and_each_gets_only_its_own_tasks() {
    struct Number(u64);
    impl Task for Number {
        fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
            self.0 *= 2;
            TaskReturn::TaskDone
        }
    }
    struct Text(String);
    impl Task for Text {
        fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
            self.0.push('!');
            TaskReturn::TaskDone
        }
    }
    let pool = pool(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut lp = Loop::new(&pool);
            let own: Vec<TaskId> = (0..500).map(|n| lp.enqueue(1, Number(n)).unwrap()).collect();
            let mut ends: HashMap<_, _> = lp.ends(500).into_iter().collect();
            for (n, id) in own.iter().enumerate() {
                assert_eq!(ends.remove(id).expect("its own").finished().0, 2 * n as u64);
            }
            assert!(ends.is_empty());
        });
        scope.spawn(|| {
            let mut lp = Loop::new(&pool);
            let own: Vec<TaskId> = (0..500)
                .map(|n| lp.enqueue(1, Text(n.to_string())).unwrap())
                .collect();
            let mut ends: HashMap<_, _> = lp.ends(500).into_iter().collect();
            for (n, id) in own.iter().enumerate() {
                assert_eq!(ends.remove(id).expect("its own").finished().0, format!("{n}!"));
            }
            assert!(ends.is_empty());
        });
    });
}

#[test]
fn a_service_may_move_to_another_thread() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks_times(1)).unwrap();
    let ended = std::thread::scope(|scope| {
        let moved = scope.spawn(move || lp.ends(1).remove(0).0);
        moved.join().unwrap()
    });
    assert_eq!(ended, id);
}

/// S8: every accepted task has one end, one announcement, one reaping and one drop, for each way to
/// end.
#[test]
fn the_counters_agree_after_every_kind_of_end() {
    const TASKS: u64 = 3_000;
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    let work = |n: u64| {
        Work::new(move |_, step| match (n % 5, step) {
            (0, _) | (_, 4..) => TaskReturn::TaskDone,
            (1, 2) => panic_silently(),
            (2, 2) => TaskReturn::Stopped,
            (3, _) => TaskReturn::Continue,
            _ => TaskReturn::Sync,
        })
        .holding(alive.token())
    };
    let mut seen: HashMap<TaskId, u32> = HashMap::new();
    let mut ends = 0;
    for n in 0..TASKS {
        let options = TaskOptions::new().deadline(Duration::from_micros(n % 7 * 300 + 1));
        let id = if n % 3 == 0 {
            lp.enqueue_with(n / 10, work(n), options)
        } else {
            lp.enqueue(n / 10, work(n))
        };
        match n % 11 {
            0 => drop(lp.dequeue(id.unwrap())),
            1 => drop(lp.connection_closed(n / 10)),
            2 => drop(lp.task_sync(id.unwrap(), Resume::Stop)),
            _ => {}
        }
        ends += turn(&mut lp, &mut seen);
    }
    while ends < TASKS {
        lp.wakes.wait();
        ends += turn(&mut lp, &mut seen);
    }
    assert_eq!((ends, lp.len(), alive.count()), (TASKS, 0, 0));
    assert!(seen.values().all(|&announced_ends| announced_ends == 1));
    let counters = pool.dump().counters;
    assert_eq!(counters.accepted, TASKS);
    assert_eq!(
        counters.finished + counters.stopped.total() + counters.panicked,
        TASKS
    );
    assert!(
        counters.finished > 0 && counters.panicked > 0 && counters.stopped.connection_closed > 0,
        "{counters:?}"
    );
}

/// One iteration of the loop: resumes parked tasks, reaps ended tasks, and notes each end.
fn turn(lp: &mut Loop<Work>, seen: &mut HashMap<TaskId, u32>) -> u64 {
    let mut ends = 0;
    for id in lp.take_ready().map(|ready| ready.id) {
        match lp.task_status(id) {
            Some(TaskStatus::Syncing(point)) => point.resume(),
            Some(TaskStatus::Queued | TaskStatus::Running | TaskStatus::Stopping) => {}
            Some(_) => {
                *seen.entry(id).or_default() += 1;
                ends += 1;
            }
            None => panic!("{id} was announced after it was reaped"),
        }
    }
    ends
}

#[test]
fn a_refused_task_comes_back_untouched() {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(1)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let alive = Alive::new();
    lp.enqueue(1, Work::done()).unwrap();
    let refused = lp.enqueue(1, Work::done().holding(alive.token())).unwrap_err();
    assert_eq!(alive.count(), 1);
    let task = refused.into_task();
    assert_eq!((task.steps, alive.count()), (0, 1));
    lp.run_pending(PLENTY);
    lp.enqueue(1, task).expect("there is room again");
}

#[test]
fn a_context_prints_its_task_and_no_internals() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let said = Log::new();
    let notes = said.clone();
    let says = Work::stubborn(move |cx, step| {
        notes.add(format!("{cx:?}"));
        if step == 1 {
            TaskReturn::Sync
        } else {
            TaskReturn::Stopped
        }
    });
    let id = lp.enqueue(7, says).unwrap();
    lp.run_pending(PLENTY);
    lp.connection_closed(7);
    lp.run_pending(Duration::ZERO);
    let context = |stop, conn| {
        format!("Context {{ task_id: {id:?}, stop_reason: {stop}, connection: {conn}, worker: None }}")
    };
    let expected = [
        context("None", "Some(ConnId(7))"),
        context("Some(ConnectionClosed)", "None"),
    ];
    assert_eq!(said.notes(), expected);
}
