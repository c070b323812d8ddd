//! Random calls on a pool and on a reference: after each call, the pool must have the state of the
//! reference.
//!
//! There are no threads, and the test moves the clock, so that everything is determined: statuses,
//! the order of steps, announcements, counters and limits. `PROPTEST_CASES=100000 cargo test
//! --release --test model` tries more sequences.

#[path = "model/books.rs"]
mod books;
#[path = "model/calls.rs"]
mod calls;
#[path = "model/lanes.rs"]
mod lanes;
#[path = "model/pool.rs"]
mod pool;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/script.rs"]
mod script;
#[path = "model/sizes.rs"]
mod sizes;
#[path = "model/task.rs"]
mod task;
#[path = "model/turns.rs"]
mod turns;

use books::Tally;
use calls::{CONNS, Call, Model};
use moored::{ConnId, Overload, Shutdown, Status};
use pool::Real;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use reference::{Reference, Room};
use script::{Act, Plan, Rules, Script, Seen};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use task::Task;

struct AgainstTheReference;

impl StateMachineTest for AgainstTheReference {
    type SystemUnderTest = Real;
    type Reference = Model;

    fn init_test(model: &Model) -> Real {
        Real::new(&model.pool.rules)
    }

    fn apply(mut pool: Real, model: &Model, call: Call) -> Real {
        let made = format!("{call:?}");
        let polls = call.polls();
        let outcome = pool.call(call, model.pool.finishing);
        assert_eq!(outcome, model.outcome, "pool and reference after {made}");
        if polls {
            wakes_in_time(&mut pool, &model.pool);
        }
        pool
    }

    fn check_invariants(pool: &Real, model: &Model) {
        let reference = &model.pool;
        same_statuses(pool, reference);
        same_connections(pool, reference);
        same_steps(pool, model);
        same_counts(pool, model);
    }

    fn teardown(pool: Real) {
        leaves_nothing(pool);
    }
}

fn same_statuses(pool: &Real, reference: &Reference) {
    for (number, &id) in pool.ids.iter().enumerate() {
        let status = reference.find(number).map(|task| task.status);
        assert_eq!(pool.service.peek(id), status, "task {number}");
    }
    assert_eq!(
        pool.service.peek(pool.stranger),
        None,
        "a task of another service"
    );
    let with_a_body = alive(reference).filter(|task| task.status != Status::Panicked);
    assert_eq!(
        Arc::strong_count(&pool.alive) - 1,
        with_a_body.count(),
        "tasks in memory"
    );
}

/// The tasks that were not reaped.
fn alive(reference: &Reference) -> impl Iterator<Item = &Task> {
    reference.alive.iter().map(|&number| &reference.tasks[number])
}

fn same_connections(pool: &Real, reference: &Reference) {
    for conn in 0..CONNS {
        let tasks = pool.service.tasks_of(conn);
        let tasks: Vec<_> = tasks.into_iter().map(|id| pool.number(id)).collect();
        assert_eq!(tasks, reference.tasks_of(conn), "tasks of connection {conn}");
    }
    for (number, &id) in pool.ids.iter().enumerate() {
        let conn = reference
            .find(number)
            .and_then(|_| reference.connection_of(number))
            .map(ConnId);
        assert_eq!(
            pool.service.connection_of(id),
            conn,
            "the connection of task {number}"
        );
    }
}

/// Tasks run in order within a connection, connections have shares of worker time, and each step
/// gets the right context.
fn same_steps(pool: &Real, model: &Model) {
    let log = pool.log.lock().unwrap().clone();
    for (id, seen) in &log {
        assert_eq!(*id, pool.ids[seen.0], "a step got the id of another task");
    }
    let mut steps: Vec<&Seen> = log.iter().map(|(_, seen)| seen).collect();
    let mut expected: Vec<&Seen> = model.pool.log[model.steps_before..].iter().collect();
    if model.pool.finishing {
        // The order after `shutdown` is not guaranteed.
        steps.sort_by_key(|seen| seen.0);
        expected.sort_by_key(|seen| seen.0);
    }
    assert_eq!(steps, expected, "the steps of the last run");
}

fn same_counts(pool: &Real, model: &Model) {
    let reference = &model.pool;
    let count = |is: &[Status]| alive(reference).filter(|task| is.contains(&task.status)).count();
    let counts = pool.pool.counts();
    assert_eq!(counts.queued, count(&[Status::Queued]));
    assert_eq!(counts.running(), count(&[Status::Running, Status::Stopping]));
    assert_eq!(counts.parked, count(&[Status::Syncing]));
    assert_eq!(
        counts.ended,
        count(&[Status::Finished, Status::Stopped, Status::Panicked])
    );
    assert_eq!(counts.threads, 0);

    let dump = pool.pool.dump();
    assert_eq!(dump.counts, counts);
    assert_eq!(dump.uptime_us, reference.now / 1000);
    let stopping = dump.tasks.iter().filter(|task| task.status == Status::Stopping);
    assert_eq!(stopping.count(), count(&[Status::Stopping]));
    assert_eq!(dump.tasks.len(), reference.alive.len());
    for task in &dump.tasks {
        let number = pool.number(task.id);
        let expected = reference.find(number).expect("a dump shows a reaped task");
        assert_eq!(task.status, expected.status);
        assert_eq!(task.connection, pool.service.connection_of(task.id));
        assert_eq!(task.name.is_some(), expected.plan.named);
    }

    let tally = Tally::of(&dump);
    assert_eq!(tally, Tally::expected(model));
    let not_ended = count(&[Status::Queued, Status::Running, Status::Stopping, Status::Syncing]);
    assert_eq!(
        tally.accepted,
        tally.ended() + not_ended as u64,
        "accepted = ended + alive"
    );
    assert_eq!(pool.service.len(), reference.alive.len());
    assert_eq!(pool.service.is_empty(), reference.alive.is_empty());
}

/// The loop is woken once between two calls of `take_ready`, and `poll_timeout` never exceeds a
/// timeout.
fn wakes_in_time(pool: &mut Real, reference: &Reference) {
    assert_eq!(
        pool.wakes.load(Ordering::Relaxed),
        reference.wakes,
        "wake-ups of the loop"
    );
    let timeout = pool.service.poll_timeout();
    if !reference.lanes.is_empty() || !reference.news.is_empty() || reference.room == Room::Made {
        assert_eq!(
            timeout,
            Some(Duration::ZERO),
            "steps are pending, a task is unannounced, or there is room"
        );
    } else if let Some((at, ..)) = reference.next_due() {
        let left = Duration::from_nanos(at.saturating_sub(reference.now));
        assert!(
            timeout.is_some_and(|timeout| timeout <= left),
            "{timeout:?}, but due in {left:?}"
        );
    }
}

/// The remaining tasks are stopped, run to their end and are reaped: accepted = finished + stopped
/// + panicked.
fn leaves_nothing(mut pool: Real) {
    pool.pool.shutdown(Shutdown::Cancel);
    pool.service.run_pending(Duration::MAX);
    for id in pool.ids.clone() {
        drop(pool.service.task_status(id));
    }
    assert!(pool.service.is_empty(), "{}", pool.pool.dump());
    let tally = Tally::of(&pool.pool.dump());
    assert_eq!(tally.accepted, tally.ended(), "{}", pool.pool.dump());
    assert_eq!(Arc::strong_count(&pool.alive), 1, "every task was dropped");
    assert_eq!(pool.pool.counts(), moored::Counts::default());
}

/// A new task of a connection that finishes in its first step.
fn enqueue(conn: u64) -> Call {
    let script = Script {
        acts: vec![Act::Done],
        when_stopping: None,
        steps: 0,
        visits: 0,
    };
    Call::Enqueue(Plan {
        conn,
        script,
        named: false,
        outlives: false,
        stays_parked: false,
        timeouts: Vec::new(),
    })
}

/// Two connections of a group have a task each, and the queue is full: the task that is shed is the
/// newest of the connection that was the last to have a task. The reference forgot this order when
/// the group of a connection was set to the same group again.
#[test]
fn a_group_that_is_set_again_does_not_change_which_task_is_shed() {
    let mut model = Model::new(Rules {
        max_queue_depth: 2,
        max_tasks: 3,
        max_running: None,
        max_queued: None,
        overload: Overload::ShedFattest,
        time_slice: 0,
    });
    let mut pool = Real::new(&model.pool.rules);
    let set_group = |conn| Call::SetGroup(conn, Some(0));
    let calls = [
        set_group(0),
        set_group(1),
        enqueue(1),
        enqueue(0),
        set_group(1),
        enqueue(3),
    ];
    for call in calls {
        model = Model::apply(model, &call);
        pool = AgainstTheReference::apply(pool, &model, call);
        AgainstTheReference::check_invariants(&pool, &model);
    }
    leaves_nothing(pool);
}

fn config() -> Config {
    let default = Config::default();
    Config {
        cases: default.cases.max(1000),
        // A failure prints the shortest sequence of calls. Make a test of that sequence.
        failure_persistence: None,
        ..default
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    /// L11, L13, L14, L25, S5, S11, S12, S13, S15: after any calls of a loop, in any order, the
    /// pool has the state of the reference.
    #[test]
    fn the_pool_agrees_with_the_reference_after_any_calls(sequential 1..100 => AgainstTheReference);
}
