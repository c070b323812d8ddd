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
mod page;
mod retry;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use moored::ThreadPool;

use app::HttpCrc;
use examples::limits::Limits;
use examples::origin::AllowedOrigins;
use examples::server::Server;
use options::Options;

/// For a request's head to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// A task keeps its worker until it waits for a piece or ends. If tasks took turns, all of them would
/// begin at once: the queue would never be full, and all answers would be late.
const TIME_SLICE: Duration = Duration::from_secs(3600);
/// For the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    examples::options::main("http_crc", options::HELP, options::parse, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let defaults = Limits::default();
    let limits = Limits {
        sockets: options.max_connections,
        idle_time: options.idle_timeout,
        request_time: options.idle_timeout.min(REQUEST_TIME),
        answer_time: defaults.answer_time + options.work,
        grace: options.grace,
        ..defaults
    };
    let address = SocketAddr::new(options.bind, options.port);
    let mut server = Server::bind(address, limits, AllowedOrigins::default())
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    server
        .stop_on_signals()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let pool = ThreadPool::builder()
        .name("http_crc")
        .threads(options.threads)
        .max_queue_depth(options.max_queue_depth)
        .time_slice(TIME_SLICE)
        .build()?;
    let mut app = HttpCrc::new(&pool, &server, options);
    greet(server.local_addr()?)?;
    server.run(&mut app)?;
    pool.join_timeout(STOP_TIME)?;
    Ok(())
}

fn greet(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "http_crc listens on http://{address}/")?;
    writeln!(out, "Try")?;
    writeln!(out, "  the page           open http://{address}/")?;
    writeln!(
        out,
        "  a file             curl --data-binary @FILE http://{address}/"
    )?;
    writeln!(
        out,
        "  any length         curl -T FILE -X POST http://{address}/crc"
    )?;
    writeln!(out, "  the pool, live     curl http://{address}/dump")?;
    writeln!(out, "Ctrl-C stops it; a second Ctrl-C ends it at once.")?;
    out.flush()
}
