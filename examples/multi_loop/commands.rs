//! Functions that run in other loops, in order.
//!
//! Each loop has a mailbox of functions and drains it once per turn. `Sender::send` is the
//! `queueInLoop` of Drogon: it works from any thread and never waits. Functions from the same
//! thread run in the order in which they were sent. A function gets the state and the connections
//! of the loop as arguments, so it needs no lock. It must not block, because it runs on the loop's
//! thread.
//!
//! `/move` and `/broadcast` send a function to other loops. There the function makes a report about
//! the loop, and sends it back as a second function to the loop of the request. That loop answers
//! the request: only the loop of a connection uses the connection.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::thread;

use examples::http::Response;
use examples::net::Net;
use moored::{ConnId, Recipient, SendError, Sender};
use serde_json::{Value, json};

use crate::loop_state::{LoopState, answer};

/// A function that a loop runs.
pub type Function = Box<dyn FnOnce(&mut LoopState, &mut Net) + Send>;

/// A request: its connection, and its number on that connection.
pub type Key = (ConnId, u64);

/// A function that has to be sent again, because the mailbox was full.
pub struct Unsent {
    to: Sender<Function>,
    id: ConnId,
    function: Function,
}

/// State of a loop, at the time when it runs a function for another loop.
#[derive(Debug)]
struct LoopReport {
    number: usize,
    thread: String,
    /// Number of functions that this loop has run.
    run: u64,
    /// Number of functions that the other loop has sent for requests.
    sent: u64,
    connections: usize,
    requests: u64,
}

impl LoopReport {
    fn to_json(&self) -> Value {
        json!({
            "loop": self.number,
            "thread": self.thread,
            "sent": self.sent,
            "run": self.run,
            "connections": self.connections,
            "requests": self.requests,
        })
    }
}

/// Requests that wait for reports from loops, and the reports that have arrived.
#[derive(Debug, Default)]
pub struct PendingReports(BTreeMap<Key, Pending>);

#[derive(Debug)]
struct Pending {
    /// Number of reports that have not arrived.
    missing: usize,
    reports: Vec<LoopReport>,
}

impl PendingReports {
    pub fn forget(&mut self, key: Key) {
        self.0.remove(&key);
    }

    pub fn forget_connection(&mut self, id: ConnId) {
        self.0.retain(|(other, _), _| *other != id);
    }
}

/// Sends the report of one function to the loop of the request. If the function is dropped before
/// it has run, that loop gets a message too, and answers the request with 503.
struct ReplySender {
    origin: Sender<Function>,
    key: Key,
    is_sent: bool,
}

impl ReplySender {
    /// Sends the report. If the mailbox is full, `this_loop` sends it again later.
    fn send(mut self, report: LoopReport, this_loop: &mut LoopState) {
        self.is_sent = true;
        let reply = reply_function(self.key, Some(report));
        this_loop.send_or_store(self.origin.clone(), self.key.0, reply);
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        if !self.is_sent {
            // If this fails, the mailbox is full or its loop has ended. Then the client gets 504.
            let _ = self.origin.send(self.key.0, reply_function(self.key, None));
        }
    }
}

/// The function that gives a report to the loop of the request. None: the function that should
/// make the report was dropped.
fn reply_function(key: Key, report: Option<LoopReport>) -> Function {
    Box::new(move |origin, net| origin.receive_report(net, key, report))
}

impl LoopState {
    /// Runs a function in each of these loops. When all have run, the request gets its answer.
    pub fn run_in_loops(&mut self, key: Key, loops: RangeInclusive<usize>) {
        let pending = Pending {
            missing: loops.clone().count(),
            reports: Vec::new(),
        };
        self.pending_reports.0.insert(key, pending);
        for number in loops {
            self.sent += 1;
            let sent = self.sent;
            let reply = ReplySender {
                origin: self.shared.functions[self.number].clone(),
                key,
                is_sent: false,
            };
            let function: Function = Box::new(move |other_loop, net| {
                let report = other_loop.report(net, sent);
                reply.send(report, other_loop);
            });
            // If the mailbox refuses the function, its `ReplySender` is dropped, which sends a
            // reply.
            drop(self.shared.functions[number].send(Recipient::Loop, function));
        }
    }

    fn report(&self, net: &Net, sent: u64) -> LoopReport {
        let counters = net.counters();
        LoopReport {
            number: self.number,
            thread: thread::current().name().unwrap_or_default().to_owned(),
            run: self.run,
            sent,
            connections: counters.connections,
            requests: counters.requests,
        }
    }

    fn receive_report(&mut self, net: &mut Net, key: Key, report: Option<LoopReport>) {
        let Some(pending) = self.pending_reports.0.get_mut(&key) else {
            // The client has left, or the request was answered with an error.
            return;
        };
        let Some(report) = report else {
            self.pending_reports.forget(key);
            let why = "a loop accepts no more functions: its mailbox is full, or it is stopping";
            answer(net, key, Response::come_back(1, why));
            return;
        };
        pending.reports.push(report);
        pending.missing -= 1;
        if pending.missing == 0 {
            let mut reports = self
                .pending_reports
                .0
                .remove(&key)
                .map_or_else(Vec::new, |it| it.reports);
            reports.sort_unstable_by_key(|report| report.number);
            let body = json!({
                "loop": self.number,
                "thread": thread::current().name(),
                "reports": reports.iter().map(LoopReport::to_json).collect::<Vec<_>>(),
            });
            let response = Response::new(200).body("application/json", format!("{body}\n"));
            answer(net, key, response.header("Cache-Control", "no-store"));
        }
    }

    /// Tries to wait until this loop's own mailbox has room. Such a wait would never end, so the
    /// library refuses it.
    pub fn wait_for_itself(&self) -> Response {
        let nothing: Function = Box::new(|_, _| {});
        match self.shared.functions[self.number].send_blocking(Recipient::Loop, nothing) {
            Err(refused @ SendError::WouldDeadlock(_)) => {
                self.shared.note_refused_wait();
                let number = self.number;
                let why = format!(
                    "loop {number} cannot wait for room in its own mailbox, because only loop {number} itself \
                     makes room there. The library has refused the wait: {refused}"
                );
                Response::text(409, &why)
            }
            Err(refused) => Response::come_back(1, &refused.to_string()),
            Ok(()) => Response::text(500, "a loop has waited for itself"),
        }
    }

    /// Sends a function to the loop of a connection. If the mailbox is full, the function is stored
    /// until the next turn. Functions that are stored go first, so that the order stays.
    fn send_or_store(&mut self, to: Sender<Function>, id: ConnId, function: Function) {
        if !self.unsent.is_empty() {
            return self.unsent.push(Unsent { to, id, function });
        }
        if let Err(SendError::Full(function)) = to.send(id, function) {
            self.unsent.push(Unsent { to, id, function });
        }
    }

    /// Sends the functions that were stored.
    pub fn send_unsent(&mut self) {
        for Unsent { to, id, function } in std::mem::take(&mut self.unsent) {
            self.send_or_store(to, id, function);
        }
    }
}
