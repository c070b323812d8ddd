//! A child process: one contender, one measure, once.

use std::process;
use std::thread;
use std::time::Duration;

use crate::contenders::closures::{Closures, Smol, SpawnBlocking, Unblock};
use crate::contenders::crossbeam::Crossbeam;
use crate::contenders::deques::Deques;
use crate::contenders::flume::Flume;
use crate::contenders::limit::{Limit, Minimum};
use crate::contenders::mailboxes::{
    CrossbeamChannel, FlumeChannel, Notifying, Ours, StdChannel, Swapped, TokioChannel,
};
use crate::contenders::moored::{Moored, StreamLoop};
use crate::contenders::std_mpsc::StdMpsc;
use crate::contenders::threads::ThreadPerStream;
use crate::contenders::tokio::{AmongWorkers, OwnThread, Tokio};
use crate::contenders::tokio_streams::TaskStreams;
use crate::figure::Figure;
use crate::job::Stream;
use crate::measures::Work;
use crate::pool::{Family, Host, Pool, Requeue, Streams};
use crate::rows::mailbox::{self, Mailbox};
use crate::rows::{
    cancel, door, dump, estimated_wait, fair, growth, idle, newcomer, services, shares, stream, told,
};

/// A contender that hangs must not hang the bench.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the figures and ends the process, so that nobody's shutdown is waited for.
pub(crate) fn run(contender: &str, work: Work, threads: usize) -> ! {
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("still running after {PATIENCE:?}: given up");
        process::exit(1);
    });
    for figure in measure(contender, work, threads) {
        println!("{figure}");
    }
    process::exit(0)
}

fn measure(contender: &str, work: Work, threads: usize) -> Vec<Figure> {
    type Requeued<F> = Requeue<<F as Family>::Pool<Stream>>;
    type ThreadPool = Closures<threadpool::ThreadPool>;
    type Rayon = Closures<rayon::ThreadPool>;
    type Spawned = Closures<SpawnBlocking>;
    type Blocking = Closures<Unblock>;
    type SmolTasks = Closures<Smol>;
    if let Work::Mailbox(plan) = work {
        return vec![mailed(contender, plan, threads)];
    }
    match contender {
        "moored" => moored(work, threads),
        "limit" => pooled::<Limit, Minimum<Stream>>(work, threads),
        "crossbeam" => pooled::<Crossbeam, Requeued<Crossbeam>>(work, threads),
        "deques" => pooled::<Deques, Requeued<Deques>>(work, threads),
        "std" => pooled::<StdMpsc, Requeued<StdMpsc>>(work, threads),
        "flume" => pooled::<Flume, Requeued<Flume>>(work, threads),
        "threadpool" => pooled::<ThreadPool, Requeued<ThreadPool>>(work, threads),
        "rayon" => pooled::<Rayon, Requeued<Rayon>>(work, threads),
        "tokio" => pooled::<Tokio<OwnThread>, TaskStreams<OwnThread>>(work, threads),
        "tokio-task" => pooled::<Tokio<AmongWorkers>, TaskStreams<AmongWorkers>>(work, threads),
        "spawn-blocking" => pooled::<Spawned, Requeued<Spawned>>(work, threads),
        "blocking" => pooled::<Blocking, Requeued<Blocking>>(work, threads),
        "smol" => pooled::<SmolTasks, Requeued<SmolTasks>>(work, threads),
        "threads" => streamed::<ThreadPerStream>(work, threads),
        _ => unreachable!("not in the list of contenders"),
    }
}

fn mailed(contender: &str, plan: mailbox::Plan, threads: usize) -> Figure {
    fn run<M: Mailbox>(plan: mailbox::Plan, threads: usize) -> Figure {
        let (mailbox, post, host) = M::start(threads);
        host.run(mailbox::mailbox(mailbox, post, plan))
    }
    match contender {
        "moored" => run::<Ours>(plan, threads),
        "limit" => run::<Swapped>(plan, threads),
        "crossbeam" => run::<Notifying<CrossbeamChannel>>(plan, threads),
        "std" => run::<Notifying<StdChannel>>(plan, threads),
        "flume" => run::<Notifying<FlumeChannel>>(plan, threads),
        "tokio" => run::<TokioChannel>(plan, threads),
        _ => unreachable!("the table of measures says who runs what"),
    }
}

fn moored(work: Work, threads: usize) -> Vec<Figure> {
    match work {
        Work::Cancel { tasks } => vec![cancel::by_connection(tasks, threads)],
        Work::CloseOne { repeats } => growth::close_one(repeats),
        Work::Growth { repeats } => growth::growth(repeats),
        Work::Dump { tasks, told } => dump::dump(tasks, told, threads),
        Work::Services(told) => services::services(told, threads),
        Work::Shares(plan) => shares::shares(plan, threads),
        Work::Weight { weight, step } => shares::weight(weight, step, threads),
        Work::Newcomer(plan) => newcomer::newcomer(plan, threads),
        Work::Returning(plan) => newcomer::returning(plan, threads),
        Work::Door { requests } => door::door(requests, threads),
        Work::Codel { time } => door::codel(time, threads),
        Work::EstimatedWait { probes } => estimated_wait::estimated_wait(probes, threads),
        Work::Idle { tasks, seconds } => idle::idle(tasks, seconds, threads),
        _ => pooled::<Moored, StreamLoop>(work, threads),
    }
}

fn pooled<F: Family, S: Streams>(work: Work, threads: usize) -> Vec<Figure> {
    match work {
        Work::Told(plan) => {
            let (pool, host) = F::Pool::start(threads);
            vec![host.run(told::told(pool, plan))]
        }
        Work::Latency { samples } => {
            let (pool, host) = F::Pool::start(threads);
            host.run(told::latency(pool, samples))
        }
        Work::Cancel { tasks } => {
            let (pool, host) = F::Pool::start(threads);
            vec![host.run(cancel::by_flags(pool, tasks, threads))]
        }
        Work::Fair(plan) => {
            let (pool, host) = F::Pool::start(threads);
            host.run(fair::fair(pool, plan))
        }
        _ => streamed::<S>(work, threads),
    }
}

fn streamed<S: Streams>(work: Work, threads: usize) -> Vec<Figure> {
    let (streams, host) = S::start(threads);
    match work {
        Work::Stream(plan) => vec![host.run(stream::stream(streams, plan))],
        Work::Memory { streams: count } => host.run(stream::memory(streams, count)),
        _ => unreachable!("the table of measures says who runs what"),
    }
}
