//! `cargo run --release --example multi_loop`, then open the page that it names.
//!
//! Several event loops, each on a thread with connections of its own, and one pool for all of them.
//! The main thread accepts clients and deals them out; a connection stays on its loop. Workers run
//! queries of an `SQLite` database, with a database connection for each worker. No query blocks a
//! loop, unless `--fast` makes the loops run them.
//!
//! Original: the threading model of Drogon. Read `commands` first (how a function gets into another
//! loop), then `database/connection` (state of a worker), `job` (what a worker does) and `app` (what
//! a loop does with requests and tasks).

#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

mod app;
mod cancel;
mod commands;
mod database;
mod dealer;
mod figures;
mod job;
mod loop_state;
mod options;
mod priority;
mod report;
mod request;
mod shared;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use app::Hosted;
use dealer::RoundRobin;
use examples::acceptor::Acceptor;
use examples::options::common::Listen;
use examples::origin::AllowedOrigins;
use examples::program;
use examples::server::Server;
use moored::{BuildError, ThreadPool};
use options::Options;
use shared::Shared;

const NAME: &str = "multi_loop";
/// Time limit for the steps that are running when the server stops.
const STOP_TIME: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    examples::options::main(NAME, run)
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut acceptor = program::bind_acceptor(&options.listen)?;
    program::stop_acceptor_on_signals(&mut acceptor)?;
    database::create::prepare(&options.database, options.rows, |line| {
        eprintln!("{NAME}: {line}");
    })?;
    let pools = pools(options)?;
    let new_server = |_| server(&options.listen, options.query_timeout);
    let servers: Vec<_> = (0..options.loops).map(new_server).collect::<io::Result<_>>()?;
    let (shared, seats) = Shared::new(&servers, &pools, acceptor.waker(), options);
    let mut dealer = RoundRobin::new(&shared, options.listen.max_connections);
    let seats: Vec<_> = seats.into_iter().map(|seat| Mutex::new(Some(seat))).collect();
    greet(&acceptor, options)?;
    let serve = |number: usize, server: Server| {
        let seat = seats[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(seat) = seat else { return Ok(0) };
        server.run(&mut Hosted::new(seat, &shared))
    };
    program::run_with_acceptor(NAME, servers, serve, acceptor, &mut dealer)?;
    for pool in pools {
        pool.join_timeout(STOP_TIME)?;
    }
    Ok(())
}

/// One pool for all loops; with `--fast`, one without threads for each loop.
fn pools(options: &Options) -> Result<Vec<Arc<ThreadPool>>, BuildError> {
    let builder = |name: &str| {
        let nice = options.nice;
        options
            .workers
            .pool(name)
            .on_thread_start(move |_| priority::lower(nice))
    };
    if !options.fast {
        return Ok(vec![Arc::new(builder(NAME).build()?)]);
    }
    let pool = |number| Ok(Arc::new(builder(&format!("loop-{number}")).threads(0).build()?));
    (0..options.loops).map(pool).collect()
}

fn server(listen: &Listen, query_timeout: Duration) -> io::Result<Server> {
    let mut limits = listen.limits();
    limits.answer_time = query_timeout;
    Server::without_listener(limits, AllowedOrigins::default())
}

fn greet(acceptor: &Acceptor, options: &Options) -> io::Result<()> {
    let at = acceptor.local_addr()?;
    let sql = "SELECT * FROM item WHERE id > :after ORDER BY id";
    let hints = [
        (
            "a query",
            format!("curl -G --data-urlencode 'sql=SELECT count(*) FROM item' http://{at}/query"),
        ),
        (
            "a long result",
            format!("curl -G --data-urlencode 'sql={sql}' http://{at}/query"),
        ),
        ("a slow query", format!("curl http://{at}/slow?ms=500")),
        (
            "another loop",
            format!("curl http://{at}/move?to={}", options.loops - 1),
        ),
        ("the loops", format!("curl http://{at}/loops.json")),
    ];
    program::greet(NAME, at, &hints)
}
