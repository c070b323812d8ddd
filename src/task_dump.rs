//! One task in a dump.

use crate::cell::Head;
use crate::id::{ConnId, TaskId};
use crate::status::Status;
use std::borrow::Cow;

/// How one task stood when the dump passed it. Times are microseconds.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskDump {
    /// Its id; as text in JSON.
    pub id: TaskId,
    /// Its name, if it was given one.
    pub name: Option<Cow<'static, str>>,
    /// Its connection; `None` once that has closed.
    pub connection: Option<ConnId>,
    /// The number of the service that owns it.
    pub service: u32,
    /// How it stands.
    pub status: Status,
    /// How long it has stood so (a running task: since it last began, or got in line for, a turn).
    pub in_status_us: u64,
    /// How long ago it was accepted; once it has ended, how long it lived.
    pub alive_us: u64,
    /// How long it has waited for a worker, all in all.
    pub queued_us: u64,
    /// The worker it is on at this moment.
    pub worker: Option<u16>,
    /// The share of its life that it was on a worker, in per cent.
    pub run_percent: f32,
    /// The share of its life that it was parked, in per cent.
    pub sync_percent: f32,
}

impl TaskDump {
    pub(crate) fn new(
        id: TaskId,
        head: &Head,
        name: Option<Cow<'static, str>>,
        connection: Option<ConnId>,
        service: u32,
        now: u64,
    ) -> Self {
        let word = head.state.load();
        let status = word.status();
        let mut account = head.times.account();
        let here = now.saturating_sub(account.since);
        if !word.has_ended() {
            match status {
                Status::Syncing => account.parked += here,
                _ if word.is_running() => account.on_worker += here,
                _ => account.in_line += here,
            }
        }
        let alive = account.in_line + account.on_worker + account.parked;
        let percent = |part: u64| {
            if alive == 0 {
                0.0
            } else {
                part as f32 * 100.0 / alive as f32
            }
        };
        Self {
            id,
            name,
            connection,
            service,
            status,
            in_status_us: here / 1000,
            alive_us: alive / 1000,
            queued_us: account.in_line / 1000,
            worker: word.worker(),
            run_percent: percent(account.on_worker),
            sync_percent: percent(account.parked),
        }
    }
}
