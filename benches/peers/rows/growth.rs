//! `close-one` and `growth`: what a call costs while 10, 1,000 or 100,000 other tasks exist.
//!
//! The pool has no threads, so the numbers are those of the calls and of nothing else. Each
//! call is made on the same few tasks, `BATCH` between two looks at the clock; what is
//! measured is the table and the queue, not whether a task's memory is still in the cache.
//! `pickup` alone goes through the others too, oldest first, as the queue does.

use std::time::{Duration, Instant};

use moored::{Context, Resume, Task, TaskId, TaskReturn, TaskStatus};

use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::{Figure, median};

const BATCH: usize = 8;
const OTHERS: [(usize, &str); 3] = [(10, "10"), (1_000, "1k"), (100_000, "100k")];
/// The connections of the tasks that are measured; the others have theirs below.
const OURS: u64 = 1 << 32;

/// Sixty-four bytes, as a stream's chunk.
struct Idle {
    then: TaskReturn,
    _chunk: [u8; 64],
}

impl Task for Idle {
    fn step(&mut self, context: &mut Context<'_>) -> TaskReturn {
        if context.is_stopping() {
            TaskReturn::Stopped
        } else {
            self.then
        }
    }
}

fn idle(then: TaskReturn) -> Idle {
    Idle {
        then,
        _chunk: [0; 64],
    }
}

type Loop = ServiceLoop<Idle>;

pub(crate) fn close_one(repeats: usize) -> Vec<Figure> {
    among_others("", TaskReturn::TaskDone, Others::Pending, |all| {
        repeat(repeats, || {
            enqueue_batch(all, TaskReturn::TaskDone);
            let start = Instant::now();
            for connection in OURS..OURS + BATCH as u64 {
                assert_eq!(all.service.connection_closed(connection), 1);
            }
            let taken = start.elapsed();
            assert_eq!(reap_all(all), BATCH);
            taken
        })
    })
}

pub(crate) fn growth(repeats: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(among_others(
        "-enqueue",
        TaskReturn::TaskDone,
        Others::Pending,
        |all| {
            repeat(repeats, || {
                let start = Instant::now();
                let ids = enqueue_batch(all, TaskReturn::TaskDone);
                let taken = start.elapsed();
                for id in ids {
                    all.service.dequeue(id);
                }
                assert_eq!(reap_all(all), BATCH);
                taken
            })
        },
    ));
    figures.extend(among_others(
        "-pickup",
        TaskReturn::Sync,
        Others::Pending,
        |all| repeat(repeats, || pick_up(all)),
    ));
    figures.extend(among_others(
        "-task_status",
        TaskReturn::Sync,
        Others::Run,
        |all| {
            let ids = enqueue_batch(all, TaskReturn::Sync);
            run_all(all);
            repeat(repeats, || {
                let start = Instant::now();
                for &id in &ids {
                    assert!(matches!(
                        all.service.task_status(id),
                        Some(TaskStatus::Syncing(_))
                    ));
                }
                start.elapsed()
            })
        },
    ));
    figures.extend(among_others("-task_sync", TaskReturn::Sync, Others::Run, |all| {
        let ids = enqueue_batch(all, TaskReturn::Sync);
        run_all(all);
        repeat(repeats, || {
            let start = Instant::now();
            for &id in &ids {
                assert!(all.service.task_sync(id, Resume::Continue));
            }
            let taken = start.elapsed();
            run_all(all);
            taken
        })
    }));
    figures.extend(among_others("-reap", TaskReturn::TaskDone, Others::Run, |all| {
        repeat(repeats, || {
            let ids = enqueue_batch(all, TaskReturn::TaskDone);
            run_all(all);
            let start = Instant::now();
            for id in ids {
                assert!(matches!(
                    all.service.task_status(id),
                    Some(TaskStatus::Finished(_))
                ));
            }
            start.elapsed()
        })
    }));
    figures
}

/// What the other tasks do meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Pending,
    /// They have been run, and are now parked or done, as they like.
    Run,
}

/// Measures among few, more and many others; the last is held against the first.
fn among_others(
    call: &str,
    then: TaskReturn,
    others: Others,
    mut measure: impl FnMut(&mut Loop) -> f64,
) -> Vec<Figure> {
    let mut few = None;
    let mut figures = Vec::new();
    for (count, label) in OTHERS {
        let pool = pool(0);
        let mut all = Loop::new(&pool);
        for connection in 0..count as u64 {
            all.service.enqueue(connection, idle(then)).expect("room");
        }
        if others == Others::Run {
            run_all(&mut all);
        }
        let value = measure(&mut all);
        let figure = Figure::new(&format!("{call}-{label}"), "ns/call", value);
        let among_few = *few.get_or_insert(value);
        let is_last = count == OTHERS[OTHERS.len() - 1].0;
        figures.push(if is_last {
            figure.against("among-10", among_few)
        } else {
            figure
        });
    }
    figures
}

/// The median cost of one call, in ns; `batch` answers how long `BATCH` of them took.
fn repeat(repeats: usize, mut batch: impl FnMut() -> Duration) -> f64 {
    let mut costs: Vec<f64> = (0..repeats)
        .map(|_| batch().as_nanos() as f64 / BATCH as f64)
        .collect();
    median(&mut costs)
}

fn enqueue_batch(all: &mut Loop, then: TaskReturn) -> [TaskId; BATCH] {
    std::array::from_fn(|at| all.service.enqueue(OURS + at as u64, idle(then)).expect("room"))
}

/// Takes the oldest pending tasks, runs them (they park) and puts them back in line.
fn pick_up(all: &mut Loop) -> Duration {
    let start = Instant::now();
    let mut steps = 0;
    while steps < BATCH {
        steps += all.service.run_pending(Duration::ZERO);
    }
    let taken = start.elapsed() * BATCH as u32 / steps as u32;
    for id in all.service.take_ready().map(|ready| ready.id) {
        assert!(all.service.task_sync(id, Resume::Continue));
    }
    taken
}

/// Runs until nothing is pending; what is announced then is left as it is.
fn run_all(all: &mut Loop) {
    while all.service.run_pending(Duration::from_secs(1)) > 0 {}
    let _ = all.service.take_ready();
}

fn reap_all(all: &mut Loop) -> usize {
    let ready = all.service.take_ready();
    ready
        .filter(|ready| all.service.task_status(ready.id).is_some())
        .count()
}
