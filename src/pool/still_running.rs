//! The text of the tasks and threads for which the end of a pool waits.

use crate::dump::PoolDump;
use crate::dump::task::TaskDump;
use crate::scheduler::Scheduler;
use crate::scheduler::exits::Activity;
use crate::task::phase::Phase;

/// The tasks and the threads for which the end of the pool waits.
pub(super) fn still_running(scheduler: &Scheduler) -> Vec<String> {
    let tasks = PoolDump::of(scheduler).tasks;
    let mut names: Vec<String> = tasks
        .iter()
        .filter(|task| keeps(scheduler, task))
        .map(|task| name_task(scheduler, task))
        .collect();
    let workers = 0..scheduler.workers().len();
    names.extend(workers.clone().filter_map(|worker| {
        let place = place(activity(scheduler, worker))?;
        Some(format!("worker {worker}, {place}"))
    }));
    if scheduler.is_shutting_down() && !scheduler.exits.is_shut_down() {
        names.push("the shutdown, in a wake-up of a loop".to_owned());
    }
    if names.is_empty() {
        // These workers end soon.
        let is_left = |&worker: &usize| activity(scheduler, worker) != Activity::Gone;
        names.extend(
            workers
                .filter(is_left)
                .map(|worker| format!("worker {worker}, between steps")),
        );
    }
    names
}

/// The task as text, if the pool cannot end before a worker has run it. If the pool drains or has
/// no workers, each task that has not ended counts.
fn keeps(scheduler: &Scheduler, task: &TaskDump) -> bool {
    match task.phase {
        ended if ended.is_ended() => false,
        Phase::Parked => scheduler.is_draining(),
        Phase::Queued => scheduler.is_draining() || !scheduler.has_workers(),
        _ => true,
    }
}

fn name_task(scheduler: &Scheduler, task: &TaskDump) -> String {
    let place = match (task.phase, task.worker) {
        (_, Some(worker)) if activity(scheduler, worker.into()) == Activity::Other => {
            format!("in a step on worker {worker}")
        }
        (_, Some(worker)) => format!("on worker {worker}"),
        // An external thread runs the task, or its turn has just ended.
        (Phase::Running, None) => "in a step".to_owned(),
        (Phase::Queued, None) => "not started".to_owned(),
        (Phase::Parked, None) => "parked".to_owned(),
        (_, None) => "waiting for its next turn".to_owned(),
    };
    match &task.name {
        Some(name) => format!("task {} ({name}), {place}", task.id),
        None => format!("task {}, {place}", task.id),
    }
}

/// The place of a worker, if it is in code of the user other than a step.
fn place(activity: Activity) -> Option<&'static str> {
    match activity {
        Activity::Other | Activity::Gone => None,
        Activity::Wake => Some("in a wake-up of a loop"),
        Activity::StartHook => Some("in on_thread_start"),
        Activity::StopHook => Some("in on_thread_stop"),
        Activity::ThreadLocals => Some("dropping its thread-locals"),
    }
}

fn activity(scheduler: &Scheduler, worker: usize) -> Activity {
    scheduler.exits.activity(worker)
}
