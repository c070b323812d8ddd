//! Bugs that moored really had. A test that is plainly about one behaviour stands in that
//! behaviour's file; here are those that took a special mixture to show, each with what had been
//! wrong.

mod util;

use moored::{
    BoxTask, Clock, ConnId, Context, Dequeued, JoinError, Service, Shutdown, Status, StopReason, Task,
    TaskId, TaskOptions, TaskReturn, TaskStatus, ThreadPool, task_fn,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use util::{
    Alive, Gate, Log, Loop, PATIENCE, PLENTY, Token, Work, eventually, hasty_pool, pool, reap,
    within_patience,
};

/// `tasks_of` converted its argument, which is the user's code, under the lock of the service's
/// table.
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
/// took up a place of `max_tasks` for ever.
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

/// A worker that was held up in a step kept the rest of its batch to itself as long as the other
/// workers had anything else to do, so that tasks of the same connection overtook them by the
/// thousand.
#[test]
fn a_long_step_holds_up_nobody_but_itself() {
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
            "the task behind the long one waited until {waited} others had run"
        );
        stuck.open();
        lp.end().finished();
    }
}

/// A worker that was late put the rest of its batch in line, then put there what a colleague was
/// late with, in front of it, although that had come later: what came first waited for as long as
/// what came last took.
#[test]
fn what_a_late_worker_gives_back_comes_before_what_a_colleague_took_after_it() {
    let (clock, hand) = Clock::manual();
    let pool = ThreadPool::builder().threads(3).clock(clock).build().unwrap();
    let mut lp = Loop::new(&pool);
    let gates: Vec<_> = (0..8).map(|_| Gate::new()).collect();
    let _guards: Vec<_> = gates.iter().map(Gate::guard).collect();
    let [first, second, slow, long] = [&gates[..3], &gates[3..6], &gates[6..7], &gates[7..]];
    let mut conns = 0..;
    let mut enqueue = |task| {
        lp.enqueue(conns.next().expect("endless"), task).unwrap();
    };
    // Each worker stands at a gate of its own, and takes large batches from then on: they double
    // while the clock stands.
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
    // One worker takes a slow task and four others, then another takes three long ones.
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
    // Both are late now. The first is soon done with the slow task; the other two stay where they
    // are.
    hand.advance(Duration::from_millis(1));
    slow[0].open();
    long[0].wait_for(2);
    assert_eq!(
        log.notes(),
        [1, 2, 3, 4],
        "a task was overtaken by a long one that came later"
    );
}

/// A worker that stole one task out of another's deque did not wake the next worker for the rest:
/// see also `fairness.rs`. Here all the tasks come at once to workers that sleep.
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
        let gate = Gate::new();
        let _guard = gate.guard();
        for conn in 0..WORKERS {
            lp.enqueue(conn as u64, Work::at(&gate)).unwrap();
        }
        gate.wait_for(WORKERS);
        gate.open();
        lp.ends(WORKERS);
    }
}

/// What `run_pending` put back in line when its budget was used up woke nobody: the task waited for
/// the next event.
#[test]
fn what_run_pending_leaves_behind_is_taken_over_at_once() {
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

/// What `run_pending` put back in line after the workers had gone was for nobody: it never ended,
/// and leaked.
#[test]
fn what_run_pending_leaves_behind_when_the_pool_ends_runs_there_and_then() {
    let pool = Arc::new(pool(1));
    let mut lp = Loop::new(&pool);
    let gate = Gate::new();
    lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    let (ender, door) = (Arc::clone(&pool), gate.clone());
    let ends_the_pool = Work::new(move |_, _| {
        ender.shutdown(Shutdown::Cancel);
        door.open();
        eventually("the worker goes", || ender.counts().threads == 0);
        TaskReturn::Continue
    });
    lp.enqueue(2, ends_the_pool).unwrap();
    lp.run_pending(Duration::ZERO);
    lp.ends(2);
    assert!(lp.is_empty());
}

/// `reattach` freed a place under the limit, or found one, and woke nobody to use it.
#[test]
fn reattach_wakes_a_worker_for_what_may_run_now() {
    // Often enough to find the worker asleep.
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
        eventually("the second runs", || {
            lp.peek(second).is_some_and(Status::is_ended)
        });
    }
}

/// S26: `join_timeout` from inside a step that a loop ran itself said that all had ended, although
/// that very step had not.
#[test]
fn a_step_on_the_loops_own_thread_cannot_join_its_pool() {
    for threads in [0, 1] {
        let pool = Arc::new(pool(threads));
        let other = self::pool(0);
        let mut lp = Loop::new(&pool);
        let gate = Gate::new();
        let _guard = gate.guard();
        for conn in 0..threads as u64 {
            lp.enqueue(conn, Work::at(&gate)).unwrap();
        }
        gate.wait_for(threads);
        let (answers, ender) = (Log::new(), Arc::clone(&pool));
        let log = answers.clone();
        let joins = Work::new(move |_, _| {
            log.add(ender.join_timeout(Duration::ZERO));
            TaskReturn::TaskDone
        });
        // A step that runs another pool's tasks is inside both.
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
        // Outside of steps it can.
        assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    }
}

/// Of two threads that ended a pool without workers, the second was told that all was over while
/// the first had not yet asked every task to stop; and a wake-up of `shutdown` that waited for the
/// pool waited for itself.
#[test]
fn nobody_has_joined_a_pool_that_somebody_still_winds_up() {
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

/// The table of a burst that was over was thrown away, but not the events of its tasks: a loop that
/// had reaped all by their ids panicked when it looked for news.
#[test]
fn a_burst_that_was_reaped_by_id_is_no_news() {
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

/// With a limit, a cancelled task was announced before the one that had run before it, whose end
/// lay in a lane.
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
    assert_eq!(lp.take_ready().map(|ready| ready.id).collect::<Vec<_>>(), ids);
}

/// Tasks that were posted and cancelled behind others hid as many of those: a task that says
/// `Continue` for ever did not give way.
#[test]
fn what_is_cancelled_behind_waiting_tasks_does_not_hide_them() {
    let pool = hasty_pool(1);
    let mut lp = Loop::new(&pool);
    let gates = [Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    // The second takes its worker, which counts three behind it, and goes on until those have run.
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

/// Spins for so long.
struct Spins(
    u64,
    #[expect(dead_code, reason = "it tells that the task is alive")] Token,
);

impl Task for Spins {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        spin(self.0);
        TaskReturn::TaskDone
    }
}

/// Short tasks with long ones among them: batches grow, are late, and are put back.
fn enqueue_mixed(service: &mut Service<Spins>, long: impl Fn(u64) -> bool, alive: &Alive) -> Vec<TaskId> {
    let mut enqueue = |conn| {
        let micros = if long(conn) { 80 } else { 0 };
        service.enqueue(conn, Spins(micros, alive.token())).unwrap()
    };
    (0..64).map(&mut enqueue).collect()
}

/// By a loop that does not sleep, so that workers have no time to.
fn drain<T: Task>(service: &mut Service<T>) {
    while !service.is_empty() {
        for id in service.take_ready().map(|ready| ready.id) {
            drop(service.task_status(id));
        }
        std::thread::yield_now();
    }
}

/// A task on its way from a batch back into line was nowhere: `dequeue` said that it had started,
/// and then that it had not.
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

/// The same with the service dropped: the task came into a table that nobody empties, and leaked
/// with its service.
#[test]
fn a_task_on_its_way_back_into_line_does_not_leak() {
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

/// A worker that counted as on its way dropped the last reference to a service, and with it the
/// user's wake-up, whose `Drop` may take any time: nobody else was woken meanwhile.
#[test]
fn workers_are_woken_while_another_drops_a_wake_up() {
    /// Waits, when it is dropped, for what another task does meanwhile.
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
        // Nothing tells that the other worker has gone to sleep. If it has not, this round shows
        // nothing.
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

/// What lay behind a long step, taken by its worker and not begun, was no business of a loop that
/// lent a hand: it took the second task of a connection, and left the first.
#[test]
fn run_pending_begins_with_what_a_busy_worker_has_taken() {
    let (clock, _hand) = Clock::manual();
    let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
    let mut lp = Loop::new(&pool);
    let (log, gates) = (Log::new(), [Gate::new(), Gate::new()]);
    let _guards = gates.each_ref().map(Gate::guard);
    let notes = |note| Work::notes(&log, note);
    in_one_batch(&mut lp, &gates, [Work::at(&gates[1]), notes("first")]);
    lp.enqueue(2, notes("second")).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(log.notes(), ["first", "second"]);
}

/// Makes the only worker take two tasks at once, of the connections 1 and 2; the first begins, and
/// must wait for the second gate.
fn in_one_batch(lp: &mut Loop<Work>, gates: &[Gate; 2], tasks: [Work; 2]) {
    // A worker that has just found one task takes two the next time.
    lp.enqueue(0, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    for (conn, task) in (1..).zip(tasks) {
        lp.enqueue(conn, task).unwrap();
    }
    gates[0].open();
    gates[1].wait_for(1);
}

/// A task that a worker had taken and not begun kept the right to start that it had got for its old
/// connection.
#[test]
fn a_task_that_moves_before_its_start_waits_for_its_new_connection() {
    let (clock, _hand) = Clock::manual();
    let builder = ThreadPool::builder().threads(1).clock(clock);
    let pool = builder.max_running_per_connection(1).build().unwrap();
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
    // The worker is beyond what it had taken when it has done this.
    eventually("the last has ended", || lp.peek(last) == Some(Status::Finished));
    assert_eq!(lp.peek(parks), Some(Status::Syncing));
    assert_eq!(lp.peek(moves), Some(Status::Queued));
    lp.connection_closed(1);
}

/// A service that searched all batches for a task of its own set the length of the batch of each
/// worker to the number of its own tasks there. What other services had in these batches was not
/// found by idle workers any more.
#[test]
fn a_search_for_a_task_does_not_hide_the_tasks_of_other_services() {
    let (clock, _hand) = Clock::manual();
    let builder = ThreadPool::builder().threads(1).clock(clock);
    let pool = builder.max_running_per_connection(1).build().unwrap();
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

/// With a limit, a task that was cancelled in a worker's batch made room for the next one of its
/// connection, but no worker heard of that: a task that returned `Continue` kept the only one.
#[test]
fn a_busy_task_gives_way_to_what_a_cancelled_one_held_up() {
    let (clock, _hand) = Clock::manual();
    let builder = ThreadPool::builder().threads(1).clock(clock);
    let builder = builder.max_running_per_connection(1).time_slice(Duration::ZERO);
    let pool = builder.build().unwrap();
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

/// The ends that a call brings about at once were told in the order of the tables' slots, which are
/// used again from the last.
#[test]
fn ends_of_one_moment_are_told_in_the_order_of_the_tasks() {
    for times_out in [false, true] {
        let (clock, hand) = Clock::manual();
        let builder = ThreadPool::builder().threads(0).clock(clock);
        let pool = builder.max_running_per_connection(1).build().unwrap();
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
        assert_eq!(lp.take_ready().map(|ready| ready.id).collect::<Vec<_>>(), ids);
    }
}

/// With no threads it stayed in line for ever, since nobody ran what was pending any more.
#[test]
fn what_a_loop_holds_while_a_pool_without_threads_is_joined_ends_when_it_is_given_back() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(1, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    lp.parked(1);
    let Some(TaskStatus::Syncing(point)) = lp.task_status(id) else {
        panic!("it is parked")
    };
    assert_eq!(pool.join_timeout(PATIENCE), Ok(()));
    point.resume();
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);
}

/// What a loop had staged was for workers that had nothing else to do. One that always found the
/// backlog of another service never looked.
#[test]
fn what_is_staged_is_not_starved_by_the_backlog_of_another_service() {
    const BACKLOG: u64 = 1_000;
    const ENOUGH: u64 = 20 * BACKLOG;
    // By this clock steps take no time, so batches are large; yet they take longer than the loop
    // does, so that the backlog stays.
    let busy_work = || {
        Work::new(|_, _| {
            (0..5_000).for_each(|n| _ = std::hint::black_box(n));
            TaskReturn::TaskDone
        })
    };
    let (clock, _hand) = Clock::manual();
    let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
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
        // It has not looked at the other: it may soon post more.
        assert_eq!(
            lp.take_ready().map(|ready| ready.id).collect::<Vec<_>>(),
            [parked, ended]
        );
        assert!(lp.task_sync(parked, moored::Resume::Continue));
        answered.store(true, SeqCst);
        assert!(backlog.join().unwrap() < ENOUGH, "all others came first");
    });
}

/// A batch was taken to have begun when the step before it had ended. What its worker did in
/// between, waking the loop and watching for work, counted as its steps, which looked long then: no
/// naps, small batches, and the rest of a batch was put back as late.
#[test]
fn the_time_that_a_wake_up_takes_is_not_that_of_steps() {
    let (clock, hand) = Clock::manual();
    let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
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
        "the loop naps, since steps are short"
    );
}
