//! How a pool wakes a loop.

pub(crate) mod notifier;

use std::sync::Arc;

/// Something that wakes a service loop, so that it calls
/// [`take_ready`](crate::Service::take_ready).
///
/// Implemented for any `Fn() + Send + Sync + 'static`, for `mio::Waker` (feature `mio`), and for an
/// `Arc` of either. For another event loop, implement it, or pass a closure that returns `()`, such
/// as `move || drop(sender.send(event))`.
///
/// `wake_loop` is called from workers and from the loop's own thread, never under a lock of the
/// pool, and at most once between two calls of `take_ready`. If the service has a
/// [`Mailbox`](crate::Mailbox), senders call it, too, and a drain counts like a `take_ready`.
///
/// It must not block. It must be *sticky*: if it is called while the loop is awake, it ends the
/// next sleep of the loop immediately. The mio waker, an eventfd, a pipe, `tokio::sync::Notify`
/// and `Thread::unpark` are sticky; a condition variable alone is not. A panic in it is contained.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot wake a loop",
    label = "does not implement `Wake`",
    note = "pass an `Arc<mio::Waker>`, or a closure such as `move || notify.notify_one()`"
)]
pub trait Wake: Send + Sync + 'static {
    /// Wakes the loop. (If it were called `wake`, a call of `mio::Waker::wake` would be ambiguous
    /// where this trait is in scope.)
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

/// An error of the waker is ignored: it means that the `Poll` was dropped, and its loop with it.
#[cfg(feature = "mio")]
impl Wake for mio::Waker {
    fn wake_loop(&self) {
        let _ = mio::Waker::wake(self);
    }
}
