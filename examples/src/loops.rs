//! Several loops, each on a thread.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::acceptor::{Acceptor, Dealer};
use crate::net::NetCounters;
use crate::server::{Server, Stopper};

/// Runs `serve` for each server, with its number, until all have ended: the first one on this
/// thread, the others on threads of their own. When one stops, or `serve` returns, all stop.
/// Returns the sum of the results.
pub fn run<S>(mut servers: Vec<Server>, serve: S) -> io::Result<usize>
where
    S: Fn(usize, Server) -> io::Result<usize> + Sync,
{
    let stoppers = group(&mut servers, None);
    let mut servers = servers.into_iter().enumerate();
    let first = servers.next();
    let serve = &serve;
    run_all(servers, serve, &stoppers, move || {
        first.map_or(Ok(0), |(number, server)| serve(number, server))
    })
}

/// Runs `serve` for each server, with its number, on a thread of its own, and `acceptor` on this
/// thread, until all have ended. When one stops, or `serve` returns, all stop. Returns the sum of
/// the results of `serve`.
pub fn run_with_acceptor<S>(
    mut servers: Vec<Server>,
    serve: S,
    acceptor: Acceptor,
    dealer: &mut impl Dealer,
) -> io::Result<usize>
where
    S: Fn(usize, Server) -> io::Result<usize> + Sync,
{
    let stoppers = group(&mut servers, Some(acceptor.stopper()));
    let servers = servers.into_iter().enumerate();
    run_all(servers, &serve, &stoppers, || acceptor.run(dealer).map(|()| 0))
}

/// Makes the servers stop together, and with them `acceptor`.
fn group(servers: &mut [Server], acceptor: Option<Stopper>) -> Arc<[Stopper]> {
    let stoppers: Arc<[_]> = servers.iter().map(Server::stopper).chain(acceptor).collect();
    for server in servers {
        server.stop_with(Arc::clone(&stoppers));
    }
    stoppers
}

/// Runs the servers on threads of their own, and `here` on the calling thread.
fn run_all<S>(
    servers: impl Iterator<Item = (usize, Server)>,
    serve: &S,
    stoppers: &[Stopper],
    here: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize>
where
    S: Fn(usize, Server) -> io::Result<usize> + Sync,
{
    let serve_and_stop = move |number, server| {
        // Also if `serve` panics.
        let _stop = StopAll(stoppers);
        serve(number, server)
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, server) in servers {
            let name = format!("loop-{number}");
            let thread = thread::Builder::new().name(name);
            match thread.spawn_scoped(scope, move || serve_and_stop(number, server)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    drop(StopAll(stoppers));
                    return Err(error);
                }
            }
        }
        let mut result = {
            let _stop = StopAll(stoppers);
            here()
        };
        for thread in threads {
            let other = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and_then(|sum| Ok(sum + other?));
        }
        result
    })
}

struct StopAll<'a>(&'a [Stopper]);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(Stopper::stop);
    }
}

/// The counters of several loops. Each loop publishes its own; any thread may read them.
#[derive(Debug, Clone)]
pub struct LoopCounters(Arc<[Mutex<NetCounters>]>);

impl LoopCounters {
    pub fn new(loops: usize) -> Self {
        Self((0..loops).map(|_| Mutex::default()).collect())
    }

    /// Publishes the counters of loop `number`.
    pub fn publish(&self, number: usize, counters: NetCounters) {
        *self.0[number].lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// The counters of each loop, as they were last published.
    pub fn all(&self) -> Vec<NetCounters> {
        let lock = |counters: &Mutex<NetCounters>| *counters.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.iter().map(lock).collect()
    }

    /// The sum of them.
    pub fn total(&self) -> NetCounters {
        let mut total = NetCounters::default();
        for counters in self.all() {
            total += counters;
        }
        total
    }
}
