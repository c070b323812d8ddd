//! `door` and `codel`: more tasks than the pool can run.

use std::time::{Duration, Instant};

use moored::{Context, Overload, Task, TaskReturn, TaskStatus, ThreadPool};

use super::precise_sleeps;
use crate::contenders::moored::ServiceLoop;
use crate::figure::{Figure, median, percentile};
use crate::job::occupy;

const STEP: Duration = Duration::from_micros(100);
/// The depth of the queue. It is small, so that the queue is full soon.
const DEPTH: usize = 1024;
const OTHERS: u64 = 9;
/// The connection that enqueues until it is refused.
const FLOOD: u64 = 0;

struct Request {
    enqueued: Instant,
    waited: Option<Duration>,
    step: Duration,
}

impl Request {
    fn new(step: Duration) -> Self {
        Self {
            enqueued: Instant::now(),
            waited: None,
            step,
        }
    }
}

impl Task for Request {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        self.waited = Some(self.enqueued.elapsed());
        occupy(self.step);
        TaskReturn::TaskDone
    }
}

fn full_pool(overload: Overload, threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().threads(threads).max_queue_depth(DEPTH);
    builder.overload(overload).build().expect("threads")
}

/// One connection enqueues until it is refused, in every turn of the loop. Nine others have one
/// request each, and send the next one after the answer. Measures how many of 1,000 requests of the
/// nine are refused or shed.
pub(crate) fn door(requests: usize, threads: usize) -> Vec<Figure> {
    precise_sleeps();
    let pool = full_pool(Overload::ShedFattest, threads);
    let mut all = ServiceLoop::new(&pool);
    let (mut sent, mut unserved) = (0, 0);
    let mut open: Vec<u64> = Vec::new();
    let mut free: Vec<u64> = (1..=OTHERS).collect();
    let mut waits = Vec::new();
    while sent < requests || !open.is_empty() {
        while sent < requests && all.service.enqueue(FLOOD, Request::new(STEP)).is_ok() {}
        while sent < requests
            && let Some(connection) = free.pop()
        {
            sent += 1;
            if all.service.enqueue(connection, Request::new(STEP)).is_ok() {
                open.push(connection);
            } else {
                unserved += 1;
                free.push(connection);
                break;
            }
        }
        all.sleep(None);
        while let Some(id) = all.next_id() {
            let connection = all
                .service
                .connection_of(id)
                .map_or(FLOOD, |connection| connection.0);
            let status = all.service.task_status(id);
            if connection != FLOOD {
                open.retain(|&other| other != connection);
                free.push(connection);
                match status {
                    Some(TaskStatus::Finished(request)) => {
                        waits.push(request.waited.unwrap_or_default().as_secs_f64() * 1e6);
                    }
                    _ => unserved += 1,
                }
            }
        }
    }
    let share = 1000.0 * f64::from(unserved) / requests as f64;
    // The goal is 0; a ratio needs a number above that.
    let mut figures = vec![Figure::new("", "of-1000", share).against("goal", 1.0)];
    if !waits.is_empty() {
        figures.push(Figure::new("-wait-p99", "us", percentile(&mut waits, 99.0)));
    }
    figures
}

const TARGET: Duration = Duration::from_millis(20);
const INTERVAL: Duration = Duration::from_millis(200);
const CODEL_STEP: Duration = Duration::from_millis(1);

/// New clients come twice as fast as the pool can serve them, each with one request. Measures the
/// waits of the served requests, also in a pool that sheds by the length of the queue only.
pub(crate) fn codel(time: Duration, threads: usize) -> Vec<Figure> {
    precise_sleeps();
    let codel = Overload::Codel {
        target: TARGET,
        interval: INTERVAL,
    };
    let [fattest, codel] = [Overload::ShedFattest, codel].map(|overload| overloaded(overload, time, threads));
    vec![
        Figure::new(
            "-served-of-fattest",
            "x",
            codel.served as f64 / fattest.served as f64,
        ),
        Figure::new("-p50", "ms", codel.median),
        Figure::new("-p99", "ms", codel.p99).against("shed-fattest", fattest.p99),
    ]
}

struct Overloaded {
    served: usize,
    /// The median and the 99th percentile of the waits, in milliseconds.
    median: f64,
    p99: f64,
}

fn overloaded(overload: Overload, time: Duration, threads: usize) -> Overloaded {
    let pool = full_pool(overload, threads);
    let mut all = ServiceLoop::new(&pool);
    let begun = Instant::now();
    // The first half fills the queue.
    let (half, end) = (begun + time / 2, begun + time);
    let between = CODEL_STEP / (2 * threads as u32);
    let mut next = begun;
    let mut connection = 0_u64;
    let mut waits = Vec::new();
    while Instant::now() < end {
        while next <= Instant::now() {
            // A refused client does not come back.
            drop(all.service.enqueue(connection, Request::new(CODEL_STEP)));
            connection += 1;
            next += between;
        }
        all.sleep(Some(next.saturating_duration_since(Instant::now()).max(between)));
        while let Some(id) = all.next_id() {
            if let Some(TaskStatus::Finished(request)) = all.service.task_status(id)
                && Instant::now() > half
            {
                waits.push(request.waited.unwrap_or_default().as_secs_f64() * 1e3);
            }
        }
    }
    Overloaded {
        served: waits.len(),
        median: median(&mut waits),
        p99: percentile(&mut waits, 99.0),
    }
}
