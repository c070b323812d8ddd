//! `newcomer`: many connections have a stream each, which the loop resumes after each step. At
//! intervals a new connection enqueues a task. The row measures the time until its first step
//! begins. In `newcomer-returning` it is a client that returns: the loop resumes its stream, which
//! was parked for most of the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use moored::{Context, Task, TaskReturn, TaskStatus};

use super::precise_sleeps;
use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::{Figure, percentile};
use crate::job::occupy;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) streams: usize,
    pub(crate) newcomers: usize,
}

const STEP: Duration = Duration::from_micros(100);
/// Not a multiple of the step, so that newcomers arrive at all points of a step.
const BETWEEN_NEWCOMERS: Duration = Duration::from_micros(3_001);
/// Before the first newcomer, each of 4,000 streams has had two turns on two workers.
const WARM_UP: Duration = Duration::from_millis(500);
/// The number of clients that return, so that many waits are measured within a short time. All
/// together use 1 % of the worker time.
const RETURNING: usize = 100;
/// The part of its share that each of them uses, in percent.
const USED: usize = 40;
/// A client returns at all points of a step.
const JITTER: Duration = Duration::from_micros(37);

enum Client {
    Stream,
    Newcomer { enqueued: Instant, waited: Duration },
    Returning { resumed: Instant, waited: Duration },
}

impl Task for Client {
    fn step(&mut self, context: &mut Context<'_>) -> TaskReturn {
        match self {
            Self::Stream | Self::Returning { .. } if context.is_stopping() => TaskReturn::Stopped,
            Self::Stream => {
                occupy(STEP);
                TaskReturn::Sync
            }
            Self::Newcomer { enqueued, waited } => {
                *waited = enqueued.elapsed();
                TaskReturn::TaskDone
            }
            Self::Returning { resumed, waited } => {
                *waited = resumed.elapsed();
                occupy(STEP);
                TaskReturn::Sync
            }
        }
    }
}

impl Client {
    fn returning() -> Self {
        Self::Returning {
            resumed: Instant::now(),
            waited: Duration::ZERO,
        }
    }
}

pub(crate) fn newcomer(plan: Plan, threads: usize) -> Vec<Figure> {
    precise_sleeps();
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    for connection in 0..plan.streams {
        all.service.enqueue(connection, Client::Stream).expect("room");
    }
    let mut waits = Vec::with_capacity(plan.newcomers);
    let mut came = 0;
    let mut next = Instant::now() + WARM_UP;
    while waits.len() < plan.newcomers {
        while let Some(id) = all.next_id() {
            match all.service.task_status(id) {
                Some(TaskStatus::Syncing(stream)) => stream.resume(),
                Some(TaskStatus::Finished(Client::Newcomer { waited, .. })) => {
                    waits.push(waited.as_nanos() as f64 / 1000.0);
                }
                _ => {}
            }
        }
        let now = Instant::now();
        if came < plan.newcomers && now >= next {
            let newcomer = Client::Newcomer {
                enqueued: now,
                waited: Duration::ZERO,
            };
            all.service.enqueue(plan.streams + came, newcomer).expect("room");
            came += 1;
            next = now + BETWEEN_NEWCOMERS;
        }
        let timeout = next.saturating_duration_since(now).max(Duration::from_micros(1));
        all.sleep(Some(timeout));
    }
    vec![
        Figure::new("-p50", "us", percentile(&mut waits, 50.0)),
        Figure::new("", "us", percentile(&mut waits, 99.0)).against("goal", 200.0),
    ]
}

/// While a client that uses its whole share has one step, each of the streams has one. So the
/// number of their steps tells when a client returns.
pub(crate) fn returning(plan: Plan, threads: usize) -> Vec<Figure> {
    precise_sleeps();
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    for connection in 0..plan.streams + RETURNING {
        let client = if connection < plan.streams {
            Client::Stream
        } else {
            Client::returning()
        };
        all.service.enqueue(connection, client).expect("room");
    }
    let steps_between = plan.streams * 100 / USED / RETURNING;
    // Before the first return, each stream has had two steps.
    let (mut steps, mut next_return) = (0, 2 * plan.streams);
    // The client that has been parked for the longest time is the first.
    let mut parked = VecDeque::new();
    let mut waits = Vec::with_capacity(plan.newcomers);
    let (mut returns, mut due) = (0_u32, None);
    while waits.len() < plan.newcomers {
        while let Some(id) = all.next_id() {
            let Some(TaskStatus::Syncing(client)) = all.service.task_status(id) else {
                continue;
            };
            if let Client::Returning { waited, .. } = &*client {
                if returns > 0 {
                    waits.push(waited.as_nanos() as f64 / 1000.0);
                }
                parked.push_back(id);
            } else {
                steps += 1;
                client.resume();
            }
        }
        let now = Instant::now();
        if due.is_none() && steps >= next_return {
            let jitter = (JITTER * returns).as_nanos() % STEP.as_nanos();
            due = Some(now + Duration::from_nanos(jitter as u64));
        }
        if due.is_some_and(|due| now >= due)
            && let Some(id) = parked.pop_front()
            && let Some(TaskStatus::Syncing(mut client)) = all.service.task_status(id)
        {
            *client = Client::returning();
            client.resume();
            returns += 1;
            next_return += steps_between;
            due = None;
        }
        let timeout = due.map(|due: Instant| due.saturating_duration_since(now));
        all.sleep(timeout.map(|timeout| timeout.max(Duration::from_micros(1))));
    }
    vec![
        Figure::new("-p50", "us", percentile(&mut waits, 50.0)),
        Figure::new("", "us", percentile(&mut waits, 99.0)).against("goal", 1000.0),
    ]
}
