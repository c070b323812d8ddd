//! What the loop's calls must do: the reference pool as its service sees it.

use crate::reference::Reference;
use crate::script::{Plan, Script};
use crate::task::Task;
use moored::{Dequeued, Status, StopReason, Timeout};

/// What the loop does with a parked task that it has in its hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Resume,
    Stop,
    Leave,
}

/// What `task_status` shows: the status, why it stopped, and the task itself if it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    pub(crate) status: Status,
    pub(crate) why: Option<StopReason>,
    pub(crate) script: Option<Script>,
}

impl Reference {
    pub(crate) fn enqueue(&mut self, plan: &Plan) -> Result<usize, &'static str> {
        let queued = self
            .tasks
            .iter()
            .filter(|task| task.phase == Status::Queued)
            .count();
        let (counter, refused) = if self.finishing {
            (&mut self.tally.refused_finished, Err("Finished"))
        } else if self.tasks.len() >= self.rules.max_tasks {
            (&mut self.tally.too_many_tasks, Err("TooManyTasks"))
        } else if queued >= self.rules.max_queue_depth {
            (&mut self.tally.queue_full, Err("QueueFull"))
        } else {
            let (n, line) = (self.tally.accepted as usize, self.line_of(plan.conn));
            self.tasks.push(Task::new(n, plan, line, self.now));
            self.turns.enter(n, line);
            (&mut self.tally.accepted, Ok(n))
        };
        *counter += 1;
        refused
    }

    pub(crate) fn take_ready(&mut self) -> Vec<usize> {
        while let Some((at, n, why)) = self.next_due()
            && at <= self.now
        {
            self.cancel(n, StopReason::TimedOut(why));
        }
        self.rung = false;
        let mut ready = Vec::new();
        for (n, sync) in std::mem::take(&mut self.news) {
            let Some(task) = self.find(n) else { continue };
            let is_parked = task.phase == Status::Syncing && task.syncs == sync;
            if is_parked || sync == 0 {
                task.told = task.syncs;
                ready.push(n);
            }
        }
        ready
    }

    /// The next timeout: when, of which task, and which.
    pub(crate) fn next_due(&self) -> Option<(u64, usize, Timeout)> {
        let due = |task: &Task| task.due().map(|(at, why)| (at, task.number, why));
        self.tasks.iter().filter_map(due).min_by_key(|&(at, ..)| at)
    }

    pub(crate) fn task_status(&mut self, n: usize, reply: Reply) -> Option<Look> {
        let task = self.find(n)?;
        let status = task.status();
        task.plan.script.visits += usize::from(status == Status::Syncing);
        let is_there = matches!(status, Status::Syncing | Status::Finished | Status::Stopped);
        let look = Look {
            status,
            why: task.stop.filter(|_| status == Status::Stopped),
            script: is_there.then(|| task.plan.script.clone()),
        };
        match reply {
            _ if status.is_ended() => self.tasks.retain(|task| task.number != n),
            Reply::Resume if status == Status::Syncing => self.line_up(n),
            Reply::Stop if status == Status::Syncing => drop(self.cancel(n, StopReason::Dequeued)),
            _ => {}
        }
        Some(look)
    }

    /// As `task_status`, without a look: true if it was parked.
    pub(crate) fn task_sync(&mut self, n: usize, reply: Reply) -> bool {
        let is_parked = self.find(n).is_some_and(|task| task.phase == Status::Syncing);
        match reply {
            Reply::Resume if is_parked => self.line_up(n),
            _ if is_parked => drop(self.cancel(n, StopReason::Dequeued)),
            _ => {}
        }
        is_parked
    }

    pub(crate) fn dequeue(&mut self, n: usize) -> Dequeued {
        self.cancel(n, StopReason::Dequeued)
    }

    pub(crate) fn connection_closed(&mut self, conn: u64) -> usize {
        let tasks = self.tasks_of(conn);
        *self.closes.entry(conn).or_default() += 1;
        for &n in &tasks {
            let task = self.task(n);
            task.detached = true;
            match task.phase {
                Status::Syncing if task.plan.outlives => self.line_up(n),
                _ if task.plan.outlives => {}
                _ => drop(self.cancel(n, StopReason::ConnectionClosed)),
            }
        }
        tasks.len()
    }

    /// To the connection that it has already: nothing changes.
    pub(crate) fn reattach(&mut self, n: usize, conn: u64) -> bool {
        let to = self.line_of(conn);
        let Some(at) = self.tasks.iter().position(|task| task.number == n) else {
            return false;
        };
        let from = self.tasks[at].line;
        if from != to {
            let mut task = self.tasks.remove(at);
            (task.line, task.detached) = (to, false);
            self.tasks.push(task);
            self.turns.transfer(n, from, to);
        }
        true
    }

    /// The tasks of an open connection, oldest first.
    pub(crate) fn tasks_of(&self, conn: u64) -> Vec<usize> {
        let line = self.line_of(conn);
        let mine = self.tasks.iter().filter(|task| task.line == line);
        mine.map(|task| task.number).collect()
    }

    pub(crate) fn finish(&mut self) {
        if std::mem::replace(&mut self.finishing, true) {
            return;
        }
        let tasks: Vec<_> = self.tasks.iter().map(|task| task.number).collect();
        for n in tasks {
            self.cancel(n, StopReason::PoolFinished);
        }
        // The loop is told even if it has no tasks.
        self.ring();
    }
}
