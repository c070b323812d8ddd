//! What a pool must do, in few words: one thread, no locks, tasks by number. What its loop may ask is in `service.rs`.

use crate::books::{Rules, Tally};
use crate::script::{Act, Seen, TICK};
use crate::task::Task;
use crate::turns::{Line, Turns};
use moored::{Dequeued, Status, StopReason};
use std::collections::HashMap;

#[derive(Clone, Default, Debug)]
pub(crate) struct Reference {
    pub(crate) rules: Rules,
    pub(crate) tally: Tally,
    pub(crate) now: u64,
    pub(crate) finishing: bool,
    /// What the steps of the last `run` were told.
    pub(crate) log: Vec<Seen>,
    /// Those that are not reaped, in the order in which they came to their connections.
    pub(crate) tasks: Vec<Task>,
    pub(crate) turns: Turns,
    pub(crate) closes: HashMap<u64, u32>,
    /// To be announced: a task, and which `Sync` of it (0: its end).
    pub(crate) news: Vec<(usize, u32)>,
    /// Whether the loop was woken and has not looked since.
    pub(crate) rung: bool,
}

impl Reference {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            turns: Turns::new(rules.max_running_per_connection),
            rules,
            ..Self::default()
        }
    }

    pub(crate) fn look_up(&self, n: usize) -> Option<&Task> {
        self.tasks.iter().find(|task| task.number == n)
    }

    pub(crate) fn find(&mut self, n: usize) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.number == n)
    }

    pub(crate) fn task(&mut self, n: usize) -> &mut Task {
        self.find(n).expect("a task that is not reaped")
    }

    /// The connection that has this number now.
    pub(crate) fn line_of(&self, conn: u64) -> Line {
        (conn, self.closes.get(&conn).copied().unwrap_or(0))
    }

    /// Gives turns until `budget` ticks are used up, at least one; how many. A step is not interrupted.
    pub(crate) fn run(&mut self, budget: u64) -> usize {
        let (until, mut turns) = (self.now + budget * TICK, 0);
        self.log.clear();
        while let Some(n) = self.turns.take() {
            self.turn(n, until);
            turns += 1;
            if self.now >= until {
                break;
            }
        }
        turns
    }

    fn turn(&mut self, n: usize, until: u64) {
        let slice_ends = self.now + self.rules.time_slice * TICK;
        loop {
            self.now += TICK;
            self.tally.steps += 1;
            let task = self.task(n);
            task.phase = Status::Running;
            let (seen, act) = task.step();
            self.log.push(seen);
            let gives_way = self.now >= slice_ends && !self.turns.is_empty() || self.now >= until;
            match act {
                Act::Continue | Act::Outlive if gives_way => return self.line_up(n),
                Act::Continue | Act::Outlive => {}
                Act::Sync => return self.park(n),
                Act::Done => return self.end(n, Status::Finished),
                Act::Stop => return self.end(n, Status::Stopped),
                Act::Panic => return self.end(n, Status::Panicked),
            }
        }
    }

    pub(crate) fn line_up(&mut self, n: usize) {
        let task = self.task(n);
        task.phase = Status::Running;
        let line = task.line;
        self.turns.enter(n, line);
    }

    fn park(&mut self, n: usize) {
        let now = self.now;
        let task = self.task(n);
        (task.phase, task.parked_at, task.syncs) = (Status::Syncing, now, task.syncs + 1);
        let sync = task.syncs;
        self.tally.syncs += 1;
        self.announce(n, sync);
    }

    fn end(&mut self, n: usize, phase: Status) {
        let task = self.task(n);
        task.phase = phase;
        let line = task.line;
        let why = *task.stop.get_or_insert(StopReason::Returned);
        *match phase {
            Status::Finished => &mut self.tally.finished,
            Status::Panicked => &mut self.tally.panicked,
            _ => self.tally.stopped.entry(why).or_default(),
        } += 1;
        self.turns.leave(n, line);
        self.announce(n, 0);
    }

    fn announce(&mut self, n: usize, sync: u32) {
        self.news.push((n, sync));
        self.ring();
    }

    /// Wakes the loop, unless that was done since it last looked.
    pub(crate) fn ring(&mut self) {
        self.tally.wakes += u64::from(!self.rung);
        self.rung = true;
    }

    /// Asks it to stop: at once if it has not started, else at its next step.
    pub(crate) fn cancel(&mut self, n: usize, why: StopReason) -> Dequeued {
        let Some(task) = self.find(n) else {
            return Dequeued::Unknown;
        };
        if task.phase.is_ended() {
            return Dequeued::AlreadyDone;
        }
        task.stop.get_or_insert(why);
        match task.phase {
            Status::Queued => {
                self.end(n, Status::Stopped);
                return Dequeued::Removed;
            }
            Status::Syncing => self.line_up(n),
            _ => {}
        }
        Dequeued::Stopping
    }
}
