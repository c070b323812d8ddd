//! The producer thread: the recipe for pushing from any thread.
//!
//! Three parts: a sender of the loop's mailbox, a message that is serialised once, and a flag that
//! ends the thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use moored::{SendError, Sender};

use crate::figures::Meter;
use crate::message::Message;

/// A thread of its own, which is not a worker of a pool.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopping: AtomicBool,
    /// Messages that the mailbox has refused because it was full.
    refused: AtomicU64,
}

impl Producer {
    pub fn start(sender: Sender<Message>, interval: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("figures".to_owned());
        let thread = thread.spawn(move || produce(&sender, interval, &theirs))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Messages that the mailbox has refused because it was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Ends the thread. Its messages are in the mailbox when this returns.
    pub fn stop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The hook has printed a panic of the producer. The clients need not suffer from it.
            let _ = thread.join();
        }
    }
}

/// An error between start and stop must not leave the thread behind.
impl Drop for Producer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn produce(sender: &Sender<Message>, interval: Duration, shared: &Shared) {
    let mut meter = Meter::new();
    let mut due = Instant::now();
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < due {
            thread::park_timeout(due - now);
            continue;
        }
        due = now.max(due + interval);
        // This refuses to wait: if the loop is late, the next figures are better than these. A
        // producer whose messages must all arrive uses `send_blocking` with `Recipient::All`.
        match sender.broadcast(Message::figures(meter.read())) {
            Ok(()) => {}
            Err(SendError::Full(_)) => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
            Err(_) => return,
        }
    }
}
