//! How a pool wakes a loop.

pub(crate) mod notifier;

use std::sync::Arc;

/// Something that wakes a service loop, so that it calls
/// [`take_ready`](crate::Service::take_ready).
///
/// Implemented for any `Fn() + Send + Sync + 'static`, for `mio::Waker` (feature `mio`), and for an
/// `Arc` of either. A new event loop is one `impl`, or one closure.
///
/// `wake_loop` is called from workers and from the loop's own thread, never under a lock of the
/// pool, and at most once between two calls of `take_ready`. With a [`Mailbox`](crate::Mailbox),
/// its senders call it too, and a drain counts as `take_ready` does. It must not block. It must be
/// *sticky*: a wake-up that comes while the loop is awake has to end the loop's next sleep at once
/// (mio's waker, an eventfd, a self-pipe, `tokio::sync::Notify` and `Thread::unpark` all do; a bare
/// condition variable does not). A panic in it is contained.
///
/// ```
/// use moored::{BoxTask, ThreadPool, Wake};
/// use std::thread::Thread;
///
/// struct Unpark(Thread);
///
/// impl Wake for Unpark {
///     fn wake_loop(&self) {
///         self.0.unpark();
///     }
/// }
///
/// let pool = ThreadPool::builder().threads(1).build()?;
/// let service = pool.service::<BoxTask>(Unpark(std::thread::current()));
/// # drop(service);
/// # Ok::<(), moored::BuildError>(())
/// ```
#[doc(alias = "lws_cancel_service")]
pub trait Wake: Send + Sync + 'static {
    /// Wakes the loop. (Its name differs from that of `mio::Waker::wake`, so that the call of that
    /// is not ambiguous when both are in scope.)
    #[doc(alias = "wake")]
    #[doc(alias = "notify")]
    fn wake_loop(&self);
}

impl<F: Fn() + Send + Sync + 'static> Wake for F {
    fn wake_loop(&self) {
        self();
    }
}

impl<W: Wake + ?Sized> Wake for Arc<W> {
    fn wake_loop(&self) {
        W::wake_loop(self);
    }
}

/// An error of the waker is ignored: it means that the poll is gone, and with it the loop.
#[cfg(feature = "mio")]
impl Wake for mio::Waker {
    fn wake_loop(&self) {
        let _ = mio::Waker::wake(self);
    }
}
