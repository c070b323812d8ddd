//! A service loop that sleeps until it is woken, and the ends of its tasks.

use super::{Count, Gate, GateGuard, Work};
use moored::{EnqueueError, Service, StopReason, Task, TaskId, TaskStatus, ThreadPool, Wake};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts the wakes of a loop.
#[derive(Default)]
pub(crate) struct Wakes {
    /// Wakes after the loop's last look.
    new: Count,
    total: AtomicUsize,
}

impl Wakes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The number of all wakes.
    pub(crate) fn total(&self) -> usize {
        self.total.load(SeqCst)
    }

    /// Waits until the loop is woken, or was woken after the last call.
    #[track_caller]
    pub(crate) fn wait(&self) {
        self.new.wait_for(1);
        self.new.take();
    }
}

impl Wake for Wakes {
    fn wake_loop(&self) {
        self.total.fetch_add(1, SeqCst);
        self.new.add(1);
    }
}

/// A service and its loop, which sleeps until it is woken.
pub(crate) struct Loop<T: Task> {
    pub(crate) service: Service<T>,
    pub(crate) wakes: Arc<Wakes>,
}

impl<T: Task> Loop<T> {
    pub(crate) fn new(pool: &ThreadPool) -> Self {
        let wakes = Wakes::new();
        Self {
            service: pool.service(Arc::clone(&wakes)),
            wakes,
        }
    }

    /// Enqueues tasks until one is refused. Returns the number of accepted tasks, which `accepted`
    /// counts too, and the refusal.
    pub(crate) fn enqueue_until_refused(
        &mut self,
        mut make: impl FnMut() -> T,
        accepted: &Count,
    ) -> (usize, EnqueueError<T>) {
        let mut count = 0;
        loop {
            match self.service.enqueue(1, make()) {
                Ok(_) => count += 1,
                Err(refused) => return (count, refused),
            }
            accepted.add(1);
        }
    }

    /// The ids of the ready tasks.
    pub(crate) fn ready(&mut self) -> Vec<TaskId> {
        self.service.take_ready().map(|ready| ready.id).collect()
    }

    /// Waits for the next ready tasks.
    #[track_caller]
    pub(crate) fn news(&mut self) -> Vec<TaskId> {
        loop {
            let ids = self.ready();
            if !ids.is_empty() {
                return ids;
            }
            self.wakes.wait();
        }
    }

    /// Runs iterations of the loop. `seen` gets every announced id, and returns true when the loop
    /// can end.
    #[track_caller]
    pub(crate) fn turn_until(&mut self, mut seen: impl FnMut(&mut Service<T>, TaskId) -> bool) {
        let mut enough = false;
        while !enough {
            for id in self.news() {
                enough |= seen(&mut self.service, id);
            }
        }
    }

    /// Resumes parked tasks, and returns the ends of `count` tasks, in the order of their
    /// announcements.
    #[track_caller]
    pub(crate) fn ends(&mut self, count: usize) -> Vec<(TaskId, End<T>)> {
        let mut ends = Vec::new();
        while ends.len() < count {
            for id in self.news() {
                match self.service.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => point.resume(),
                    Some(TaskStatus::Stopping) => {} // it was parked, and another thread has shut the pool down
                    Some(status) => ends.push((id, End::of(status))),
                    None => panic!("{id} was announced, but is unknown"),
                }
            }
        }
        assert_eq!(ends.len(), count, "more ends than expected");
        ends
    }

    /// Returns the next end of a task. There must be only one.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End<T> {
        self.ends(1).remove(0).1
    }

    /// Waits until `count` tasks were announced as parked, and leaves them parked.
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

impl Loop<Work> {
    /// Keeps this number of workers inside a step, each with a task of another connection, until
    /// the gate opens.
    #[track_caller]
    pub(crate) fn occupy(&mut self, workers: usize) -> GateGuard {
        let gate = Gate::guarded();
        for conn in 0..workers {
            self.service.enqueue(conn, Work::at(&gate)).expect("room");
        }
        gate.wait_for(workers);
        gate
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

/// The end of a task.
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
            TaskStatus::Panicked(panic) => Self::Panicked(panic.into_payload()),
            other => panic!("the task has not ended: {other:?}"),
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

impl End<Work> {
    /// The reason why the task has stopped. It is the reason that a step has seen.
    #[track_caller]
    pub(crate) fn stopped_as_told(self) -> StopReason {
        let (why, task) = self.stopped();
        assert_eq!(task.told, Some(why));
        why
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

/// Reaps a task of this service, which must have ended, and returns its end.
#[track_caller]
pub(crate) fn reap<T: Task>(service: &mut Service<T>, id: TaskId) -> End<T> {
    End::of(service.task_status(id).expect("the task was not reaped before"))
}

/// Resumes a task that must be parked.
#[track_caller]
pub(crate) fn resume<T: Task>(service: &mut Service<T>, id: TaskId) {
    match service.task_status(id) {
        Some(TaskStatus::Syncing(point)) => point.resume(),
        other => panic!("not parked: {other:?}"),
    }
}
