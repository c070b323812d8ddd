//! `services`: the cost of idle services for the loop of another service.

use std::sync::Arc;

use moored::{Service, ThreadPool};

use super::told::{self, Told};
use crate::contenders::moored::{JobLoop, Once, pool};
use crate::figure::{Figure, median};
use crate::job::Item;
use crate::ledger::Ledger;
use crate::pool::{Host, PlainThread};

/// Pairs of told-1024 with and without idle services.
const PAIRS: usize = 5;
/// The numbers of idle services, and the largest allowed cost of each, as a factor.
const IDLE: [(usize, f64); 2] = [(10, 1.05), (10_000, 1.1)];

pub(crate) fn services(plan: Told, threads: usize) -> Vec<Figure> {
    IDLE.into_iter()
        .map(|(idle, factor)| {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..PAIRS {
                without.push(told_beside(0, plan, threads));
                with.push(told_beside(idle, plan, threads));
            }
            let goal = factor * median(&mut without);
            Figure::new(&format!("-{idle}"), "ns/task", median(&mut with)).against("goal", goal)
        })
        .collect()
}

/// The row told-1024 beside idle services. Each idle service has had a task, like a real service.
fn told_beside(idle: usize, plan: Told, threads: usize) -> f64 {
    let pool = Arc::new(pool(threads));
    let _services: Vec<_> = (0..idle).map(|_| idle_service(&pool)).collect();
    PlainThread
        .run(told::told(JobLoop::<Item>::new(pool.clone()), plan))
        .value
}

fn idle_service(pool: &ThreadPool) -> Service<Once<Item>> {
    let mut service = pool.service(|| {});
    let item = Ledger::new(1, 0).item(0);
    let id = service.enqueue(0, Once(item)).expect("room");
    service.dequeue(id);
    drop(service.task_status(id));
    service
}
