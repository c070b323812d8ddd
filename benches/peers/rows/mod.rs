//! The measures, a group of them in each file.

use std::fs;

pub(crate) mod cancel;
pub(crate) mod dump;
pub(crate) mod fair;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod mailbox;
pub(crate) mod newcomer;
pub(crate) mod services;
pub(crate) mod shares;
pub(crate) mod stream;
pub(crate) mod told;

/// Lets the sleeps of this thread, and of those that it starts, end within microseconds instead of
/// about 60 us late (the timer slack of Linux).
fn precise_sleeps() {
    fs::write("/proc/self/timerslack_ns", "1000").expect("Linux");
}
