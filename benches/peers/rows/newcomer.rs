//! `newcomer`: many connections have a stream each, which the loop resumes after each step. At
//! intervals a new connection enqueues a task. The row measures the time until its first step
//! begins.

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

enum Client {
    Stream,
    Newcomer { enqueued: Instant, waited: Duration },
}

impl Task for Client {
    fn step(&mut self, context: &mut Context<'_>) -> TaskReturn {
        match self {
            Self::Stream if context.is_stopping() => TaskReturn::Stopped,
            Self::Stream => {
                occupy(STEP);
                TaskReturn::Sync
            }
            Self::Newcomer { enqueued, waited } => {
                *waited = enqueued.elapsed();
                TaskReturn::TaskDone
            }
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
