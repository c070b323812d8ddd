//! What was counted of requests, of their ends and of their writes.

use std::ops::AddAssign;

use examples::monitor::Metrics;
use serde_json::{Value, json};

/// What has become of a request at its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Answered,
    Accepted,
    Rejected,
    /// Accepted by its handler, and refused by the pool.
    Refused,
}

/// How an accepted request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    ClientGone,
    TimedOut,
    /// The server has stopped.
    Stopped,
    Panicked,
}

/// What has become of a write: a part, the end of an answer, or a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It was given to the connection.
    Asked,
    /// The kernel has taken it.
    Written,
    /// The connection has ended before that.
    Lost,
}

const DECISIONS: [&str; 4] = ["answered", "accepted", "rejected", "refused"];
const ENDS: [&str; 5] = ["done", "client_gone", "timed_out", "stopped", "panicked"];
const WRITES: [&str; 3] = ["asked", "written", "lost"];

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    decisions: [u64; DECISIONS.len()],
    ends: [u64; ENDS.len()],
    writes: [u64; WRITES.len()],
}

impl End {
    pub fn name(self) -> &'static str {
        ENDS[self as usize]
    }
}

impl Counts {
    pub fn add_decision(&mut self, decision: Decision) {
        self.decisions[decision as usize] += 1;
    }

    pub fn add_end(&mut self, end: End) {
        self.ends[end as usize] += 1;
    }

    pub fn add_writes(&mut self, write: Write, count: u64) {
        self.writes[write as usize] += count;
    }

    pub fn add_to(&self, text: &mut Metrics) {
        let mut family = |name: &str, label: &str, help: &str, names: &[&'static str], counts: &[u64]| {
            let samples: Vec<_> = names.iter().copied().zip(counts).collect();
            text.family(name, "counter", help);
            text.samples(name, label, &samples);
        };
        family(
            "handled_total",
            "decision",
            "Requests, by what their handlers have decided.",
            &DECISIONS,
            &self.decisions,
        );
        family(
            "ended_total",
            "end",
            "Requests that tasks have answered, by their ends.",
            &ENDS,
            &self.ends,
        );
        family(
            "writes_total",
            "state",
            "Writes of tasks: asked for, taken by the kernel, lost with their connections.",
            &WRITES,
            &self.writes,
        );
    }

    pub fn to_json(self) -> Value {
        let object = |names: &[&str], counts: &[u64]| -> Value {
            let pairs = names.iter().zip(counts);
            pairs
                .map(|(name, count)| ((*name).to_owned(), Value::from(*count)))
                .collect()
        };
        json!({
            "handled": object(&DECISIONS, &self.decisions),
            "ended": object(&ENDS, &self.ends),
            "writes": object(&WRITES, &self.writes),
        })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        add(&mut self.decisions, &other.decisions);
        add(&mut self.ends, &other.ends);
        add(&mut self.writes, &other.writes);
    }
}

fn add(counts: &mut [u64], others: &[u64]) {
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
}
