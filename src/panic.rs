//! What happens to panics in the user's code: they are contained, here and nowhere else.
//!
//! A panic in a task's step becomes its end (`Panicked`, with the payload). A panic in a `Drop`
//! that the pool must run, in a wake-up or in a thread hook cannot be reported to a caller: the
//! panic hook has printed it, and the payload is dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the user's code; gives what it threw.
pub(crate) fn contain<R>(code: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // The value behind an unwound `&mut` is never used again: its task ends.
    catch_unwind(AssertUnwindSafe(code))
}

/// Runs the user's code and drops what it may throw.
pub(crate) fn quietly(code: impl FnOnce()) {
    if let Err(payload) = contain(code) {
        drop_quietly(payload);
    }
}

/// Drops a value of the user's. A payload can itself panic when dropped, and so on; the second is
/// leaked.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = contain(|| drop(value))
        && let Err(second) = contain(|| drop(payload))
    {
        std::mem::forget(second);
    }
}
