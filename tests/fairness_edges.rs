//! Shares of worker time in rare cases: new connections without end, large weights, batches that
//! are returned, tasks that move to another connection, and very long steps.

mod util;

use moored::{ManualClock, Shutdown, TaskReturn, ThreadPool};
use std::time::Duration;
use util::{Gate, Log, Loop, PLENTY, Work, reap};

const US: Duration = Duration::from_micros(1);

/// A pool whose tasks give way after each step.
fn timed_pool(threads: usize) -> (ThreadPool, ManualClock) {
    let builder = ThreadPool::builder().threads(threads);
    util::manual(builder.max_queue_depth(100_000).time_slice(Duration::ZERO))
}

/// Reaps all tasks, which end by themselves.
fn reap_all(lp: &mut Loop<Work>) {
    let count = lp.len();
    lp.ends(count);
}

/// The place of a task of a connection in debt among `newcomers` new connections whose steps take
/// `step`.
fn place_behind_newcomers(newcomers: u64, step: Duration) -> usize {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    let (order, gates) = (Log::new(), [Gate::new(), Gate::new()]);
    let _guards = gates.each_ref().map(Gate::guard);
    lp.enqueue(1, Work::at(&gates[0])).unwrap();
    gates[0].wait_for(1);
    lp.enqueue(7, Work::takes(&time, 1000 * US)).unwrap();
    lp.enqueue(2, Work::at(&gates[1])).unwrap();
    gates[0].open();
    gates[1].wait_for(1);
    lp.ends(2);
    let mut add = |conn: u64| {
        let (order, time) = (order.clone(), time.clone());
        let task = Work::new(move |_, _| {
            time.advance(step);
            order.add(conn);
            TaskReturn::TaskDone
        });
        lp.enqueue(conn, task).unwrap();
    };
    add(7);
    (0..newcomers).for_each(|n| add(1000 + n));
    gates[1].open();
    reap_all(&mut lp);
    order.notes().iter().position(|&conn| conn == 7).expect("it ran")
}

/// After 32 express turns another lane should have a turn.
#[test]
fn newcomers_do_not_starve_a_connection_in_debt() {
    let place = place_behind_newcomers(2000, 10 * US);
    assert!(place < 200, "place {place} of 2000 (fair order)");
}

/// The same while tasks are taken straight from the ring.
#[test]
fn newcomers_do_not_starve_a_connection_in_debt_while_steps_are_very_short() {
    let place = place_behind_newcomers(2000, Duration::ZERO);
    assert!(place < 200, "place {place} of 2000 (order of submission)");
}

/// The number of notes of each kind.
fn counts<const N: usize>(log: &Log<usize>) -> [usize; N] {
    let notes = log.notes();
    std::array::from_fn(|kind| notes.iter().filter(|&&note| note == kind).count())
}

/// The charge of a short step was rounded to zero.
#[test]
fn a_large_weight_is_a_share_and_not_everything() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let turns = Log::new();
    lp.set_weight(0, 256);
    for conn in 0..2 {
        let (turns, time) = (turns.clone(), time.clone());
        let stream = Work::new(move |_, _| {
            time.advance(Duration::from_nanos(900));
            turns.add(conn);
            TaskReturn::Continue
        });
        lp.enqueue(conn, stream).unwrap();
    }
    let mut run = |n: usize| {
        (0..n).for_each(|_| _ = lp.run_pending(Duration::ZERO));
        counts::<2>(&turns)
    };
    let early = run(1000);
    let late = run(200_000);
    assert!(
        late[1] - early[1] > 700,
        "{early:?} then {late:?}: a share of 1 to 256 is 780 turns"
    );
}

/// Steps are very short, so tasks come straight from the ring. One is long: the rest of its batch is
/// returned. A task that was returned has no record, and gets one with a finish tag of zero.
#[test]
fn a_task_of_a_late_batch_gets_no_credit_of_the_whole_past() {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    // Virtual time is an hour. Then batches are large, and steps very short.
    let hour = Duration::from_secs(3600);
    let first = [(9, Duration::ZERO), (1, hour), (1, Duration::ZERO)];
    for (conn, cost) in first.into_iter().chain([(9, Duration::ZERO); 20]) {
        lp.enqueue(conn, Work::takes(&time, cost)).unwrap();
        reap_all(&mut lp);
    }
    let gates = [Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    let slow = |gate: &Gate, by: Duration| {
        let time = time.clone();
        Work::at_and_then(gate, move |_| {
            time.advance(by);
            TaskReturn::TaskDone
        })
    };
    let shares = Log::new();
    let stream = |which: usize| {
        let (shares, time) = (shares.clone(), time.clone());
        Work::new(move |_, _| {
            time.advance(10 * US);
            shares.add(which);
            TaskReturn::TaskDone
        })
    };
    lp.enqueue(2, slow(&gates[0], 5 * US)).unwrap();
    gates[0].wait_for(1);
    // The next batch: a step of 50 us, and the first stream of connection 4.
    lp.enqueue(3, slow(&gates[1], 50 * US)).unwrap();
    lp.enqueue(4, stream(0)).unwrap();
    gates[0].open();
    gates[1].wait_for(1);
    for _ in 0..500 {
        lp.enqueue(4, stream(0)).unwrap();
        lp.enqueue(5, stream(1)).unwrap();
    }
    gates[1].open();
    reap_all(&mut lp);
    // While both have tasks.
    let mut shares_now = [0, 0];
    for which in shares.notes() {
        if shares_now.iter().all(|&share| share < 500) {
            shares_now[which] += 1;
        }
    }
    assert!(
        shares_now[1] > 300,
        "two equal connections have had {shares_now:?} turns"
    );
}

/// A pool without threads that drains does not run a task whose moment has come.
#[test]
fn join_runs_a_delayed_task_of_a_pool_that_drains() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    let delayed = Work::new(|_, step| match step {
        1 => TaskReturn::Delay(Duration::from_secs(1)),
        _ => TaskReturn::TaskDone,
    });
    lp.enqueue(7, delayed).unwrap();
    lp.run_pending(PLENTY);
    pool.shutdown(Shutdown::Drain);
    time.advance(Duration::from_secs(2));
    assert_eq!(pool.join_timeout(Duration::from_secs(1)), Ok(()));
}

/// Finish tags do not overflow.
#[test]
fn a_step_of_584_years_does_not_overflow() {
    let (pool, time) = timed_pool(0);
    let mut lp = Loop::new(&pool);
    for task in [Work::takes(&time, Duration::MAX), Work::done()] {
        let id = lp.enqueue(7, task).unwrap();
        lp.run_pending(Duration::MAX);
        reap(&mut lp, id).finished();
    }
}

/// A running task moves to another client, its old connection closes, and a third client gets the
/// slot of that connection.
#[test]
fn a_running_task_that_moves_leaves_the_flow_of_its_old_connection() {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    let (turns, gate) = (Log::new(), Gate::guarded());
    let stream = |which: usize, gate: Option<Gate>| {
        let (turns, time) = (turns.clone(), time.clone());
        Work::new(move |_, step| {
            if step == 1 {
                gate.iter().for_each(Gate::pass);
            }
            time.advance(100 * US);
            turns.add(which);
            if turns.len() >= 900 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        })
    };
    let moved = lp.enqueue(7, stream(0, Some(gate.clone()))).unwrap();
    gate.wait_for(1);
    assert!(lp.reattach(moved, 8));
    lp.connection_closed(7);
    for (which, conn) in [(1, 9), (2, 10)] {
        lp.enqueue(conn, stream(which, None)).unwrap();
    }
    gate.open();
    reap_all(&mut lp);
    let turns: [usize; 3] = counts(&turns);
    assert!(turns[1] > 270, "three equal connections: {turns:?}");
}

/// The state of a task that moves to another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    BeforeItsStart,
    /// A worker has taken it, and runs another task.
    Taken,
    AfterAStep,
    Delayed,
    InAStep,
}

impl Moved {
    fn has_worker(self) -> bool {
        matches!(self, Self::Taken | Self::InAStep)
    }
}

/// A moved task had the weight of its old connection until it was submitted again.
#[test]
fn a_moved_task_has_the_weight_of_its_new_connection() {
    for when in [
        Moved::BeforeItsStart,
        Moved::Taken,
        Moved::AfterAStep,
        Moved::Delayed,
        Moved::InAStep,
    ] {
        let [moved, other] = turns_of_a_moved_task(when);
        // 3 : 1, but for the time before the move and the time that it was delayed.
        assert!(moved > 2 * other, "{when:?}: {moved} turns beside {other}");
    }
}

/// Moves a task to a connection with the weight 3. Returns the numbers of its turns and of the
/// turns of another connection, with the weight 1.
fn turns_of_a_moved_task(when: Moved) -> [usize; 2] {
    let (pool, time) = timed_pool(usize::from(when.has_worker()));
    let mut lp = Loop::new(&pool);
    let turns = Log::new();
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let _guards = gates.each_ref().map(Gate::guard);
    let [short, holds, own] = &gates;
    let stream = |which: usize, when: Option<Moved>| {
        let (turns, time, own) = (turns.clone(), time.clone(), own.clone());
        Work::new(move |_, step| {
            if step == 1 && when == Some(Moved::InAStep) {
                own.pass();
            }
            time.advance(100 * US);
            turns.add(which);
            if step == 1 && when == Some(Moved::Delayed) {
                TaskReturn::Delay(100 * US)
            } else if turns.len() >= 400 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        })
    };
    if when == Moved::Taken {
        // After these short steps, a batch has several tasks.
        lp.enqueue(1, Work::at(short)).unwrap();
        short.wait_for(1);
        for conn in 2..4 {
            lp.enqueue(conn, Work::done()).unwrap();
        }
        lp.enqueue(4, Work::at(holds)).unwrap();
    }
    let moved = lp.enqueue(7, stream(0, Some(when))).unwrap();
    short.open();
    match when {
        Moved::BeforeItsStart => {}
        Moved::Taken => holds.wait_for(1),
        Moved::InAStep => own.wait_for(1),
        Moved::AfterAStep | Moved::Delayed => _ = lp.run_pending(Duration::ZERO),
    }
    lp.set_weight(8, 3);
    assert!(lp.reattach(moved, 8));
    lp.enqueue(9, stream(1, None)).unwrap();
    own.open();
    holds.open();
    if !when.has_worker() {
        lp.run_pending(PLENTY);
    }
    reap_all(&mut lp);
    counts(&turns)
}

/// A worker waits for a short time before it takes a flow in debt, if another flow has used less
/// than its share. The wait also ends if the clock of the pool does not move.
#[test]
fn a_worker_does_not_wait_for_ever_for_a_connection_that_does_not_come_back() {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    let gate = lp.occupy(1);
    for _ in 0..3 {
        lp.enqueue(1, Work::takes(&time, 1_000_000 * US)).unwrap();
    }
    lp.enqueue(2, Work::done()).unwrap();
    // After a step that is not very short, tasks pass through their flows.
    time.advance(100 * US);
    gate.open();
    reap_all(&mut lp);
    assert_eq!(pool.dump().counters.finished, 5);
}

/// Steps are very short, so the first task of a connection comes straight from the ring. The second
/// one had the record of a closed connection, which had used the slot before, and its debt.
#[test]
fn a_new_connection_does_not_inherit_the_debt_of_a_closed_one() {
    let (pool, time) = timed_pool(1);
    let mut lp = Loop::new(&pool);
    let (turns, gates) = (Log::new(), [Gate::new(), Gate::new(), Gate::new()]);
    let _guards = gates.each_ref().map(Gate::guard);
    // Steps are long, so the next tasks pass through their flows.
    let hand = time.clone();
    let long = Work::at_and_then(&gates[0], move |_| {
        hand.advance(100 * US);
        TaskReturn::TaskDone
    });
    lp.enqueue(1, long).unwrap();
    gates[0].wait_for(1);
    lp.enqueue(7, Work::takes(&time, 10_000 * US)).unwrap();
    lp.enqueue(9, Work::takes(&time, 5000 * US)).unwrap();
    lp.enqueue(2, Work::at(&gates[1])).unwrap();
    gates[0].open();
    gates[1].wait_for(1);
    lp.ends(3);
    // Steps are very short from now on.
    for conn in 10..20 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    lp.enqueue(4, Work::at(&gates[2])).unwrap();
    gates[1].open();
    gates[2].wait_for(1);
    lp.ends(11);
    // The next connection gets the slot of this one.
    lp.connection_closed(7);
    for conn in [9, 100, 100] {
        lp.enqueue(conn, Work::notes(&turns, conn)).unwrap();
    }
    gates[2].open();
    lp.ends(4);
    assert_eq!(turns.notes(), [100, 100, 9], "connection 9 is in debt");
}
