//! Lets the loops run first when workers and loops compete for the cores.
//!
//! A query that takes 100 ms does not suffer when it begins a moment later; a loop that waits for a
//! core delays all of its clients. So each worker lowers its own priority when it starts, in the
//! hook that [`moored::ThreadPoolBuilder::on_thread_start`] calls.

/// Lowers the priority of the calling thread.
#[cfg(target_os = "linux")]
pub fn lower(nice: i32) {
    // On Linux this value belongs to a thread, and a thread may always raise its own.
    let changed = rustix::process::nice(nice);
    if let Err(error) = changed {
        eprintln!(
            "{}: the priority of a worker stays as it is: {error}",
            crate::NAME
        );
    }
}

/// Elsewhere it would change the whole process, loops included.
#[cfg(not(target_os = "linux"))]
pub fn lower(_nice: i32) {}
