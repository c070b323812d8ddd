//! The measures, a group of them in each file.

use std::fs;

pub(crate) mod cancel;
pub(crate) mod door;
pub(crate) mod dump;
pub(crate) mod estimated_wait;
pub(crate) mod fair;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod mailbox;
pub(crate) mod newcomer;
pub(crate) mod services;
pub(crate) mod shares;
pub(crate) mod stream;
pub(crate) mod told;

/// Makes the sleeps of this thread, and of the threads that it starts, end within microseconds. By
/// default they end about 60 us late (the timer slack of Linux).
fn precise_sleeps() {
    fs::write("/proc/self/timerslack_ns", "1000").expect("Linux");
}
