//! What a pool must do: one thread, no locks, tasks by number, vectors that are searched from the
//! front.

use crate::script::{Plan, Reply, Rules, Seen};
use crate::task::{Line, Task};
use moored::Status::{self, Finished, Panicked, Queued, Running, Stopped, Stopping, Syncing};
use moored::{Dequeued, StopReason, Timeout};

#[derive(Clone, Default, Debug)]
pub(crate) struct Reference {
    pub(crate) rules: Rules,
    pub(crate) now: u64,
    pub(crate) draining: bool,
    pub(crate) finishing: bool,
    /// All that were ever accepted, by number.
    pub(crate) tasks: Vec<Task>,
    /// Those that are not reaped, in the order in which they came to their connections.
    pub(crate) alive: Vec<usize>,
    /// In line when the present call has ended: who leaves by that call goes first.
    pub(crate) entering: Vec<usize>,
    /// In line for a turn, in the order in which they came.
    pub(crate) waiting: Vec<usize>,
    /// The connections that have something to run, the next one first.
    pub(crate) round: Vec<Line>,
    /// The connections that were closed, once for each time.
    pub(crate) closed: Vec<u64>,
    /// Those that have parked or ended, to be announced.
    pub(crate) news: Vec<usize>,
    /// Whether the loop was woken and has not looked since.
    pub(crate) is_notified: bool,
    pub(crate) wakes: u64,
    pub(crate) syncs: u64,
    /// What each step was told.
    pub(crate) log: Vec<Seen>,
}

impl Reference {
    pub(crate) fn find(&self, n: usize) -> Option<&Task> {
        self.alive.contains(&n).then(|| &self.tasks[n])
    }

    fn line_of(&self, conn: u64) -> Line {
        (conn, self.closed.iter().filter(|&&other| other == conn).count())
    }

    pub(crate) fn connection_of(&self, n: usize) -> Option<u64> {
        let line = self.tasks[n].line;
        (line == self.line_of(line.0)).then_some(line.0)
    }

    pub(crate) fn tasks_of(&self, conn: u64) -> Vec<usize> {
        let all = self.alive.iter().copied();
        all.filter(|&n| self.connection_of(n) == Some(conn)).collect()
    }

    pub(crate) fn enqueue(&mut self, plan: &Plan) -> Result<usize, &'static str> {
        let queued = self.tasks.iter().filter(|task| task.status == Queued).count();
        if self.finishing || self.draining {
            return Err("ShuttingDown");
        } else if self.alive.len() >= self.rules.max_tasks {
            return Err("TooManyTasks");
        } else if queued >= self.rules.max_queue_depth {
            return Err("QueueFull");
        }
        let n = self.tasks.len();
        let task = Task::new(plan, self.line_of(plan.conn), self.now);
        self.tasks.push(task);
        self.alive.push(n);
        self.entering.push(n);
        Ok(n)
    }

    pub(crate) fn take_ready(&mut self) -> Vec<usize> {
        while let Some((_, n, why)) = self.next_due().filter(|&(at, ..)| at <= self.now) {
            self.cancel(n, StopReason::TimedOut(why));
        }
        self.is_notified = false;
        for &n in &self.news {
            self.tasks[n].announced_at = self.now;
        }
        std::mem::take(&mut self.news)
    }

    /// The next timeout: when, of which task, and which.
    pub(crate) fn next_due(&self) -> Option<(u64, usize, Timeout)> {
        let dues = self.alive.iter().flat_map(|&n| {
            let dues = self.tasks[n].dues(n, !self.news.contains(&n));
            dues.map(move |(at, why)| (at, n, why))
        });
        dues.min_by_key(|&(at, ..)| at)
    }

    /// The task as it is shown. One that has ended is reaped.
    pub(crate) fn task_status(&mut self, n: usize, reply: Reply) -> Option<Task> {
        let status = self.find(n)?.status;
        self.tasks[n].plan.script.visits += usize::from(status == Syncing);
        let shown = self.tasks[n].clone();
        if status.is_ended() {
            self.alive.retain(|&other| other != n);
            self.news.retain(|&other| other != n);
        }
        self.task_sync(n, reply);
        Some(shown)
    }

    /// Whether it was parked.
    pub(crate) fn task_sync(&mut self, n: usize, reply: Reply) -> bool {
        let is_parked = self.find(n).is_some_and(|task| task.status == Syncing);
        match reply {
            Reply::Resume if is_parked => self.put(n, Running),
            Reply::Stop if is_parked => drop(self.cancel(n, StopReason::Dequeued)),
            _ => {}
        }
        is_parked
    }

    /// Asks it to stop, for the first reason given: at once if it has not started, else at its next
    /// step.
    pub(crate) fn cancel(&mut self, n: usize, why: StopReason) -> Dequeued {
        let status = self.find(n).map(|task| task.status);
        self.tasks[n].stop.get_or_insert(why);
        match status {
            None => return Dequeued::Unknown,
            Some(Finished | Stopped | Panicked) => return Dequeued::AlreadyDone,
            Some(Running | Stopping) => self.tasks[n].status = Stopping,
            Some(Syncing) => self.put(n, Stopping),
            Some(Queued) => {
                self.put(n, Stopped);
                return Dequeued::Removed;
            }
            Some(other) => unreachable!("the reference knows no status {other}"),
        }
        Dequeued::Stopping
    }

    pub(crate) fn connection_closed(&mut self, conn: u64) -> usize {
        let tasks = self.tasks_of(conn);
        self.closed.push(conn);
        for &n in &tasks {
            if self.tasks[n].plan.outlives {
                self.task_sync(n, Reply::Resume);
            } else {
                self.cancel(n, StopReason::ConnectionClosed);
            }
        }
        tasks.len()
    }

    /// It comes last in its new connection. To the one that it has already: nothing changes.
    pub(crate) fn reattach(&mut self, n: usize, conn: u64) -> bool {
        let (is_there, line) = (self.alive.contains(&n), self.line_of(conn));
        if is_there && self.tasks[n].line != line {
            self.tasks[n].line = line;
            for list in [&mut self.alive, &mut self.waiting] {
                list.sort_by_key(|&other| other == n);
            }
        }
        is_there
    }

    pub(crate) fn finish(&mut self) {
        for n in self.alive.clone() {
            self.cancel(n, StopReason::PoolShutdown);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.notify(); // even if the loop has no tasks
        }
    }

    /// Into line, or into the news.
    pub(crate) fn put(&mut self, n: usize, status: Status) {
        for list in [&mut self.entering, &mut self.waiting, &mut self.news] {
            list.retain(|&other| other != n);
        }
        self.tasks[n].status = status;
        match status {
            Running | Stopping => return self.entering.push(n),
            Syncing => self.syncs += 1,
            _ => _ = self.tasks[n].stop.get_or_insert(StopReason::Returned),
        }
        self.news.push(n);
        self.notify();
    }

    /// The loop is about to block: it is woken again if there was nothing to look at.
    pub(crate) fn poll(&mut self) {
        self.is_notified &= !self.news.is_empty() || !self.round.is_empty();
    }

    /// Wakes the loop, unless that was done since it last looked.
    fn notify(&mut self) {
        self.wakes += u64::from(!self.is_notified);
        self.is_notified = true;
    }
}
