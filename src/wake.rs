//! How a pool wakes a loop.

pub(crate) mod notifier;

use std::sync::Arc;

/// Something that wakes a service loop, so that it calls [`take_ready`](crate::Service::take_ready).
///
/// Implemented for any `Fn() + Send + Sync + 'static`, for `mio::Waker` (feature `mio`), and for an
/// `Arc` of either. A new event loop is one `impl`, or one closure.
///
/// `wake` is called from workers and from the loop's own thread, never under a lock of the pool, and at most once
/// between two calls of `take_ready`. With a [`Mailbox`](crate::Mailbox), its senders call it too, and a drain counts as
/// `take_ready` does. It must not block. It must be *sticky*: a wake-up that comes while the loop is
/// awake has to end the loop's next sleep at once (mio's waker, an eventfd, a self-pipe, `tokio::sync::Notify` and
/// `Thread::unpark` all do; a bare condition variable does not). A panic in it is contained.
#[doc(alias = "lws_cancel_service")]
pub trait Wake: Send + Sync + 'static {
    /// Wakes the loop.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync + 'static> Wake for F {
    fn wake(&self) {
        self();
    }
}

impl<W: Wake + ?Sized> Wake for Arc<W> {
    fn wake(&self) {
        W::wake(self);
    }
}

/// An error of the waker is ignored: it means that the poll is gone, and with it the loop.
#[cfg(feature = "mio")]
impl Wake for mio::Waker {
    fn wake(&self) {
        let _ = mio::Waker::wake(self);
    }
}
