//! What the behaviour tests share: a loop that waits for its wake-ups, gates that hold a step, tasks that leave
//! traces, and a way to wait for a fact.

#![allow(dead_code, reason = "each test file uses its part")]

use moored::{Context, Service, StopReason, Task, TaskId, TaskReturn, TaskStatus, ThreadPool, Wake};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a fact may take. A test that works never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A budget for `run_pending` that is never used up.
pub(crate) const PLENTY: Duration = Duration::from_secs(3600);

/// A pool with threads, or without (0).
pub(crate) fn pool(threads: usize) -> ThreadPool {
    ThreadPool::builder()
        .threads(threads)
        .max_queue_depth(200_000)
        .max_tasks(200_000)
        .build()
        .expect("a few threads")
}

/// Waits until `fact` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        // Some facts ring no bell: the number of a process's threads, a counter of the pool.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Runs `code` on a thread of its own; a deadlock there fails the test instead of hanging it.
#[track_caller]
pub(crate) fn within_patience<R: Send + 'static>(what: &str, code: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // Fails when the test has given up waiting.
        let _ = done.send(code());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("it has sent its result");
            result
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it ended without a result and without a panic"),
        },
    }
}

/// A number under a lock that can be waited for.
#[derive(Default)]
pub(crate) struct Count {
    value: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.value
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> usize {
        *self.lock()
    }

    pub(crate) fn add(&self, n: usize) {
        *self.lock() += n;
        self.changed.notify_all();
    }

    /// Sets it to 0 and gives what it was.
    pub(crate) fn take(&self) -> usize {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until it is 1 or more, and takes 1 away.
    #[track_caller]
    pub(crate) fn take_one(&self) {
        let enough = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |value| *value == 0);
        let mut value = enough.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        assert!(*value > 0, "waited in vain for 1");
        *value -= 1;
    }

    /// Waits until it is `n` or more.
    #[track_caller]
    pub(crate) fn wait_for(&self, n: usize) {
        let enough = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |value| *value < n);
        let value = *enough.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        assert!(value >= n, "waited for {n}, but it stays {value}");
    }
}

/// Holds the steps that pass it until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    arrived: Arc<Count>,
    open: Arc<Count>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For a step: waits until the gate is open.
    pub(crate) fn pass(&self) {
        self.arrived.add(1);
        self.open.wait_for(1);
    }

    /// Waits until `n` steps have come to the gate.
    #[track_caller]
    pub(crate) fn wait_for(&self, n: usize) {
        self.arrived.wait_for(n);
    }

    /// How many steps have come to the gate.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.get()
    }

    pub(crate) fn open(&self) {
        self.open.add(1);
    }

    /// Declare it after the pool: it opens the gate before the pool is dropped, however the test ends.
    pub(crate) fn guard(&self) -> GateGuard {
        GateGuard(self.clone())
    }
}

/// Opens its gate when it is dropped, so that a test that fails does not hang in the pool's drop.
pub(crate) struct GateGuard(Gate);

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// What steps note, in order.
pub(crate) struct Log<N>(Arc<Mutex<Vec<N>>>);

impl<N: Clone> Log<N> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, note: N) {
        self.0.lock().expect("nobody panics in here").push(note);
    }

    pub(crate) fn notes(&self) -> Vec<N> {
        self.0.lock().expect("nobody panics in here").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("nobody panics in here").len()
    }
}

impl<N> Clone for Log<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Counts values that are alive.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

/// Counts as alive until it is dropped.
pub(crate) struct Token(Alive);

impl Alive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn token(&self) -> Token {
        self.0.fetch_add(1, SeqCst);
        Token(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

type Body = Box<dyn FnMut(&mut Context<'_>, u32) -> TaskReturn + Send>;

/// A task made of a closure, which counts its steps and remembers what it was told.
pub(crate) struct Work {
    /// Steps run, those with a request to stop included.
    pub(crate) steps: u32,
    /// The request to stop that a step has seen.
    pub(crate) told: Option<StopReason>,
    body: Body,
    token: Option<Token>,
}

impl Work {
    /// The closure gets the number of the step, from 1 on. It is not called when the task is asked to stop: that is
    /// answered with `Stopped`.
    pub(crate) fn new(mut body: impl FnMut(&mut Context<'_>, u32) -> TaskReturn + Send + 'static) -> Self {
        Self::stubborn(move |cx, step| {
            if cx.is_stopping() {
                TaskReturn::Stopped
            } else {
                body(cx, step)
            }
        })
    }

    /// The closure is called also when the task is asked to stop.
    pub(crate) fn stubborn(body: impl FnMut(&mut Context<'_>, u32) -> TaskReturn + Send + 'static) -> Self {
        Self {
            steps: 0,
            told: None,
            body: Box::new(body),
            token: None,
        }
    }

    /// Ends with its first step.
    pub(crate) fn done() -> Self {
        Self::new(|_, _| TaskReturn::TaskDone)
    }

    /// Parks with each step, for ever.
    pub(crate) fn parks() -> Self {
        Self::new(|_, _| TaskReturn::Sync)
    }

    /// Parks so often, then ends.
    pub(crate) fn parks_times(times: u32) -> Self {
        Self::new(move |_, step| {
            if step > times {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Sync
            }
        })
    }

    /// Waits at the gate in its first step, then ends.
    pub(crate) fn at(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |_, _| {
            gate.pass();
            TaskReturn::TaskDone
        })
    }

    /// Notes something in its first step, then ends.
    pub(crate) fn notes<N: Clone + Send + 'static>(log: &Log<N>, note: N) -> Self {
        let log = log.clone();
        Self::new(move |_, _| {
            log.add(note.clone());
            TaskReturn::TaskDone
        })
    }

    /// Lets `token` live as long as the task does.
    pub(crate) fn holding(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }
}

impl Task for Work {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        self.steps += 1;
        self.told = self.told.or(cx.stop_reason());
        (self.body)(cx, self.steps)
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("steps", &self.steps)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

/// The bell of a loop: what the pool rings.
#[derive(Default)]
pub(crate) struct Bell {
    /// Rung and not heard yet.
    rung: Count,
    total: AtomicUsize,
}

impl Bell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it was rung, ever.
    pub(crate) fn total(&self) -> usize {
        self.total.load(SeqCst)
    }

    /// Waits until it rings, or was rung since this was last called.
    #[track_caller]
    pub(crate) fn wait(&self) {
        self.rung.wait_for(1);
        self.rung.take();
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.total.fetch_add(1, SeqCst);
        self.rung.add(1);
    }
}

/// A service loop that sleeps until its bell rings: a service, and the turns of its loop.
pub(crate) struct Loop<T: Task> {
    pub(crate) service: Service<T>,
    pub(crate) bell: Arc<Bell>,
}

impl<T: Task> Loop<T> {
    pub(crate) fn new(pool: &ThreadPool) -> Self {
        let bell = Bell::new();
        Self {
            service: pool.service(Arc::clone(&bell)),
            bell,
        }
    }

    /// Waits for news.
    #[track_caller]
    pub(crate) fn news(&mut self) -> Vec<TaskId> {
        loop {
            let ids: Vec<_> = self.service.take_ready().collect();
            if !ids.is_empty() {
                return ids;
            }
            self.bell.wait();
        }
    }

    /// Turns until `seen`, which is given every announced id, says that it has seen enough.
    #[track_caller]
    pub(crate) fn turn_until(&mut self, mut seen: impl FnMut(&mut Service<T>, TaskId) -> bool) {
        let mut enough = false;
        while !enough {
            for id in self.news() {
                enough |= seen(&mut self.service, id);
            }
        }
    }

    /// Resumes what parks and gives the end of `count` tasks, in the order in which they were announced.
    #[track_caller]
    pub(crate) fn ends(&mut self, count: usize) -> Vec<(TaskId, End<T>)> {
        let mut ends = Vec::new();
        while ends.len() < count {
            for id in self.news() {
                match self.service.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => point.resume(),
                    Some(status) => ends.push((id, End::of(status))),
                    None => panic!("{id} was announced, but is unknown"),
                }
            }
        }
        assert_eq!(ends.len(), count, "more ends than expected");
        ends
    }

    /// The end of the only task that is going to end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End<T> {
        self.ends(1).remove(0).1
    }

    /// Waits until `count` tasks were announced as parked, and leaves them so.
    #[track_caller]
    pub(crate) fn parked(&mut self, count: usize) -> Vec<TaskId> {
        let mut parked = Vec::new();
        while parked.len() < count {
            for id in self.news() {
                assert_eq!(self.service.peek(id), Some(moored::Status::Syncing));
                parked.push(id);
            }
        }
        parked
    }
}

impl<T: Task> Deref for Loop<T> {
    type Target = Service<T>;
    fn deref(&self) -> &Service<T> {
        &self.service
    }
}

impl<T: Task> DerefMut for Loop<T> {
    fn deref_mut(&mut self) -> &mut Service<T> {
        &mut self.service
    }
}

/// How a task has ended.
pub(crate) enum End<T> {
    Finished(T),
    Stopped(StopReason, T),
    Panicked(Box<dyn std::any::Any + Send>),
}

impl<T: Task> End<T> {
    #[track_caller]
    pub(crate) fn of(status: TaskStatus<'_, T>) -> Self {
        match status {
            TaskStatus::Finished(task) => Self::Finished(task),
            TaskStatus::Stopped(why, task) => Self::Stopped(why, task),
            TaskStatus::Panicked(payload) => Self::Panicked(payload),
            other => panic!("not an end: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn finished(self) -> T {
        match self {
            Self::Finished(task) => task,
            other => panic!("not finished: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn stopped(self) -> (StopReason, T) {
        match self {
            Self::Stopped(why, task) => (why, task),
            other => panic!("not stopped: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn panicked(self) -> Box<dyn std::any::Any + Send> {
        match self {
            Self::Panicked(payload) => payload,
            other => panic!("not panicked: {other:?}"),
        }
    }
}

impl<T> fmt::Debug for End<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(_) => f.write_str("Finished"),
            Self::Stopped(why, _) => write!(f, "Stopped({why:?})"),
            Self::Panicked(_) => f.write_str("Panicked"),
        }
    }
}

/// What a task of this service has come to; it must have ended.
#[track_caller]
pub(crate) fn reap<T: Task>(service: &mut Service<T>, id: TaskId) -> End<T> {
    End::of(service.task_status(id).expect("a task that is not reaped"))
}

/// Resumes a task that must be parked.
#[track_caller]
pub(crate) fn resume<T: Task>(service: &mut Service<T>, id: TaskId) {
    match service.task_status(id) {
        Some(TaskStatus::Syncing(point)) => point.resume(),
        other => panic!("not parked: {other:?}"),
    }
}

/// Panics without a word on stderr: the tests that want a panic are many.
pub(crate) fn panic_silently() -> ! {
    std::panic::resume_unwind(Box::new("silent"))
}
