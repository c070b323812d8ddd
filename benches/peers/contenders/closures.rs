//! Pools that take closures: `threadpool`, rayon, tokio's `spawn_blocking`, and of smol the
//! executor and `unblock`. Each closure runs its job and puts it on the loop's list.

use std::future::pending;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::inbox::{Done, Inbox};
use crate::job::Job;
use crate::pool::{Family, PlainThread, Pool};

pub(crate) trait Executor: Send + 'static {
    fn start(threads: usize) -> Self;
    fn execute(&self, work: impl FnOnce() + Send + 'static);
}

pub(crate) struct Closures<E>(PhantomData<E>);

impl<E: Executor> Family for Closures<E> {
    type Pool<J: Job> = ClosurePool<E, J>;
}

pub(crate) struct ClosurePool<E, J> {
    executor: E,
    done: Arc<Done<J>>,
    inbox: Inbox<J>,
}

impl<E: Executor, J: Job> Pool<J> for ClosurePool<E, J> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        let inbox = Inbox::new(threads);
        (
            Self {
                executor: E::start(threads),
                done: inbox.done(),
                inbox,
            },
            PlainThread,
        )
    }

    fn submit(&mut self, mut job: J) {
        let done = self.done.clone();
        self.inbox.note_submitted();
        self.executor.execute(move || {
            job.run();
            done.put(job);
        });
    }

    fn next(&mut self) -> Option<J> {
        self.inbox.next()
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        self.inbox.sleep(timeout);
    }
}

impl Executor for threadpool::ThreadPool {
    fn start(threads: usize) -> Self {
        Self::new(threads)
    }

    fn execute(&self, work: impl FnOnce() + Send + 'static) {
        Self::execute(self, work);
    }
}

impl Executor for rayon::ThreadPool {
    fn start(threads: usize) -> Self {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads")
    }

    fn execute(&self, work: impl FnOnce() + Send + 'static) {
        self.spawn_fifo(work);
    }
}

/// `tokio::runtime::Handle::spawn_blocking`, with so many blocking threads.
pub(crate) struct SpawnBlocking(tokio::runtime::Runtime);

impl Executor for SpawnBlocking {
    fn start(threads: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(threads)
            .build()
            .expect("a runtime");
        Self(runtime)
    }

    fn execute(&self, work: impl FnOnce() + Send + 'static) {
        self.0.spawn_blocking(work);
    }
}

/// `smol::unblock`; `main.rs` sets its number of threads, which is an environment variable.
pub(crate) struct Unblock;

impl Executor for Unblock {
    fn start(threads: usize) -> Self {
        let limit = std::env::var("BLOCKING_MAX_THREADS").ok();
        assert_eq!(limit, Some(threads.to_string()), "as many threads as the others");
        Self
    }

    fn execute(&self, work: impl FnOnce() + Send + 'static) {
        smol::unblock(work).detach();
    }
}

/// A task per job on a smol executor. (A loop that blocks on smol's reactor and an
/// async channel was slower in every row.)
pub(crate) struct Smol(Arc<smol::Executor<'static>>);

impl Executor for Smol {
    fn start(threads: usize) -> Self {
        let executor = Arc::new(smol::Executor::new());
        for _ in 0..threads {
            let executor = executor.clone();
            thread::spawn(move || smol::block_on(executor.run(pending::<()>())));
        }
        Self(executor)
    }

    fn execute(&self, work: impl FnOnce() + Send + 'static) {
        self.0.spawn(async move { work() }).detach();
    }
}
