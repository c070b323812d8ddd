//! What the loops know of the requests that tasks answer. Each loop has records of its own; any
//! loop may read those of all, for `/requests.json` and `/metrics`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moored::{ConnId, StopReason, TaskId};
use serde_json::{Value, json};

use crate::counts::{Counts, End, Write};
use crate::job::{Key, Style};

/// Ended requests that a loop remembers.
const REMEMBERED: usize = 100;
/// Characters of a target that are shown.
const TARGET_SHOWN: usize = 80;

/// A request that a task answers.
#[derive(Debug)]
pub struct Record {
    pub style: Style,
    pub task: TaskId,
    pub state: State,
    /// When the loop resumes the task, while it pauses.
    pub timer: Option<Instant>,
    /// What ends the request, once that is known. The end of its task follows.
    pub ending: Option<(End, Instant)>,
    target: String,
    since: Instant,
    /// Writes given to the connection.
    asked: u64,
    /// Writes that the kernel has taken.
    written: u64,
}

/// What the task does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for a worker, or computes.
    Computing,
    /// It is parked until the kernel has taken its output.
    Writing,
    /// It is parked between two parts.
    Pausing,
    /// It has done its work, and the kernel has yet to take the end of the answer.
    Finishing,
}

/// A request that has ended.
#[derive(Debug)]
struct Ended {
    key: Key,
    record: Record,
    end: End,
    /// Why the task was stopped, as it has seen it in its last step.
    task_saw: Option<StopReason>,
    at: Instant,
}

/// The records of one loop.
#[derive(Debug, Default)]
pub struct Records {
    pub live: BTreeMap<Key, Record>,
    pub counts: Counts,
    /// The newest at the end.
    ended: VecDeque<Ended>,
}

/// The records of all loops.
#[derive(Debug, Clone)]
pub struct AllRecords(Arc<[Mutex<Records>]>);

impl Record {
    pub fn new(style: Style, task: TaskId, target: &str) -> Self {
        Self {
            style,
            task,
            state: State::Computing,
            timer: None,
            ending: None,
            target: target.chars().take(TARGET_SHOWN).collect(),
            since: Instant::now(),
            asked: 0,
            written: 0,
        }
    }

    /// Whether nothing of the answer was given.
    pub fn is_pending(&self) -> bool {
        self.asked == 0
    }

    fn lost(&self) -> u64 {
        self.asked - self.written
    }

    fn to_json(&self, loop_number: usize, (connection, request): Key, now: Instant) -> Value {
        json!({
            "request": format!("{loop_number}.{connection}.{request}"),
            "target": self.target,
            "style": self.style.name(),
            "state": self.state.name(),
            "task": self.task.to_string(),
            "age_us": us(now - self.since),
            "asked": self.asked,
            "written": self.written,
        })
    }
}

impl Ended {
    fn to_json(&self, loop_number: usize) -> Value {
        let mut json = self.record.to_json(loop_number, self.key, self.at);
        json["state"] = self.end.name().into();
        json["lost"] = self.record.lost().into();
        json["task_saw"] = self.task_saw.map(|why| why.to_string()).into();
        let after = self.record.ending.map(|(_, since)| us(self.at - since));
        json["task_ended_after_us"] = after.into();
        json
    }
}

impl Records {
    /// Notes a write of the request: a part, its end, or the whole answer. Returns whether it is
    /// the first one.
    pub fn note_asked(&mut self, key: Key, state: State) -> bool {
        let Some(record) = self.live.get_mut(&key) else {
            return false;
        };
        record.state = state;
        record.asked += 1;
        self.counts.add_writes(Write::Asked, 1);
        record.asked == 1
    }

    /// Notes that the kernel has taken everything that was given.
    pub fn note_written(&mut self, key: Key) {
        if let Some(record) = self.live.get_mut(&key) {
            self.counts.add_writes(Write::Written, record.lost());
            record.written = record.asked;
        }
    }

    /// Notes what ends the request. Returns its task.
    pub fn begin_end(&mut self, key: Key, end: End) -> Option<TaskId> {
        let record = self.live.get_mut(&key)?;
        record.ending.get_or_insert((end, Instant::now()));
        Some(record.task)
    }

    /// Removes the record of a request that has ended. Returns its timer.
    pub fn end(&mut self, key: Key, end: End, task_saw: Option<StopReason>) -> Option<Instant> {
        let record = self.live.remove(&key)?;
        let timer = record.timer;
        self.counts.add_end(end);
        self.counts.add_writes(Write::Lost, record.lost());
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended {
            key,
            record,
            end,
            task_saw,
            at: Instant::now(),
        });
        timer
    }

    /// Whether nothing of the answer was given.
    pub fn is_pending(&self, key: Key) -> bool {
        self.live.get(&key).is_some_and(Record::is_pending)
    }

    /// The requests for events that go on, and their tasks.
    pub fn events(&self) -> Vec<(Key, TaskId)> {
        let goes_on = |record: &Record| record.ending.is_none() && record.state != State::Finishing;
        let all = self.live.iter();
        all.filter(|(_, record)| record.style == Style::Events && goes_on(record))
            .map(|(key, record)| (*key, record.task))
            .collect()
    }

    /// The request that a task answers.
    pub fn key_of(&self, task: TaskId) -> Option<Key> {
        let mut same = self.live.iter().filter(|(_, record)| record.task == task);
        same.next().map(|(key, _)| *key)
    }

    /// The requests of a connection.
    pub fn keys_of(&self, connection: ConnId) -> Vec<Key> {
        let all = self.live.range((connection, 0)..=(connection, u64::MAX));
        all.map(|(key, _)| *key).collect()
    }
}

impl AllRecords {
    pub fn new(loops: usize) -> Self {
        Self((0..loops).map(|_| Mutex::default()).collect())
    }

    /// The records of one loop. Keep the lock only briefly: other loops read the records, too.
    pub fn of(&self, loop_number: usize) -> MutexGuard<'_, Records> {
        lock(&self.0[loop_number])
    }

    pub fn loops(&self) -> usize {
        self.0.len()
    }

    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for records in &*self.0 {
            sum += lock(records).counts;
        }
        sum
    }

    /// At most `limit` requests that are being answered.
    pub fn live(&self, limit: usize) -> Vec<Value> {
        let mut list = Vec::new();
        for (number, records) in self.0.iter().enumerate() {
            let records = lock(records);
            let now = Instant::now();
            let live = records.live.iter().take(limit - list.len());
            list.extend(live.map(|(key, record)| record.to_json(number, *key, now)));
        }
        list
    }

    /// The requests that have ended, loop by loop, the newest first, at most `limit`.
    pub fn ended(&self, limit: usize) -> Vec<Value> {
        let mut list = Vec::new();
        for (number, records) in self.0.iter().enumerate() {
            let records = lock(records);
            let ended = records.ended.iter().rev().take(limit - list.len());
            list.extend(ended.map(|ended| ended.to_json(number)));
        }
        list
    }
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Style {
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Parts => "parts",
            Self::Events => "events",
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::Writing => "writing",
            Self::Pausing => "pausing",
            Self::Finishing => "finishing",
        }
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
