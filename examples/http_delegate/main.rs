//! `cargo run --release --example http_delegate`, then open the page that it names, or
//! `curl --no-buffer http://127.0.0.1:7685/stream`.
//!
//! A handler answers inside the call, leaves the answer to a task, or rejects the request. A task
//! gives its answer whole, in parts, or as server-sent events. Each write of a task is a `Sync`
//! step: the task goes on when the kernel has taken the bytes, and is stopped if the client has
//! gone or the time is up. `--threads 0` runs everything on the thread of the loop, `--loops N` has
//! N loops.
//!
//! Original: the threading model of `RESTinio`. Read `handlers` first (what a request of each path
//! does), then `job` (what a task does), then `app` (how the loop brings them together).

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

mod app;
mod counts;
mod events;
mod handlers;
mod job;
mod lines;
mod options;
mod records;
mod work;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use app::{HttpDelegate, Shared};
use examples::loops::LoopCounters;
use examples::origin::AllowedOrigins;
use examples::program;
use options::Options;
use records::AllRecords;

const NAME: &str = "http_delegate";
/// Time limit for the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    examples::options::main(NAME, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let (limits, origins) = (options.limits(), AllowedOrigins::default());
    let mut servers = program::bind_many(options.loops, &options.listen, &limits, &origins)?;
    let at = servers[0].local_addr()?;
    // A signal ends the first loop, and then the others stop, too.
    program::stop_on_signals(&mut servers[0])?;
    let pool = options.workers.pool(NAME).build()?;
    let hints = [
        (
            "a whole answer",
            format!("curl 'http://{at}/work?ms=500&size=100'"),
        ),
        (
            "an answer in parts",
            format!("curl --no-buffer 'http://{at}/stream?parts=5&size=48&ms=500'"),
        ),
        ("events", format!("curl --no-buffer 'http://{at}/events?ms=500'")),
        ("the requests, live", format!("curl http://{at}/requests.json")),
        ("the pool, live", format!("curl http://{at}/dump")),
    ];
    program::greet(NAME, at, &hints)?;
    let shared = Shared {
        pool: &pool,
        records: AllRecords::new(options.loops),
        counters: LoopCounters::new(options.loops),
    };
    program::run_many(NAME, servers, |number, server| {
        let mut app = HttpDelegate::new(&shared, number, &server, options);
        server.run(&mut app)
    })?;
    pool.join_timeout(STOP_TIME)?;
    Ok(())
}
