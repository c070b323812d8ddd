//! This crate, used as its documentation says: a mio poll with a waker, `take_ready` until nothing
//! is left, `task_status` for each, `enqueue`.

use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use moored::{ConnId, Context, ReadyTasks, Service, Task, TaskReturn, TaskStatus, ThreadPool};

use crate::job::{Job, Stream};
use crate::ledger::StreamLedger;
use crate::pool::{Family, PlainThread, Pool, Streams};

pub(crate) struct Moored;

impl Family for Moored {
    type Pool<J: Job> = JobLoop<J>;
}

/// More than any row enqueues: the bounds stay, but nothing is refused.
const ROOM: usize = 2_000_000;

pub(crate) fn pool(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().name("bench").threads(threads);
    builder
        .max_queue_depth(ROOM)
        .max_tasks(ROOM)
        .build()
        .expect("threads")
}

/// A service loop without sockets.
pub(crate) struct ServiceLoop<T: Task> {
    poll: Poll,
    events: Events,
    pub(crate) service: Service<T>,
    ready: ReadyTasks,
}

impl<T: Task> ServiceLoop<T> {
    pub(crate) fn new(workers: &ThreadPool) -> Self {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let mut service = workers.service(Arc::new(waker));
        let ready = service.take_ready();
        Self {
            poll,
            events: Events::with_capacity(64),
            service,
            ready,
        }
    }

    /// Takes until nothing is left before it sleeps, as the other contenders' loops do.
    pub(crate) fn next_id(&mut self) -> Option<moored::TaskId> {
        if self.ready.is_empty() {
            self.ready = self.service.take_ready();
        }
        self.ready.next().map(|ready| ready.id)
    }

    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) {
        if self.ready.is_empty() {
            self.ready = self.service.take_ready();
        }
        if !self.ready.is_empty() {
            return;
        }
        let timeout = match (timeout, self.service.poll_timeout()) {
            (Some(ours), Some(tasks)) => Some(ours.min(tasks)),
            (ours, tasks) => ours.or(tasks),
        };
        self.poll.poll(&mut self.events, timeout).expect("poll");
    }
}

/// A job as a task of one step.
pub(crate) struct Once<J>(pub(crate) J);

impl<J: Job> Task for Once<J> {
    fn step(&mut self, _: &mut Context<'_>) -> TaskReturn {
        self.0.run();
        TaskReturn::TaskDone
    }
}

pub(crate) struct JobLoop<J: Job> {
    inner: ServiceLoop<Once<J>>,
    _pool: Arc<ThreadPool>,
}

impl<J: Job> JobLoop<J> {
    pub(crate) fn new(pool: Arc<ThreadPool>) -> Self {
        Self {
            inner: ServiceLoop::new(&pool),
            _pool: pool,
        }
    }
}

impl<J: Job> Pool<J> for JobLoop<J> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        (Self::new(Arc::new(pool(threads))), PlainThread)
    }

    fn submit(&mut self, job: J) {
        let connection = ConnId(job.connection());
        self.inner.service.enqueue(connection, Once(job)).expect("room");
    }

    fn next(&mut self) -> Option<J> {
        loop {
            let id = self.inner.next_id()?;
            if let Some(TaskStatus::Finished(task)) = self.inner.service.task_status(id) {
                return Some(task.0);
            }
        }
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        self.inner.sleep(timeout);
    }
}

impl Task for Stream {
    fn step(&mut self, context: &mut Context<'_>) -> TaskReturn {
        if context.is_stopping() {
            return TaskReturn::Stopped;
        }
        self.fill();
        if self.is_over() {
            TaskReturn::TaskDone
        } else {
            TaskReturn::Sync
        }
    }
}

pub(crate) struct StreamLoop {
    inner: ServiceLoop<Stream>,
    _pool: ThreadPool,
}

#[derive(Clone, Copy)]
enum After {
    Resume,
    StayParked,
}

impl StreamLoop {
    fn consume_one(&mut self, ledger: &mut StreamLedger, after: After) -> bool {
        while let Some(id) = self.inner.next_id() {
            match self.inner.service.task_status(id) {
                Some(TaskStatus::Syncing(stream)) => {
                    ledger.consume(stream.slot, &stream.chunk);
                    if let After::Resume = after {
                        stream.resume();
                    }
                    return true;
                }
                Some(TaskStatus::Finished(stream)) => {
                    ledger.consume(stream.slot, &stream.chunk);
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

impl Streams for StreamLoop {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        let pool = pool(threads);
        (
            Self {
                inner: ServiceLoop::new(&pool),
                _pool: pool,
            },
            PlainThread,
        )
    }

    fn open(&mut self, stream: Stream) {
        let connection = ConnId(stream.connection());
        self.inner.service.enqueue(connection, stream).expect("room");
    }

    fn serve_one(&mut self, ledger: &mut StreamLedger) -> bool {
        self.consume_one(ledger, After::Resume)
    }

    fn hold_one(&mut self, ledger: &mut StreamLedger) -> bool {
        self.consume_one(ledger, After::StayParked)
    }

    async fn sleep(&mut self) {
        self.inner.sleep(None);
    }
}
