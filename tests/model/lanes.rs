//! The choice of the next connection in the reference pool. It has the rules of
//! `src/queue/fair.rs`, with vectors that are searched from the front.

use crate::task::Line;
use std::collections::HashMap;

const QUANTUM: u64 = 20_000;
const EXPRESS_RUN: u32 = 32;

#[derive(Clone, Default, Debug)]
struct Account {
    finish: u64,
    estimate: u64,
    /// The estimate that the current turn was charged.
    prepaid: u64,
    /// Whether the loop has submitted a task for it, or has seen the end of a turn.
    is_known: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    virtual_time: u64,
    finish_max: u64,
    estimate: u64,
    express: Vec<Line>,
    express_run: u32,
    ring: Vec<Line>,
    /// In the order in which they were listed, each with the tag that it had then.
    debt: Vec<(u64, Line)>,
    accounts: HashMap<Line, Account>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            virtual_time: QUANTUM,
            finish_max: 0,
            estimate: 0,
            express: Vec::new(),
            express_run: 0,
            ring: Vec::new(),
            debt: Vec::new(),
            accounts: HashMap::new(),
        }
    }
}

fn average(old: u64, new: u64) -> u64 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

impl Lanes {
    fn account(&mut self, line: Line) -> &mut Account {
        let new = Account {
            estimate: self.estimate,
            ..Account::default()
        };
        self.accounts.entry(line).or_insert(new)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.express.is_empty() && self.ring.is_empty() && self.debt.is_empty()
    }

    fn is_listed(&self, line: Line) -> bool {
        self.express.contains(&line)
            || self.ring.contains(&line)
            || self.debt.iter().any(|&(_, other)| other == line)
    }

    /// Records whether the connection has a task that may run.
    pub(crate) fn settle(&mut self, line: Line, may_run: bool) {
        self.account(line);
        if !may_run {
            self.express.retain(|&other| other != line);
            self.ring.retain(|&other| other != line);
            self.debt.retain(|&(_, other)| other != line);
        } else if !self.is_listed(line) {
            let virtual_time = self.virtual_time;
            let account = self.account(line);
            if account.finish < virtual_time {
                account.finish = virtual_time;
                self.express.push(line);
            } else {
                self.list(line);
            }
        }
    }

    /// Records that the connection has tasks, and that none of them may run.
    pub(crate) fn block(&mut self, line: Line) {
        let virtual_time = self.virtual_time;
        let account = self.account(line);
        account.finish = account.finish.max(virtual_time);
    }

    /// Records that the loop submits a task of a connection without other tasks in the queue.
    pub(crate) fn submit(&mut self, line: Line) {
        let estimate = self.estimate;
        let account = self.account(line);
        if !account.is_known {
            (account.finish, account.estimate) = (0, estimate);
        }
        account.is_known = true;
    }

    fn list(&mut self, line: Line) {
        let finish = self.account(line).finish;
        if finish < self.virtual_time + QUANTUM {
            self.ring.push(line);
        } else {
            self.debt.push((finish, line));
        }
    }

    fn first_debt(&self) -> Option<(u64, Line)> {
        self.debt.iter().copied().min_by_key(|&(tag, _)| tag)
    }

    fn unlist_debt(&mut self, line: Line) {
        self.debt.retain(|&(_, other)| other != line);
    }

    /// Takes the next connection, and charges it an estimate.
    pub(crate) fn begin_turn(&mut self) -> Line {
        let line = self.next();
        let is_express = self.express.contains(&line);
        self.express_run = if is_express { self.express_run + 1 } else { 0 };
        self.settle(line, false);
        self.move_reached();
        let account = self.account(line);
        account.prepaid = account.estimate;
        account.finish += account.prepaid;
        line
    }

    fn move_reached(&mut self) {
        if let Some((tag, line)) = self.first_debt()
            && tag < self.virtual_time + QUANTUM
        {
            self.unlist_debt(line);
            self.ring.push(line);
        }
    }

    fn next(&mut self) -> Line {
        if self.express_run < EXPRESS_RUN
            && let Some(&line) = self.express.first()
        {
            return line;
        }
        if self.ring.is_empty() {
            self.move_reached();
        }
        while let Some(&line) = self.ring.first() {
            if self.account(line).finish < self.virtual_time + QUANTUM {
                return line;
            }
            self.ring.remove(0);
            self.list(line);
        }
        while let Some((tag, line)) = self.first_debt() {
            if self.account(line).finish < tag + QUANTUM {
                self.virtual_time = self.virtual_time.max(tag);
                return line;
            }
            self.unlist_debt(line);
            self.list(line);
        }
        self.express[0]
    }

    /// Lists a connection that has more tasks after its turn has begun.
    pub(crate) fn relist(&mut self, line: Line) {
        self.list(line);
    }

    /// Charges the turn of a connection that has ended.
    pub(crate) fn charge(&mut self, line: Line, cost: u64) {
        self.estimate = average(self.estimate, cost);
        let account = self.account(line);
        account.finish = account.finish - account.prepaid + cost;
        account.prepaid = 0;
        account.is_known = true;
        account.estimate = average(account.estimate, cost);
        let finish = account.finish;
        self.finish_max = self.finish_max.max(finish);
    }

    /// Cancels the turn of a connection that did not begin.
    pub(crate) fn cancel(&mut self, line: Line) {
        let account = self.account(line);
        account.finish -= account.prepaid;
        account.prepaid = 0;
    }

    /// Forgets earlier debts, because no task waits.
    pub(crate) fn forgive(&mut self) {
        self.virtual_time = self.virtual_time.max(self.finish_max);
    }
}
