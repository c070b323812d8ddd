//! `estimated-wait`: the estimate of the wait of a task, beside the real wait.
//!
//! Each load keeps the number of its tasks: the loop enqueues a task of the same connection for
//! each finished one, or resumes the stream. At intervals it enqueues one more task (a probe), of a
//! connection of the load or of a new connection, and notes the estimate.

use std::time::{Duration, Instant};

use moored::{Context, Service, Task, TaskReturn, TaskStatus, ThreadPool};

use super::precise_sleeps;
use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::{Figure, median};
use crate::job::occupy;

/// The allowed factor between the estimate and the wait.
const GOAL: f64 = 2.0;
/// A shorter time counts as this time, which is the delay with which a busy machine wakes a thread.
const GRAIN: Duration = Duration::from_micros(500);
/// This is not a multiple of a step, so that the probes are sent at all points of a step.
const BETWEEN_PROBES: Duration = Duration::from_micros(7_003);
/// Before the first probe, the pool knows the cost of each connection.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    connections: usize,
    /// The number of tasks of each connection.
    tasks: usize,
    /// The time of a step of connections with even and with odd numbers, in microseconds.
    steps: [u64; 2],
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tasks of one step.
    Requests,
    /// Tasks of many steps, which the loop resumes.
    Streams,
}

const fn load(name: &'static str, connections: usize, tasks: usize, steps: [u64; 2], kind: Kind) -> Load {
    Load {
        name,
        connections,
        tasks,
        steps,
        kind,
    }
}

const LOADS: [Load; 5] = [
    load("flood", 1, 200, [1_000; 2], Kind::Requests),
    load("many", 100, 3, [1_000; 2], Kind::Requests),
    load("keep-alive", 400, 1, [1_000; 2], Kind::Requests),
    load("mixed", 20, 4, [5_000, 500], Kind::Requests),
    load("streams", 20, 4, [5_000, 500], Kind::Streams),
];

impl Load {
    fn request(self, connection: usize, probe: Option<Probe>) -> Request {
        Request {
            step: Duration::from_micros(self.steps[connection % 2]),
            kind: self.kind,
            connection,
            probe,
        }
    }
}

struct Request {
    connection: usize,
    step: Duration,
    kind: Kind,
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    is_new: bool,
    enqueued: Instant,
    estimate: Duration,
    waited: Duration,
}

impl Probe {
    /// The longer of the two times, divided by the shorter one.
    fn error(self) -> f64 {
        let [estimate, waited] = [self.estimate, self.waited].map(|time| time.max(GRAIN).as_secs_f64());
        (estimate / waited).max(waited / estimate)
    }
}

impl Task for Request {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        if let Some(probe) = &mut self.probe {
            probe.waited = probe.enqueued.elapsed();
        }
        occupy(self.step);
        if self.kind == Kind::Streams && self.probe.is_none() {
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    }
}

/// Measures the median of the errors for each load, for connections of the load and for new ones.
pub(crate) fn estimated_wait(probes: usize, threads: usize) -> Vec<Figure> {
    precise_sleeps();
    let mut figures = Vec::new();
    let mut worst = 1.0_f64;
    for load in LOADS {
        let suffixes = ["", "-new"];
        for (suffix, mut errors) in suffixes.into_iter().zip(errors_of(load, probes, threads)) {
            let error = median(&mut errors);
            worst = worst.max(error);
            figures.push(Figure::new(&format!("-{}{suffix}", load.name), "x", error));
        }
    }
    figures.push(Figure::new("", "x", worst).against("goal", GOAL));
    figures
}

fn errors_of(load: Load, probes: usize, threads: usize) -> [Vec<f64>; 2] {
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    for connection in (0..load.tasks).flat_map(|_| 0..load.connections) {
        let request = load.request(connection, None);
        all.service.enqueue(connection, request).expect("room");
    }
    let mut errors = [Vec::new(), Vec::new()];
    let mut sent = 0;
    let mut next = Instant::now() + WARM_UP;
    while errors.iter().map(Vec::len).sum::<usize>() < 2 * probes {
        while let Some(id) = all.next_id() {
            match all.service.task_status(id) {
                Some(TaskStatus::Syncing(stream)) => stream.resume(),
                Some(TaskStatus::Finished(Request {
                    probe: Some(probe), ..
                })) => errors[usize::from(probe.is_new)].push(probe.error()),
                Some(TaskStatus::Finished(Request { connection, .. })) => {
                    let again = load.request(connection, None);
                    all.service.enqueue(connection, again).expect("room");
                }
                _ => {}
            }
        }
        let now = Instant::now();
        if sent < 2 * probes && now >= next {
            send_probe(sent, load, &pool, &mut all.service);
            sent += 1;
            next = now + BETWEEN_PROBES;
        }
        let timeout = next.saturating_duration_since(now).max(Duration::from_micros(1));
        all.sleep((sent < 2 * probes).then_some(timeout));
    }
    errors
}

/// Every second probe is of a new connection.
fn send_probe(number: usize, load: Load, pool: &ThreadPool, service: &mut Service<Request>) {
    let is_new = number % 2 == 1;
    let (connection, estimate) = if is_new {
        (load.connections + number, pool.estimated_wait())
    } else {
        let connection = number / 2 % load.connections;
        (connection, service.estimated_wait(connection))
    };
    let probe = Probe {
        is_new,
        enqueued: Instant::now(),
        estimate,
        waited: Duration::ZERO,
    };
    let request = load.request(connection, Some(probe));
    service.enqueue(connection, request).expect("room");
}
