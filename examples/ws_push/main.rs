//! `cargo run --release --example ws_push`
//!
//! WebSocket push from other threads: a producer thread reads the figures of the machine ten times
//! a second and sends them through a mailbox to every client. Whatever a client posts to `/publish` takes
//! the same way. A client that does not read delays no other client; what happens to it is an option.
//!
//! Read `producer` first (how a thread sends to all clients of a loop), then `app` (what the loop
//! does with a message).

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

mod app;
mod client;
mod figures;
mod message;
mod options;
mod page;
mod producer;
mod quantile;
mod report;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use moored::ThreadPool;

use app::WsPush;
use examples::limits::Limits;
use examples::server::Server;
use options::Options;

/// Sockets beyond `--max-connections`: for the page, the dumps, and to say no.
const SPARE_SOCKETS: usize = 256;
/// For a request to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    examples::options::main("ws_push", options::HELP, options::parse, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let limits = Limits {
        sockets: options.max_connections.saturating_add(SPARE_SOCKETS),
        message_bytes: options.max_message,
        idle_time: options.idle_timeout,
        request_time: options.idle_timeout.min(REQUEST_TIME),
        grace: options.grace,
        ..Limits::default()
    };
    if options.origins.are_all() {
        eprintln!("ws_push: warning: with --allow-origin=* every page of the web may read and publish here");
    }
    let address = SocketAddr::new(options.bind, options.port);
    let mut server = Server::bind(address, limits, options.origins.clone())
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    server
        .stop_on_signals()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    // No workers: nothing here is work for a pool. A mailbox needs only the service.
    let pool = ThreadPool::builder().name("ws_push").threads(0).build()?;
    let mut app = WsPush::new(&pool, &server, options)?;
    greet(server.local_addr()?)?;
    server.run(&mut app)?;
    Ok(())
}

fn greet(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ws_push listens on http://{address}/")?;
    writeln!(out, "Try")?;
    writeln!(out, "  the page           open http://{address}/")?;
    writeln!(out, "  the messages       websocat ws://{address}/live")?;
    writeln!(
        out,
        "  publish a text     curl -H 'Content-Type: text/plain' -d hello http://{address}/publish"
    )?;
    writeln!(out, "  the clients        curl http://{address}/clients.json")?;
    writeln!(out, "Ctrl-C stops it; a second Ctrl-C ends it at once.")?;
    out.flush()
}
