//! Running one task: from its place in line to its next rest.

use crate::cell::{Body, HasHead};
use crate::desk::Desk;
use crate::job::Job;
use crate::port::{Port, TaskCell};
use crate::state::Phase;
use crate::status::StopReason;
use crate::task::{Context, Task, TaskReturn};
use crate::unwind::{contain, drop_quietly};

/// How a turn on a worker ended.
enum Turn {
    /// The task wants to go on, others may be first.
    GiveWay,
    /// It wants to park.
    Park,
    Ended(Phase),
}

impl<T: Task> Job for TaskCell<T> {
    fn run(mut self: Box<Self>, desk: &Desk<'_>) -> Option<Box<dyn Job>> {
        let port = desk.hold(&self.port);
        let state = &self.head().state;
        if state.phase() == Phase::Queued {
            if let Some(reason) = state.asked().stop() {
                // Cancelled after a worker had taken it out of the line.
                self.tell_end(&port, desk, |cell| cell.end_unrun(reason, desk));
                return None;
            }
            desk.stats.started.add(1);
        }
        let started = desk.now();
        self.head().times.left_line(started);
        loop {
            desk.set_busy(true);
            self.head().state.start(desk.number());
            match self.turn(started, desk) {
                Turn::GiveWay => {
                    self.head().times.left_worker(desk.now());
                    self.head().state.set_phase(Phase::Ready);
                    return Some(self);
                }
                // If it does not park after all, it goes on.
                Turn::Park => self = self.park(&port, desk)?,
                Turn::Ended(phase) => {
                    self.tell_end(&port, desk, |cell| cell.end(phase, desk));
                    return None;
                }
            }
        }
    }
}

impl<T: Task> TaskCell<T> {
    /// Steps, until the task rests.
    fn turn(&mut self, started: u64, desk: &Desk<'_>) -> Turn {
        loop {
            let id = self.id();
            let (chunk, Body::Task(task)) = self.split() else {
                unreachable!("a task in line has its body")
            };
            let mut cx = Context::new(chunk, id, desk.worker());
            let returned = contain(|| task.step(&mut cx));
            desk.tick();
            desk.stats.steps.add(1);
            match returned {
                Ok(TaskReturn::Sync) if !self.head().state.asked().must_go_on() => return Turn::Park,
                // Nobody would answer a `Sync`.
                Ok(TaskReturn::Continue | TaskReturn::Sync) => {}
                Ok(TaskReturn::TaskDone) => return Turn::Ended(Phase::Finished),
                Ok(TaskReturn::Stopped) => return Turn::Ended(Phase::Stopped),
                Err(payload) => {
                    drop_quietly(std::mem::replace(&mut self.body, Body::Panicked(payload)));
                    return Turn::Ended(Phase::Panicked);
                }
            }
            desk.pay_old_debts();
            if desk.must_yield(started) {
                return Turn::GiveWay;
            }
        }
    }

    /// Gives the task to its loop, unless it has been asked something meanwhile: then it comes back.
    fn park(self: Box<Self>, port: &Port<T>, desk: &Desk<'_>) -> Option<Box<Self>> {
        self.head().times.left_worker(desk.now());
        desk.set_busy(false);
        let lane = desk.lane(self.head());
        let parks = |cell: &Self| {
            let state = &cell.head().state;
            let parks = !state.asked().must_go_on();
            if parks {
                desk.stats.parked.add(1);
                state.park();
            }
            parks
        };
        if let Err(cell) = port.inbox.add_if(lane, self, parks) {
            return Some(cell);
        }
        desk.ring(&port.inbox.bell);
        None
    }

    /// It ends. Booked before anybody can see it.
    fn end(&self, phase: Phase, desk: &Desk<'_>) {
        self.head().times.left_worker(desk.now());
        desk.set_busy(false);
        let mut reason = None;
        match phase {
            Phase::Finished => desk.stats.finished.add(1),
            Phase::Panicked => desk.stats.panicked.add(1),
            _ => {
                let why = self.head().state.asked().stop().unwrap_or(StopReason::Returned);
                desk.stats.stopped[why.index()].add(1);
                reason = Some(why);
            }
        }
        self.head().state.end(phase, reason);
    }

    /// Gives a task to its loop that `end` ends; if that is gone, it is dropped here.
    fn tell_end(self: Box<Self>, port: &Port<T>, desk: &Desk<'_>, end: impl FnOnce(&Self)) {
        // Under the lane's lock, so that who sees that it has ended, or that it was counted, finds it.
        let ends = |cell: &Self| {
            end(cell);
            true
        };
        let told = if desk.limited {
            // Together, so that the connection's next task cannot be told of first.
            let (told, waiting) = port.shared.with_queue(|queue| {
                queue.release(self.line(), self.head());
                let lane = desk.lane(self.head());
                (port.inbox.add_if(lane, self, ends), queue.waiting())
            });
            port.shared.wake_worker(waiting, desk.stats);
            told
        } else {
            port.inbox.add_if(desk.lane(self.head()), self, ends)
        };
        match told {
            Ok(()) => desk.ring(&port.inbox.bell),
            Err(cell) => port.discard(cell, desk),
        }
    }
}
