//! The core under every schedule: these models run the code that ships, with loom's locks, atomics and threads
//! (`src/primitive.rs`), through the public interface.
//!
//! ```console
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release --test loom
//! ```
//!
//! loom runs a model again and again, each time with other switches between threads (at most so many that nothing
//! forced) and with every value that a relaxed load may see. It fails when all threads wait, so a lost wake-up
//! cannot hide behind a timeout: a model waits for what must happen, and checks what it then finds.
#![cfg(loom)]

mod announcements;
mod drain;
mod drops;
mod ends;
mod mailbox;
mod util;
mod workers;
