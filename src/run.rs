//! Running one task: from its place in line to its next rest.

use crate::cell::Body;
use crate::desk::Desk;
use crate::inbox::Event;
use crate::job::Job;
use crate::port::TaskCell;
use crate::state::{Park, Phase};
use crate::status::StopReason;
use crate::task::{Context, Task, TaskReturn};
use crate::unwind::{contain, drop_quietly};
use std::sync::Arc;

/// How a turn on a worker ended.
enum Turn {
    /// The task wants to go on, others may be first.
    GiveWay,
    Parked(u32),
    Ended,
}

impl<T: Task> Job for TaskCell<T> {
    fn run(self: Arc<Self>, desk: &Desk<'_>) -> Option<Arc<dyn Job>> {
        let Ok(before) = self.head.state.start(desk.number()) else {
            // Cancelled after a worker had taken it out of the line.
            self.port.shared.release(&self.head, desk.stats);
            return None;
        };
        if before.phase() == Phase::Queued {
            desk.stats.started.add(1);
        }
        desk.set_busy(true);
        self.head.times.left_line(desk.now());
        match self.turn(desk) {
            Turn::GiveWay => {
                self.head.state.hand_back();
                Some(self)
            }
            Turn::Parked(syncs) => {
                desk.stats.parked.add(1);
                self.port
                    .announce(&self, Event::parked(self.head.id, syncs), desk);
                None
            }
            Turn::Ended => {
                self.port.announce(&self, Event::end(self.head.id), desk);
                self.port.shared.release(&self.head, desk.stats);
                None
            }
        }
    }
}

impl<T: Task> TaskCell<T> {
    /// Steps, until the task rests.
    fn turn(&self, desk: &Desk<'_>) -> Turn {
        let started = desk.now();
        let mut body = self.body.lock();
        loop {
            let Body::Task(task) = &mut *body else {
                unreachable!("a task in line has its body")
            };
            let mut cx = Context::new(&self.head, desk.worker());
            let returned = contain(|| task.step(&mut cx));
            let now = desk.tick();
            desk.stats.steps.add(1);
            match returned {
                Ok(TaskReturn::Continue) => {}
                Ok(TaskReturn::Sync) => {
                    // The loop may have the body as soon as the state says so.
                    self.head.times.left_worker(now);
                    drop(body);
                    desk.set_busy(false);
                    if let Park::Parked(syncs) = self.head.state.park() {
                        return Turn::Parked(syncs);
                    }
                    desk.set_busy(true);
                    body = self.body.lock();
                }
                Ok(TaskReturn::TaskDone) => {
                    drop(body);
                    self.end(Phase::Finished, desk);
                    return Turn::Ended;
                }
                Ok(TaskReturn::Stopped) => {
                    drop(body);
                    self.end(Phase::Stopped, desk);
                    return Turn::Ended;
                }
                Err(payload) => {
                    let task = std::mem::replace(&mut *body, Body::Panicked(payload));
                    drop(body);
                    drop_quietly(task);
                    self.end(Phase::Panicked, desk);
                    return Turn::Ended;
                }
            }
            if desk.must_yield(started) {
                self.head.times.left_worker(now);
                return Turn::GiveWay;
            }
        }
    }

    /// Books the end before anybody can see it.
    fn end(&self, phase: Phase, desk: &Desk<'_>) {
        self.head.times.left_worker(desk.now());
        let mut reason = None;
        match phase {
            Phase::Finished => desk.stats.finished.add(1),
            Phase::Panicked => desk.stats.panicked.add(1),
            _ => {
                let why = self.head.state.load().stop().unwrap_or(StopReason::Returned);
                desk.stats.stopped[why.index()].add(1);
                reason = Some(why);
            }
        }
        desk.set_busy(false);
        self.head.state.end(phase, reason);
    }
}
