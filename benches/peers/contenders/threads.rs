//! A thread per stream: it makes a chunk, hands it over, and parks until it was consumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use crate::inbox::Inbox;
use crate::job::Stream;
use crate::ledger::StreamLedger;
use crate::pool::{PlainThread, Streams};

/// Enough for `fill`; 4,096 of the default 2 MiB are a lot of address space.
const STACK: usize = 64 * 1024;

pub(crate) struct ThreadPerStream {
    inbox: Inbox<(u32, [u8; 64])>,
    consumed: Vec<(Thread, Arc<AtomicBool>)>,
}

impl Streams for ThreadPerStream {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        (
            Self {
                inbox: Inbox::new(threads),
                consumed: Vec::new(),
            },
            PlainThread,
        )
    }

    fn open(&mut self, mut stream: Stream) {
        let done = self.inbox.done();
        let consumed = Arc::new(AtomicBool::new(false));
        let seen = consumed.clone();
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            loop {
                stream.fill();
                done.put_now((stream.slot, stream.chunk));
                if stream.is_over() {
                    break;
                }
                while !seen.swap(false, Ordering::Acquire) {
                    thread::park();
                }
            }
        });
        let thread = thread.expect("a thread").thread().clone();
        self.consumed.push((thread, consumed));
    }

    fn serve_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some((slot, chunk)) = self.inbox.next() else {
            return false;
        };
        ledger.consume(slot, &chunk);
        let (thread, consumed) = &self.consumed[slot as usize];
        consumed.store(true, Ordering::Release);
        thread.unpark();
        true
    }

    fn hold_one(&mut self, ledger: &mut StreamLedger) -> bool {
        let Some((slot, chunk)) = self.inbox.next() else {
            return false;
        };
        ledger.consume(slot, &chunk);
        true
    }

    async fn sleep(&mut self) {
        self.inbox.sleep(None);
    }
}
