//! A reference implementation of the pool: one thread, no locks, tasks by number, and vectors that
//! are searched from the front.

use crate::lanes::Lanes;
use crate::script::{Plan, Reply, Rules, Seen};
use crate::sizes::Sizes;
use crate::task::{Line, Task};
use moored::Status::{self, Finished, Panicked, Queued, Running, Stopped, Stopping, Syncing};
use moored::{Dequeued, Overload, StopReason, Timeout};

/// The knowledge of a refused loop about the room.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Room {
    /// The loop was not refused, or has looked after room was made.
    #[default]
    NotWanted,
    Wanted,
    /// Room was made after the loop was refused.
    Made,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Reference {
    pub(crate) rules: Rules,
    pub(crate) now: u64,
    pub(crate) draining: bool,
    pub(crate) finishing: bool,
    /// All tasks that were ever accepted, by number.
    pub(crate) tasks: Vec<Task>,
    /// The tasks that were not reaped, in the order in which they were added to their connections.
    pub(crate) alive: Vec<usize>,
    /// The tasks that enter the queue at the end of the current call.
    pub(crate) entering: Vec<usize>,
    /// The tasks that wait for a turn, in order.
    pub(crate) waiting: Vec<usize>,
    /// The connections that have something to run.
    pub(crate) lanes: Lanes,
    pub(crate) sizes: Sizes,
    /// The closed connections, with an entry for each close.
    pub(crate) closed: Vec<u64>,
    /// The tasks that have parked or ended and were not announced.
    pub(crate) news: Vec<usize>,
    /// Whether the loop was woken after its last look.
    pub(crate) is_notified: bool,
    pub(crate) wakes: u64,
    pub(crate) room: Room,
    pub(crate) syncs: u64,
    /// The context of each step.
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
        if self.finishing || self.draining {
            return Err("ShuttingDown");
        }
        let line = self.line_of(plan.conn);
        let queued = |task: &&Task| task.line == line && task.status == Queued;
        let queued = self.tasks.iter().filter(queued).count();
        if self.rules.max_queued.is_some_and(|limit| queued >= limit) {
            return Err("ConnectionFull");
        }
        if self.refusal() == Some("QueueFull") && self.rules.overload == Overload::ShedFattest {
            self.shed(line);
        }
        self.refusal().map_or(Ok(()), |why| {
            self.room = Room::Wanted;
            Err(why)
        })?;
        let n = self.tasks.len();
        let task = Task::new(plan, line, self.now);
        self.tasks.push(task);
        self.alive.push(n);
        self.entering.push(n);
        Ok(n)
    }

    /// Ends the newest task that has not started of the connection with the most of them, if it has
    /// at least two more than this one. A group counts as one connection.
    fn shed(&mut self, line: Line) {
        let Some(fattest) = self.sizes.fattest(line, self.lanes.group_of(line)) else {
            return;
        };
        let is_queued = |&n: &usize| self.tasks[n].line == fattest && self.tasks[n].status == Queued;
        let newest = self.waiting.iter().copied().rfind(is_queued);
        self.cancel(newest.expect("it has two tasks"), StopReason::Shed);
    }

    fn refusal(&self) -> Option<&'static str> {
        let queued = self.tasks.iter().filter(|task| task.status == Queued).count();
        if self.alive.len() >= self.rules.max_tasks {
            Some("TooManyTasks")
        } else if queued >= self.rules.max_queue_depth {
            Some("QueueFull")
        } else {
            None
        }
    }

    /// Called after a task has started, was cancelled or was reaped.
    pub(crate) fn note_room(&mut self) {
        if self.room == Room::Wanted && self.refusal().is_none() {
            self.room = Room::Made;
            self.notify();
        }
    }

    pub(crate) fn take_ready(&mut self) -> Vec<usize> {
        while let Some((_, n, why)) = self.next_due().filter(|&(at, ..)| at <= self.now) {
            self.cancel(n, StopReason::TimedOut(why));
        }
        self.is_notified = false;
        if self.room == Room::Made {
            self.room = Room::NotWanted;
        }
        let mut news = std::mem::take(&mut self.news);
        for &n in &news {
            self.tasks[n].announced_at = Some(self.now);
        }
        // A task that is parked without a connection waits for `reattach`.
        news.retain(|&n| self.tasks[n].status != Syncing || self.connection_of(n).is_some());
        news
    }

    /// The next timeout: its time, its task, and its kind.
    pub(crate) fn next_due(&self) -> Option<(u64, usize, Timeout)> {
        let dues = self.alive.iter().flat_map(|&n| {
            let dues = self.tasks[n].dues(n);
            dues.map(move |(at, why)| (at, n, why))
        });
        dues.min_by_key(|&(at, ..)| at)
    }

    /// The status of the task. An ended task is reaped.
    pub(crate) fn task_status(&mut self, n: usize, reply: Reply) -> Option<Task> {
        let status = self.find(n)?.status;
        self.tasks[n].plan.script.visits += usize::from(status == Syncing);
        let shown = self.tasks[n].clone();
        if status.is_ended() {
            self.alive.retain(|&other| other != n);
            self.news.retain(|&other| other != n);
            self.note_room();
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

    /// Asks the task to stop, unless it was asked before: a task that has not started ends at once,
    /// and a started task at its next step.
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
            let task = &mut self.tasks[n];
            if task.plan.stays_parked {
                task.announced_at = (task.status == Syncing).then_some(self.now);
            } else if task.plan.outlives {
                self.task_sync(n, Reply::Resume);
            } else {
                self.cancel(n, StopReason::ConnectionClosed);
            }
        }
        tasks.len()
    }

    /// Moves the task to the end of its new connection. If that is its connection already, nothing
    /// changes.
    pub(crate) fn reattach(&mut self, n: usize, conn: u64) -> bool {
        let (is_there, line) = (self.alive.contains(&n), self.line_of(conn));
        if is_there && self.tasks[n].line != line {
            if self.waiting.contains(&n) && !self.waits(line) {
                self.lanes.submit(line);
            }
            let waits_for_its_client = self.tasks[n].status == Syncing && self.connection_of(n).is_none();
            let from = std::mem::replace(&mut self.tasks[n].line, line);
            for list in [&mut self.alive, &mut self.waiting] {
                list.sort_by_key(|&other| other == n);
            }
            self.recount(from);
            self.recount(line);
            if waits_for_its_client {
                self.tasks[n].announced_at = None;
                if !self.news.contains(&n) {
                    self.news.push(n);
                }
                self.notify();
            }
            let has_started = matches!(self.tasks[n].status, Running | Stopping | Syncing);
            if self.waiting.contains(&n) || self.rules.max_running.is_some() && has_started {
                self.settle(line);
                self.settle(from);
            }
        }
        is_there
    }

    /// Tasks that wait move at once.
    pub(crate) fn set_group(&mut self, conn: u64, group: Option<u64>) {
        let line = self.line_of(conn);
        let before = self.lanes.group_of(line);
        if before != group {
            self.sizes.set(line, before, 0);
            self.lanes.set_group(line, group);
            self.settle(line);
            self.recount(line);
        }
    }

    pub(crate) fn finish(&mut self) {
        for n in self.alive.clone() {
            self.cancel(n, StopReason::PoolShutdown);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.notify(); // also if the loop has no tasks
        }
    }

    /// Adds the task to the queue, or to the unannounced tasks.
    pub(crate) fn put(&mut self, n: usize, status: Status) {
        let leaves_queue = self.waiting.contains(&n);
        for list in [&mut self.entering, &mut self.waiting, &mut self.news] {
            list.retain(|&other| other != n);
        }
        self.tasks[n].status = status;
        self.tasks[n].announced_at = None;
        if leaves_queue {
            self.recount(self.tasks[n].line);
        }
        if leaves_queue || status.is_ended() {
            self.settle(self.tasks[n].line);
        }
        match status {
            Running | Stopping => return self.entering.push(n),
            Syncing => self.syncs += 1,
            _ => _ = self.tasks[n].stop.get_or_insert(StopReason::Returned),
        }
        self.news.push(n);
        self.notify();
        self.note_room();
    }

    /// The loop is about to block. If there was nothing to look at, the next event wakes it again.
    pub(crate) fn poll(&mut self) {
        self.is_notified &= !self.news.is_empty() || !self.lanes.is_empty() || self.room == Room::Made;
    }

    /// Wakes the loop, unless it was woken after its last look.
    fn notify(&mut self) {
        self.wakes += u64::from(!self.is_notified);
        self.is_notified = true;
    }
}
