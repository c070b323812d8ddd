//! Shared parts of the models: their exploration, events to wait for, and a task that reports its
//! steps.

use loom::sync::{Condvar, Mutex};
use moored::{
    Clock, Context, Service, StopReason, Task, TaskId, TaskReturn, ThreadPool, ThreadPoolBuilder, Wake,
};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

/// Runs a model under every schedule with at most two preemptions, unless `LOOM_MAX_PREEMPTIONS`
/// sets another number. Returns the different results of the model.
pub(crate) fn explore<R: Ord + Send + 'static>(
    name: impl Display,
    model: impl Fn() -> R + Send + Sync + 'static,
) -> BTreeSet<R> {
    explore_deeper(2, name, model)
}

/// The same with at least this many preemptions, for a fault that needs them.
pub(crate) fn explore_deeper<R: Ord + Send + 'static>(
    preemptions: usize,
    name: impl Display,
    model: impl Fn() -> R + Send + Sync + 'static,
) -> BTreeSet<R> {
    let wanted = loom::model::Builder::new().preemption_bound;
    check(wanted.max(Some(preemptions)), name, model)
}

/// The same with at most this many preemptions, for a model with many schedules and a fault that
/// needs no more.
pub(crate) fn explore_within<R: Ord + Send + 'static>(
    preemptions: usize,
    name: impl Display,
    model: impl Fn() -> R + Send + Sync + 'static,
) -> BTreeSet<R> {
    check(Some(preemptions), name, model)
}

fn check<R: Ord + Send + 'static>(
    preemption_bound: Option<usize>,
    name: impl Display,
    model: impl Fn() -> R + Send + Sync + 'static,
) -> BTreeSet<R> {
    fail_at_the_first_panic();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemption_bound;
    builder.max_branches = 10_000;
    let begun = Instant::now();
    let seen = Arc::new((AtomicUsize::new(0), std::sync::Mutex::new(BTreeSet::new())));
    let record = Arc::clone(&seen);
    builder.check(move || {
        record.0.fetch_add(1, SeqCst);
        moored::keep_workers_from_searching();
        let answer = model();
        record.1.lock().unwrap().insert(answer);
    });
    let schedules = seen.0.load(SeqCst);
    println!("{name}: {schedules} schedules in {:.1?}", begun.elapsed());
    assert!(schedules > 1, "{name}: nothing raced");
    std::mem::take(&mut *seen.1.lock().unwrap())
}

/// After a panic inside a model loom cannot continue, and a second panic during unwinding hides the
/// first message. This hook prints the first one. It also makes a failed assertion count in places
/// where the pool contains panics.
fn fail_at_the_first_panic() {
    // Set once, and before the first model: loom replaces the hook by its own, which hides the
    // unwinding of its threads.
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            // Not `eprintln!`, whose output the test harness keeps until the test has ended.
            let _ = writeln!(std::io::stderr(), "{}: {panic}", thread.name().unwrap_or("?"));
            std::process::exit(101);
        }));
    });
}

/// Ends the race of the model. The rest, such as the drop of the pool, runs under one schedule
/// only. Other models explore the end of a pool.
pub(crate) fn end_race() {
    loom::skip_branch();
}

/// A pool on a clock that does not move, so that a schedule always has the same result.
pub(crate) fn pool_of(threads: usize) -> ThreadPoolBuilder {
    ThreadPool::builder().threads(threads).clock(Clock::manual().0)
}

/// The time limit of waits that must end with an event.
pub(crate) const FOREVER: Duration = Duration::MAX;

/// An event to wait for. It stays set once it has happened. Loops sleep on it, too.
pub(crate) struct Event {
    count: Mutex<usize>,
    changed: Condvar,
    total: AtomicUsize,
}

impl Event {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            count: Mutex::new(0),
            changed: Condvar::new(),
            total: AtomicUsize::new(0),
        })
    }

    pub(crate) fn happen(&self) {
        self.total.fetch_add(1, SeqCst);
        *self.count.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Waits until it has happened this many times since the last wait.
    pub(crate) fn wait_for(&self, times: usize) {
        let mut count = self.count.lock().unwrap();
        while *count < times {
            count = self.changed.wait(count).unwrap();
        }
        *count = 0;
    }

    /// Waits until it has happened since the last wait.
    pub(crate) fn wait(&self) {
        self.wait_for(1);
    }

    /// How many times it has happened in total.
    pub(crate) fn total(&self) -> usize {
        self.total.load(SeqCst)
    }
}

impl Wake for Event {
    fn wake_loop(&self) {
        self.happen();
    }
}

/// The result of the first step of a [`Probe`]. The next step ends the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum First {
    Continue,
    Sync,
    /// The second step returns the same.
    SyncTwice,
    /// Waits for a time that never comes.
    Delay,
    TaskDone,
    Panic,
}

/// The record of a [`Probe`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The number of steps that were not asked to stop.
    pub(crate) steps: usize,
    /// Why its last step was asked to stop.
    pub(crate) told: Option<StopReason>,
    pub(crate) drops: usize,
}

/// A task that stops when it is asked to, and records its steps.
pub(crate) struct Probe {
    first: First,
    /// The lock of std: loom never switches threads while it is held.
    seen: Arc<std::sync::Mutex<Seen>>,
    begun: Option<Arc<loom::sync::atomic::AtomicBool>>,
}

impl Probe {
    pub(crate) fn new(first: First) -> (Self, impl Fn() -> Seen) {
        let seen = Arc::new(std::sync::Mutex::new(Seen::default()));
        let look = Arc::clone(&seen);
        let probe = Self {
            first,
            seen,
            begun: None,
        };
        (probe, move || look.lock().unwrap().clone())
    }

    /// Reports when a step begins.
    pub(crate) fn tell(&mut self, begun: &Arc<loom::sync::atomic::AtomicBool>) {
        self.begun = Some(Arc::clone(begun));
    }
}

/// A service with one task, which has parked and was announced. The race begins when the worker
/// notifies the loop: only one schedule is explored before.
pub(crate) fn parked(pool: &ThreadPool) -> (Service<Probe>, Arc<Event>, TaskId, impl Fn() -> Seen + use<>) {
    loom::stop_exploring();
    let (event, race) = (Event::new(), Once::new());
    let told = Arc::clone(&event);
    let mut service = pool.service(move || {
        race.call_once(loom::explore);
        told.happen();
    });
    let (task, seen) = Probe::new(First::Sync);
    let id = service.enqueue(1, task).unwrap();
    event.wait();
    assert_eq!(service.take_ready().map(|ready| ready.id).next(), Some(id));
    (service, event, id, seen)
}

impl Task for Probe {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if let Some(begun) = &self.begun {
            begun.store(true, SeqCst);
        }
        let told = cx.stop_reason();
        let mut seen = self.seen.lock().unwrap();
        seen.told = told;
        if told.is_some() {
            return TaskReturn::Stopped;
        }
        seen.steps += 1;
        match self.first {
            First::SyncTwice if seen.steps <= 2 => TaskReturn::Sync,
            _ if seen.steps > 1 => TaskReturn::TaskDone,
            First::Continue => TaskReturn::Continue,
            First::Sync | First::SyncTwice => TaskReturn::Sync,
            First::Delay => TaskReturn::Delay(FOREVER),
            First::TaskDone => TaskReturn::TaskDone,
            First::Panic => {
                drop(seen);
                // A panic without a message.
                std::panic::resume_unwind(Box::new("step"))
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.seen.lock().unwrap().drops += 1;
    }
}
