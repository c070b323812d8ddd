//! `dump`: how long one takes with 100,000 tasks alive, and what ten a second cost the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use moored::ThreadPool;

use super::idle::Parked;
use super::told::{self, Told};
use crate::contenders::moored::{JobLoop, pool};
use crate::figure::{Figure, median};
use crate::job::Item;
use crate::pool::{Host, PlainThread};

/// Dumps that are timed one by one.
const DUMPS: usize = 11;
/// Pairs of told-1024 with and without dumps.
const PAIRS: usize = 5;
const BETWEEN_DUMPS: Duration = Duration::from_millis(100);

pub(crate) fn dump(tasks: usize, plan: Told, threads: usize) -> Vec<Figure> {
    let pool = Arc::new(pool(threads));
    let _parked = Parked::park(&pool, tasks);

    let mut times: Vec<f64> = (0..DUMPS).map(|_| time_of_one(&pool, tasks)).collect();
    let mut with = Vec::new();
    let mut without = Vec::new();
    for _ in 0..PAIRS {
        without.push(told_cost(&pool, plan));
        let stop = Arc::new(AtomicBool::new(false));
        let dumper = thread::spawn({
            let (pool, stop) = (pool.clone(), stop.clone());
            move || keep_dumping(&pool, &stop)
        });
        with.push(told_cost(&pool, plan));
        stop.store(true, Ordering::SeqCst);
        dumper.join().expect("no panic in dump");
    }
    vec![
        Figure::new("-time", "ms", median(&mut times)).against("goal", 50.0),
        Figure::new("-told-1024", "ns/task", median(&mut with)).against("without", median(&mut without)),
    ]
}

fn time_of_one(pool: &ThreadPool, tasks: usize) -> f64 {
    let start = Instant::now();
    let dump = pool.dump();
    let taken = start.elapsed();
    assert!(dump.tasks.len() >= tasks, "the dump shows all tasks");
    taken.as_secs_f64() * 1000.0
}

fn keep_dumping(pool: &ThreadPool, stop: &AtomicBool) {
    let mut next = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        drop(pool.dump());
        next += BETWEEN_DUMPS;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The very row told-1024, on a service of its own beside the parked tasks.
fn told_cost(pool: &Arc<ThreadPool>, plan: Told) -> f64 {
    PlainThread
        .run(told::told(JobLoop::<Item>::new(pool.clone()), plan))
        .value
}
