//! Random calls: one of everything that a loop can do with its service and its pool.

use crate::books::Rules;
use crate::reference::Reference;
use crate::script::{Act, Plan, Script, TICK};
use crate::service::{Look, Reply};
use moored::Dequeued;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// How many connections there are: few, so that they have several tasks each.
pub(crate) const CONNS: u64 = 4;

/// A call. Tasks are meant by the order in which they were accepted, reaped ones included. Times are ticks.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enqueue(Plan),
    TakeReady,
    /// What a loop does when it is woken: takes all that is ready, and looks at each.
    Serve(Reply),
    TaskStatus(usize, Reply),
    TaskSync(usize, Reply),
    Dequeue(usize),
    ConnectionClosed(u64),
    Reattach(usize, u64),
    RunPending(u64),
    Advance(u64),
    Finish,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Nothing,
    Enqueued(Result<usize, &'static str>),
    Ready(Vec<usize>),
    Served(Vec<(usize, Option<Look>)>),
    Looked(Option<Look>),
    Dequeued(Dequeued),
    Is(bool),
    Count(usize),
}

/// The reference, and what it said to the last call.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) pool: Reference,
    pub(crate) outcome: Outcome,
}

/// A budget that is never used up. What `finish` has left is run in one go, since nobody promises an order there.
pub(crate) const ALL: u64 = u64::MAX / TICK / 4;

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Call;

    fn init_state() -> BoxedStrategy<Self> {
        let limit = prop_oneof![2 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2))];
        (1..12usize, 1..20usize, limit, 0..6u64)
            .prop_map(
                |(max_queue_depth, max_tasks, max_running_per_connection, time_slice)| Self {
                    pool: Reference::new(Rules {
                        max_queue_depth,
                        max_tasks,
                        max_running_per_connection,
                        time_slice,
                    }),
                    outcome: Outcome::Nothing,
                },
            )
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Call> {
        let accepted = state.pool.tally.accepted as usize;
        let alive: Vec<_> = state.pool.tasks.iter().map(|task| task.number).collect();
        let budget = prop_oneof![4 => Just(0), 3 => 1..12u64, 1 => Just(ALL)];
        let budget = budget.prop_map({
            let finishing = state.pool.finishing;
            move |budget| if finishing { ALL } else { budget }
        });
        let anywhere = prop_oneof![
            12 => plan().prop_map(Call::Enqueue),
            4 => Just(Call::TakeReady),
            8 => reply().prop_map(Call::Serve),
            2 => (0..CONNS).prop_map(Call::ConnectionClosed),
            16 => budget.prop_map(Call::RunPending),
            3 => (0..12u64).prop_map(Call::Advance),
        ];
        if accepted == 0 {
            return anywhere.boxed();
        }
        // Mostly tasks that are there; some that have been.
        let task = if alive.is_empty() {
            (0..accepted).boxed()
        } else {
            prop_oneof![8 => proptest::sample::select(alive), 1 => 0..accepted].boxed()
        };
        prop_oneof![
            45 => anywhere,
            6 => (task.clone(), reply()).prop_map(|(task, reply)| Call::TaskStatus(task, reply)),
            4 => (task.clone(), reply()).prop_map(|(task, reply)| Call::TaskSync(task, reply)),
            4 => task.clone().prop_map(Call::Dequeue),
            5 => (task, 0..CONNS).prop_map(|(task, conn)| Call::Reattach(task, conn)),
            1 => Just(Call::Finish),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, call: &Call) -> bool {
        match call {
            Call::TaskSync(_, Reply::Leave) => false,
            Call::TaskStatus(task, _)
            | Call::TaskSync(task, _)
            | Call::Dequeue(task)
            | Call::Reattach(task, _) => (*task as u64) < state.pool.tally.accepted,
            Call::RunPending(budget) => !state.pool.finishing || *budget == ALL,
            _ => true,
        }
    }

    fn apply(mut state: Self, call: &Call) -> Self {
        let pool = &mut state.pool;
        state.outcome = match call {
            Call::Enqueue(plan) => Outcome::Enqueued(pool.enqueue(plan)),
            Call::TakeReady => Outcome::Ready(sorted(pool.take_ready())),
            Call::Serve(reply) => {
                let ready = sorted(pool.take_ready());
                let look = |task| (task, pool.task_status(task, *reply));
                Outcome::Served(ready.into_iter().map(look).collect())
            }
            Call::TaskStatus(task, reply) => Outcome::Looked(pool.task_status(*task, *reply)),
            Call::TaskSync(task, reply) => Outcome::Is(pool.task_sync(*task, *reply)),
            Call::Dequeue(task) => Outcome::Dequeued(pool.dequeue(*task)),
            Call::ConnectionClosed(conn) => Outcome::Count(pool.connection_closed(*conn)),
            Call::Reattach(task, conn) => Outcome::Is(pool.reattach(*task, *conn)),
            Call::RunPending(budget) => {
                let turns = pool.run(*budget);
                // How many turns the rest needs depends on its order.
                Outcome::Count(if pool.finishing { 0 } else { turns })
            }
            Call::Advance(by) => {
                pool.now += by * TICK;
                Outcome::Nothing
            }
            Call::Finish => {
                pool.finish();
                Outcome::Nothing
            }
        };
        state.pool.turns.end_call();
        state
    }
}

/// The order of what is announced together is not promised.
pub(crate) fn sorted(mut tasks: Vec<usize>) -> Vec<usize> {
    tasks.sort_unstable();
    tasks
}

fn reply() -> impl Strategy<Value = Reply> + Clone {
    prop_oneof![6 => Just(Reply::Resume), 1 => Just(Reply::Stop), 1 => Just(Reply::Leave)]
}

fn plan() -> impl Strategy<Value = Plan> {
    let timeout = || prop_oneof![3 => Just(None), 1 => (0..20u64).prop_map(Some)];
    (
        0..CONNS,
        script(),
        any::<bool>(),
        proptest::bool::weighted(0.3),
        (timeout(), timeout(), timeout()),
    )
        .prop_map(|(conn, script, named, outlives, timeouts)| Plan {
            conn,
            script,
            named,
            outlives,
            queue_timeout: timeouts.0,
            sync_timeout: timeouts.1,
            deadline: timeouts.2,
        })
}

fn script() -> impl Strategy<Value = Script> {
    let act = prop_oneof![
        6 => Just(Act::Continue),
        1 => Just(Act::Outlive),
        6 => Just(Act::Sync),
        1 => Just(Act::Done),
        1 => Just(Act::Stop),
        1 => Just(Act::Panic),
    ];
    let when_stopping = prop_oneof![
        4 => Just(Some(Act::Stop)),
        2 => Just(None),
        1 => Just(Some(Act::Done)),
        1 => Just(Some(Act::Panic)),
    ];
    (vec(act, 0..8), when_stopping).prop_map(|(acts, when_stopping)| Script {
        acts,
        when_stopping,
        steps: 0,
        visits: 0,
    })
}
