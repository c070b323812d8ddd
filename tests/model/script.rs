//! The script of a task: the real task and the reference task follow the same script.

use moored::{Context, ManualClock, Overload, StopReason, Task, TaskId, TaskReturn, Timeout};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The time of a step. Each step moves the clock, so that a budget of zero is one turn.
pub(crate) const TICK: u64 = 1_000_000;

/// The action of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Continue,
    /// Calls `outlive_connection`, and continues.
    Outlive,
    Sync,
    Done,
    Stop,
    Panic,
}

/// The options of a pool.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rules {
    pub(crate) max_queue_depth: usize,
    pub(crate) max_tasks: usize,
    pub(crate) max_running: Option<usize>,
    pub(crate) max_queued: Option<usize>,
    pub(crate) overload: Overload,
    /// In ticks.
    pub(crate) time_slice: u64,
}

/// The options of a task. Times are in ticks.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) conn: u64,
    pub(crate) script: Script,
    pub(crate) named: bool,
    pub(crate) outlives: bool,
    /// Whether it stays parked while it has no connection. Then it also outlives its connection.
    pub(crate) stays_parked: bool,
    /// At most one of each kind, the deadline first.
    pub(crate) timeouts: Vec<(Timeout, u64)>,
}

/// The script of a task, and the position in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    /// The action when the task is asked to stop. `None`: it ignores the request.
    pub(crate) when_stopping: Option<Act>,
    pub(crate) steps: usize,
    /// How many times the loop has borrowed it.
    pub(crate) visits: usize,
}

impl Script {
    pub(crate) fn next(&mut self, stopping: bool) -> Act {
        let act = self.acts.get(self.steps).copied().unwrap_or(Act::Done);
        self.steps += 1;
        self.when_stopping.filter(|_| stopping).unwrap_or(act)
    }
}

/// The action of the loop on a parked task that it has borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Resume,
    Stop,
    Leave,
}

/// The context of one step: the task, the stop reason, and the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen(
    pub(crate) usize,
    pub(crate) Option<StopReason>,
    pub(crate) Option<u64>,
);

pub(crate) type Log = Arc<Mutex<Vec<(TaskId, Seen)>>>;

/// Converts a timeout from ticks. Each task gets some nanoseconds more, so that no two timeouts run
/// out at the same time: the order of such tasks is not guaranteed.
pub(crate) fn nanos(ticks: u64, task: usize) -> u64 {
    ticks * TICK + task as u64
}

/// A task that follows its script and notes its contexts.
pub(crate) struct Actor {
    pub(crate) number: usize,
    pub(crate) script: Script,
    pub(crate) clock: ManualClock,
    pub(crate) log: Log,
    /// Counts the living actors.
    pub(crate) _alive: Arc<()>,
}

impl Task for Actor {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        assert_eq!(cx.worker(), None, "the pool has no workers");
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
            // Not `panic!`: thousands of messages would hide the message of the failure.
            Act::Panic => std::panic::resume_unwind(Box::new(self.number)),
        }
    }
}
