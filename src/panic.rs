//! Contains the panics of user code. No other module catches panics.
//!
//! A panic in a task's step ends the task as `Panicked`, with the payload. A panic in a `Drop` that
//! the pool runs, in a wake-up or in a thread hook cannot be reported to a caller: the panic hook
//! prints it, and the payload is dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code. Returns the payload if it panics.
pub(crate) fn contain<R>(code: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // The task behind the `&mut` is not used after a panic, except that it is dropped.
    catch_unwind(AssertUnwindSafe(code))
}

/// Runs user code and drops the payload if it panics.
pub(crate) fn quietly(code: impl FnOnce()) {
    if let Err(payload) = contain(code) {
        drop_quietly(payload);
    }
}

/// Drops a value of a user's type. If the drop panics, its payload is dropped; if that drop panics,
/// too, the second payload is leaked.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = contain(|| drop(value))
        && let Err(second) = contain(|| drop(payload))
    {
        std::mem::forget(second);
    }
}
