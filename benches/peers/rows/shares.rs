//! `shares` and `weight`: two connections with 8 streams each, which the loop resumes after each
//! step. The rows measure the worker time of each connection in one second.
//!
//! A step that is in progress at the beginning or the end of that second counts in part.

use std::time::{Duration, Instant};

use moored::{Context, Task, TaskReturn, TaskStatus};

use super::precise_sleeps;
use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::Figure;
use crate::job::occupy;

const STREAMS: usize = 8;
const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Connection {
    step: Duration,
    weight: u16,
}

/// The distance of the first connection's share from one half.
pub(crate) fn shares(steps: [Duration; 2], threads: usize) -> Vec<Figure> {
    let [first, second] = served(steps.map(|step| Connection { step, weight: 1 }), threads);
    let share = 100.0 * first / (first + second);
    vec![Figure::new("", "points", (share - 50.0).abs()).against("goal", 3.0)]
}

/// The relative error of the ratio between a connection of this weight and one of weight 1.
pub(crate) fn weight(weight: u16, step: Duration, threads: usize) -> Vec<Figure> {
    let [first, second] = served([weight, 1].map(|weight| Connection { step, weight }), threads);
    let error = first / second / f64::from(weight) - 1.0;
    vec![Figure::new("", "percent", 100.0 * error.abs()).against("goal", 5.0)]
}

/// The worker time of each connection within the window, in seconds.
fn served(connections: [Connection; 2], threads: usize) -> [f64; 2] {
    precise_sleeps();
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    let begin = Instant::now() + WARM_UP;
    for _ in 0..STREAMS {
        for (connection, Connection { step, weight }) in connections.into_iter().enumerate() {
            all.service.set_weight(connection, weight);
            let stream = Stream {
                connection,
                step,
                begin,
                served: Duration::ZERO,
            };
            all.service.enqueue(connection, stream).expect("room");
        }
    }
    let mut times = [0.0; 2];
    let mut ended = 0;
    while ended < 2 * STREAMS {
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
