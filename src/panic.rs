//! Contains the panics of user code. No other module catches panics.
//!
//! A panic in a task's step ends the task as `Panicked`, with the payload. A panic in a `Drop` that
//! the pool runs, in a wake-up or in a thread hook cannot be reported to a caller: the panic hook
//! prints it, and the payload is dropped.
//!
//! The location of a panic is known only to the panic hook, which is global. If a pool has the
//! option `record_panic_locations`, a hook is installed that records the locations of panics in
//! steps.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// A panic in a step.
pub(crate) struct Caught {
    pub(crate) payload: Box<dyn Any + Send>,
    /// File, line and column, if they were recorded.
    pub(crate) location: Option<String>,
}

/// Whether a pool records the locations of the panics in its steps.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Locations {
    #[default]
    Ignore,
    Record,
}

/// Whether a panic of this thread is recorded.
enum Recording {
    Off,
    /// The thread is in a step of a pool that records locations. The value is the location of the
    /// last panic in this step.
    On(Option<String>),
}

thread_local! {
    static RECORDING: RefCell<Recording> = const { RefCell::new(Recording::Off) };
}

/// Installs the hook, once for the process.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    // A thread that panics cannot replace the hook.
    if !std::thread::panicking() {
        ONCE.call_once(|| {
            let previous = take_hook();
            set_hook(Box::new(move |panic| {
                record(panic);
                previous(panic);
            }));
        });
    }
}

fn record(panic: &PanicHookInfo<'_>) {
    // The panic may come from a destructor of a thread-local.
    let _ = RECORDING.try_with(|recording| {
        if let Ok(mut recording) = recording.try_borrow_mut()
            && let Recording::On(location) = &mut *recording
        {
            *location = panic.location().map(ToString::to_string);
        }
    });
}

/// Runs a step. Returns its panic, with the location if the pool records it.
#[inline]
pub(crate) fn contain_step<R>(locations: Locations, step: impl FnOnce() -> R) -> Result<R, Box<Caught>> {
    let caught = |payload, location| Box::new(Caught { payload, location });
    if locations == Locations::Ignore {
        return contain(step).map_err(|payload| {
            forget_location();
            caught(payload, None)
        });
    }
    // A step can run the steps of another pool.
    let before = enter(Recording::On(None));
    let returned = contain(step);
    let after = enter(before);
    returned.map_err(|payload| match after {
        Recording::On(location) => caught(payload, location),
        Recording::Off => caught(payload, None),
    })
}

/// Returns the previous value.
fn enter(recording: Recording) -> Recording {
    // The access fails only while thread-locals are dropped, and then nothing is recorded.
    RECORDING
        .try_with(|present| present.replace(recording))
        .unwrap_or(Recording::Off)
}

/// The step of a pool that records nothing has panicked, possibly inside a step of another pool.
#[cold]
fn forget_location() {
    let _ = RECORDING.try_with(|recording| {
        if let Recording::On(location) = &mut *recording.borrow_mut() {
            *location = None;
        }
    });
}

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
