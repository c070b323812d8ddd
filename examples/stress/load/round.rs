//! One pool, its loops on threads of their own, and one of several ends.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use moored::{PoolDump, Shutdown, ThreadPool};

use super::audit::Audit;
use super::bell::Bell;
use super::messages::Producer;
use super::service_loop::ServiceLoop;
use super::yard::Yard;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) services: usize,
    /// How many calls each loop makes.
    pub(crate) acts: u64,
    pub(crate) end: End,
    /// Whether the tasks of a connection run one after the other.
    pub(crate) in_order: bool,
}

/// How a round ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The clients leave, every loop reaps its tasks, then the pool goes.
    Orderly,
    /// The pool is finished while the loops are busy.
    Finish,
    /// The loops go and leave their tasks, then the pool.
    Abandon,
}

pub(crate) const ENDS: [End; 3] = [End::Orderly, End::Finish, End::Abandon];

/// How long a loop waits for its tasks to end before it says that some are lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a round; gives the pool's last word, and what was wrong. `watch` sees the pool ten times a
/// second.
pub(crate) fn run(setup: Setup, mut watch: impl FnMut(&PoolDump)) -> io::Result<(PoolDump, Vec<String>)> {
    let yard = Arc::new(Yard::default());
    let pool = build(setup)?;
    let mut audit = Audit::default();
    thread::scope(|scope| -> io::Result<()> {
        let (pool, yard, watcher) = (&pool, &yard, thread::current());
        let start = |index| {
            let watcher = watcher.clone();
            scope.spawn(move || {
                let result = run_loop(setup, index, pool, yard);
                watcher.unpark();
                result
            })
        };
        let loops: Vec<_> = (0..setup.services).map(start).collect();
        while !loops.iter().all(ScopedJoinHandle::is_finished) {
            thread::park_timeout(Duration::from_millis(100));
            let dump = pool.dump();
            yard.check(audit.check(&dump));
            watch(&dump);
        }
        let mut results = loops.into_iter().map(ScopedJoinHandle::join);
        results.try_for_each(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    if let Err(error) = pool.join_timeout(PATIENCE) {
        yard.fault(error.to_string());
    }
    let dump = pool.dump();
    yard.check(audit.close(&dump));
    drop(pool);
    if yard.alive() != 0 {
        yard.fault(format!("{} tasks were never dropped", yard.alive()));
    }
    if yard.messages_alive() != 0 {
        yard.fault(format!("{} messages were never dropped", yard.messages_alive()));
    }
    Ok((dump, yard.take_faults()))
}

fn build(setup: Setup) -> io::Result<ThreadPool> {
    let mut builder = ThreadPool::builder()
        .name("stress")
        .threads(setup.threads)
        .max_queue_depth(500)
        .max_tasks(5000)
        .time_slice(Duration::from_micros(50));
    if setup.in_order {
        builder = builder.max_running_per_connection(1);
    }
    builder.build().map_err(io::Error::other)
}

/// Threads that send to each loop.
const PRODUCERS: u64 = 2;

/// A loop, and producers that send to it.
fn run_loop(setup: Setup, index: usize, pool: &ThreadPool, yard: &Arc<Yard>) -> io::Result<()> {
    let mut bell = Bell::of_loop(index)?;
    let mut rng = Rng::with_seed(setup.seed.wrapping_add(index as u64 * 7919));
    let mut service = ServiceLoop::new(pool, bell.wake(), rng.u64(..), setup.in_order, yard);
    // The mailbox knows its loop's thread.
    service.drain();
    let stop = &AtomicBool::new(false);
    thread::scope(move |scope| {
        let producers: Vec<_> = (1..=PRODUCERS)
            .map(|from| {
                let producer = Producer::new(from, rng.u64(..), &service.messages.sender, yard);
                scope.spawn(move || produce(producer, stop))
            })
            .collect();
        let result = run_acts(setup, index, pool, yard, &mut service, &mut bell, &mut rng);
        stop.store(true, Ordering::Relaxed);
        let goes_on = result.is_ok() && setup.end != End::Abandon;
        // They may wait for room.
        while goes_on && !producers.iter().all(ScopedJoinHandle::is_finished) && yard.is_sound() {
            service.drain();
            rest(&mut service, &mut bell, Duration::from_micros(100))?;
        }
        // Otherwise it is dropped, so that producers that wait are let go.
        let mut service = (goes_on && yard.is_sound()).then_some(service);
        let sent = producers.into_iter().map(ScopedJoinHandle::join);
        let sent: u64 = sent
            .map(|sent| sent.unwrap_or_else(|panic| resume_unwind(panic)))
            .sum();
        if let Some(service) = &mut service {
            while !service.messages.are_drained() {
                service.drain();
            }
            yard.check(service.messages.check_sum(sent + service.messages_sent()));
        }
        result
    })
}

/// Sends until it is stopped or the mailbox is closed; gives how many messages were accepted.
fn produce(mut producer: Producer, stop: &AtomicBool) -> u64 {
    let mut is_open = true;
    while is_open && !stop.load(Ordering::Relaxed) {
        for _ in 0..10 {
            is_open &= producer.send();
        }
        is_open = is_open && producer.send_blocking();
        thread::yield_now();
    }
    producer.accepted
}

fn run_acts(
    setup: Setup,
    index: usize,
    pool: &ThreadPool,
    yard: &Arc<Yard>,
    service: &mut ServiceLoop,
    bell: &mut Bell,
    rng: &mut Rng,
) -> io::Result<()> {
    let is_slow = index + 1 == setup.services;
    let mut acts = 0;
    while acts < setup.acts && yard.is_sound() {
        if setup.end == End::Finish && index == 0 && acts >= setup.acts / 10 * 9 {
            yard.finishing.store(true, Ordering::Release);
            pool.shutdown(Shutdown::Cancel);
        }
        let burst = rng.u64(1..40);
        (0..burst).for_each(|_| service.act());
        acts += burst;
        service.drain();
        if rng.u32(..20) == 0 {
            serve_out(service, bell, pool, yard)?;
        }
        let nap = if is_slow && rng.u32(..100) == 0 {
            20_000
        } else {
            rng.u64(..200)
        };
        rest(service, bell, Duration::from_micros(nap))?;
    }
    if setup.end != End::Abandon {
        service.close_all();
        serve_out(service, bell, pool, yard)?;
    }
    Ok(())
}

/// Sleeps until it is woken, at most for `nap`, and not over a timeout.
fn rest(service: &mut ServiceLoop, bell: &mut Bell, nap: Duration) -> io::Result<()> {
    let timeout = service.service.poll_timeout().unwrap_or(Duration::MAX);
    bell.wait(nap.min(timeout))
}

/// The loop does nothing but what it is woken for, until its tasks have ended. A wake-up that is
/// lost, of a worker or of the loop, shows here.
fn serve_out(service: &mut ServiceLoop, bell: &mut Bell, pool: &ThreadPool, yard: &Yard) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        service.drain();
        service.answer_all();
        if service.len() == 0 || !yard.is_sound() {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            yard.fault(format!("{} tasks are lost:\n{:.20}", service.len(), pool.dump()));
            return Ok(());
        }
        rest(service, bell, left)?;
    }
}
