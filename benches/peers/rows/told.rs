//! `told-*` and `work-*`: tasks, so many in flight; the loop is told of each and checks it.
//! `latency`: the same, one at a time.

use std::time::Instant;

use crate::figure::{Figure, percentile};
use crate::job::Item;
use crate::ledger::Ledger;
use crate::pool::Pool;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// How many are in flight; as many as `tasks` for a burst.
    pub(crate) window: usize,
    pub(crate) tasks: usize,
    /// The work: crc32 of so many bytes.
    pub(crate) bytes: u32,
}

pub(crate) async fn told<P: Pool<Item>>(mut pool: P, plan: Told) -> Figure {
    let mut ledger = Ledger::new(plan.window, plan.bytes);
    let warm_up = plan.tasks / 10;
    round_trip(&mut pool, &mut ledger, plan.window.min(warm_up), warm_up).await;

    let start = Instant::now();
    round_trip(&mut pool, &mut ledger, plan.window, plan.tasks).await;
    let elapsed = start.elapsed();

    assert_eq!(ledger.total(), warm_up + plan.tasks);
    Figure::new("", "ns/task", elapsed.as_nanos() as f64 / plan.tasks as f64)
}

/// Keeps `window` tasks in flight until the loop has been told of `tasks`.
async fn round_trip<P: Pool<Item>>(pool: &mut P, ledger: &mut Ledger, window: usize, tasks: usize) {
    for slot in 0..window {
        pool.submit(ledger.item(slot));
    }
    let mut to_submit = tasks - window;
    let mut to_come = tasks;
    while to_come > 0 {
        while let Some(item) = pool.next() {
            ledger.tick_off(&item);
            to_come -= 1;
            if to_submit > 0 {
                to_submit -= 1;
                pool.submit(ledger.item(item.slot as usize));
            }
        }
        if to_come > 0 {
            pool.sleep(None).await;
        }
    }
}

pub(crate) async fn latency<P: Pool<Item>>(mut pool: P, samples: usize) -> Vec<Figure> {
    let mut ledger = Ledger::new(1, 0);
    let warm_up = samples / 10;
    let mut taken = Vec::with_capacity(warm_up + samples);
    for _ in 0..warm_up + samples {
        let start = Instant::now();
        pool.submit(ledger.item(0));
        let item = loop {
            pool.sleep(None).await;
            if let Some(item) = pool.next() {
                break item;
            }
        };
        taken.push(start.elapsed().as_nanos() as f64);
        ledger.tick_off(&item);
    }
    let taken = &mut taken[warm_up..];
    vec![
        Figure::new("-p50", "ns", percentile(taken, 50.0)),
        Figure::new("-p99", "ns", percentile(taken, 99.0)),
    ]
}
