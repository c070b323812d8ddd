//! The notifier of a loop: a coalesced flag in front of its [`Wake`].
//!
//! # The steps
//!
//! Notify, on any thread: 1. make the event visible; 2. a fence; 3. if the flag is not set, set it,
//! and call the wake if this call has set it.
//!
//! Look, on the loop's thread: 1. [`rearm`](Notifier::rearm): clear the flag; 2. a fence; 3. look
//! at everything that can hold events.
//!
//! The two fences have an order. If the loop's is first, step 3 of the notification sees the
//! cleared flag, or one that was set later, and the loop is woken after its look. Otherwise the
//! look sees the event. Only the call that sets the flag wakes, so there is at most one
//! notification between two looks.
//!
//! # Deferred notifications
//!
//! A notification costs more than a short step. So a worker that has more short steps to run defers
//! it, but only while the loop polls: such a loop has called `poll_timeout`, and either looks again
//! within a few milliseconds or calls `poll_timeout` before it blocks. The worker flushes the
//! notification later, if the loop still polls.
//!
//! A look of a polling loop leaves `POLLING` set, because the loop calls `poll_timeout` before it
//! blocks. That call may clear it: 1. [`stop_polling`](Notifier::stop_polling); 2. a fence; 3. look
//! at everything that can hold events. As above, either the look sees an event whose notification
//! was deferred, or its worker sees that the loop does not poll, and notifies it.

use super::Wake;
use crate::panic::{drop_quietly, quietly};
use crate::sync::{ArcFence, AtomicUsize, Ordering, fence};

/// The loop has been notified since its last look.
const NOTIFIED: usize = 1;
/// The loop polls: it looks again soon, or calls `poll_timeout` before it blocks.
const POLLING: usize = 2;

/// On a cache line of its own, since workers read it for every task.
#[repr(align(64))]
pub(crate) struct Notifier {
    /// The two flags.
    state: AtomicUsize,
    /// `None` only during the drop.
    wake: Option<Box<dyn Wake>>,
    /// Every thread passes it before it drops a reference to the notifier or to its service.
    pub(crate) arc_fence: ArcFence,
}

impl Notifier {
    pub(crate) fn new(wake: Box<dyn Wake>) -> Self {
        Self {
            state: AtomicUsize::new(0),
            wake: Some(wake),
            arc_fence: ArcFence::new(),
        }
    }

    /// Whether the loop has been notified since its last look. Call it after the event is visible.
    #[inline]
    pub(crate) fn is_notified(&self) -> bool {
        self.state.load(Ordering::Relaxed) & NOTIFIED != 0
    }

    /// Whether a notification may be deferred: the loop polls, and was not notified since its last
    /// look. Call it after the event is visible.
    #[inline]
    pub(crate) fn is_polling(&self) -> bool {
        self.state.load(Ordering::Relaxed) == POLLING
    }

    /// Wakes the loop, unless it was notified since its last look. Returns true if this call woke
    /// it. The caller holds no lock.
    #[inline]
    pub(crate) fn notify(&self) -> bool {
        let is_first = || self.state.fetch_or(NOTIFIED, Ordering::AcqRel) & NOTIFIED == 0;
        let notifies = !self.is_notified() && is_first();
        if notifies {
            self.wake();
        }
        notifies
    }

    /// Sends a deferred notification, if the loop still polls. Returns true if this call sent it.
    pub(crate) fn flush(&self) -> bool {
        let notifies = self
            .state
            .compare_exchange(POLLING, POLLING | NOTIFIED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if notifies {
            self.wake();
        }
        notifies
    }

    /// The loop is about to look: allows the next notification.
    pub(crate) fn rearm(&self) {
        // Always written, so that it synchronizes with every notification before it.
        self.state.fetch_and(!NOTIFIED, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Allows the next notification after one was sent. The caller does not look at tasks, whose
    /// notifications may be deferred. So nothing is written if no notification was sent.
    pub(crate) fn rearm_after_notification(&self) {
        if self.is_notified() {
            self.state.fetch_and(!NOTIFIED, Ordering::AcqRel);
        }
    }

    /// From now on the loop is never notified.
    pub(crate) fn silence(&self) {
        self.state.swap(NOTIFIED, Ordering::AcqRel);
    }

    /// The loop polls from now on: it looks again soon, or calls `poll_timeout` before it blocks.
    pub(crate) fn start_polling(&self) {
        if self.state.load(Ordering::Relaxed) & POLLING == 0 {
            self.state.fetch_or(POLLING, Ordering::AcqRel);
        }
    }

    /// The loop does not poll any more. The caller looks at everything after this.
    pub(crate) fn stop_polling(&self) {
        if self.state.load(Ordering::Relaxed) & POLLING != 0 {
            self.state.fetch_and(!POLLING, Ordering::AcqRel);
            fence(Ordering::SeqCst);
        }
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            quietly(|| wake.wake_loop());
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.arc_fence.pass();
        // The wake is user code, and this thread may be a worker.
        drop_quietly(self.wake.take());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// A notifier, and the number of its wakes.
    fn notifier() -> (Notifier, impl Fn() -> u64) {
        let wakes = Arc::new(AtomicU64::new(0));
        let total = Arc::clone(&wakes);
        let wake = move || drop(wakes.fetch_add(1, Ordering::Relaxed).to_string());
        (Notifier::new(Box::new(wake)), move || {
            total.load(Ordering::Relaxed)
        })
    }

    #[test]
    fn a_loop_is_notified_once_until_it_looks() {
        let (notifier, wakes) = notifier();
        assert_eq!((notifier.notify(), notifier.notify(), wakes()), (true, false, 1));
        notifier.rearm();
        assert_eq!((notifier.notify(), wakes()), (true, 2));
    }

    #[test]
    fn a_deferred_notification_is_sent_once() {
        let (notifier, wakes) = notifier();
        notifier.start_polling();
        assert!(notifier.is_polling());
        assert_eq!((notifier.flush(), notifier.flush(), wakes()), (true, false, 1));
        assert!(!notifier.notify(), "the loop has not looked yet");
    }

    #[test]
    fn a_deferred_notification_is_not_sent_once_the_loop_has_stopped_polling() {
        let (notifier, wakes) = notifier();
        notifier.start_polling();
        notifier.stop_polling();
        assert_eq!((notifier.flush(), wakes()), (false, 0));
        assert_eq!((notifier.notify(), wakes()), (true, 1));
    }

    /// Once, every worker notified a busy loop after each of its looks.
    #[test]
    fn a_loop_that_polls_still_polls_after_a_look() {
        let (notifier, wakes) = notifier();
        notifier.start_polling();
        notifier.rearm();
        assert!(notifier.is_polling());
        assert_eq!((notifier.flush(), wakes()), (true, 1));
        assert!(!notifier.is_polling(), "it has been notified");
        notifier.rearm();
        assert!(notifier.is_polling());
    }

    #[test]
    fn a_notified_loop_does_not_poll() {
        let (notifier, _) = notifier();
        notifier.notify();
        notifier.start_polling();
        assert!(!notifier.is_polling());
    }

    /// S3: a drain of a mailbox cleared `POLLING`; then the deferred notification would be lost.
    #[test]
    fn a_drain_does_not_end_polling() {
        let (notifier, wakes) = notifier();
        assert!(notifier.notify());
        notifier.rearm_after_notification();
        assert!(notifier.notify(), "the next one after the drain");
        notifier.rearm();
        notifier.start_polling();
        notifier.rearm_after_notification();
        assert!(notifier.flush());
        assert_eq!(wakes(), 3);
    }

    #[test]
    fn a_silenced_notifier_stays_silent() {
        let (notifier, wakes) = notifier();
        notifier.start_polling();
        notifier.silence();
        assert_eq!((notifier.flush(), notifier.notify(), wakes()), (false, false, 0));
    }
}
