//! `cargo run --release --example ws_stream`
//!
//! Streaming WebSocket producers that block on `Sync`: a Mandelbrot picture whose tiles are
//! drawn by tasks, each moored to a WebSocket of its own, and plain numbered streams. A client
//! that stops reading pauses its own task, and a paused task holds no thread.
//!
//! Read `app` first (what happens to a request and to a task), then `job` (what the workers do).

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

mod app;
mod job;
mod mandelbrot;
mod options;
mod stream;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use app::WsStream;
use examples::program;
use options::Options;

const NAME: &str = "ws_stream";
/// Time limit for the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    examples::options::main(NAME, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    options.origins.warn(NAME);
    let mut server = program::bind(&options.listen, options.listen.limits(), &options.origins.allowed)?;
    program::stop_on_signals(&mut server)?;
    let pool = options.workers.pool(NAME).build()?;
    let mut app = WsStream::new(&pool, &server, options);
    let at = server.local_addr()?;
    let chunks = format!("websocat -b 'ws://{at}/stream?chunks=100&size=1024' | wc -c");
    let load = format!("cargo run --release --example ws_load -- --addr {at}");
    let hints = [
        ("the pool, live", format!("curl http://{at}/dump")),
        ("numbered chunks", chunks),
        ("some load", load),
    ];
    program::greet(NAME, at, &hints)?;
    program::run(NAME, server, &mut app)?;
    // Waits for tasks that have not stopped yet.
    pool.join_timeout(STOP_TIME)?;
    Ok(())
}
