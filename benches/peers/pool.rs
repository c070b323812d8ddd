//! What the measures ask of a contender: the loop's end of a pool, and a place to run the loop.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::job::{Job, Stream};
use crate::ledger::StreamLedger;

/// A pool as its service loop sees it. The loop is the same code for every contender:
/// take what is ready, submit more, sleep when nothing is ready.
pub(crate) trait Pool<J: Job>: Send + Sized + 'static {
    type Host: Host;

    fn start(threads: usize) -> (Self, Self::Host);

    /// Hands a job to the workers. It may be held back until the next `sleep`, no longer.
    fn submit(&mut self, job: J);

    /// A job that has been run, if the loop can have one without sleeping.
    fn next(&mut self) -> Option<J>;

    /// Sleeps until `next` may have something, or the time is over: in a mio poll that a
    /// waker ends, or in the contender's own runtime.
    fn sleep(&mut self, timeout: Option<Duration>) -> impl Future<Output = ()> + Send;
}

/// One kind of pool, for jobs of any type.
pub(crate) trait Family {
    type Pool<J: Job>: Pool<J>;
}

/// Streams as their loop sees them. At most one chunk of a stream exists at a time.
pub(crate) trait Streams: Send + Sized + 'static {
    type Host: Host;

    fn start(threads: usize) -> (Self, Self::Host);

    fn open(&mut self, stream: Stream);

    /// Shows one ready chunk to the loop and lets its stream go on; false if none is ready.
    fn serve_one(&mut self, ledger: &mut StreamLedger) -> bool;

    /// The same, but its stream stays parked, for ever.
    fn hold_one(&mut self, ledger: &mut StreamLedger) -> bool;

    fn sleep(&mut self) -> impl Future<Output = ()> + Send;
}

/// Where the service loop runs.
pub(crate) trait Host {
    fn run<T: Send + 'static>(self, service: impl Future<Output = T> + Send + 'static) -> T;
}

/// A loop around a mio poll: an ordinary thread. Its `sleep` blocks, so its future is ready
/// when first polled.
pub(crate) struct PlainThread;

impl Host for PlainThread {
    fn run<T: Send + 'static>(self, service: impl Future<Output = T> + Send + 'static) -> T {
        match pin!(service).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => unreachable!("a mio loop blocks in its poll"),
        }
    }
}

/// Streams over a pool that knows no streams: each chunk is a job that carries its stream.
pub(crate) struct Requeue<P> {
    pool: P,
    held: Vec<Stream>,
}

impl<P: Pool<Stream>> Streams for Requeue<P> {
    type Host = P::Host;

    fn start(threads: usize) -> (Self, Self::Host) {
        let (pool, host) = P::start(threads);
        (
            Self {
                pool,
                held: Vec::new(),
            },
            host,
        )
    }

    fn open(&mut self, stream: Stream) {
        self.pool.submit(stream);
    }

    fn serve_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some(stream) = self.pool.next() else {
            return false;
        };
        ledger.consume(stream.slot, &stream.chunk);
        if !stream.is_over() {
            self.pool.submit(stream);
        }
        true
    }

    fn hold_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some(stream) = self.pool.next() else {
            return false;
        };
        ledger.consume(stream.slot, &stream.chunk);
        self.held.push(stream);
        true
    }

    async fn sleep(&mut self) {
        self.pool.sleep(None).await;
    }
}
