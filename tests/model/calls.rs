//! Random calls: each call that a loop can make on its service and its pool.

use crate::reference::Reference;
use crate::script::{Act, Plan, Reply, Rules, Script, TICK};
use crate::task::Task;
use moored::{Dequeued, Overload, Status, StopReason, Timeout};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use std::collections::HashMap;

/// The number of connections. It is small, so that each has several tasks.
pub(crate) const CONNS: u64 = 4;
const GROUPS: u64 = 2;

/// A call. A task is given by its number in the order of acceptance, reaped tasks included. Times
/// are in ticks.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enqueue(Plan),
    TakeReady,
    /// One iteration of a loop: takes the ready tasks, and looks at each.
    Serve(Reply),
    TaskStatus(usize, Reply),
    TaskSync(usize, Reply),
    Dequeue(usize),
    ConnectionClosed(u64),
    Reattach(usize, u64),
    SetGroup(u64, Option<u64>),
    SetGroupWeight(u64, u16),
    RunPending(u64),
    Advance(u64),
    Drain,
    Finish,
}

/// The result of a call.
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

/// The result of `task_status`: the status, the stop reason, and the task if it is returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    pub(crate) status: Status,
    pub(crate) why: Option<StopReason>,
    pub(crate) script: Option<Script>,
}

impl Look {
    fn at(task: Task) -> Self {
        let is_there = matches!(task.status, Status::Syncing | Status::Finished | Status::Stopped);
        Self {
            status: task.status,
            why: task.stop.filter(|_| task.status == Status::Stopped),
            script: is_there.then_some(task.plan.script),
        }
    }
}

/// The reference, and its result of the last call.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) pool: Reference,
    pub(crate) outcome: Outcome,
    /// The number of refusals of each kind.
    pub(crate) refused: HashMap<&'static str, u64>,
    /// The number of steps before the last run.
    pub(crate) steps_before: usize,
}

/// A budget that is always enough. After `shutdown` the remaining tasks run in one call, since
/// their order is not guaranteed.
pub(crate) const ALL: u64 = u64::MAX / TICK / 4;

impl Call {
    /// Whether the loop calls `poll_timeout` after it.
    pub(crate) fn polls(&self) -> bool {
        !matches!(self, Self::RunPending(_) | Self::Dequeue(_))
    }
}

impl Model {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            pool: Reference {
                rules,
                ..Reference::default()
            },
            outcome: Outcome::Nothing,
            refused: HashMap::new(),
            steps_before: 0,
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Call;

    fn init_state() -> BoxedStrategy<Self> {
        let limit = prop_oneof![2 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2))];
        let max_queued = prop_oneof![2 => Just(None), 1 => (1..5usize).prop_map(Some)];
        let overload = prop_oneof![Just(Overload::Refuse), Just(Overload::ShedFattest)];
        let limits = (1..12usize, 1..20usize, limit, max_queued);
        (limits, overload, 0..6u64)
            .prop_map(|(limits, overload, time_slice)| {
                let (max_queue_depth, max_tasks, max_running, max_queued) = limits;
                Self::new(Rules {
                    max_queue_depth,
                    max_tasks,
                    max_running,
                    max_queued,
                    overload,
                    time_slice,
                })
            })
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Call> {
        let accepted = state.pool.tasks.len();
        let alive = state.pool.alive.clone();
        let budget = prop_oneof![4 => Just(0), 3 => 1..12u64, 1 => Just(ALL)];
        let budget = budget.prop_map({
            let finishing = state.pool.finishing;
            move |budget| if finishing { ALL } else { budget }
        });
        let anywhere = prop_oneof![
            12 => plan().prop_map(Call::Enqueue),
            4 => Just(Call::TakeReady),
            8 => reply().prop_map(Call::Serve),
            3 => (0..CONNS).prop_map(Call::ConnectionClosed),
            16 => budget.prop_map(Call::RunPending),
            6 => (0..CONNS, proptest::option::weighted(0.8, 0..GROUPS))
                .prop_map(|(conn, group)| Call::SetGroup(conn, group)),
            1 => (0..GROUPS, 1..4u16).prop_map(|(group, weight)| Call::SetGroupWeight(group, weight)),
            3 => (0..12u64).prop_map(Call::Advance),
        ];
        if accepted == 0 {
            return anywhere.boxed();
        }
        // Mostly existing tasks, and some that were reaped.
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
            1 => Just(Call::Drain),
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
            | Call::Reattach(task, _) => *task < state.pool.tasks.len(),
            Call::RunPending(budget) => !state.pool.finishing || *budget == ALL,
            _ => true,
        }
    }

    fn apply(mut state: Self, call: &Call) -> Self {
        let pool = &mut state.pool;
        state.outcome = match call {
            Call::Enqueue(plan) => {
                let enqueued = pool.enqueue(plan);
                if let Err(why) = enqueued {
                    *state.refused.entry(why).or_default() += 1;
                }
                Outcome::Enqueued(enqueued)
            }
            Call::TakeReady => Outcome::Ready(sorted(pool.take_ready())),
            Call::Serve(reply) => {
                let ready = sorted(pool.take_ready());
                let look = |task| (task, pool.task_status(task, *reply).map(Look::at));
                Outcome::Served(ready.into_iter().map(look).collect())
            }
            Call::TaskStatus(task, reply) => Outcome::Looked(pool.task_status(*task, *reply).map(Look::at)),
            Call::TaskSync(task, reply) => Outcome::Is(pool.task_sync(*task, *reply)),
            Call::Dequeue(task) => Outcome::Dequeued(pool.cancel(*task, StopReason::Dequeued)),
            Call::ConnectionClosed(conn) => Outcome::Count(pool.connection_closed(*conn)),
            Call::Reattach(task, conn) => Outcome::Is(pool.reattach(*task, *conn)),
            Call::SetGroup(conn, group) => {
                pool.set_group(*conn, *group);
                Outcome::Nothing
            }
            Call::SetGroupWeight(group, weight) => {
                pool.lanes.set_weight(*group, (*weight).into());
                Outcome::Nothing
            }
            Call::RunPending(budget) => {
                state.steps_before = pool.log.len();
                let turns = pool.run(*budget);
                // The number of turns of the remaining tasks depends on their order.
                Outcome::Count(if pool.finishing { 0 } else { turns })
            }
            Call::Advance(by) => {
                pool.now += by * TICK;
                Outcome::Nothing
            }
            Call::Drain => {
                pool.draining = true;
                Outcome::Nothing
            }
            Call::Finish => {
                pool.finish();
                Outcome::Nothing
            }
        };
        state.pool.end_call();
        if call.polls() {
            state.pool.poll();
        }
        state
    }
}

/// The order of tasks that are announced together is not guaranteed.
pub(crate) fn sorted(mut tasks: Vec<usize>) -> Vec<usize> {
    tasks.sort_unstable();
    tasks
}

fn reply() -> impl Strategy<Value = Reply> + Clone {
    prop_oneof![6 => Just(Reply::Resume), 1 => Just(Reply::Stop), 1 => Just(Reply::Leave)]
}

fn plan() -> impl Strategy<Value = Plan> {
    let timeout = |(kind, weight)| {
        let ticks = (0..20u64).prop_map(move |ticks| Some((kind, ticks)));
        prop_oneof![3 => Just(None), weight => ticks]
    };
    let kinds = [(Timeout::Deadline, 1), (Timeout::Queue, 1), (Timeout::Sync, 3)];
    let timeouts = kinds.map(timeout);
    (
        0..CONNS,
        script(),
        any::<bool>(),
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.2),
        timeouts,
    )
        .prop_map(|(conn, script, named, outlives, stays_parked, timeouts)| Plan {
            conn,
            script,
            named,
            outlives: outlives || stays_parked,
            stays_parked,
            timeouts: timeouts.into_iter().flatten().collect(),
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
