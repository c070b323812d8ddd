//! What a task of the model does: the pool's task and the reference's follow the same script.

use moored::{Context, ManualClock, StopReason, Task, TaskId, TaskReturn, Timeout};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a step takes: every one moves the clock on, so that a budget of zero is one turn.
pub(crate) const TICK: u64 = 1_000_000;

/// What one step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Continue,
    /// Asks to outlive its connection, and goes on.
    Outlive,
    Sync,
    Done,
    Stop,
    Panic,
}

/// What a pool is told at the start.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rules {
    pub(crate) max_queue_depth: usize,
    pub(crate) max_tasks: usize,
    pub(crate) max_running: Option<usize>,
    /// In ticks.
    pub(crate) time_slice: u64,
}

/// A task as it is enqueued. Times are ticks.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) conn: u64,
    pub(crate) script: Script,
    pub(crate) named: bool,
    pub(crate) outlives: bool,
    /// At most one of each kind, the deadline first.
    pub(crate) timeouts: Vec<(Timeout, u64)>,
}

/// What a task will do, and how far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    /// What it does when asked to stop; `None`: it does not listen.
    pub(crate) when_stopping: Option<Act>,
    pub(crate) steps: usize,
    /// How often the loop had it in its hands.
    pub(crate) visits: usize,
}

impl Script {
    pub(crate) fn next(&mut self, stopping: bool) -> Act {
        let act = self.acts.get(self.steps).copied().unwrap_or(Act::Done);
        self.steps += 1;
        self.when_stopping.filter(|_| stopping).unwrap_or(act)
    }
}

/// What the loop does with a parked task that it has in its hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Resume,
    Stop,
    Leave,
}

/// What one step was told: of which task, why to stop, and its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen(
    pub(crate) usize,
    pub(crate) Option<StopReason>,
    pub(crate) Option<u64>,
);

pub(crate) type Log = Arc<Mutex<Vec<(TaskId, Seen)>>>;

/// A timeout in ticks as the pool gets it. A few nanoseconds more for each task, so that no two are due at once:
/// nobody promises an order among those.
pub(crate) fn nanos(ticks: u64, task: usize) -> u64 {
    ticks * TICK + task as u64
}

/// A task that follows its script and notes what it is told.
pub(crate) struct Actor {
    pub(crate) number: usize,
    pub(crate) script: Script,
    pub(crate) clock: ManualClock,
    pub(crate) log: Log,
    /// Counts the actors that exist.
    pub(crate) _alive: Arc<()>,
}

impl Task for Actor {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        assert_eq!(cx.worker(), None, "a step on a worker that does not exist");
        assert_eq!(cx.is_detached(), cx.connection().is_none());
        let seen = Seen(self.number, cx.stop_reason(), cx.connection().map(|conn| conn.0));
        self.log.lock().unwrap().push((cx.task_id(), seen));
        self.clock.advance(Duration::from_nanos(TICK));
        match self.script.next(cx.is_stopping()) {
            Act::Continue => TaskReturn::Continue,
            Act::Outlive => {
                cx.outlive_connection();
                TaskReturn::Continue
            }
            Act::Sync => TaskReturn::Sync,
            Act::Done => TaskReturn::TaskDone,
            Act::Stop => TaskReturn::Stopped,
            // Not `panic!`: thousands of messages would hide the one that counts.
            Act::Panic => std::panic::resume_unwind(Box::new(self.number)),
        }
    }
}
