//! Not a peer: the bare minimum, written by hand, to show what is left above it. One `Arc`
//! a task, moved and never cloned; a locked queue filled and emptied in batches; the list of
//! what is done is swapped; wake-ups are coalesced. No statuses, no timings, no connections,
//! no cancel, no panic safety.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::inbox::{Done, Inbox};
use crate::job::{Job, Stream};
use crate::ledger::StreamLedger;
use crate::pool::{Family, PlainThread, Pool, Streams};

/// So many are handed over under one lock, and taken under one lock.
const BATCH_IN: usize = 64;
const BATCH_OUT: usize = 32;

pub(crate) struct Limit;

impl Family for Limit {
    type Pool<J: Job> = Minimum<J>;
}

pub(crate) struct Minimum<J> {
    queue: Arc<Queue<J>>,
    outbox: Vec<Arc<J>>,
    inbox: Inbox<Arc<J>>,
    held: Vec<Arc<J>>,
}

struct Queue<J> {
    state: Mutex<State<J>>,
    filled: Condvar,
}

struct State<J> {
    jobs: VecDeque<Arc<J>>,
    sleepers: usize,
}

impl<J: Job> Queue<J> {
    /// Waits for jobs and takes a batch of them; wakes another worker if some remain.
    fn take(&self, batch: &mut Vec<Arc<J>>, threads: usize) {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            state.sleepers += 1;
            self.filled.wait(&mut state);
            state.sleepers -= 1;
        }
        let fair_share = state.jobs.len().div_ceil(threads).min(BATCH_OUT);
        batch.extend(state.jobs.drain(..fair_share));
        let wake = state.sleepers > 0 && !state.jobs.is_empty();
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn work(&self, done: &Done<Arc<J>>, threads: usize) {
        let mut batch = Vec::with_capacity(BATCH_OUT);
        let mut ended = Vec::with_capacity(BATCH_OUT);
        loop {
            self.take(&mut batch, threads);
            for mut job in batch.drain(..) {
                Arc::get_mut(&mut job).expect("only we have it").run();
                ended.push(job);
            }
            done.put_all(&mut ended);
        }
    }
}

impl<J: Job> Minimum<J> {
    fn flush(&mut self) {
        let mut state = self.queue.state.lock();
        state.jobs.extend(self.outbox.drain(..));
        let wake = state.sleepers > 0 && !state.jobs.is_empty();
        drop(state);
        if wake {
            self.queue.filled.notify_one();
        }
    }

    fn submit_cell(&mut self, cell: Arc<J>) {
        self.outbox.push(cell);
        if self.outbox.len() == BATCH_IN {
            self.flush();
        }
    }
}

impl<J: Job> Pool<J> for Minimum<J> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        let inbox = Inbox::new(threads);
        let state = State {
            jobs: VecDeque::new(),
            sleepers: 0,
        };
        let queue = Arc::new(Queue {
            state: Mutex::new(state),
            filled: Condvar::new(),
        });
        for _ in 0..threads {
            let queue = queue.clone();
            let done = inbox.done();
            thread::spawn(move || queue.work(&done, threads));
        }
        let outbox = Vec::with_capacity(BATCH_IN);
        (
            Self {
                queue,
                outbox,
                inbox,
                held: Vec::new(),
            },
            PlainThread,
        )
    }

    fn submit(&mut self, job: J) {
        self.submit_cell(Arc::new(job));
    }

    fn next(&mut self) -> Option<J> {
        self.inbox
            .next()
            .map(|cell| Arc::into_inner(cell).expect("only we have it"))
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        self.flush();
        self.inbox.sleep(timeout);
    }
}

/// A stream's cell goes to and fro; nothing is allocated per chunk.
impl Streams for Minimum<Stream> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        <Self as Pool<Stream>>::start(threads)
    }

    fn open(&mut self, stream: Stream) {
        self.submit(stream);
    }

    fn serve_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some(cell) = self.inbox.next() else {
            return false;
        };
        ledger.consume(cell.slot, &cell.chunk);
        if !cell.is_over() {
            self.submit_cell(cell);
        }
        true
    }

    fn hold_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some(cell) = self.inbox.next() else {
            return false;
        };
        ledger.consume(cell.slot, &cell.chunk);
        self.held.push(cell);
        true
    }

    async fn sleep(&mut self) {
        Pool::sleep(self, None).await;
    }
}
