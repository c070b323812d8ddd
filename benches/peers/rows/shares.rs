//! `shares` and `weight`: two connections with streams, which the loop resumes after each step. The
//! rows measure the worker time of each connection in one second.
//!
//! A step that is in progress at the beginning or the end of that second counts in part.

use std::time::{Duration, Instant};

use moored::{Context, Task, TaskReturn, TaskStatus};

use super::precise_sleeps;
use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::Figure;
use crate::job::occupy;

const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Connection {
    streams: usize,
    step: Duration,
    weight: u16,
}

/// The streams and the step of each connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan(pub(crate) [(usize, Duration); 2]);

/// The distance of the first connection's share from one half, and the part of the workers' time
/// that was not spent in steps.
pub(crate) fn shares(plan: Plan, threads: usize) -> Vec<Figure> {
    let connections = plan.0.map(|(streams, step)| Connection {
        streams,
        step,
        weight: 1,
    });
    let [first, second] = served(connections, threads);
    let share = 100.0 * first / (first + second);
    let used = 100.0 * (first + second) / (threads as f64 * WINDOW.as_secs_f64());
    vec![
        Figure::new("", "points", (share - 50.0).abs()).against("goal", 3.0),
        Figure::new("-idle", "percent", 100.0 - used),
    ]
}

/// The relative error of the ratio between a connection of this weight and one of weight 1.
pub(crate) fn weight(weight: u16, step: Duration, threads: usize) -> Vec<Figure> {
    let connections = [weight, 1].map(|weight| Connection {
        streams: 8,
        step,
        weight,
    });
    let [first, second] = served(connections, threads);
    let error = first / second / f64::from(weight) - 1.0;
    vec![Figure::new("", "percent", 100.0 * error.abs()).against("goal", 5.0)]
}

/// The worker time of each connection within the window, in seconds.
fn served(connections: [Connection; 2], threads: usize) -> [f64; 2] {
    precise_sleeps();
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    let begin = Instant::now() + WARM_UP;
    for (connection, own) in connections.iter().enumerate() {
        all.service.set_weight(connection, own.weight);
        for _ in 0..own.streams {
            let stream = Stream {
                connection,
                step: own.step,
                begin,
                served: Duration::ZERO,
            };
            all.service.enqueue(connection, stream).expect("room");
        }
    }
    let mut times = [0.0; 2];
    let mut ended = 0;
    let [first, second] = connections;
    while ended < first.streams + second.streams {
        all.sleep(None);
        while let Some(id) = all.next_id() {
            match all.service.task_status(id) {
                Some(TaskStatus::Syncing(stream)) => stream.resume(),
                Some(TaskStatus::Finished(stream)) => {
                    times[stream.connection] += stream.served.as_secs_f64();
                    ended += 1;
                }
                _ => {}
            }
        }
    }
    times
}

/// The stream ends with the first step that ends after the window.
struct Stream {
    connection: usize,
    step: Duration,
    /// The beginning of the window.
    begin: Instant,
    /// The time of its steps within the window.
    served: Duration,
}

impl Task for Stream {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        let end = self.begin + WINDOW;
        let start = Instant::now().max(self.begin);
        occupy(self.step);
        let now = Instant::now();
        self.served += now.min(end).saturating_duration_since(start);
        if now < end {
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    }
}
