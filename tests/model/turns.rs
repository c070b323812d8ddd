//! The order of turns in the reference pool, and the effects of a turn.

use crate::reference::Reference;
use crate::script::{Act, Seen, TICK};
use crate::task::{Line, Task};
use moored::Status::{Finished, Panicked, Queued, Running, Stopped, Stopping, Syncing};
use moored::StopReason;

impl Reference {
    /// Gives turns until `budget` ticks are over, at least one. Returns the number of turns. A step
    /// is not interrupted.
    pub(crate) fn run(&mut self, budget: u64) -> usize {
        let (until, mut turns) = (self.now + budget * TICK, 0);
        while !self.lanes.is_empty() && (turns == 0 || self.now < until) {
            let line = self.lanes.begin_turn();
            let n = self.next_of(line).expect("the connection has something to run");
            self.waiting.retain(|&other| other != n);
            self.recount(line);
            self.time_out(n);
            let has_expired = self.tasks[n].status == Queued && self.tasks[n].stop.is_some();
            // The task counts as started in either case.
            self.tasks[n].status = self.tasks[n].stop.map_or(Running, |_| Stopping);
            if self.next_of(line).is_some() {
                self.lanes.relist(line);
            }
            self.note_room();
            if has_expired {
                self.lanes.cancel(line);
                self.put(n, Stopped);
            } else {
                self.turn(n, until);
            }
            self.end_call();
            turns += 1;
        }
        if self.lanes.is_empty() {
            self.lanes.forgive();
        }
        turns
    }

    /// The limits that a worker checks without the loop: the task's deadline, and its queue
    /// timeout.
    fn time_out(&mut self, n: usize) {
        let dues = self.tasks[n].dues(n).min_by_key(|&(at, _)| at);
        if let Some((_, why)) = dues.filter(|&(at, _)| at <= self.now) {
            let task = &mut self.tasks[n];
            task.stop.get_or_insert(StopReason::TimedOut(why));
            if task.status == Running {
                task.status = Stopping;
            }
        }
    }

    fn turn(&mut self, n: usize, until: u64) {
        let (begun, line) = (self.now, self.tasks[n].line);
        let slice_ends = begun + self.rules.time_slice * TICK;
        loop {
            let conn = self.connection_of(n);
            self.time_out(n);
            self.log.push(Seen(n, self.tasks[n].stop, conn));
            let was_told = self.tasks[n].stop.is_some();
            self.now += TICK;
            self.time_out(n);
            let task = &mut self.tasks[n];
            let gives_way = self.now >= slice_ends && !self.lanes.is_empty() || self.now >= until;
            let act = task.plan.script.next(task.stop.is_some());
            task.plan.outlives |= act == Act::Outlive;
            let status = match act {
                Act::Done => Finished,
                Act::Stop => Stopped,
                Act::Panic => Panicked,
                Act::Sync if was_told => Stopped,
                // The task parks only if a loop will answer.
                Act::Sync if task.stop.is_none() && (conn.is_some() || task.plan.stays_parked) => Syncing,
                _ if gives_way => task.status,
                _ => continue,
            };
            self.lanes.charge(line, self.now - begun);
            return self.put(n, status);
        }
    }

    /// Within a connection the order is first in, first out. It does not matter whether a task has
    /// started. A connection is in the lanes if and only if it has something to run.
    pub(crate) fn end_call(&mut self) {
        for n in std::mem::take(&mut self.entering) {
            let line = self.tasks[n].line;
            if !self.waits(line) {
                self.lanes.submit(line);
            }
            self.waiting.push(n);
            self.recount(line);
            self.settle(line);
        }
        let lines: Vec<Line> = self.tasks.iter().map(|task| task.line).collect();
        for line in lines {
            let may_run = self.next_of(line).is_some();
            self.lanes.settle(line, may_run);
        }
    }

    /// Whether a connection has a task in the queue.
    pub(crate) fn waits(&self, line: Line) -> bool {
        self.waiting.iter().any(|&n| self.tasks[n].line == line)
    }

    /// Counts the tasks of a connection that wait and have not started.
    pub(crate) fn recount(&mut self, line: Line) {
        let is_queued = |&&n: &&usize| self.tasks[n].line == line && self.tasks[n].status == Queued;
        let count = self.waiting.iter().filter(is_queued).count();
        self.sizes.set(line, self.lanes.group_of(line), count);
    }

    pub(crate) fn settle(&mut self, line: Line) {
        let may_run = self.next_of(line).is_some();
        self.lanes.settle(line, may_run);
        if !may_run && self.waits(line) {
            self.lanes.block(line);
        }
    }

    fn next_of(&self, line: Line) -> Option<usize> {
        let has_started = |task: &Task| matches!(task.status, Running | Stopping | Syncing);
        let mine = self.tasks.iter().filter(|task| task.line == line);
        let started = mine.filter(|task| has_started(task)).count();
        let may_start = self.rules.max_running.is_none_or(|limit| started < limit);
        let may_run = |task: &Task| task.line == line && (may_start || has_started(task));
        let mut waiting = self.waiting.iter().copied();
        waiting.find(|&n| may_run(&self.tasks[n]))
    }
}
