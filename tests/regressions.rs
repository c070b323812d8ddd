//! Bugs that moored once had. A test of one behaviour is in the file of that behaviour. This file
//! has the bugs that needed an unusual combination, each with a description of the bug.

mod util;

use moored::{
    BoxTask, ConnId, Context, Dequeued, JoinError, Service, Shutdown, Status, StopReason, Task, TaskId,
    TaskOptions, TaskReturn, TaskStatus, ThreadPool, task_fn,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use util::{
    Alive, Gate, Log, Loop, PATIENCE, PLENTY, Token, Work, eventually, hasty_pool, pool, reap,
    within_patience,
};

/// `tasks_of` converted its argument, which runs user code, under the lock of the service's table.
#[test]
fn a_conversion_into_a_connection_runs_under_no_lock() {
    struct Client(Arc<ThreadPool>);
    impl From<Client> for ConnId {
        fn from(client: Client) -> Self {
            Self(client.0.dump().tasks.len() as u64)
        }
    }
    within_patience("a conversion", || {
        let pool = Arc::new(pool(0));
        let client = || Client(Arc::clone(&pool));
        let mut service = pool.service::<BoxTask>(|| {});
        let id = service
            .enqueue(client(), task_fn(|_| TaskReturn::TaskDone))
            .unwrap();
        assert_eq!(service.connection_of(id), Some(ConnId(0)));
        assert!(service.reattach(id, client()));
        assert_eq!(service.tasks_of(client()), [id]);
        assert_eq!(service.connection_closed(client()), 1);
    });
}

/// `enqueue` converted its connection after it had counted the task, so a conversion that panicked
/// used a place of `max_tasks` for ever.
#[test]
fn a_conversion_that_panics_takes_up_no_place() {
    struct Nobody;
    impl From<Nobody> for ConnId {
        fn from(_: Nobody) -> Self {
            util::panic_silently()
        }
    }
    let pool = ThreadPool::builder().threads(0).max_tasks(1).build().unwrap();
    let mut service = pool.service(|| {});
    let conversion = AssertUnwindSafe(|| drop(service.enqueue(Nobody, Work::done())));
    assert!(catch_unwind(conversion).is_err());
    assert!(service.enqueue(1, Work::done()).is_ok());
}

/// A worker that was blocked in a step kept the rest of its batch while the other workers had other
/// tasks. So thousands of later tasks of the same connection ran before it.
#[test]
fn a_long_step_delays_only_its_own_task() {
    const TASKS: usize = 20_000;
    for round in 0..8 {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        let (log, start, stuck) = (Log::new(), Gate::new(), Gate::new());
        let (_start, _stuck) = (start.guard(), stuck.guard());
        for conn in [1, 2] {
            lp.enqueue(conn, Work::at(&start)).unwrap();
        }
        start.wait_for(2);
        let slow = 2_000 + round * 13;
        for n in 0..TASKS {
            let task = if n == slow {
                Work::at(&stuck)
            } else {
                Work::notes(&log, n)
            };
            lp.enqueue(1, task).unwrap();
        }
        start.open();
        lp.ends(2 + TASKS - 1);
        let order = log.notes();
        let behind = order
            .iter()
            .position(|&n| n == slow + 1)
            .expect("all but one have run");
        let waited = behind.abs_diff(slow);
        assert!(
            waited < TASKS / 2,
            "the task behind the long step waited until {waited} others had run"
        );
        stuck.open();
        lp.end().finished();
    }
}

/// A late worker put the rest of its batch back into the queue. Then it put the rest of another
/// late worker's batch before it, although those tasks were newer. So the oldest tasks waited for
/// the newest.
#[test]
fn the_batch_of_a_late_worker_runs_before_newer_batches() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(3));
    let mut lp = Loop::new(&pool);
    let gates: Vec<_> = (0..8).map(|_| Gate::new()).collect();
    let _guards: Vec<_> = gates.iter().map(Gate::guard).collect();
    let [first, second, slow, long] = [&gates[..3], &gates[3..6], &gates[6..7], &gates[7..]];
    let mut conns = 0..;
    let mut enqueue = |task| {
        lp.enqueue(conns.next().expect("endless"), task).unwrap();
    };
    // Each worker waits at its own gate, and then takes large batches: they double while the clock
    // does not move.
    for gate in first {
        enqueue(Work::at(gate));
    }
    for gate in first {
        gate.wait_for(1);
    }
    for (gate, next) in first.iter().zip(second) {
        for _ in 0..40 {
            enqueue(Work::done());
        }
        enqueue(Work::at(next));
        gate.open();
        next.wait_for(1);
    }
    // One worker takes a slow task and four others. Then the other worker takes three long tasks.
    let log = Log::new();
    enqueue(Work::at(&slow[0]));
    for n in 1..=4 {
        enqueue(Work::notes(&log, n));
    }
    second[0].open();
    slow[0].wait_for(1);
    for _ in 0..3 {
        enqueue(Work::at(&long[0]));
    }
    second[1].open();
    long[0].wait_for(1);
    // Both workers are late now. The first one soon ends the slow task; the second one stays in its
    // step.
    hand.advance(Duration::from_millis(1));
    slow[0].open();
    long[0].wait_for(2);
    assert_eq!(
        log.notes(),
        [1, 2, 3, 4],
        "a newer long task ran before an older task"
    );
}

/// A worker that stole one task from another worker's batch did not wake the next worker for the
/// rest: see also `fairness.rs`. Here all tasks are submitted at once while the workers sleep.
#[test]
fn a_burst_wakes_as_many_workers_as_it_needs() {
    const WORKERS: usize = 4;
    let pool = pool(WORKERS);
    let mut lp = Loop::new(&pool);
    for _ in 0..100 {
        // Short tasks first, so that batches grow.
        for conn in 0..50 {
            lp.enqueue(conn, Work::done()).unwrap();
        }
        lp.ends(50);
        lp.occupy(WORKERS).open();
        lp.ends(WORKERS);
    }
}

/// `run_pending` put a task back into the queue when its budget was over, and woke no worker. The
/// task waited for the next event.
#[test]
fn workers_take_the_tasks_that_run_pending_leaves() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    for _ in 0..500 {
        for conn in [1, 2] {
            let twice = |_: &mut Context<'_>, step| {
                if step == 2 {
                    TaskReturn::TaskDone
                } else {
                    TaskReturn::Continue
                }
            };
            lp.enqueue(conn, Work::new(twice)).unwrap();
        }
        lp.run_pending(Duration::ZERO);
        lp.ends(2);
    }
}

/// `run_pending` put a task back into the queue after the workers had ended. The task never ended,
/// and leaked.
#[test]
fn tasks_that_run_pending_leaves_when_the_pool_ends_run_in_that_call() {
    let pool = Arc::new(pool(1));
    let mut lp = Loop::new(&pool);
    let gate = Gate::new();
    lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    let (ender, door) = (Arc::clone(&pool), gate.clone());
    let ends_the_pool = Work::new(move |_, _| {
        ender.shutdown(Shutdown::Cancel);
        door.open();
        eventually("the worker ends", || ender.counts().threads == 0);
        TaskReturn::Continue
    });
    lp.enqueue(2, ends_the_pool).unwrap();
    lp.run_pending(Duration::ZERO);
    lp.ends(2);
    assert!(lp.is_empty());
}

/// `reattach` freed a place under the limit, or found a free one, and woke no worker to use it.
#[test]
fn reattach_wakes_a_worker_for_a_task_that_may_run_now() {
    // Repeated, so that the worker is asleep in some of the rounds.
    for moves_the_first in [true, false].repeat(100) {
        let pool = ThreadPool::builder()
            .threads(1)
            .max_running_per_connection(1)
            .build()
            .unwrap();
        let mut lp = Loop::new(&pool);
        let first = lp.enqueue(1, Work::parks()).unwrap();
        let second = lp.enqueue(1, Work::done()).unwrap();
        lp.parked(1);
        assert!(lp.reattach(if moves_the_first { first } else { second }, 2));
        eventually("the second task runs", || {
            lp.peek(second).is_some_and(Status::is_ended)
        });
    }
}

/// S26: `join_timeout`, called inside a step that a loop ran, returned that all tasks had ended,
/// although that step had not.
#[test]
fn a_step_on_the_loops_own_thread_cannot_join_its_pool() {
    for threads in [0, 1] {
        let pool = Arc::new(pool(threads));
        let other = self::pool(0);
        let mut lp = Loop::new(&pool);
        let gate = lp.occupy(threads);
        let (answers, ender) = (Log::new(), Arc::clone(&pool));
        let log = answers.clone();
        let joins = Work::new(move |_, _| {
            log.add(ender.join_timeout(Duration::ZERO));
            TaskReturn::TaskDone
        });
        // If a step runs tasks of another pool, this thread is inside both pools.
        let mut inner = Loop::new(&other);
        inner.enqueue(1, joins).unwrap();
        let runs_the_other = Work::new(move |_, _| {
            inner.run_pending(Duration::ZERO);
            TaskReturn::TaskDone
        });
        lp.enqueue(9, runs_the_other).unwrap();
        lp.run_pending(Duration::ZERO);
        assert_eq!(answers.notes(), [Err(JoinError::OnWorker)], "{threads} threads");
        gate.open();
        // Outside of steps the call is allowed.
        assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    }
}

/// Two threads shut down a pool without workers. The second call returned before the first one had
/// asked every task to stop. And a wake-up, called by `shutdown`, that waited for the pool waited
/// for itself.
#[test]
fn a_join_waits_for_a_shutdown_on_another_thread() {
    for threads in [0, 1] {
        let pool = Arc::new(pool(threads));
        let (gate, answers) = (Gate::new(), Log::new());
        let _guard = gate.guard();
        let (ender, log, blocks) = (Arc::downgrade(&pool), answers.clone(), gate.clone());
        let first = pool.service::<Work>(move || {
            if let Some(pool) = ender.upgrade() {
                log.add(pool.join_timeout(PATIENCE));
            }
            blocks.pass();
        });
        let mut second = Loop::new(&pool);
        let id = second.enqueue(1, Work::parks()).unwrap();
        second.run_pending(Duration::ZERO);
        second.parked(1);
        std::thread::scope(|scope| {
            scope.spawn(|| pool.shutdown(Shutdown::Cancel));
            gate.wait_for(1);
            let early = pool.join_timeout(Duration::ZERO);
            let winds_up = "the shutdown, in a wake-up of a loop".to_owned();
            assert_eq!(early, Err(JoinError::StillRunning(vec![winds_up])));
            gate.open();
            assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
        });
        assert_eq!(answers.notes()[0], Err(JoinError::OnWorker));
        assert_eq!(reap(&mut second, id).stopped().0, StopReason::PoolShutdown);
        drop(first);
    }
}

/// After a burst the table was freed, but the events of its tasks were not. A loop that had reaped
/// all tasks by their ids panicked in the next `take_ready`.
#[test]
fn a_burst_that_was_reaped_by_id_is_not_announced() {
    const BURST: u64 = 5_000;
    for cancelled in [false, true] {
        let pool = ThreadPool::builder()
            .threads(0)
            .max_queue_depth(BURST as usize)
            .build()
            .unwrap();
        let mut lp = Loop::new(&pool);
        let ids: Vec<_> = (0..BURST)
            .map(|conn| lp.enqueue(conn, Work::done()).unwrap())
            .collect();
        if cancelled {
            for conn in 0..BURST {
                lp.connection_closed(conn);
            }
        }
        lp.run_pending(PLENTY);
        for id in ids {
            reap(&mut lp, id);
        }
        assert_eq!(lp.take_ready().count(), 0);
    }
}

/// With a limit, a cancelled task was announced before the task that had run before it, whose end
/// was in a completion ring.
#[test]
fn the_end_of_a_cancelled_task_comes_after_those_before_it() {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_running_per_connection(1)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let ids = [1, 1].map(|conn| lp.enqueue(conn, Work::done()).unwrap());
    lp.run_pending(Duration::ZERO);
    assert_eq!(lp.dequeue(ids[1]), Dequeued::Removed);
    assert_eq!(lp.ready(), ids);
}

/// Tasks that were enqueued behind others and cancelled hid the same number of waiting tasks. So a
/// task that always returned `Continue` did not give way to them.
#[test]
fn cancelled_tasks_do_not_hide_waiting_tasks() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let gates = [Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    // The second task takes a worker. The worker counts three tasks behind it, and continues until
    // those have run.
    let others = Log::new();
    let (gate, log) = (gates[1].clone(), others.clone());
    let busy = move |_: &mut Context<'_>, step| {
        if step == 1 {
            gate.pass();
        }
        if log.notes().len() == 3 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    };
    lp.enqueue(1, Work::new(busy)).unwrap();
    for conn in 2..5 {
        lp.enqueue(conn, Work::notes(&others, conn)).unwrap();
    }
    gates[0].open();
    gates[1].wait_for(1);
    for conn in 5..8 {
        let id = lp.enqueue(conn, Work::done()).unwrap();
        assert_eq!(lp.dequeue(id), Dequeued::Removed);
    }
    gates[1].open();
    lp.ends(8);
}

fn spin(micros: u64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
}

/// Spins for this long.
struct Spins(
    u64,
    #[expect(dead_code, reason = "it counts the living tasks")] Token,
);

impl Task for Spins {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        spin(self.0);
        TaskReturn::TaskDone
    }
}

/// Short tasks and some long ones: batches grow, become late, and are returned to the queue.
fn enqueue_mixed(service: &mut Service<Spins>, long: impl Fn(u64) -> bool, alive: &Alive) -> Vec<TaskId> {
    let mut enqueue = |conn| {
        let micros = if long(conn) { 80 } else { 0 };
        service.enqueue(conn, Spins(micros, alive.token())).unwrap()
    };
    (0..64).map(&mut enqueue).collect()
}

/// Enqueued by a loop that does not sleep, so that the workers do not sleep either.
fn drain<T: Task>(service: &mut Service<T>) {
    while !service.is_empty() {
        for id in service.take_ready().map(|ready| ready.id) {
            drop(service.task_status(id));
        }
        std::thread::yield_now();
    }
}

/// A task on its way from a batch back into the queue was in no place: `dequeue` returned that it
/// had started, and later that it had not.
#[test]
fn a_task_that_has_started_is_not_removed_afterwards() {
    let (pool, alive) = (pool(2), Alive::new());
    let mut service = pool.service(|| {});
    for round in 0..1_000 {
        let long = |conn: u64| (conn * 7 + round * 3).is_multiple_of(16);
        let ids = enqueue_mixed(&mut service, long, &alive);
        spin(round % 97);
        for &id in ids.iter().rev() {
            if service.dequeue(id) == Dequeued::Stopping {
                let again = [(); 3].map(|()| service.dequeue(id));
                assert!(!again.contains(&Dequeued::Removed), "in round {round}");
            }
        }
        drain(&mut service);
    }
}

/// The same, and the service is dropped: the task came into a table that no thread emptied, and
/// leaked with its service.
#[test]
fn a_task_on_its_way_back_into_the_queue_does_not_leak() {
    let alive = Alive::new();
    for round in 0..200 {
        let pool = pool(2);
        let mut service = pool.service(|| {});
        for _ in 0..4 {
            enqueue_mixed(&mut service, |_| false, &alive);
            drain(&mut service);
        }
        enqueue_mixed(&mut service, |conn| conn % 16 == 3, &alive);
        spin(round % 97);
        drop(service);
        pool.shutdown(Shutdown::Cancel);
        drop(pool);
        assert_eq!(alive.count(), 0, "in round {round}");
    }
}

/// A worker that counted as searching dropped the last reference to a service, and so the user's
/// wake-up, whose `Drop` may take any time. No other worker was woken during this time.
#[test]
fn workers_are_woken_while_another_drops_a_wake_up() {
    /// Its drop waits until another task has run.
    struct Waits {
        dropping: Arc<AtomicBool>,
        seen: Arc<AtomicBool>,
    }
    impl Drop for Waits {
        fn drop(&mut self) {
            self.dropping.store(true, SeqCst);
            eventually("another task runs", || self.seen.load(SeqCst));
        }
    }
    for _ in 0..10 {
        let pool = pool(2);
        let mut other = Loop::new(&pool);
        let flags: [Arc<AtomicBool>; 4] = std::array::from_fn(|_| Arc::default());
        let [dropping, seen, armed, inside] = flags.each_ref().map(Arc::clone);
        let release = Gate::new();
        let _guard = release.guard();
        let waits = Waits {
            dropping: Arc::clone(&dropping),
            seen: Arc::clone(&seen),
        };
        let (arm, within, gate) = (Arc::clone(&armed), Arc::clone(&inside), release.clone());
        let mut service = pool.service::<Work>(move || {
            let _ = &waits;
            if arm.swap(false, SeqCst) {
                within.store(true, SeqCst);
                gate.pass();
            }
        });
        for _ in 0..50 {
            for conn in 0..64 {
                service.enqueue(conn, Work::done()).unwrap();
            }
            drain(&mut service);
        }
        armed.store(true, SeqCst);
        for conn in 0..8 {
            service.enqueue(conn, Work::done()).unwrap();
        }
        while !inside.load(SeqCst) && !service.is_empty() {
            for id in service.take_ready().map(|ready| ready.id) {
                drop(service.task_status(id));
            }
        }
        if inside.load(SeqCst) {
            drain(&mut service);
        }
        // There is no fact that says that the other worker sleeps. If it does not sleep, this round
        // tests nothing.
        std::thread::sleep(Duration::from_millis(20));
        drop(service);
        release.open();
        eventually("the wake-up is dropped", || dropping.load(SeqCst));
        let seen = Arc::clone(&seen);
        let see = move |_: &mut Context<'_>, _| {
            seen.store(true, SeqCst);
            TaskReturn::TaskDone
        };
        other.enqueue(1, Work::new(see)).unwrap();
        other.ends(1);
    }
}

/// `run_pending` did not take tasks that a busy worker had taken and not begun. It ran the second
/// task of a connection before the first.
#[test]
fn run_pending_begins_with_tasks_that_a_busy_worker_has_taken() {
    let (pool, _hand) = util::manual(ThreadPool::builder().threads(1));
    let mut lp = Loop::new(&pool);
    let (log, gates) = (Log::new(), [Gate::new(), Gate::new()]);
    let _guards = gates.each_ref().map(Gate::guard);
    let notes = |note| Work::notes(&log, note);
    in_one_batch(&mut lp, &gates, [Work::at(&gates[1]), notes("first")]);
    lp.enqueue(2, notes("second")).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), ["first", "second"]);
}

/// Makes the only worker take two tasks at once, of the connections 1 and 2. The first task begins,
/// and waits at the second gate.
fn in_one_batch(lp: &mut Loop<Work>, gates: &[Gate; 2], tasks: [Work; 2]) {
    // After a batch of one task, the next batch has two.
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    for (conn, task) in (1..).zip(tasks) {
        lp.enqueue(conn, task).unwrap();
    }
    gates[0].open();
    gates[1].wait_for(1);
}

/// A task that a worker had taken and not begun kept its permission to start from its old
/// connection.
#[test]
fn a_task_that_moves_before_its_start_waits_for_its_new_connection() {
    let builder = ThreadPool::builder().threads(1).max_running_per_connection(1);
    let (pool, _hand) = util::manual(builder);
    let mut lp = Loop::new(&pool);
    let gates = [Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    let gate = gates[1].clone();
    let parks = Work::new(move |_, step| {
        if step == 1 {
            gate.pass();
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    });
    in_one_batch(&mut lp, &gates, [parks, Work::done()]);
    let [parks, moves] = [1, 2].map(|conn| lp.tasks_of(conn)[0]);
    assert!(lp.reattach(moves, 1));
    let last = lp.enqueue(3, Work::done()).unwrap();
    gates[1].open();
    // When this task has ended, the worker has ended its batch.
    eventually("the last task has ended", || {
        lp.peek(last) == Some(Status::Finished)
    });
    assert_eq!(lp.peek(parks), Some(Status::Syncing));
    assert_eq!(lp.peek(moves), Some(Status::Queued));
    lp.connection_closed(1);
}

/// A service that searched all batches for a task of its own set the length of each batch to the
/// number of its own tasks there. Then idle workers did not find the tasks of other services in
/// these batches.
#[test]
fn a_search_for_a_task_does_not_hide_the_tasks_of_other_services() {
    let builder = ThreadPool::builder().threads(1).max_running_per_connection(1);
    let (pool, _hand) = util::manual(builder);
    let (mut lp, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let (log, gates) = (Log::new(), [Gate::new(), Gate::new()]);
    let _guards = gates.each_ref().map(Gate::guard);
    let tasks = [Work::at(&gates[1]), Work::notes(&log, "behind it")];
    in_one_batch(&mut lp, &gates, tasks);
    let moves = other.enqueue(1, Work::done()).unwrap();
    assert!(other.reattach(moves, 2));
    other.dequeue(moves);
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), ["behind it"]);
}

/// With a limit, a task that was cancelled in a worker's batch made room for the next task of its
/// connection, but no worker was notified. A task that returned `Continue` kept the only worker.
#[test]
fn a_busy_task_gives_way_to_a_task_that_a_cancelled_task_blocked() {
    let builder = ThreadPool::builder().threads(1);
    let builder = builder.max_running_per_connection(1).time_slice(Duration::ZERO);
    let (pool, _hand) = util::manual(builder);
    let mut lp = Loop::new(&pool);
    let (gates, has_run) = ([Gate::new(), Gate::new()], Arc::new(AtomicBool::new(false)));
    let _guards = gates.each_ref().map(Gate::guard);
    let (gate, seen) = (gates[1].clone(), Arc::clone(&has_run));
    let busy = Work::new(move |_, step| {
        if step == 1 {
            gate.pass();
        }
        if seen.load(SeqCst) {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Continue
        }
    });
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    lp.enqueue(1, busy).unwrap();
    let cancelled = lp.enqueue(2, Work::done()).unwrap();
    let runs = Work::new(move |_, _| {
        has_run.store(true, SeqCst);
        TaskReturn::TaskDone
    });
    lp.enqueue(2, runs).unwrap();
    gates[0].open();
    gates[1].wait_for(1);
    assert_eq!(lp.dequeue(cancelled), Dequeued::Removed);
    gates[1].open();
    lp.ends(4);
}

/// Ends that one call causes were announced in the order of the slots of the table. Freed slots are
/// used again from the last one.
#[test]
fn simultaneous_ends_are_announced_in_the_order_of_the_tasks() {
    for times_out in [false, true] {
        let builder = ThreadPool::builder().threads(0).max_running_per_connection(1);
        let (pool, hand) = util::manual(builder);
        let mut lp = Loop::new(&pool);
        for conn in [7, 7] {
            lp.enqueue(conn, Work::done()).unwrap();
        }
        lp.run_pending(PLENTY);
        lp.ends(2);
        let timeout = || TaskOptions::new().queue_timeout(Duration::from_secs(1));
        let ids = [7, 7].map(|conn| lp.enqueue_with(conn, Work::done(), timeout()).unwrap());
        if times_out {
            hand.advance(Duration::from_secs(1));
        } else {
            pool.shutdown(Shutdown::Cancel);
        }
        assert_eq!(lp.ready(), ids);
    }
}

/// Without threads the task waited for ever, since no thread ran pending tasks any more.
#[test]
fn a_task_parked_during_the_join_of_a_pool_without_threads_ends_when_it_is_answered() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    lp.parked(1);
    let Some(TaskStatus::Syncing(point)) = lp.task_status(id) else {
        panic!("the task is parked")
    };
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    point.resume();
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);
}

/// Unpublished submissions were only for workers without other tasks. A worker that always found
/// tasks of another service never looked for them.
#[test]
fn unpublished_submissions_are_not_starved_by_the_backlog_of_another_service() {
    const BACKLOG: u64 = 1_000;
    const ENOUGH: u64 = 20 * BACKLOG;
    // On this clock steps take no time, so batches are large. In real time they are slower than the
    // loop, so that the backlog of tasks stays.
    let busy_work = || {
        Work::new(|_, _| {
            (0..5_000).for_each(|n| _ = std::hint::black_box(n));
            TaskReturn::TaskDone
        })
    };
    let (pool, _hand) = util::manual(ThreadPool::builder().threads(1));
    let [busy, answered, ran] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let runs = Arc::clone(&ran);
    let mut lp = Loop::new(&pool);
    let parks = Work::new(move |_, step| {
        runs.store(step > 1, SeqCst);
        if step > 1 {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Sync
        }
    });
    let parked = lp.enqueue(1, parks).unwrap();
    eventually("a task that parks", || lp.peek(parked) == Some(Status::Syncing));
    let ended = lp.enqueue(2, Work::done()).unwrap();
    eventually("an end", || lp.peek(ended) == Some(Status::Finished));
    std::thread::scope(|scope| {
        let backlog = scope.spawn(|| {
            let mut other = Loop::new(&pool);
            (0..BACKLOG).for_each(|conn| _ = other.enqueue(conn, busy_work()).unwrap());
            let (mut done, mut since) = (0, 0);
            while since < ENOUGH && !ran.load(SeqCst) {
                for id in other.take_ready().map(|ready| ready.id) {
                    drop(other.task_status(id));
                    other.enqueue(done % BACKLOG, busy_work()).unwrap();
                    done += 1;
                    since += u64::from(answered.load(SeqCst));
                    busy.store(done > BACKLOG, SeqCst);
                }
            }
            since
        });
        eventually("a backlog", || busy.load(SeqCst));
        // The loop has not looked at the other announced task, so it may soon enqueue more.
        assert_eq!(lp.ready(), [parked, ended]);
        assert!(lp.task_sync(parked, moored::Resume::Continue));
        answered.store(true, SeqCst);
        assert!(backlog.join().unwrap() < ENOUGH, "all other tasks ran first");
    });
}

/// The start of a batch was the end of the step before it. The time between, in which the worker
/// woke the loop and searched, counted as the time of its steps. So steps seemed long: loops did
/// not poll, batches were small, and they became late.
#[test]
fn the_time_of_a_wake_up_does_not_count_as_that_of_steps() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(1));
    let gates = [(); 2].map(|()| Gate::new());
    let _open = gates.each_ref().map(Gate::guard);
    let mut service = pool.service(move || hand.advance(Duration::from_millis(1)));
    service.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    service.enqueue(1, Work::done()).unwrap();
    service.enqueue(2, Work::at(&gates[1])).unwrap();
    gates[0].open();
    gates[1].wait_for(1);
    assert_eq!(service.take_ready().count(), 2);
    assert!(
        service.poll_timeout().is_some(),
        "the loop polls, since steps are short"
    );
}
