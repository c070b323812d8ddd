//! `idle`: a pool with 10,000 parked tasks and nothing to do. Who wakes up?

use std::fs;
use std::process;
use std::thread;
use std::time::Duration;

use moored::{TaskStatus, ThreadPool};

use crate::contenders::moored::{ServiceLoop, pool};
use crate::figure::Figure;
use crate::job::Stream;

/// Lets the workers come to rest before the count.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn idle(tasks: usize, seconds: u64, threads: usize) -> Vec<Figure> {
    let pool = pool(threads);
    let mut parked = Parked::park(&pool, tasks);
    thread::sleep(SETTLE);
    let before = Rest::now();
    parked.all.sleep(Some(Duration::from_secs(seconds)));
    let after = Rest::now();
    vec![
        // The goal is none at all; a ratio needs a number, so: fewer than one.
        Figure::new("-switches", "switches", (after.switches - before.switches) as f64)
            .against("fewer-than", 1.0),
        Figure::new("-cpu", "ms", (after.cpu_ms - before.cpu_ms) as f64),
    ]
}

/// Streams that have made a chunk which nobody consumes, and their loop.
pub(crate) struct Parked {
    all: ServiceLoop<Stream>,
}

impl Parked {
    pub(crate) fn park(pool: &ThreadPool, tasks: usize) -> Self {
        let mut all = ServiceLoop::new(pool);
        for slot in 0..tasks as u32 {
            // Connections of their own, far from those of any other row.
            all.service
                .enqueue(u64::from(slot) + (1 << 40), Stream::new(slot, 2))
                .expect("room");
        }
        let mut parked = 0;
        while parked < tasks {
            all.sleep(None);
            while let Some(id) = all.next_id() {
                assert!(matches!(
                    all.service.task_status(id),
                    Some(TaskStatus::Syncing(_))
                ));
                parked += 1;
            }
        }
        Self { all }
    }
}

struct Rest {
    switches: u64,
    cpu_ms: u64,
}

impl Rest {
    /// Of all threads but this one, which must sleep to measure.
    fn now() -> Self {
        let mut rest = Self {
            switches: 0,
            cpu_ms: 0,
        };
        for thread in fs::read_dir("/proc/self/task").expect("Linux") {
            let path = thread.expect("a thread").path();
            if path.ends_with(process::id().to_string()) {
                continue;
            }
            let status = fs::read_to_string(path.join("status")).expect("status");
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            rest.switches += line
                .and_then(|count| count.trim().parse::<u64>().ok())
                .expect("a count");
            let run_ns = fs::read_to_string(path.join("schedstat")).expect("schedstat");
            let run_ns = run_ns.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            rest.cpu_ms += run_ns.expect("a time") / 1_000_000;
        }
        rest
    }
}
