//! The limits of waiting tasks, of all tasks, and of running tasks of one connection; and the
//! errors at a limit.

mod util;

use moored::{
    BoxTask, Dequeued, EnqueueError, GroupId, Overload, Service, Shutdown, Status, StopReason, TaskId,
    TaskOptions, TaskReturn, TaskStatus, ThreadPool, ThreadPoolBuilder, task_fn,
};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{Gate, Log, Loop, PLENTY, Work, eventually, panic_silently, pool, reap, resume};

fn build(builder: ThreadPoolBuilder) -> ThreadPool {
    builder.build().unwrap()
}

fn queue_is_full(lp: &mut Loop<Work>) -> bool {
    matches!(lp.enqueue(9, Work::done()), Err(EnqueueError::QueueFull(_)))
}

fn tasks_are_too_many(lp: &mut Loop<Work>) -> bool {
    matches!(lp.enqueue(9, Work::done()), Err(EnqueueError::TooManyTasks(_)))
}

#[test]
fn the_queue_holds_max_queue_depth_tasks() {
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(3));
    let mut lp = Loop::new(&pool);
    for conn in 0..3 {
        lp.enqueue(conn, Work::parks()).unwrap();
    }
    assert!(queue_is_full(&mut lp));
    assert_eq!(lp.run_pending(PLENTY), 3);
    for conn in 0..3 {
        lp.enqueue(conn, Work::parks())
            .expect("started tasks do not count");
    }
    assert!(queue_is_full(&mut lp));
    let refused = pool.dump().counters.refused;
    assert_eq!(
        (refused.queue_full, refused.too_many_tasks, refused.shutting_down),
        (2, 0, 0)
    );
}

/// L15: each idle worker is one more place: with n idle workers and depth d, n + d tasks are
/// accepted at once. This holds repeatedly.
#[test]
fn each_idle_worker_is_a_place_in_the_queue() {
    const THREADS: usize = 2;
    const DEPTH: usize = 3;
    let pool = build(ThreadPool::builder().threads(THREADS).max_queue_depth(DEPTH));
    let mut lp = Loop::new(&pool);
    for round in 0..3_000 {
        let gate = Gate::guarded();
        for n in 0..THREADS + DEPTH {
            let accepted = lp.enqueue(n as u64, Work::at(&gate)).is_ok();
            assert!(accepted, "round {round}: task {n} was refused");
        }
        if round % 100 == 0 {
            gate.wait_for(THREADS);
            assert!(
                lp.enqueue(9, Work::done()).is_err_and(|e| e.is_full()),
                "all workers are busy now"
            );
        }
        gate.open();
        lp.ends(THREADS + DEPTH);
    }
}

#[test]
fn a_cancelled_task_frees_its_place_in_the_queue() {
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(2));
    let mut lp = Loop::new(&pool);
    let first = lp.enqueue(1, Work::done()).unwrap();
    lp.enqueue(2, Work::done()).unwrap();
    assert!(lp.enqueue(3, Work::done()).is_err());
    assert_eq!(lp.dequeue(first), Dequeued::Removed);
    lp.enqueue(3, Work::done()).unwrap();
    assert!(lp.enqueue(4, Work::done()).is_err());
    lp.connection_closed(2);
    lp.enqueue(4, Work::done()).unwrap();
}

#[test]
fn a_task_counts_until_it_is_reaped() {
    let pool = build(ThreadPool::builder().threads(0).max_tasks(4));
    let mut lp = Loop::new(&pool);
    let parked = lp.enqueue(1, Work::parks()).unwrap();
    let finished = lp.enqueue(2, Work::done()).unwrap();
    let panicked = lp.enqueue(3, Work::new(|_, _| panic_silently())).unwrap();
    lp.run_pending(PLENTY);
    let cancelled = lp.enqueue(4, Work::done()).unwrap();
    lp.dequeue(cancelled);
    assert!(tasks_are_too_many(&mut lp));
    for id in [finished, panicked, cancelled] {
        reap(&mut lp, id);
        lp.enqueue(5, Work::done()).unwrap();
        assert!(tasks_are_too_many(&mut lp));
    }
    resume(&mut lp, parked);
    assert!(tasks_are_too_many(&mut lp));
    assert_eq!(pool.dump().counters.refused.too_many_tasks, 5);
}

#[test]
fn the_limits_hold_for_all_services_together() {
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(2).max_tasks(3));
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    one.enqueue(1, Work::parks()).unwrap();
    other.enqueue(1, Work::parks()).unwrap();
    assert!(queue_is_full(&mut one));
    assert!(queue_is_full(&mut other));
    one.run_pending(PLENTY);
    one.enqueue(2, Work::done()).unwrap();
    assert!(tasks_are_too_many(&mut one));
    assert!(tasks_are_too_many(&mut other));
    drop(one); // its parked task ends on the next thread that runs tasks
    other.run_pending(PLENTY);
    other
        .enqueue(2, Work::done())
        .expect("the tasks of the dropped service are gone");
}

#[test]
fn a_refusal_says_what_to_do_and_returns_the_task() {
    struct NoDebug;
    impl moored::Task for NoDebug {
        fn step(&mut self, _: &mut moored::Context<'_>) -> TaskReturn {
            TaskReturn::TaskDone
        }
    }
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(1).max_tasks(2));
    let mut service = pool.service::<NoDebug>(|| {});
    service.enqueue(1, NoDebug).unwrap();
    let full = service.enqueue(1, NoDebug).expect_err("depth 1");
    service.run_pending(PLENTY);
    service.enqueue(1, NoDebug).unwrap();
    let too_many = service.enqueue(1, NoDebug).expect_err("max_tasks 2");
    pool.shutdown(Shutdown::Cancel);
    let finished = service.enqueue(1, NoDebug).expect_err("finished");
    assert_eq!(
        [full.is_full(), too_many.is_full(), finished.is_full()],
        [true, true, false]
    );
    assert_eq!(
        format!("{full:?} {too_many:?} {finished:?}"),
        "QueueFull(..) TooManyTasks(..) ShuttingDown(..)"
    );
    let said: [Box<dyn std::error::Error>; 3] = [Box::new(full), Box::new(too_many), Box::new(finished)];
    for (error, word) in said.iter().zip(["max_queue_depth", "max_tasks", "shutting down"]) {
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// U19: a `BoxTask` is not `Sync`, but `?` needs an error that is.
#[test]
fn a_refusal_converts_into_an_error_that_is_send_and_sync() {
    fn submit(service: &mut Service<BoxTask>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        service.enqueue(1, task_fn(|_| TaskReturn::TaskDone))?;
        Ok(())
    }
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(1));
    let mut service = pool.service(|| {});
    submit(&mut service).unwrap();
    let refused = submit(&mut service).unwrap_err();
    assert!(
        matches!(
            refused.downcast_ref(),
            Some(EnqueueError::<BoxTask>::QueueFull(_))
        ),
        "{refused}"
    );
}

/// S25: an error, never a deadlock.
#[test]
fn a_step_that_enqueues_into_its_own_full_pool_is_refused() {
    let pool = build(ThreadPool::builder().threads(1).max_queue_depth(1));
    let service: Arc<Mutex<Option<Service<BoxTask>>>> = Arc::default();
    let wakes = util::Wakes::new();
    let (tell, told) = std::sync::mpsc::channel();
    let (own, ready) = (Arc::clone(&service), Gate::new());
    let step_ready = ready.clone();
    let greedy = task_fn(move |_| {
        step_ready.pass();
        let mut own = own.lock().unwrap();
        let own = own.as_mut().expect("it is set before the gate opens");
        let results = [(); 3].map(|()| {
            own.enqueue(2, task_fn(|_| TaskReturn::TaskDone))
                .map_err(|e| e.is_full())
        });
        tell.send(results.map(|result| result.map(drop))).unwrap();
        TaskReturn::TaskDone
    });
    let mut end = pool.service(Arc::clone(&wakes));
    end.enqueue(1, greedy).unwrap();
    *service.lock().unwrap() = Some(end);
    ready.open();
    let results = told.recv_timeout(util::PATIENCE).expect("no deadlock");
    assert_eq!(results, [Ok(()), Err(true), Err(true)]);
    let service = service.lock().unwrap().take();
    drop(service);
}

/// A pool that runs at most `limit` tasks of a connection at once.
fn four_workers(limit: usize) -> ThreadPool {
    let builder = ThreadPool::builder().threads(4).max_queue_depth(10_000);
    build(builder.max_running_per_connection(limit))
}

#[test]
fn no_more_tasks_of_a_connection_run_at_once_than_allowed() {
    const LIMIT: usize = 2;
    let pool = four_workers(LIMIT);
    let mut lp = Loop::new(&pool);
    let running: Vec<_> = (0..3).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let most = Arc::new(AtomicUsize::new(0));
    for n in 0..3_000 {
        let (running, most) = (Arc::clone(&running[n % 3]), Arc::clone(&most));
        let task = Work::new(move |_, step| {
            if step == 1 {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                return if n % 5 == 0 {
                    TaskReturn::Sync
                } else {
                    TaskReturn::Continue
                };
            }
            running.fetch_sub(1, SeqCst);
            TaskReturn::TaskDone
        });
        lp.enqueue((n % 3) as u64, task).unwrap();
    }
    lp.ends(3_000);
    assert_eq!(most.load(SeqCst), LIMIT);
}

#[test]
fn with_a_limit_of_one_the_tasks_of_a_connection_run_and_are_announced_in_order() {
    let pool = four_workers(1);
    let mut lp = Loop::new(&pool);
    let log = Log::new();
    let mut ids = vec![Vec::new(); 5];
    for n in 0..3_000 {
        let log = log.clone();
        // Each task spends some time between its first and its last step, parked or waiting for its
        // turn.
        let task = Work::new(move |_, step| match step {
            1 if n % 4 == 0 => TaskReturn::Sync,
            1 => TaskReturn::Continue,
            _ => {
                log.add(n);
                TaskReturn::TaskDone
            }
        });
        ids[n % 5].push(lp.enqueue((n % 5) as u64, task).unwrap());
    }
    let announced: Vec<_> = lp.ends(3_000).into_iter().map(|(id, _)| id).collect();
    for (conn, ids) in ids.iter().enumerate() {
        let ran: Vec<_> = log.notes().into_iter().filter(|n| n % 5 == conn).collect();
        assert!(ran.is_sorted(), "connection {conn} ran out of order");
        let told: Vec<_> = announced.iter().filter(|id| ids.contains(id)).collect();
        assert!(
            told.into_iter().eq(ids),
            "connection {conn} was announced out of order"
        );
    }
}

#[test]
fn with_a_limit_of_one_the_order_holds_within_one_take_ready_too() {
    let pool = four_workers(1);
    let mut lp = Loop::new(&pool);
    let ids: Vec<_> = (0..2_000)
        .map(|n| (n % 5, lp.enqueue(n % 5, Work::done()).unwrap()))
        .collect();
    util::eventually("all have ended", || pool.counts().ended == 2_000);
    let announced = lp.ready();
    for conn in 0..5 {
        let own: Vec<_> = ids
            .iter()
            .filter(|(of, _)| *of == conn)
            .map(|&(_, id)| id)
            .collect();
        let told: Vec<_> = announced.iter().copied().filter(|id| own.contains(id)).collect();
        assert_eq!(
            told,
            own[..told.len()],
            "connection {conn} was announced out of order"
        );
        assert!(told.len() > 300, "this should be a large `take_ready`");
    }
}

#[test]
fn a_parked_task_delays_only_tasks_of_its_own_connection() {
    let pool = build(ThreadPool::builder().threads(0).max_running_per_connection(1));
    let mut lp = Loop::new(&pool);
    let parked = lp.enqueue(1, Work::parks()).unwrap();
    let next = lp.enqueue(1, Work::done()).unwrap();
    let other = lp.enqueue(2, Work::done()).unwrap();
    lp.run_pending(PLENTY);
    reap(&mut lp, other).finished();
    assert_eq!(lp.peek(next), Some(moored::Status::Queued));
    assert_eq!(lp.news(), [parked]);
    assert_eq!(lp.poll_timeout(), None, "nothing may run");
    lp.dequeue(parked);
    lp.run_pending(PLENTY);
    reap(&mut lp, parked).stopped();
    reap(&mut lp, next).finished();
}

/// Each kind of end makes room for the next task of the connection.
#[test]
fn every_kind_of_end_lets_the_next_task_of_a_connection_start() {
    for threads in [0, 2] {
        let pool = build(
            ThreadPool::builder()
                .threads(threads)
                .max_running_per_connection(1),
        );
        let mut lp = Loop::new(&pool);
        for round in 0..200 {
            let first = match round % 4 {
                1 => Work::new(|_, _| panic_silently()),
                2 => Work::new(|_, _| TaskReturn::Stopped),
                _ => Work::done(),
            };
            let id = lp.enqueue(1, first).unwrap();
            lp.enqueue(1, Work::done()).unwrap();
            if round % 4 == 3 {
                lp.dequeue(id);
            }
            lp.run_pending(PLENTY);
            lp.ends(2);
        }
    }
}

#[test]
fn a_task_that_moves_to_another_connection_counts_there() {
    let pool = build(ThreadPool::builder().threads(0).max_running_per_connection(1));
    let mut lp = Loop::new(&pool);
    let moved = lp.enqueue(1, Work::parks()).unwrap();
    let [behind_1, behind_2] = [1, 2].map(|conn| lp.enqueue(conn, Work::parks()).unwrap());
    lp.run_pending(PLENTY);
    let third = lp.enqueue(2, Work::done()).unwrap();
    assert_eq!(lp.peek(behind_1), Some(moored::Status::Queued));
    assert!(lp.reattach(moved, 2));
    lp.run_pending(PLENTY);
    assert_eq!(
        lp.peek(behind_1),
        Some(moored::Status::Syncing),
        "connection 1 is free"
    );
    lp.dequeue(behind_2);
    lp.run_pending(PLENTY);
    assert_eq!(
        lp.peek(third),
        Some(moored::Status::Queued),
        "the moved task counts for connection 2"
    );
    lp.dequeue(moved);
    lp.run_pending(PLENTY);
    reap(&mut lp, third).finished();
}

#[test]
fn without_a_limit_one_connection_may_use_every_worker() {
    let pool = pool(3);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    for _ in 0..3 {
        lp.enqueue(1, Work::at(&gate)).unwrap();
    }
    gate.wait_for(3);
    gate.open();
    lp.ends(3);
}

/// Two loops of a pool. The first loop has used up the limit, and the second loop was refused.
fn one_is_refused(builder: ThreadPoolBuilder) -> (ThreadPool, Loop<Work>, Loop<Work>, moored::TaskId) {
    let pool = build(builder);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let id = one.enqueue(1, Work::done()).unwrap();
    assert!((0..3).all(|_| other.enqueue(2, Work::done()).is_err_and(|e| e.is_full())));
    assert_eq!(
        (other.wakes.total(), other.poll_timeout()),
        (0, Some(std::time::Duration::ZERO))
    );
    (pool, one, other, id)
}

/// U10: a refused loop waits for a notification, and has no task that could cause one.
#[test]
fn a_refused_loop_is_notified_once_when_a_start_makes_room() {
    let (_pool, mut one, mut other, _) = one_is_refused(ThreadPool::builder().threads(0).max_queue_depth(1));
    for round in 1..=3 {
        one.run_pending(PLENTY);
        assert_eq!(other.wakes.total(), round, "there is room");
        assert_eq!(other.take_ready().count(), 0);
        // The other loop takes the room first, and this loop is refused again.
        one.enqueue(1, Work::done()).unwrap();
        assert!(queue_is_full(&mut other));
    }
    one.run_pending(PLENTY);
    assert_eq!(other.take_ready().count(), 0);
    other.enqueue(2, Work::done()).expect("room");
    other.run_pending(PLENTY);
    assert_eq!(one.wakes.total(), 1, "it was never refused");
}

/// U10: the same for a task that is cancelled before it starts.
#[test]
fn a_refused_loop_is_notified_when_a_cancelled_task_makes_room() {
    let (_pool, mut one, mut other, id) = one_is_refused(ThreadPool::builder().threads(0).max_queue_depth(1));
    assert_eq!(one.dequeue(id), Dequeued::Removed);
    assert_eq!(other.wakes.total(), 1);
    other.enqueue(2, Work::done()).expect("room");
}

/// U10: the same for `max_tasks`, where only reaping makes room.
#[test]
fn a_refused_loop_is_notified_when_a_reaped_task_makes_room() {
    let (_pool, mut one, mut other, id) = one_is_refused(ThreadPool::builder().threads(0).max_tasks(1));
    one.run_pending(PLENTY);
    assert_eq!(other.wakes.total(), 0, "the task has ended, and still counts");
    reap(&mut one, id).finished();
    assert_eq!(other.wakes.total(), 1);
    other.enqueue(2, Work::done()).expect("room");
}

/// U10: a loop that calls `poll_timeout` reports several reaped tasks to the pool together. It
/// reports them at once while another loop waits, and always before it blocks.
#[test]
fn a_loop_that_polls_reports_reaped_tasks_in_time() {
    let (_pool, mut one, mut other, id) = one_is_refused(ThreadPool::builder().threads(0).max_tasks(1));
    one.run_pending(PLENTY);
    let _ = one.poll_timeout();
    reap(&mut one, id).finished();
    assert_eq!(other.wakes.total(), 1);
    assert_eq!(other.take_ready().count(), 0);
    for _ in 0..3 {
        let id = one.enqueue(1, Work::done()).expect("its own place");
        one.run_pending(PLENTY);
        reap(&mut one, id).finished();
    }
    assert_eq!(one.poll_timeout(), None);
    other.enqueue(2, Work::done()).expect("room");
}

/// U10: the tasks of a dropped service make room too.
#[test]
fn a_refused_loop_is_notified_when_a_dropped_service_makes_room() {
    let (_pool, one, mut other, _) = one_is_refused(ThreadPool::builder().threads(0).max_tasks(1));
    drop(one);
    assert_eq!(other.wakes.total(), 1);
    other.enqueue(2, Work::done()).expect("room");
}

/// U10: a loop may use up a notification in another way than by `take_ready`.
#[test]
fn a_loop_does_not_sleep_until_it_has_seen_the_room() {
    let (_pool, mut one, mut other, _) = one_is_refused(ThreadPool::builder().threads(0).max_queue_depth(1));
    one.run_pending(PLENTY);
    for _ in 0..2 {
        assert_eq!(other.poll_timeout(), Some(std::time::Duration::ZERO));
    }
    assert_eq!(other.take_ready().count(), 0);
    assert_eq!(
        other.poll_timeout(),
        None,
        "the loop has seen the room, and need not enqueue"
    );
    assert_eq!(other.wakes.total(), 1);
}

/// U10: a worker that starts a task makes room, long before the task ends.
#[test]
fn a_refused_loop_is_notified_when_a_worker_makes_room() {
    let pool = build(ThreadPool::builder().threads(1).max_queue_depth(1));
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let gates = [Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    for gate in &gates {
        one.enqueue(1, Work::at(gate)).unwrap();
    }
    gates[0].wait_for(1);
    assert!(queue_is_full(&mut other));
    gates[0].open();
    other.wakes.wait();
    let _ = other.take_ready();
    // The worker may be idle for a moment between the two tasks, so `other` may be notified more
    // than once.
    while other.enqueue(2, Work::done()).is_err() {
        other.wakes.wait();
        let _ = other.take_ready();
    }
    gates[1].open();
    one.ends(2);
    other.ends(1);
}

/// U10: a worker that becomes idle makes room too, although no task starts: the next task waits for
/// the task that has parked.
#[test]
fn a_refused_loop_is_notified_when_an_idle_worker_makes_room() {
    let pool = build(
        ThreadPool::builder()
            .threads(1)
            .max_queue_depth(1)
            .max_running_per_connection(1),
    );
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let gate = Gate::guarded();
    let parks = Work::at_and_then(&gate, |cx| {
        if cx.is_stopping() {
            TaskReturn::Stopped
        } else {
            TaskReturn::Sync
        }
    });
    one.enqueue(1, parks).unwrap();
    gate.wait_for(1);
    one.enqueue(1, Work::done()).unwrap();
    assert!(queue_is_full(&mut other));
    gate.open();
    other.wakes.wait();
    other
        .enqueue(2, Work::done())
        .expect("the idle worker makes room");
    other.ends(1);
}

#[test]
fn the_drop_of_a_refused_service_removes_it_from_the_list() {
    let (_pool, mut one, other, id) = one_is_refused(ThreadPool::builder().threads(0).max_tasks(1));
    let wakes = Arc::clone(&other.wakes);
    drop(other);
    assert_eq!(Arc::strong_count(&wakes), 1);
    one.run_pending(PLENTY);
    reap(&mut one, id).finished();
    assert_eq!(wakes.total(), 0);
}

fn connection_is_full(lp: &mut Loop<Work>, conn: u64, in_queue: usize) -> bool {
    match lp.enqueue(conn, Work::done()) {
        Err(EnqueueError::ConnectionFull {
            connection,
            queued,
            limit,
            ..
        }) => (connection, queued, limit) == (conn.into(), in_queue, 2),
        _ => false,
    }
}

fn two_per_connection() -> ThreadPool {
    build(
        ThreadPool::builder()
            .threads(0)
            .max_queued_per_connection(2)
            .max_queue_depth(5)
            .overload(Overload::Refuse),
    )
}

/// L25: `max_queued_per_connection`.
#[test]
fn a_connection_cannot_fill_the_queue_for_the_others() {
    let pool = two_per_connection();
    let mut lp = Loop::new(&pool);
    for conn in [1, 2] {
        lp.enqueue(conn, Work::parks()).unwrap();
        lp.enqueue(conn, Work::parks()).unwrap();
        assert!((0..3).all(|_| connection_is_full(&mut lp, conn, 2)));
    }
    lp.enqueue(3, Work::done()).expect("its first task");
    assert!(queue_is_full(&mut lp));
    assert!(connection_is_full(&mut lp, 1, 2), "the narrower limit is named");
    let refused = pool.dump().counters.refused;
    assert_eq!((refused.queue_full, refused.connection_full), (1, 7));
}

#[test]
fn only_tasks_that_have_not_started_count_against_their_connection() {
    let pool = two_per_connection();
    let mut lp = Loop::new(&pool);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend([(); 2].map(|()| lp.enqueue(1, Work::parks()).unwrap()));
        assert!(connection_is_full(&mut lp, 1, 2));
        lp.run_pending(PLENTY);
    }
    // The resumed tasks are in flight again, and have started.
    for id in ids {
        resume(&mut lp, id);
    }
    let queued = [(); 2].map(|()| lp.enqueue(1, Work::done()).unwrap());
    assert!(connection_is_full(&mut lp, 1, 2));
    assert_eq!(lp.dequeue(queued[0]), Dequeued::Removed);
    lp.enqueue(1, Work::done())
        .expect("the cancelled task has made room");
    assert!(connection_is_full(&mut lp, 1, 2));
}

#[test]
fn a_task_on_a_worker_does_not_count_against_its_connection() {
    let pool = build(ThreadPool::builder().threads(1).max_queued_per_connection(2));
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    for _ in 0..2 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    assert!(connection_is_full(&mut lp, 1, 2));
    gate.open();
    lp.ends(3);
}

/// The loop of the full connection has not received the task that another loop has shed.
#[test]
fn a_shed_task_does_not_count_against_its_connection() {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(2);
    let pool = build(builder.max_queued_per_connection(2));
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    for _ in 0..2 {
        one.enqueue(1, Work::done()).unwrap();
    }
    assert!(connection_is_full(&mut one, 1, 2));
    other
        .enqueue(2, Work::done())
        .expect("it replaces a task of the full connection");
    let refused = one.enqueue(1, Work::done()).unwrap_err();
    assert!(matches!(refused, EnqueueError::QueueFull(_)), "{refused:?}");
}

#[test]
fn a_task_that_moves_counts_against_the_connection_that_it_moves_to() {
    let pool = two_per_connection();
    let mut lp = Loop::new(&pool);
    let moved = [(); 2].map(|()| lp.enqueue(1, Work::done()).unwrap());
    lp.enqueue(2, Work::done()).unwrap();
    for id in moved {
        assert!(lp.reattach(id, 2));
    }
    assert!(connection_is_full(&mut lp, 2, 3));
    lp.enqueue(1, Work::done()).expect("it has none");
    lp.connection_closed(2);
    lp.enqueue(2, Work::done()).expect("a new connection");
}

#[test]
fn the_error_names_a_full_connection_and_the_loop_is_not_notified() {
    let pool = two_per_connection();
    let mut lp = Loop::new(&pool);
    for _ in 0..2 {
        lp.enqueue(7, Work::parks()).unwrap();
    }
    let refused = lp.enqueue(7, Work::parks()).unwrap_err();
    assert!(refused.is_full());
    assert_eq!(format!("{refused:?}"), "ConnectionFull(..)");
    let said = refused.to_string();
    assert!(
        ["connection 7", "has 2", "`max_queued_per_connection` is 2"]
            .iter()
            .all(|part| said.contains(part)),
        "{said}"
    );
    refused.into_task();
    lp.run_pending(PLENTY);
    assert_eq!(
        lp.wakes.total(),
        1,
        "one notification for the tasks that have parked"
    );
    lp.parked(2);
    assert_eq!(lp.poll_timeout(), None);
}

/// U1: one connection enqueues until it is refused, in every iteration of the loop. By default,
/// nine other connections are never refused. The shed tasks are returned by value, and all of them
/// are counted.
#[test]
fn a_connection_that_fills_the_queue_does_not_block_others() {
    let pool = build(ThreadPool::builder().threads(0).max_queue_depth(64));
    let mut lp = Loop::new(&pool);
    let (mut accepted, mut shed, mut finished) = (0, 0, 0);
    for _ in 0..120 {
        while lp.enqueue(0, Work::done()).is_ok() {
            accepted += 1;
        }
        for conn in 1..10 {
            lp.enqueue(conn, Work::done()).expect("one of the nine");
            accepted += 1;
        }
        lp.run_pending(Duration::ZERO);
        for ready in lp.take_ready() {
            match lp.task_status(ready.id) {
                Some(TaskStatus::Finished(_)) => finished += 1,
                Some(TaskStatus::Stopped(StopReason::Shed, task)) => {
                    assert_eq!((ready.connection, task.steps), (Some(0.into()), 0));
                    shed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        if lp.len() > 50 {
            lp.run_pending(PLENTY);
            finished += lp
                .take_ready()
                .filter(|ready| lp.task_status(ready.id).is_some())
                .count();
        }
    }
    lp.run_pending(PLENTY);
    finished += lp
        .take_ready()
        .filter(|ready| lp.task_status(ready.id).is_some())
        .count();
    assert!(shed > 100, "{shed}");
    assert_eq!((accepted, lp.len()), (shed + finished, 0));
    let counters = pool.dump().counters;
    assert_eq!(counters.stopped.shed, shed as u64);
    assert_eq!(counters.accepted, counters.finished + counters.stopped.total());
}

#[test]
fn with_refuse_the_queue_is_full_for_every_connection() {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(4);
    let pool = build(builder.overload(Overload::Refuse));
    let mut lp = Loop::new(&pool);
    for _ in 0..4 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    assert!(queue_is_full(&mut lp));
    assert_eq!(pool.dump().counters.stopped.shed, 0);
}

/// A connection with one task does not replace the task of another connection with one task.
#[test]
fn nothing_is_shed_between_equal_connections() {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(4);
    let pool = builder.overload(Overload::ShedFattest).build().unwrap();
    let mut lp = Loop::new(&pool);
    for conn in 0..4 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    assert!(matches!(
        lp.enqueue(4, Work::done()),
        Err(EnqueueError::QueueFull(_))
    ));
    assert_eq!(lp.run_pending(PLENTY), 4);
}

/// An idle worker adds a place. When it has become busy without starting a task, the queue has one
/// task too many. Then one shed task was not enough, and the other connection was refused.
#[test]
fn the_place_of_a_worker_that_has_become_busy_is_shed_too() {
    let builder = ThreadPool::builder().threads(1).max_queue_depth(2);
    let pool = build(builder.max_running_per_connection(1));
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    lp.enqueue(1, Work::parks()).unwrap();
    let second_step = gate.clone();
    let waits = Work::new(move |_, step| {
        if step > 1 {
            second_step.pass();
            return TaskReturn::TaskDone;
        }
        TaskReturn::Sync
    });
    let waits = lp.enqueue(9, waits).unwrap();
    lp.parked(2);
    eventually("the worker is idle", || pool.counts().on_worker == 0);
    // They do not start, because the first task of connection 1 has not ended.
    for _ in 0..3 {
        lp.enqueue(1, Work::done()).unwrap();
    }
    resume(&mut lp, waits);
    gate.wait_for(1);
    lp.enqueue(2, Work::done())
        .expect("the place of a task of connection 1");
    assert_eq!(pool.dump().counters.stopped.shed, 2);
    assert_eq!(pool.counts().queued, 2);
}

/// The shed task may belong to another loop. That loop is notified.
#[test]
fn a_task_of_another_service_is_shed_and_announced_there() {
    let builder = ThreadPool::builder().threads(0).max_queue_depth(4);
    let pool = builder.overload(Overload::ShedFattest).build().unwrap();
    let (mut flood, mut lp) = (Loop::new(&pool), Loop::new(&pool));
    let ids: Vec<_> = (0..4).map(|_| flood.enqueue(1, Work::done()).unwrap()).collect();
    let before = flood.wakes.total();
    lp.enqueue(1, Work::done()).unwrap();
    assert_eq!(flood.wakes.total(), before + 1);
    let ready = flood.ready();
    assert_eq!(ready, [ids[3]]);
    let status = flood.task_status(ids[3]);
    assert!(matches!(status, Some(TaskStatus::Stopped(StopReason::Shed, _))));
    assert_eq!(pool.dump().abnormal_ends.len(), 1);
}

/// The count of `max_queued_per_connection` in two services under random calls, beside a naive
/// count.
#[test]
fn the_count_of_queued_tasks_is_exact() {
    const LIMIT: usize = 3;
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut builder = ThreadPool::builder().threads(0).max_queue_depth(12);
        if seed % 3 == 0 {
            builder = builder.max_running_per_connection(1);
        }
        let (pool, time) = util::manual(builder.max_queued_per_connection(LIMIT));
        let mut loops = [(); 2].map(|()| (Loop::<Work>::new(&pool), Vec::<(TaskId, u64)>::new()));
        for step in 0..300 {
            let (lp, tasks) = &mut loops[usize::from(rng.u8(..4) == 0)];
            let conn = rng.u64(..4);
            let id = (!tasks.is_empty()).then(|| rng.usize(..tasks.len()));
            match (rng.u8(..20), id) {
                (0, Some(at)) => {
                    lp.dequeue(tasks[at].0);
                }
                (1 | 2, Some(at)) => {
                    if lp.reattach(tasks[at].0, conn) {
                        tasks[at].1 = conn;
                    }
                }
                (3, _) => {
                    lp.connection_closed(conn);
                    tasks
                        .iter_mut()
                        .filter(|task| task.1 == conn)
                        .for_each(|task| task.1 = u64::MAX);
                }
                (4, _) => lp.set_group(conn, rng.bool().then_some(GroupId(rng.u64(..2)))),
                (5, _) => time.advance(Duration::from_millis(1)),
                (6..=8, _) => {
                    for ready in lp.take_ready() {
                        match lp.task_status(ready.id) {
                            Some(TaskStatus::Syncing(point)) => point.resume(),
                            _ => tasks.retain(|task| task.0 != ready.id),
                        }
                    }
                }
                (9..=11, _) => _ = lp.run_pending(Duration::ZERO),
                _ => {
                    let is_queued =
                        |&&(id, of): &&(TaskId, u64)| of == conn && lp.peek(id) == Some(Status::Queued);
                    let naive = tasks.iter().filter(is_queued).count();
                    let mut options = TaskOptions::new();
                    if rng.u8(..4) == 0 {
                        options = options.queue_timeout(Duration::from_millis(2));
                    }
                    if rng.u8(..4) == 0 {
                        options = options.outlive_connection();
                    }
                    let work = if rng.bool() {
                        Work::done()
                    } else {
                        Work::parks_times(2)
                    };
                    match lp.enqueue_with(conn, work, options) {
                        Ok(id) => {
                            assert!(naive < LIMIT, "{seed} {step}: {naive}");
                            tasks.push((id, conn));
                        }
                        Err(EnqueueError::ConnectionFull { queued, .. }) => {
                            assert_eq!(queued, naive, "{seed} {step}");
                            assert!(naive >= LIMIT, "{seed} {step}: {naive}");
                        }
                        Err(error) => {
                            assert!(
                                matches!(error, EnqueueError::QueueFull(_)) && naive < LIMIT,
                                "{error:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// With `max_running_per_connection`, the end of a task permits the next one. The worker that ended
/// the task is inside the wake-up of its loop, so another worker must run the next task.
#[test]
fn the_next_task_of_a_connection_does_not_wait_for_a_wake_up() {
    // In most rounds the other worker sleeps when the first task ends.
    for _ in 0..20 {
        let pool = build(ThreadPool::builder().threads(2).max_running_per_connection(1));
        let [wake, first, second] = [(); 3].map(|()| Gate::new());
        let passed = wake.clone();
        let mut service = pool.service::<Work>(move || passed.pass());
        let _guards = [wake.guard(), first.guard(), second.guard()];
        for gate in [&first, &second] {
            service.enqueue(1, Work::at(gate)).unwrap();
        }
        first.wait_for(1);
        first.open();
        wake.wait_for(1);
        second.wait_for(1);
    }
}
