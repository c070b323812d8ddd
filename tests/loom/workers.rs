//! Tasks are submitted while workers go to sleep: every accepted task runs, without another event.

use crate::util::{Event, FOREVER, First, Probe, end_race, explore, explore_within, parked, pool_of};
use moored::{BoxTask, Clock, ManualClock, Service, Shutdown, TaskReturn, TaskStatus, ThreadPool, task_fn};
use std::sync::Arc;
use std::time::Duration;

/// A task that signals an event when it runs, and finishes.
fn signal(event: &Arc<Event>) -> BoxTask {
    let event = Arc::clone(event);
    task_fn(move |_| {
        event.happen();
        TaskReturn::TaskDone
    })
}

/// A task that blocks its worker: it signals one event when it runs, waits for a second one, and
/// signals a third one when it ends.
fn hold(begun: &Arc<Event>, until: &Arc<Event>, gone: &Arc<Event>) -> BoxTask {
    let (begun, until, gone) = (Arc::clone(begun), Arc::clone(until), Arc::clone(gone));
    task_fn(move |_| {
        begun.happen();
        until.wait();
        gone.happen();
        TaskReturn::TaskDone
    })
}

/// A service whose loop never calls `take_ready`.
fn idle_service(pool: &ThreadPool) -> Service<BoxTask> {
    pool.service(|| {})
}

fn enqueue_against_parking_workers(workers: usize, rounds: u64) {
    explore(
        format!("{rounds} tasks, one at a time, {workers} workers"),
        move || {
            let pool = pool_of(workers).build().unwrap();
            let mut service = idle_service(&pool);
            let started = Event::new();
            for conn in 0..rounds {
                service.enqueue(conn, signal(&started)).unwrap();
                started.wait();
            }
            end_race();
            let wakes = pool.dump().counters.worker_wakes;
            assert!(
                wakes <= rounds,
                "{wakes} wake-ups for {rounds} tasks, one at a time"
            );
        },
    );
}

/// S1, S2: the worker searches for work, sleeps, is woken, works and goes to sleep again. Then the
/// pool is dropped.
#[test]
fn a_task_starts_when_the_only_worker_is_about_to_sleep() {
    enqueue_against_parking_workers(1, 2);
}

/// S1, S2, S7: the same with two workers. Each wake-up must reach one of them.
#[test]
fn a_task_starts_when_the_last_of_two_workers_is_about_to_sleep() {
    enqueue_against_parking_workers(2, 1);
}

/// S1, S2: a searching worker counts as if it had been woken, until its last look.
#[test]
fn a_task_starts_when_a_worker_has_searched_without_success() {
    for workers in [1, 2] {
        explore_within(1, format!("two tasks, {workers} searching workers"), move || {
            moored::let_workers_search();
            let pool = pool_of(workers).build().unwrap();
            let mut service = idle_service(&pool);
            let started = Event::new();
            for conn in 0..2 {
                service.enqueue(conn, signal(&started)).unwrap();
                started.wait();
            }
            end_race();
        });
    }
}

/// S2: a loop with unread announcements will soon enqueue more, and busy workers do not look at
/// less than a batch. A worker that is about to sleep leaves the tasks to a searching worker.
#[test]
fn tasks_that_are_less_than_a_batch_are_taken() {
    for workers in [1, 2] {
        explore_within(
            1,
            format!("less than a batch, {workers} searching workers"),
            move || {
                moored::let_workers_search();
                let pool = pool_of(workers).build().unwrap();
                let (told, started) = (Event::new(), Event::new());
                let tell = Arc::clone(&told);
                let mut service = pool.service(move || tell.happen());
                service.enqueue(0, signal(&Event::new())).unwrap();
                told.wait();
                assert_eq!(service.take_ready().count(), 1);
                service.enqueue(1, signal(&started)).unwrap();
                started.wait();
                end_race();
            },
        );
    }
}

/// S2: the same with two tasks that wait for each other, so that they need both workers.
/// Unpublished tasks also count as work that is left, when a worker looks after its search.
#[test]
fn two_tasks_that_are_less_than_a_batch_reach_two_workers() {
    for has_looked in [false, true] {
        explore_within(
            1,
            format!("two, less than a batch; looked before: {has_looked}"),
            move || {
                let pool = pool_of(2).build().unwrap();
                let (told, gone) = (Event::new(), Event::new());
                let tell = Arc::clone(&told);
                let mut service = pool.service(move || tell.happen());
                service.enqueue(0, signal(&Event::new())).unwrap();
                told.wait();
                for id in service.take_ready().map(|ready| ready.id) {
                    // A loop that has looked at everything publishes the first task of a burst at
                    // once.
                    assert!(!has_looked || service.task_status(id).is_some());
                }
                let (left, right) = (Event::new(), Event::new());
                service.enqueue(1, hold(&left, &right, &gone)).unwrap();
                service.enqueue(2, hold(&right, &left, &gone)).unwrap();
                gone.wait_for(2);
                end_race();
            },
        );
    }
}

/// S2: two tasks that wait for each other need both workers. A woken worker that leaves work wakes
/// the next worker, although only one wake-up may be pending.
#[test]
fn two_tasks_at_once_reach_two_workers() {
    explore("two tasks, two workers", || {
        let pool = pool_of(2).build().unwrap();
        let mut service = idle_service(&pool);
        let (left, right, gone) = (Event::new(), Event::new(), Event::new());
        service.enqueue(1, hold(&left, &right, &gone)).unwrap();
        service.enqueue(2, hold(&right, &left, &gone)).unwrap();
        gone.wait_for(2);
        end_race();
    });
}

/// S7: while one wake-up is pending, no other one is sent. Each wakes one worker, which sleeps
/// again only after a task has begun.
#[test]
fn at_most_one_wake_up_of_a_worker_is_pending() {
    // With two preemptions it would take minutes.
    explore_within(1, "three tasks at once, two workers", || {
        let pool = pool_of(2).build().unwrap();
        let mut service = pool.service::<Probe>(|| {});
        let seen = [1, 2, 3].map(|conn| {
            let (task, seen) = Probe::new(First::TaskDone);
            service.enqueue(conn, task).unwrap();
            seen
        });
        let wakes = pool.dump().counters.worker_wakes;
        let begun: usize = seen.iter().map(|seen| seen().steps).sum();
        assert!(wakes <= 2 + begun as u64, "{wakes} wake-ups, {begun} tasks begun");
    });
}

/// S2: a task is submitted while the only worker is busy. The worker finds it in its last look
/// before it sleeps.
#[test]
fn a_task_that_is_submitted_during_a_step_of_the_only_worker_runs() {
    explore("submitted to a busy worker", || {
        let pool = pool_of(1).build().unwrap();
        let mut service = idle_service(&pool);
        let (busy, go_on, gone, started) = (Event::new(), Event::new(), Event::new(), Event::new());
        service.enqueue(1, hold(&busy, &go_on, &gone)).unwrap();
        busy.wait();
        service.enqueue(2, signal(&started)).unwrap();
        go_on.happen();
        started.wait();
    });
}

/// S2, S16: a task is submitted while one worker is in a long step and the other one is about to
/// sleep.
#[test]
fn a_task_that_is_submitted_beside_a_busy_worker_is_run_by_the_other() {
    explore("submitted beside a busy worker", || {
        let pool = pool_of(2).build().unwrap();
        let mut service = idle_service(&pool);
        let (busy, started, gone) = (Event::new(), Event::new(), Event::new());
        service.enqueue(1, hold(&busy, &started, &gone)).unwrap();
        busy.wait();
        service.enqueue(2, signal(&started)).unwrap();
        gone.wait();
        end_race();
    });
}

/// S2: the answer to a parked task wakes a worker, like a new task.
#[test]
fn an_answered_task_continues_when_the_only_worker_is_about_to_sleep() {
    explore("answer and sleep", || {
        let pool = pool_of(1).build().unwrap();
        let (mut service, event, id, seen) = parked(&pool);
        match service.task_status(id) {
            Some(TaskStatus::Syncing(point)) => point.resume(),
            other => panic!("{other:?}"),
        }
        event.wait();
        end_race();
        assert_eq!(seen().steps, 2);
    });
}

/// S2, S16: of three tasks a worker takes two at once. The first one lasts until the second has
/// run. The third is cancelled. The other worker, about to sleep, steals the second, unless it has
/// taken tasks before.
#[test]
fn a_task_behind_a_long_step_is_stolen_by_a_worker_that_is_about_to_sleep() {
    let steals = explore("steal and sleep", || {
        let [posted, taken, begun, started, gone] = [(); 5].map(|()| Event::new());
        // The first worker waits until all tasks are submitted, and the second until the first has
        // taken one.
        let gates = [Arc::clone(&posted), Arc::clone(&taken)];
        let builder = pool_of(2).on_thread_start(move |worker| gates[worker].wait());
        let pool = builder.build().unwrap();
        let mut service = idle_service(&pool);
        // The first batch of a worker has one task, and the next is larger.
        service.enqueue(0, signal(&taken)).unwrap();
        service.enqueue(1, hold(&begun, &started, &gone)).unwrap();
        service.enqueue(2, signal(&started)).unwrap();
        let third = service.enqueue(3, task_fn(|_| TaskReturn::TaskDone)).unwrap();
        posted.happen();
        service.dequeue(third);
        gone.wait();
        end_race();
        pool.shutdown(Shutdown::Cancel);
        pool.join_timeout(FOREVER).unwrap();
        pool.dump().counters.steals
    });
    assert!(steals.contains(&0) && steals.len() > 1, "{steals:?}");
}

/// A task whose step takes `micros` microseconds on the pool's clock, and then does `then`.
fn lasts(micros: u64, hand: &ManualClock, then: impl Fn() + Send + 'static) -> BoxTask {
    let hand = hand.clone();
    task_fn(move |_| {
        hand.advance(Duration::from_micros(micros));
        then();
        TaskReturn::TaskDone
    })
}

/// S2, S16: a worker has found no work and is about to sleep. Then the other one takes two tasks at
/// once, sees no sleeping worker, and begins the first, which lasts until the second has run. The
/// last look before sleep must find the second task in the other worker's batch.
#[test]
fn a_task_behind_a_long_step_is_found_by_the_last_look_before_sleep() {
    // With two preemptions it would take minutes; the fault needs one.
    let steals = crate::util::explore_within(1, "a batch and sleep", || {
        let (clock, hand) = Clock::manual();
        let [posted, wanted, awake, begun, started, gone] = [(); 6].map(|()| Event::new());
        let gates = [&posted, &wanted].map(Arc::clone);
        let up = Arc::clone(&awake);
        let starts = move |worker: usize| {
            gates[worker].wait();
            if worker == 1 {
                up.happen();
            }
        };
        let builder = ThreadPool::builder().threads(2).clock(clock);
        let builder = builder.max_running_per_connection(1).on_thread_start(starts);
        let pool = builder.build().unwrap();
        let service = Arc::new(std::sync::Mutex::new(Some(idle_service(&pool))));
        // Two steps of the first worker. They are so long that its next batch has two tasks, and
        // too long to count as short.
        let (poster, ends) = (Arc::clone(&service), Arc::clone(&gone));
        let posts = lasts(10, &hand, move || {
            wanted.happen();
            awake.wait();
            // No other thread uses the service at that time.
            let mut service = poster.lock().unwrap();
            let service = service.as_mut().unwrap();
            service.enqueue(2, hold(&begun, &started, &ends)).unwrap();
            service.enqueue(3, signal(&started)).unwrap();
            // A worker takes two of three tasks. The third may not start before the second has
            // ended.
            service.enqueue(3, task_fn(|_| TaskReturn::TaskDone)).unwrap();
        });
        for task in [lasts(20, &hand, || ()), posts] {
            service
                .lock()
                .unwrap()
                .as_mut()
                .unwrap()
                .enqueue(1, task)
                .unwrap();
        }
        posted.happen();
        gone.wait();
        end_race();
        // Not by the task that the worker runs.
        let service = service.lock().unwrap().take();
        pool.shutdown(Shutdown::Cancel);
        pool.join_timeout(FOREVER).unwrap();
        drop(service);
        pool.dump().counters.steals
    });
    assert!(steals.contains(&0) && steals.len() > 1, "{steals:?}");
}

/// S1, S2: a worker waits before it takes a flow in debt, because the connection of the last turn
/// has used less than its share. Meanwhile the loop submits a task of that connection.
#[test]
fn a_task_is_submitted_while_the_only_worker_waits_before_a_flow_in_debt() {
    let orders = explore("a wait before a flow in debt", || {
        moored::let_workers_search();
        let (clock, hand) = Clock::manual();
        let [posted, first, all] = [(); 3].map(|()| Event::new());
        let gate = Arc::clone(&posted);
        let builder = ThreadPool::builder().threads(1).clock(clock);
        let pool = builder.on_thread_start(move |_| gate.wait()).build().unwrap();
        let mut service = idle_service(&pool);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = |name: &'static str| {
            let (order, all) = (Arc::clone(&order), Arc::clone(&all));
            move || {
                order.lock().unwrap().push(name);
                all.happen();
            }
        };
        for name in ["long 1", "long 2"] {
            service.enqueue(1, lasts(1_000, &hand, noted(name))).unwrap();
        }
        service.enqueue(2, signal(&first)).unwrap();
        posted.happen();
        first.wait();
        service.enqueue(2, lasts(0, &hand, noted("short"))).unwrap();
        all.wait_for(3);
        order.lock().unwrap().clone()
    });
    assert_eq!(orders.len(), 2, "{orders:?}");
}

/// A task that signals an event in its second step; each step takes a millisecond.
fn signal_at_the_second_step(event: &Arc<Event>, hand: ManualClock) -> BoxTask {
    let event = Arc::clone(event);
    let mut has_begun = false;
    task_fn(move |_| {
        hand.advance(Duration::from_millis(1));
        if !std::mem::replace(&mut has_begun, true) {
            return TaskReturn::Continue;
        }
        event.happen();
        TaskReturn::TaskDone
    })
}

/// S2: the loop runs one turn in `run_pending`. The rest is for the worker, whether it is awake or
/// asleep.
#[test]
fn tasks_that_run_pending_leaves_wake_a_worker() {
    explore("run_pending leaves a task", || {
        let (clock, hand) = Clock::manual();
        let builder = ThreadPool::builder().threads(1).clock(clock);
        let pool = builder.time_slice(Duration::ZERO).build().unwrap();
        let mut service = idle_service(&pool);
        let (ended, other) = (Event::new(), Event::new());
        service
            .enqueue(1, signal_at_the_second_step(&ended, hand))
            .unwrap();
        service.enqueue(2, signal(&other)).unwrap();
        service.run_pending(Duration::ZERO);
        ended.wait();
    });
}

/// While a worker is inside the wake-up of a loop, which is user code and may take any time, no
/// other thread relies on that worker.
#[test]
fn work_runs_while_a_worker_wakes_a_loop() {
    explore_within(1, "a worker inside a wake-up, 2 workers", || {
        moored::let_workers_search();
        let pool = pool_of(2).build().unwrap();
        let (told, ran, seen) = (Event::new(), Event::new(), Event::new());
        let (tell, until) = (Arc::clone(&told), Arc::clone(&ran));
        let mut service = pool.service(move || {
            tell.happen();
            if tell.total() == 2 {
                until.wait();
            }
        });
        for conn in 0..2 {
            service.enqueue(conn, task_fn(|_| TaskReturn::TaskDone)).unwrap();
            told.wait();
            if conn == 0 {
                assert_eq!(service.take_ready().count(), 1);
            }
        }
        let (count, too) = (Arc::clone(&ran), Arc::clone(&seen));
        let last = task_fn(move |_| {
            count.happen();
            too.happen();
            TaskReturn::TaskDone
        });
        service.enqueue(2, last).unwrap();
        seen.wait();
        end_race();
    });
}

/// S2: the queue forgets a service whose ring is empty while its loop submits. Either the queue
/// sees the task, or the loop sees that the service is not listed.
#[test]
fn a_submission_races_the_unlisting_of_its_service() {
    explore("a submission and an unlisting", || {
        let pool = pool_of(1).build().unwrap();
        let (mut one, mut other) = (idle_service(&pool), idle_service(&pool));
        let (first, second, third) = (Event::new(), Event::new(), Event::new());
        // The queue forgets services only if more than one is listed.
        one.enqueue(1, signal(&first)).unwrap();
        other.enqueue(2, signal(&second)).unwrap();
        first.wait();
        one.enqueue(1, signal(&third)).unwrap();
        third.wait();
        second.wait();
        end_race();
    });
}
