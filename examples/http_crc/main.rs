//! `cargo run --release --example http_crc`, then open the page that it names, or
//! `curl --data-binary @FILE http://127.0.0.1:7682/`.
//!
//! Answers a POST with the CRC-32 of its body, computed by tasks on a pool. A body goes to its task
//! in pieces as it arrives, so its length does not matter for the memory. A task that waits for the
//! next piece holds no thread, and a client whose task is behind is made to wait.
//!
//! Original: `examples/multi-threaded` of Mongoose. Read `app` first (what happens to a request and
//! to a task), then `job` (what the workers do).

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

mod app;
mod job;
mod options;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use app::HttpCrc;
use examples::origin::AllowedOrigins;
use examples::program;
use options::Options;

const NAME: &str = "http_crc";
/// A task keeps its worker until it waits for a piece or ends. If tasks took turns, all of them would
/// begin at once: the queue would never be full, and all answers would be late.
const TIME_SLICE: Duration = Duration::from_secs(3600);
/// Time limit for the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    examples::options::main(NAME, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut limits = options.listen.limits();
    limits.answer_time += options.work;
    let mut server = program::bind(&options.listen, limits, &AllowedOrigins::default())?;
    program::stop_on_signals(&mut server)?;
    let pool = options.workers.pool(NAME).time_slice(TIME_SLICE).build()?;
    let mut app = HttpCrc::new(&pool, &server, options);
    let at = server.local_addr()?;
    let hints = [
        ("a file", format!("curl --data-binary @FILE http://{at}/")),
        ("any length", format!("curl -T FILE -X POST http://{at}/crc")),
        ("the pool, live", format!("curl http://{at}/dump")),
    ];
    program::greet(NAME, at, &hints)?;
    program::run(NAME, server, &mut app)?;
    pool.join_timeout(STOP_TIME)?;
    Ok(())
}
