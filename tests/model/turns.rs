//! Whose turn it is: first come first served within a connection, one after the other between connections.

/// A connection until its close: the same number used again is another one.
pub(crate) type Line = (u64, u32);

#[derive(Clone, Debug)]
struct Entry {
    task: usize,
    line: Line,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Turns {
    /// How many tasks of one connection may have started and not ended.
    pub(crate) limit: Option<usize>,
    /// In line when the present call has ended: who leaves by that call goes first.
    entering: Vec<Entry>,
    /// In line for a turn, in the order in which they came.
    waiting: Vec<Entry>,
    /// Had a turn, and have not ended.
    started: Vec<Entry>,
    /// The connections that have something to run, the next one first.
    round: Vec<Line>,
}

impl Turns {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty() && self.entering.is_empty()
    }

    pub(crate) fn enter(&mut self, task: usize, line: Line) {
        self.entering.push(Entry { task, line });
    }

    pub(crate) fn end_call(&mut self) {
        for entry in std::mem::take(&mut self.entering) {
            let line = entry.line;
            self.waiting.push(entry);
            self.settle(line);
        }
    }

    /// The next connection's next task.
    pub(crate) fn take(&mut self) -> Option<usize> {
        self.end_call();
        let line = *self.round.first()?;
        self.round.remove(0);
        let entry = self.waiting.remove(self.next_of(line)?);
        let task = entry.task;
        if !self.has_started(task) {
            self.started.push(entry);
        }
        self.settle(line);
        Some(task)
    }

    /// It has ended.
    pub(crate) fn leave(&mut self, task: usize, line: Line) {
        self.entering.retain(|entry| entry.task != task);
        self.waiting.retain(|entry| entry.task != task);
        self.started.retain(|entry| entry.task != task);
        self.settle(line);
    }

    /// It belongs to another connection, and comes last there.
    pub(crate) fn transfer(&mut self, task: usize, from: Line, to: Line) {
        self.end_call();
        for entries in [&mut self.waiting, &mut self.started] {
            if let Some(at) = entries.iter().position(|entry| entry.task == task) {
                entries.remove(at);
                entries.push(Entry { task, line: to });
            }
        }
        self.settle(to);
        self.settle(from);
    }

    fn has_started(&self, task: usize) -> bool {
        self.started.iter().any(|entry| entry.task == task)
    }

    /// Within a connection those that have started go first.
    fn next_of(&self, line: Line) -> Option<usize> {
        let running = self.started.iter().filter(|entry| entry.line == line).count();
        let may_start = self.limit.is_none_or(|limit| running < limit);
        let next = |started: bool| {
            let of_line = |entry: &Entry| entry.line == line && self.has_started(entry.task) == started;
            self.waiting.iter().position(of_line)
        };
        next(true).or_else(|| next(false).filter(|_| may_start))
    }

    /// A connection is in the round if and only if it has something to run. It joins at the back.
    fn settle(&mut self, line: Line) {
        let place = self.round.iter().position(|&other| other == line);
        match (self.next_of(line), place) {
            (Some(_), None) => self.round.push(line),
            (None, Some(place)) => drop(self.round.remove(place)),
            _ => {}
        }
    }
}
