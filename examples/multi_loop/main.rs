//! `cargo run --release --example multi_loop`, then open the page whose address it prints.
//!
//! Several event loops, each on a thread of its own and with its own connections, share one pool.
//! The main thread accepts clients and gives each to a loop; the connection stays on that loop.
//! Workers run queries of an `SQLite` database, and each worker has a database connection of its
//! own. No query blocks a loop, unless the option `--fast` is given: then the loops run the
//! queries.
//!
//! Original: the threading model of Drogon. Read `commands` first (a function in another loop),
//! then `database/connection` (state of a worker), `job` (the task of a request) and `app`
//! (requests, answers and tasks of a loop).

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
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use app::LoopApp;
use dealer::FewestConnections;
use examples::acceptor::Acceptor;
use examples::origin::AllowedOrigins;
use examples::program;
use examples::server::{Server, Stopper};
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
    let stopper = acceptor.stopper();
    if let Err(why) = prepare_database(options, &stopper) {
        // A signal has ended it.
        return if stopper.is_stopped() {
            Ok(())
        } else {
            Err(why.into())
        };
    }
    let pools = pools(options)?;
    let servers = servers(options)?;
    let (shared, loop_parts) = Shared::new(&servers, &pools, acceptor.waker(), options);
    let mut dealer = FewestConnections::new(&shared, options.listen.max_connections);
    let loop_parts: Vec<_> = loop_parts
        .into_iter()
        .map(|parts| Mutex::new(Some(parts)))
        .collect();
    greet(&acceptor, options)?;
    let serve = |number: usize, server: Server| {
        let parts = loop_parts[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(parts) = parts else { return Ok(0) };
        if options.fast {
            database::connection::open_early(&options.database);
        }
        server.run(&mut LoopApp::new(parts, &shared))
    };
    program::run_with_acceptor(NAME, servers, serve, acceptor, &mut dealer)?;
    for pool in pools {
        pool.join_timeout(STOP_TIME)?;
    }
    Ok(())
}

fn prepare_database(options: &Options, stopper: &Stopper) -> Result<(), String> {
    let stopper = stopper.clone();
    let stop = move || stopper.is_stopped();
    database::create::prepare(&options.database, options.rows, stop, |line| {
        eprintln!("{NAME}: {line}");
    })
}

/// One pool for all loops; with `--fast`, a pool without threads for each loop. The workers have
/// opened the database when this returns: later, clients may use up all files.
fn pools(options: &Options) -> Result<Vec<Arc<ThreadPool>>, BuildError> {
    if options.fast {
        let pool = |number| {
            let pool = options.workers.pool(&format!("loop-{number}"));
            Ok(Arc::new(pool.threads(0).build()?))
        };
        return (0..options.loops).map(pool).collect();
    }
    let (nice, database) = (options.nice, options.database.clone());
    let (started, starts) = mpsc::channel();
    let pool = options.workers.pool(NAME).on_thread_start(move |_| {
        priority::lower(nice);
        database::connection::open_early(&database);
        // Later starts replace a worker, and nothing waits for them.
        let _ = started.send(());
    });
    let pool = pool.build()?;
    starts.iter().take(options.workers.threads).for_each(drop);
    Ok(vec![Arc::new(pool)])
}

/// A server without a port for each loop.
fn servers(options: &Options) -> Result<Vec<Server>, String> {
    let mut limits = options.listen.limits();
    limits.answer_time = options.query_timeout;
    let server = |_| Server::without_listener(limits.clone(), AllowedOrigins::default());
    let servers: io::Result<_> = (0..options.loops).map(server).collect();
    servers.map_err(|error| {
        let loops = options.loops;
        format!("cannot start {loops} loops: {error}; use fewer --loops, or raise the limit of open files")
    })
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
