//! One task of a dump.

use crate::task::header::Snapshot;
use crate::task::id::{ConnId, TaskId};
use crate::task::phase::{IGNORED_MAX, Phase};
use crate::task::status::Status;
use std::borrow::Cow;

/// A task at the moment when the dump read it. Times are in microseconds.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskDump {
    /// The id of the task. JSON has it as text.
    pub id: TaskId,
    /// The name of the task, if it has one.
    pub name: Option<Cow<'static, str>>,
    /// Its connection; `None` once that has closed.
    pub connection: Option<ConnId>,
    /// The number of the service that owns it.
    pub service: u32,
    /// Its status.
    pub status: Status,
    /// The number of its steps that returned `Continue` although the task was asked to stop, at
    /// most 65,535. If it is more than 1,000, the text of a dump shows `ignores stop: 1203 steps`
    /// instead of the status: such a task occupies a worker, and the pool cannot end.
    pub ignored_stop: u16,
    /// How long the task has had this status. For a running task: the time since its turn began, or
    /// since it began to wait for its turn.
    pub in_status_us: u64,
    /// The age of the task. Once it has ended: how long it lived.
    pub alive_us: u64,
    /// How long the task has waited for a worker in total.
    pub queued_us: u64,
    /// The time until its next step, if its last step returned `TaskReturn::Delay`.
    pub delay_left_us: Option<u64>,
    /// The worker that runs the task at this moment.
    pub worker: Option<u16>,
    /// The part of its life that the task spent on a worker, in per cent.
    pub run_percent: f32,
    /// The part of its life that the task spent parked, in per cent.
    pub sync_percent: f32,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) phase: Phase,
}

impl TaskDump {
    pub(crate) fn new(
        id: TaskId,
        snapshot: &Snapshot,
        name: Option<Cow<'static, str>>,
        connection: Option<ConnId>,
        now: u64,
    ) -> Self {
        let status = snapshot.phase.status(snapshot.requests);
        let Snapshot {
            mut queued,
            mut run,
            mut parked,
            ..
        } = *snapshot;
        let here = now.saturating_sub(snapshot.since);
        match snapshot.phase {
            Phase::Parked => parked += here,
            Phase::Running => run += here,
            ended if ended.is_ended() => {}
            _ => queued += here,
        }
        let alive = queued + run + parked;
        let percent = |part: u64| {
            if alive == 0 {
                0.0
            } else {
                part as f32 * 100.0 / alive as f32
            }
        };
        Self {
            id,
            name,
            connection,
            service: id.service(),
            status,
            ignored_stop: snapshot.requests.ignored(),
            in_status_us: here / 1000,
            alive_us: alive / 1000,
            queued_us: queued / 1000,
            delay_left_us: snapshot.delay.map(|at| at.saturating_sub(now) / 1000),
            worker: snapshot.worker,
            run_percent: percent(run),
            sync_percent: percent(parked),
            phase: snapshot.phase,
        }
    }

    /// The status, and whether it ignores the request to stop.
    pub(crate) fn status_text(&self) -> String {
        if self.status == Status::Stopping && self.ignored_stop > IGNORED_MAX {
            format!("ignores stop: {} steps", self.ignored_stop)
        } else {
            self.status.to_string()
        }
    }
}
