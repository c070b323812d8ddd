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
mod producer;
mod quantile;
mod report;

use std::error::Error;
use std::process::ExitCode;

use moored::ThreadPool;

use app::WsPush;
use examples::limits::Limits;
use examples::program;
use options::Options;

const NAME: &str = "ws_push";

fn main() -> ExitCode {
    examples::options::main(NAME, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    options.origins.warn(NAME);
    let limits = Limits {
        message_bytes: options.max_message,
        ..options.listen.limits()
    };
    let mut server = program::bind(&options.listen, limits, &options.origins.allowed)?;
    program::stop_on_signals(&mut server)?;
    // No workers: nothing here is work for a pool. A mailbox needs only the service.
    let pool = ThreadPool::builder().name(NAME).threads(0).build()?;
    let mut app = WsPush::new(&pool, &server, options)?;
    let at = server.local_addr()?;
    let publish = format!("curl -H 'Content-Type: text/plain' -d hello http://{at}/publish");
    let hints = [
        ("the messages", format!("websocat ws://{at}/live")),
        ("publish a text", publish),
        ("the clients", format!("curl http://{at}/clients.json")),
    ];
    program::greet(NAME, at, &hints)?;
    program::run(NAME, server, &mut app)?;
    Ok(())
}
