//! Whole lives of services under random load: connections that come and go, timeouts, panics, tasks that outlive their
//! connection and are taken over. The load and the books that check it are those of `examples/stress`.
//!
//! One seed replays one run: exactly without threads, with threads as far as these allow. A failure names its seed;
//! `MOORED_SEED=<seed> cargo test --test simulation` repeats it.

#[path = "../examples/stress/load/mod.rs"]
mod load;

use fastrand::Rng;
use load::audit::Audit;
use load::round::{self, ENDS, Setup};
use load::service_loop::ServiceLoop;
use load::yard::Yard;
use moored::{Clock, ThreadPool};
use std::sync::Arc;
use std::time::Duration;

/// The seeds to try: those given, or the one that failed.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("MOORED_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOORED_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Three services of one pool on this thread, with time moved by hand; gives what was done and told, in order.
fn run_without_threads(seed: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let (clock, hand) = Clock::manual();
    let in_order = rng.bool();
    let mut builder = ThreadPool::builder()
        .threads(0)
        .clock(clock)
        .time_slice(Duration::ZERO);
    builder = builder
        .max_queue_depth(rng.usize(1..200))
        .max_tasks(rng.usize(1..400));
    if in_order {
        builder = builder.max_running_per_connection(1);
    }
    let pool = builder.build().unwrap();
    let yard = Arc::new(Yard::default());
    let mut loops: Vec<_> = (0..3)
        .map(|_| ServiceLoop::new(&pool, || {}, rng.u64(..), in_order, &yard))
        .collect();
    let mut audit = Audit::default();
    for service in &mut loops {
        service.trace = Some(Vec::new());
    }
    for _ in 0..2000 {
        let service = &mut loops[rng.usize(..3)];
        match rng.u32(..10) {
            0..6 => service.act(),
            6 => drop(service.drain()),
            7 => hand.advance(Duration::from_micros(rng.u64(..2000))),
            _ => drop(service.service.run_pending(Duration::ZERO)),
        }
        yard.check(audit.check(&pool.dump()));
    }
    let mut trace = Vec::new();
    for service in &mut loops {
        service.close_all();
        while service.len() > 0 {
            let turns = service.service.run_pending(Duration::ZERO);
            assert!(
                turns + service.drain() > 0,
                "seed {seed}: nothing moves\n{}",
                pool.dump()
            );
        }
        trace.append(service.trace.as_mut().unwrap());
    }
    yard.check(audit.close(&pool.dump()));
    assert_eq!(yard.take_faults(), [""; 0], "seed {seed}");
    for service in &mut loops {
        while !service.messages.are_drained() {
            service.drain_messages();
        }
        yard.check(service.messages.check_sum(service.messages_sent()));
    }
    assert_eq!(yard.take_faults(), [""; 0], "seed {seed}");
    drop((pool, loops));
    assert_eq!(yard.alive(), 0, "seed {seed}: tasks were never dropped");
    assert_eq!(
        yard.messages_alive(),
        0,
        "seed {seed}: messages were never dropped"
    );
    trace
}

/// L2, L14, S8, S11: without threads a seed determines a run, to the last event; and its books balance.
#[test]
fn one_seed_replays_one_run_exactly_without_threads() {
    let mut last = Vec::new();
    for seed in seeds(40) {
        let trace = run_without_threads(seed);
        let again = run_without_threads(seed);
        let first_difference = trace.iter().zip(&again).find(|(one, other)| one != other);
        assert_eq!(first_difference, None, "seed {seed}");
        assert_eq!(trace.len(), again.len(), "seed {seed}");
        assert!(trace.len() > 400, "seed {seed}: hardly anything happens");
        assert_ne!(trace, last, "seed {seed} does what the last one did");
        last = trace;
    }
}

/// L2, L13, S8, S9, S15, S17, S24: several loops on several threads, and three ways to end: every task ends once, for a
/// good reason, and nothing is left over.
#[test]
fn services_on_several_threads_keep_their_books() {
    for seed in seeds(12) {
        let setup = Setup {
            seed,
            threads: 1 + seed as usize % 3,
            services: 3,
            acts: 3000,
            end: ENDS[seed as usize % ENDS.len()],
            in_order: seed % 2 == 1,
        };
        let (dump, faults) = round::run(setup, |_| {}).unwrap();
        assert_eq!(faults, [""; 0], "{setup:?}");
        assert!(dump.counters.accepted > 500, "hardly anything happens: {dump:.0}");
    }
}
