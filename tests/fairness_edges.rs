//! Shares of worker time in rare cases: new connections without end, large weights, batches that
//! are returned, tasks that move to another connection, and very long steps.

mod util;

use moored::{BoxTask, ManualClock, Service, Shutdown, TaskReturn, TaskStatus, ThreadPool, task_fn};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const US: Duration = Duration::from_micros(1);

/// A pool whose tasks give way after each step.
fn timed_pool(threads: usize) -> (ThreadPool, ManualClock) {
    let builder = ThreadPool::builder().threads(threads);
    util::manual(builder.max_queue_depth(100_000).time_slice(Duration::ZERO))
}

struct Gate {
    started: Receiver<()>,
    open: Sender<()>,
}

/// The ends of a gate that a step has: it sends that it has started, and waits.
type StepGate = (Sender<()>, Receiver<()>);

/// Stops at a gate that was not used before.
fn stop_once(gate: &mut Option<StepGate>) {
    if let Some((tell, opened)) = gate.take() {
        let _ = tell.send(());
        let _ = opened.recv();
    }
}

/// A task that holds its worker until the gate is opened.
fn gate(service: &mut Service<BoxTask>, conn: u64) -> Gate {
    let (tell, started) = channel();
    let (open, opened) = channel::<()>();
    service
        .enqueue(
            conn,
            task_fn(move |_| {
                let _ = tell.send(());
                let _ = opened.recv();
                TaskReturn::TaskDone
            }),
        )
        .expect("room");
    Gate { started, open }
}

impl Gate {
    fn wait(&self) {
        self.started.recv().expect("it starts");
    }
    fn open(&self) {
        let _ = self.open.send(());
    }
}

fn reap_until(service: &mut Service<BoxTask>, left: usize) {
    while service.len() > left {
        for ready in service.take_ready() {
            drop(service.task_status(ready.id));
        }
        std::thread::yield_now();
    }
}

/// The place of a task of a connection in debt among `newcomers` new connections whose steps take
/// `step`.
fn place_behind_newcomers(newcomers: u64, step: Duration) -> usize {
    let (pool, time) = timed_pool(1);
    let mut service = pool.service::<BoxTask>(|| {});
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = gate(&mut service, 1);
    first.wait();
    let long = time.clone();
    service
        .enqueue(
            7,
            task_fn(move |_| {
                long.advance(Duration::from_millis(1));
                TaskReturn::TaskDone
            }),
        )
        .expect("room");
    let second = gate(&mut service, 2);
    first.open();
    second.wait();
    reap_until(&mut service, 1);
    let add = |service: &mut Service<BoxTask>, conn: u64, step: Duration| {
        let (order, time) = (Arc::clone(&order), time.clone());
        service
            .enqueue(
                conn,
                task_fn(move |_| {
                    time.advance(step);
                    order.lock().expect("alive").push(conn);
                    TaskReturn::TaskDone
                }),
            )
            .expect("room");
    };
    add(&mut service, 7, step);
    (0..newcomers).for_each(|n| add(&mut service, 1000 + n, step));
    second.open();
    reap_until(&mut service, 0);
    let order = order.lock().expect("alive");
    order.iter().position(|&conn| conn == 7).expect("it ran")
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

/// The charge of a short step was rounded to zero.
#[test]
fn a_large_weight_is_a_share_and_not_everything() {
    let (pool, time) = timed_pool(0);
    let mut service = pool.service::<BoxTask>(|| {});
    let turns = Arc::new(Mutex::new([0_u64; 2]));
    service.set_weight(0, 256);
    for conn in 0..2 {
        let (turns, time) = (Arc::clone(&turns), time.clone());
        service
            .enqueue(
                conn as u64,
                task_fn(move |cx| {
                    time.advance(Duration::from_nanos(900));
                    turns.lock().expect("alive")[conn] += 1;
                    if cx.is_stopping() {
                        TaskReturn::Stopped
                    } else {
                        TaskReturn::Continue
                    }
                }),
            )
            .expect("room");
    }
    let mut run = |n: u32| {
        (0..n).for_each(|_| _ = service.run_pending(Duration::ZERO));
        *turns.lock().expect("alive")
    };
    let early = run(1000);
    let late = run(200_000);
    assert!(
        late[1] - early[1] > 700,
        "{early:?} then {late:?}: a share of 1 to 256 is 780 turns"
    );
}

/// Steps are very short, so tasks come straight from the ring. One is long: the rest of its batch is
/// returned. A task that was returned has no account, and gets one with a finish tag of zero.
#[test]
fn a_task_of_a_late_batch_gets_no_credit_of_the_whole_past() {
    let (pool, time) = timed_pool(1);
    let mut service = pool.service::<BoxTask>(|| {});
    let advance = |service: &mut Service<BoxTask>, conn: u64, by: Duration| {
        let time = time.clone();
        service
            .enqueue(
                conn,
                task_fn(move |_| {
                    time.advance(by);
                    TaskReturn::TaskDone
                }),
            )
            .expect("room");
    };
    // Virtual time is an hour.
    advance(&mut service, 9, Duration::ZERO);
    reap_until(&mut service, 0);
    advance(&mut service, 1, Duration::from_secs(3600));
    reap_until(&mut service, 0);
    advance(&mut service, 1, Duration::ZERO);
    reap_until(&mut service, 0);
    // Batches are large, and steps very short.
    for _ in 0..20 {
        advance(&mut service, 9, Duration::ZERO);
        reap_until(&mut service, 0);
    }
    let slow = |service: &mut Service<BoxTask>, conn: u64, by: Duration| {
        let (tell, started) = channel();
        let (open, opened) = channel::<()>();
        let time = time.clone();
        let task = task_fn(move |_| {
            let _ = tell.send(());
            let _ = opened.recv();
            time.advance(by);
            TaskReturn::TaskDone
        });
        service.enqueue(conn, task).expect("room");
        Gate { started, open }
    };
    let shares = Arc::new(Mutex::new([0_u64; 2]));
    let stream = |which: usize| {
        let (shares, time) = (Arc::clone(&shares), time.clone());
        task_fn(move |_| {
            time.advance(10 * US);
            let mut shares = shares.lock().expect("alive");
            // While both have tasks.
            if shares[0] < 500 && shares[1] < 500 {
                shares[which] += 1;
            }
            TaskReturn::TaskDone
        })
    };
    let first = slow(&mut service, 2, 5 * US);
    first.wait();
    // The next batch: a step of 50 us, and the first stream of connection 4.
    let second = slow(&mut service, 3, 50 * US);
    service.enqueue(4, stream(0)).expect("room");
    first.open();
    second.wait();
    for _ in 0..500 {
        service.enqueue(4, stream(0)).expect("room");
        service.enqueue(5, stream(1)).expect("room");
    }
    second.open();
    reap_until(&mut service, 0);
    let shares = *shares.lock().expect("alive");
    assert!(shares[1] > 300, "two equal connections have had {shares:?} turns");
}

/// A pool without threads that drains does not run a task whose moment has come.
#[test]
fn join_runs_a_delayed_task_of_a_pool_that_drains() {
    let (pool, time) = timed_pool(0);
    let mut service = pool.service::<BoxTask>(|| {});
    let mut is_second = false;
    service
        .enqueue(
            7,
            task_fn(move |cx| {
                if cx.is_stopping() {
                    TaskReturn::Stopped
                } else if std::mem::replace(&mut is_second, true) {
                    TaskReturn::TaskDone
                } else {
                    TaskReturn::Delay(Duration::from_secs(1))
                }
            }),
        )
        .expect("room");
    service.run_pending(Duration::MAX);
    pool.shutdown(Shutdown::Drain);
    time.advance(Duration::from_secs(2));
    let joined = pool.join_timeout(Duration::from_secs(1));
    assert!(joined.is_ok(), "{joined:?}");
}

/// Finish tags do not overflow.
#[test]
fn a_step_of_584_years_does_not_overflow() {
    let (pool, time) = timed_pool(0);
    let mut service = pool.service::<BoxTask>(|| {});
    let id = service
        .enqueue(
            7,
            task_fn(move |_| {
                time.advance(Duration::MAX);
                TaskReturn::TaskDone
            }),
        )
        .expect("room");
    service.run_pending(Duration::MAX);
    assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
    let id = service
        .enqueue(7, task_fn(|_| TaskReturn::TaskDone))
        .expect("room");
    service.run_pending(Duration::MAX);
    assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
}

/// A running task moves to another client, its old connection closes, and a third client gets the
/// slot of that connection.
#[test]
fn a_running_task_that_moves_leaves_the_flow_of_its_old_connection() {
    let (pool, time) = timed_pool(1);
    let mut service = pool.service::<BoxTask>(|| {});
    let turns = Arc::new(Mutex::new(std::collections::BTreeMap::<&'static str, u64>::new()));
    let stream = |name: &'static str, gate: Option<StepGate>| {
        let (turns, time) = (Arc::clone(&turns), time.clone());
        let mut gate = gate;
        task_fn(move |_| {
            stop_once(&mut gate);
            time.advance(100 * US);
            let mut turns = turns.lock().expect("alive");
            *turns.entry(name).or_default() += 1;
            if turns.values().sum::<u64>() >= 900 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        })
    };
    let (tell, started) = channel();
    let (open, opened) = channel();
    let moved = service
        .enqueue(7, stream("moved to 8", Some((tell, opened))))
        .expect("room");
    started.recv().expect("it starts");
    assert!(service.reattach(moved, 8));
    service.connection_closed(7);
    service.enqueue(9, stream("of 9", None)).expect("room");
    service.enqueue(10, stream("of 10", None)).expect("room");
    let _ = open.send(());
    reap_until(&mut service, 0);
    let turns = turns.lock().expect("alive");
    assert!(turns["of 9"] > 270, "three equal connections: {turns:?}");
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
fn turns_of_a_moved_task(when: Moved) -> [u64; 2] {
    let (pool, time) = timed_pool(usize::from(when.has_worker()));
    let mut service = pool.service::<BoxTask>(|| {});
    let turns = Arc::new(Mutex::new([0_u64; 2]));
    let (tell, started) = channel();
    let (open, opened) = channel::<()>();
    let mut own_gate = (when == Moved::InAStep).then_some((tell, opened));
    let mut delay = (when == Moved::Delayed).then_some(100 * US);
    let mut stream = |own: usize| {
        let (turns, time) = (Arc::clone(&turns), time.clone());
        let (mut gate, mut delay) = (own_gate.take(), delay.take());
        task_fn(move |_| {
            stop_once(&mut gate);
            time.advance(100 * US);
            let mut turns = turns.lock().expect("alive");
            turns[own] += 1;
            match delay.take() {
                Some(delay) => TaskReturn::Delay(delay),
                None if turns.iter().sum::<u64>() >= 400 => TaskReturn::TaskDone,
                None => TaskReturn::Continue,
            }
        })
    };
    let holds = (when == Moved::Taken).then(|| {
        // After these short steps, a batch has several tasks.
        let first = gate(&mut service, 1);
        first.wait();
        for conn in 2..4 {
            let ends = task_fn(|_| TaskReturn::TaskDone);
            service.enqueue(conn, ends).expect("room");
        }
        (first, gate(&mut service, 4))
    });
    let moved = service.enqueue(7, stream(0)).expect("room");
    let other = stream(1);
    let holds = holds.map(|(first, holds)| {
        first.open();
        holds
    });
    match when {
        Moved::BeforeItsStart => {}
        Moved::Taken => holds.as_ref().expect("a gate").wait(),
        Moved::InAStep => started.recv().expect("it starts"),
        Moved::AfterAStep | Moved::Delayed => _ = service.run_pending(Duration::ZERO),
    }
    service.set_weight(8, 3);
    assert!(service.reattach(moved, 8));
    service.enqueue(9, other).expect("room");
    let _ = open.send(());
    if let Some(holds) = holds {
        holds.open();
    }
    if !when.has_worker() {
        service.run_pending(Duration::MAX);
    }
    reap_until(&mut service, 0);
    *turns.lock().expect("alive")
}

/// A worker waits for a short time before it takes a flow in debt, if another flow has used less
/// than its share. The wait also ends if the clock of the pool does not move.
#[test]
fn a_worker_does_not_wait_for_ever_for_a_connection_that_does_not_come_back() {
    let (pool, time) = timed_pool(1);
    let mut service = pool.service::<BoxTask>(|| {});
    let hold = gate(&mut service, 0);
    hold.wait();
    for _ in 0..3 {
        let time = time.clone();
        let long = task_fn(move |_| {
            time.advance(1_000_000 * US);
            TaskReturn::TaskDone
        });
        service.enqueue(1, long).expect("room");
    }
    service
        .enqueue(2, task_fn(|_| TaskReturn::TaskDone))
        .expect("room");
    // After a step that is not very short, tasks pass through their flows.
    time.advance(100 * US);
    hold.open();
    reap_until(&mut service, 0);
    assert_eq!(pool.dump().counters.finished, 5);
}
