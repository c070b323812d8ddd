//! Gives the loops precedence when workers and loops compete for the cores.
//!
//! A short wait for a core matters little to a query that takes 100 ms. But while a loop waits for
//! a core, all of its clients wait. Therefore each worker lowers its own priority when it starts,
//! in the hook [`moored::ThreadPoolBuilder::on_thread_start`].

/// Lowers the priority of the calling thread.
#[cfg(target_os = "linux")]
pub fn lower(nice: i32) {
    // On Linux each thread has its own nice value. A thread needs no privilege to increase it.
    if let Err(error) = rustix::process::nice(nice) {
        eprintln!(
            "{}: cannot lower the priority of a worker: {error}; --nice 0 does not try",
            crate::NAME
        );
    }
}

/// Does nothing: on other systems the nice value is that of the whole process, with its loops.
#[cfg(not(target_os = "linux"))]
pub fn lower(_nice: i32) {}
