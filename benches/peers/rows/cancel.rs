//! `cancel`: every worker is busy, 100,000 tasks of as many connections wait in line. All
//! connections close; the row ends when the loop has every task back and the queue holds
//! nothing of them any more (a tombstone is memory, and depth that newcomers wait for).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use moored::TaskStatus;

use crate::contenders::moored::{Once, ServiceLoop, pool};
use crate::figure::Figure;
use crate::job::{Cancelled, Gate};
use crate::pool::Pool;

/// What a queue without a way to search it can do: raise a flag, and let the worker that
/// comes across the task hand it back unrun.
pub(crate) async fn by_flags<P: Pool<Cancelled>>(mut pool: P, tasks: usize, threads: usize) -> Figure {
    let flags: Arc<[AtomicBool]> = (0..tasks).map(|_| AtomicBool::new(false)).collect();
    let gate = Arc::new(Gate::default());
    for _ in 0..threads {
        pool.submit(Cancelled::Blocker(gate.clone()));
    }
    gate.wait_until_taken(threads);
    for slot in 0..tasks as u32 {
        pool.submit(Cancelled::Waiting {
            slot,
            flags: flags.clone(),
            ran: false,
        });
    }

    let start = Instant::now();
    for flag in &*flags {
        flag.store(true, Ordering::Relaxed);
    }
    gate.open();
    let mut back = 0;
    while back < tasks {
        while let Some(task) = pool.next() {
            if let Cancelled::Waiting { ran, .. } = task {
                assert!(!ran, "a cancelled task ran");
                back += 1;
            }
        }
        if back < tasks {
            pool.sleep(None).await;
        }
    }
    Figure::new("", "ns/task", start.elapsed().as_nanos() as f64 / tasks as f64)
}

/// moored: closing a connection is a call.
pub(crate) fn by_connection(tasks: usize, threads: usize) -> Figure {
    let pool = pool(threads);
    let mut all = ServiceLoop::new(&pool);
    let gate = Arc::new(Gate::default());
    for worker in 0..threads as u64 {
        let blocker = Once(Cancelled::Blocker(gate.clone()));
        all.service.enqueue(tasks as u64 + worker, blocker).expect("room");
    }
    gate.wait_until_taken(threads);
    let flags: Arc<[AtomicBool]> = Arc::new([]);
    for slot in 0..tasks as u32 {
        let task = Cancelled::Waiting {
            slot,
            flags: flags.clone(),
            ran: false,
        };
        all.service.enqueue(u64::from(slot), Once(task)).expect("room");
    }

    let start = Instant::now();
    for connection in 0..tasks as u64 {
        all.service.connection_closed(connection);
    }
    gate.open();
    let mut back = 0;
    while back < tasks {
        while let Some(id) = all.next_id() {
            if let Some(TaskStatus::Stopped(..)) = all.service.task_status(id) {
                back += 1;
            }
        }
        if back < tasks {
            all.sleep(None);
        }
    }
    Figure::new("", "ns/task", start.elapsed().as_nanos() as f64 / tasks as f64)
}
