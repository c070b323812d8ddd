//! The parts of a server's `main`: a port, signals, the lines that it prints.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;

use crate::acceptor::{Acceptor, Dealer};
use crate::limits::Limits;
use crate::loops;
use crate::options::common::Listen;
use crate::origin::AllowedOrigins;
use crate::server::{App, Server};

/// Binds the port for one loop.
pub fn bind(listen: &Listen, limits: Limits, origins: &AllowedOrigins) -> Result<Server, String> {
    let address = listen.address();
    Server::bind(address, limits, origins.clone()).map_err(|error| cannot_listen(address, &error))
}

/// Binds one port for several loops.
pub fn bind_many(
    loops: usize,
    listen: &Listen,
    limits: &Limits,
    origins: &AllowedOrigins,
) -> Result<Vec<Server>, String> {
    let address = listen.address();
    Server::bind_many(loops, address, limits, origins).map_err(|error| cannot_listen(address, &error))
}

/// Binds the port for a thread that accepts clients for several loops.
pub fn bind_acceptor(listen: &Listen) -> Result<Acceptor, String> {
    let address = listen.address();
    let acceptor = Acceptor::bind(address, listen.limits().sockets);
    acceptor.map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {address}: {error}; --bind and --port choose another address")
}

/// Makes signals end [`run`].
pub fn stop_on_signals(server: &mut Server) -> Result<(), String> {
    server.stop_on_signals().map_err(|error| no_signals(&error))
}

/// Makes signals end [`Acceptor::run`].
pub fn stop_acceptor_on_signals(acceptor: &mut Acceptor) -> Result<(), String> {
    acceptor.stop_on_signals().map_err(|error| no_signals(&error))
}

fn no_signals(error: &io::Error) -> String {
    format!("cannot handle signals: {error}")
}

/// Prints the address, and things to try: what they are for, and a command.
pub fn greet(name: &str, address: SocketAddr, hints: &[(&str, String)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name} listens on http://{address}/")?;
    writeln!(out, "Try")?;
    let mut hint = |what: &str, command: &dyn Display| writeln!(out, "  {what:<18} {command}");
    hint("the page", &format_args!("open http://{address}/"))?;
    for (what, command) in hints {
        hint(what, command)?;
    }
    writeln!(out, "Ctrl-C stops it; a second Ctrl-C ends it at once.")?;
    out.flush()
}

/// Runs the server to its end. Reports the connections that were cut.
pub fn run(name: &str, server: Server, app: &mut impl App) -> io::Result<()> {
    report_cut(name, server.run(app)?);
    Ok(())
}

/// Runs several servers to their ends, as [`loops::run`] does. Reports the connections that were
/// cut.
pub fn run_many<S>(name: &str, servers: Vec<Server>, serve: S) -> io::Result<()>
where
    S: Fn(usize, Server) -> io::Result<usize> + Sync,
{
    report_cut(name, loops::run(servers, serve)?);
    Ok(())
}

/// Runs several servers and the acceptor of their clients to their ends, as
/// [`loops::run_with_acceptor`] does. Reports the connections that were cut.
pub fn run_with_acceptor<S>(
    name: &str,
    servers: Vec<Server>,
    serve: S,
    acceptor: Acceptor,
    dealer: &mut impl Dealer,
) -> io::Result<()>
where
    S: Fn(usize, Server) -> io::Result<usize> + Sync,
{
    report_cut(name, loops::run_with_acceptor(servers, serve, acceptor, dealer)?);
    Ok(())
}

fn report_cut(name: &str, connections: usize) {
    if connections > 0 {
        eprintln!("{name}: connections that were cut at the end of the grace: {connections}");
    }
}
