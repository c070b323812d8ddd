//! tokio: a task for each job, an mpsc channel back.
//!
//! Two contenders. `tokio`: the loop has a thread of its own, as every other contender's
//! has. `tokio-task`: the loop is itself a task among the workers, so a job may run on the
//! loop's own thread and need no hand-over; but a step that blocks then blocks the loop.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::job::Job;
use crate::pool::{Family, Host, Pool};

/// `H` is where the loop runs.
pub(crate) struct Tokio<H>(PhantomData<H>);

impl<H: Place> Family for Tokio<H> {
    type Pool<J: Job> = Tasks<J, H>;
}

pub(crate) trait Place: Host + From<Runtime> + Send + 'static {}

/// The loop blocks on the runtime from a thread of its own.
pub(crate) struct OwnThread(Runtime);

impl Place for OwnThread {}

impl From<Runtime> for OwnThread {
    fn from(workers: Runtime) -> Self {
        Self(workers)
    }
}

impl Host for OwnThread {
    fn run<T: Send + 'static>(self, service: impl Future<Output = T> + Send + 'static) -> T {
        self.0.block_on(service)
    }
}

/// The loop is a task.
pub(crate) struct AmongWorkers(Runtime);

impl Place for AmongWorkers {}

impl From<Runtime> for AmongWorkers {
    fn from(workers: Runtime) -> Self {
        Self(workers)
    }
}

impl Host for AmongWorkers {
    fn run<T: Send + 'static>(self, service: impl Future<Output = T> + Send + 'static) -> T {
        self.0.block_on(self.0.spawn(service)).expect("the service")
    }
}

/// With the reactor and the timers: a service needs its sockets.
pub(crate) fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) struct Tasks<J, H> {
    workers: Handle,
    sender: UnboundedSender<J>,
    receiver: UnboundedReceiver<J>,
    woken_by: Option<J>,
    host: PhantomData<H>,
}

impl<J: Job, H: Place> Pool<J> for Tasks<J, H> {
    type Host = H;

    fn start(threads: usize) -> (Self, H) {
        let runtime = runtime(threads);
        let (sender, receiver) = mpsc::unbounded_channel();
        let workers = runtime.handle().clone();
        let host = PhantomData;
        (
            Self {
                workers,
                sender,
                receiver,
                woken_by: None,
                host,
            },
            H::from(runtime),
        )
    }

    fn submit(&mut self, mut job: J) {
        let sender = self.sender.clone();
        self.workers.spawn(async move {
            job.run();
            // A loop that has seen enough is gone before its last jobs.
            _ = sender.send(job);
        });
    }

    fn next(&mut self) -> Option<J> {
        self.woken_by.take().or_else(|| self.receiver.try_recv().ok())
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        let received = self.receiver.recv();
        self.woken_by = match timeout {
            None => received.await,
            Some(timeout) => tokio::time::timeout(timeout, received).await.ok().flatten(),
        };
    }
}
