//! Whose turn it is in the reference pool, and what happens in a turn.

use crate::reference::Reference;
use crate::script::{Act, Seen, TICK};
use crate::task::{Line, Task};
use moored::Status::{Finished, Panicked, Queued, Running, Stopped, Stopping, Syncing};
use moored::StopReason;

impl Reference {
    /// Gives turns until `budget` ticks are used up, at least one; how many. A step is not interrupted.
    pub(crate) fn run(&mut self, budget: u64) -> usize {
        let (until, mut turns) = (self.now + budget * TICK, 0);
        while !self.round.is_empty() && (turns == 0 || self.now < until) {
            let line = self.round.remove(0);
            let n = self.next_of(line).expect("it has something to run");
            self.waiting.retain(|&other| other != n);
            self.time_out(n);
            let task = &mut self.tasks[n];
            if task.status == Queued && task.stop.is_some() {
                self.put(n, Stopped);
            } else {
                task.status = task.stop.map_or(Running, |_| Stopping);
                self.end_call();
                self.turn(n, until);
            }
            self.end_call();
            turns += 1;
        }
        turns
    }

    /// What a worker sees without the loop: the task's deadline, and its queue timeout.
    fn time_out(&mut self, n: usize) {
        let dues = self.tasks[n].dues(n, false).min_by_key(|&(at, _)| at);
        if let Some((_, why)) = dues.filter(|&(at, _)| at <= self.now) {
            let task = &mut self.tasks[n];
            task.stop.get_or_insert(StopReason::TimedOut(why));
            if task.status == Running {
                task.status = Stopping;
            }
        }
    }

    fn turn(&mut self, n: usize, until: u64) {
        let slice_ends = self.now + self.rules.time_slice * TICK;
        loop {
            let conn = self.connection_of(n);
            self.time_out(n);
            self.log.push(Seen(n, self.tasks[n].stop, conn));
            self.now += TICK;
            self.time_out(n);
            let task = &mut self.tasks[n];
            let gives_way = self.now >= slice_ends && !self.round.is_empty() || self.now >= until;
            let act = task.plan.script.next(task.stop.is_some());
            task.plan.outlives |= act == Act::Outlive;
            let status = match act {
                Act::Done => Finished,
                Act::Stop => Stopped,
                Act::Panic => Panicked,
                // Only if somebody will answer it.
                Act::Sync if task.stop.is_none() && conn.is_some() => Syncing,
                _ if gives_way => task.status,
                _ => continue,
            };
            return self.put(n, status);
        }
    }

    /// Within a connection those that have started go first. A connection is in the round if and only if it has something
    /// to run; it joins at the back.
    pub(crate) fn end_call(&mut self) {
        let mut round = std::mem::take(&mut self.round);
        round.retain(|&line| self.next_of(line).is_some());
        self.waiting.append(&mut self.entering);
        self.waiting.sort_by_key(|&n| self.tasks[n].status == Queued);
        for &n in &self.waiting {
            let line = self.tasks[n].line;
            if self.next_of(line) == Some(n) && !round.contains(&line) {
                round.push(line);
            }
        }
        self.round = round;
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
