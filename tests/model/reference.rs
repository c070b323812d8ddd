//! What a pool must do: one thread, no locks, tasks by number, vectors that are searched from the front.

use crate::script::{Act, Plan, Reply, Rules, Seen, TICK, nanos};
use moored::Status::{self, Finished, Panicked, Queued, Running, Stopped, Stopping, Syncing};
use moored::{Dequeued, StopReason, Timeout};

/// A connection until its close: the same number used again is another one.
pub(crate) type Line = (u64, usize);

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) line: Line,
    /// `Running` and `Stopping` from the first turn on, whether on its turn or in line.
    pub(crate) status: Status,
    pub(crate) stop: Option<StopReason>,
    accepted_at: u64,
    parked_at: u64,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Reference {
    pub(crate) rules: Rules,
    pub(crate) now: u64,
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
    pub(crate) rung: bool,
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
        if self.finishing {
            return Err("Finished");
        } else if self.alive.len() >= self.rules.max_tasks {
            return Err("TooManyTasks");
        } else if queued >= self.rules.max_queue_depth {
            return Err("QueueFull");
        }
        let n = self.tasks.len();
        self.tasks.push(Task {
            plan: plan.clone(),
            line: self.line_of(plan.conn),
            status: Queued,
            stop: None,
            accepted_at: self.now,
            parked_at: 0,
        });
        self.alive.push(n);
        self.entering.push(n);
        Ok(n)
    }

    pub(crate) fn take_ready(&mut self) -> Vec<usize> {
        while let Some((_, n, why)) = self.next_due().filter(|&(at, ..)| at <= self.now) {
            self.cancel(n, StopReason::TimedOut(why));
        }
        self.rung = false;
        std::mem::take(&mut self.news)
    }

    /// The next timeout: when, of which task, and which. A park that was not announced cannot time out.
    pub(crate) fn next_due(&self) -> Option<(u64, usize, Timeout)> {
        let mut dues = Vec::new();
        for &n in &self.alive {
            let task = &self.tasks[n];
            for &(why, ticks) in &task.plan.timeouts {
                let since = match (why, task.status) {
                    (Timeout::Queue, Queued) | (Timeout::Deadline, Queued | Running | Syncing) => {
                        task.accepted_at
                    }
                    (Timeout::Sync, Syncing) if !self.news.contains(&n) => task.parked_at,
                    _ => continue,
                };
                dues.push((since + nanos(ticks, n), n, why));
            }
        }
        dues.into_iter().min_by_key(|&(at, ..)| at)
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

    /// Asks it to stop, for the first reason given: at once if it has not started, else at its next step.
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
            self.cancel(n, StopReason::PoolFinished);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.ring(); // even if the loop has no tasks
        }
    }

    /// Gives turns until `budget` ticks are used up, at least one; how many. A step is not interrupted.
    pub(crate) fn run(&mut self, budget: u64) -> usize {
        let (until, mut turns) = (self.now + budget * TICK, 0);
        while !self.round.is_empty() && (turns == 0 || self.now < until) {
            let line = self.round.remove(0);
            let n = self.next_of(line).expect("it has something to run");
            self.waiting.retain(|&other| other != n);
            let task = &mut self.tasks[n];
            task.status = task.stop.map_or(Running, |_| Stopping);
            self.end_call();
            self.turn(n, until);
            self.end_call();
            turns += 1;
        }
        turns
    }

    fn turn(&mut self, n: usize, until: u64) {
        let slice_ends = self.now + self.rules.time_slice * TICK;
        loop {
            self.now += TICK;
            let conn = self.connection_of(n);
            let task = &mut self.tasks[n];
            self.log.push(Seen(n, task.stop, conn));
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

    /// Into line, or into the news.
    fn put(&mut self, n: usize, status: Status) {
        for list in [&mut self.entering, &mut self.waiting, &mut self.news] {
            list.retain(|&other| other != n);
        }
        self.tasks[n].status = status;
        match status {
            Running | Stopping => return self.entering.push(n),
            Syncing => (self.tasks[n].parked_at, self.syncs) = (self.now, self.syncs + 1),
            _ => _ = self.tasks[n].stop.get_or_insert(StopReason::Returned),
        }
        self.news.push(n);
        self.ring();
    }

    /// Wakes the loop, unless that was done since it last looked.
    fn ring(&mut self) {
        self.wakes += u64::from(!self.rung);
        self.rung = true;
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
