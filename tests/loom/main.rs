//! loom models of the core. They run the code that ships through the public interface, with the
//! locks, atomics and threads of loom (`src/sync.rs`).
//!
//! ```console
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release --test loom
//! ```
//!
//! loom runs a model again and again, each time with another schedule, and with every value that a
//! relaxed load may return. The number of preemptions in a schedule is bounded. loom fails when all
//! threads wait, so a lost wake-up cannot be hidden by a timeout: a model waits for the expected
//! event, and then checks the state. After its race a model ends the exploration
//! (`util::end_race`): the drop of a pool has more schedules than most races, and it has models of
//! its own.
#![cfg(loom)]

mod announcements;
mod charges;
mod drain;
mod drops;
mod ends;
mod expiry;
mod mailbox;
mod room;
mod shed;
mod util;
mod workers;
