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
mod page;
mod stream;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use moored::ThreadPool;

use app::WsStream;
use examples::limits::Limits;
use examples::server::Server;
use options::Options;

/// Sockets beyond `--max-connections`: for the page, the dumps, and for 503 answers.
const SPARE_SOCKETS: usize = 256;
/// Time limit for a request to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time limit for the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    examples::options::main("ws_stream", options::HELP, options::parse, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let limits = Limits {
        sockets: options.max_connections.saturating_add(SPARE_SOCKETS),
        idle_time: options.idle_timeout,
        request_time: options.idle_timeout.min(REQUEST_TIME),
        grace: options.grace,
        ..Limits::default()
    };
    if options.origins.are_all() {
        eprintln!("ws_stream: warning: with --allow-origin=* every page of the web may open WebSockets here");
    }
    let address = SocketAddr::new(options.bind, options.port);
    let mut server = Server::bind(address, limits, options.origins.clone()).map_err(|error| {
        format!("cannot listen on {address}: {error}; --bind and --port choose another address")
    })?;
    server
        .stop_on_signals()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let pool = ThreadPool::builder()
        .name("ws_stream")
        .threads(options.threads)
        .max_queue_depth(options.max_queue_depth)
        .build()?;
    let mut app = WsStream::new(&pool, &server, options);
    greet(server.local_addr()?)?;
    let cut = server.run(&mut app)?;
    if cut > 0 {
        eprintln!("ws_stream: connections that were cut at the end of the grace: {cut}");
    }
    // Waits for tasks that have not stopped yet.
    pool.join_timeout(STOP_TIME)?;
    Ok(())
}

fn greet(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ws_stream listens on http://{address}/")?;
    writeln!(out, "Try")?;
    writeln!(out, "  the page           open http://{address}/")?;
    writeln!(out, "  the pool, live     curl http://{address}/dump")?;
    writeln!(
        out,
        "  numbered chunks    websocat -b 'ws://{address}/stream?chunks=100&size=1024' | wc -c"
    )?;
    writeln!(
        out,
        "  some load          cargo run --release --example ws_load -- --addr {address}"
    )?;
    writeln!(out, "Ctrl-C stops it; a second Ctrl-C ends it at once.")?;
    out.flush()
}
