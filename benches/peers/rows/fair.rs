//! `fair`: one connection keeps 10,000 tasks of 20 us pending. Other connections enqueue one
//! task each now and then: how long does that wait until a worker starts it?

use std::time::{Duration, Instant};

use crate::figure::{Figure, percentile};
use crate::job::Timed;
use crate::pool::Pool;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) flood: usize,
    pub(crate) guests: usize,
}

const STEP: Duration = Duration::from_micros(20);
/// Not a multiple of the step, so that the guests meet the flood at all points of a step.
const BETWEEN_GUESTS: Duration = Duration::from_micros(2_003);
const FLOODER: u64 = 0;

pub(crate) async fn fair<P: Pool<Timed>>(mut pool: P, plan: Plan) -> Vec<Figure> {
    for _ in 0..plan.flood {
        pool.submit(task(FLOODER, STEP));
    }
    let mut waits = Vec::with_capacity(plan.guests);
    let mut came = 0;
    let mut next_guest = Instant::now() + BETWEEN_GUESTS;
    while waits.len() < plan.guests {
        while let Some(task) = pool.next() {
            if task.connection == FLOODER {
                pool.submit(self::task(FLOODER, STEP));
            } else {
                waits.push(task.waited.as_nanos() as f64 / 1000.0);
            }
        }
        let now = Instant::now();
        if came < plan.guests && now >= next_guest {
            came += 1;
            next_guest = now + BETWEEN_GUESTS;
            pool.submit(task(came as u64, Duration::ZERO));
        }
        let timeout = next_guest
            .saturating_duration_since(now)
            .max(Duration::from_micros(1));
        pool.sleep(Some(timeout)).await;
    }
    vec![
        Figure::new("-p50", "us", percentile(&mut waits, 50.0)),
        Figure::new("-p99", "us", percentile(&mut waits, 99.0)).against("4-steps", 80.0),
    ]
}

fn task(connection: u64, spin: Duration) -> Timed {
    Timed {
        connection,
        enqueued: Instant::now(),
        waited: Duration::ZERO,
        spin,
    }
}
