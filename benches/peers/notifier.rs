//! A mio poll, and the waker that ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

/// Wakes the loop, but only when it is asleep or about to be: a system call saved per job.
pub(crate) struct Notifier {
    asleep: AtomicBool,
    waker: Waker,
}

impl Notifier {
    /// Call after what the loop is to see has been published.
    pub(crate) fn notify(&self) {
        if self.is_wanted() && self.asleep.swap(false, Ordering::Relaxed) {
            self.waker.wake().expect("wake the loop");
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        // Pairs with the fence in `Sleeper::sleep`: either we see the loop asleep, or it
        // sees what we published before it polls.
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }
}

/// The loop's poll. It sleeps at once when nothing is ready.
pub(crate) struct Sleeper {
    poll: Poll,
    events: Events,
    notifier: Arc<Notifier>,
}

impl Sleeper {
    pub(crate) fn new() -> Self {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let notifier = Arc::new(Notifier {
            asleep: AtomicBool::new(false),
            waker,
        });
        Self {
            poll,
            events: Events::with_capacity(64),
            notifier,
        }
    }

    pub(crate) fn notifier(&self) -> Arc<Notifier> {
        self.notifier.clone()
    }

    /// Sleeps unless something is ready already.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>, is_ready: impl FnOnce() -> bool) {
        self.notifier.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !is_ready() {
            self.poll.poll(&mut self.events, timeout).expect("poll");
        }
        self.notifier.asleep.store(false, Ordering::Relaxed);
    }
}
