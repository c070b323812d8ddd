//! The parts of a server's `main`: a port, signals, the lines that it prints.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;

use crate::limits::Limits;
use crate::options::common::Listen;
use crate::origin::AllowedOrigins;
use crate::server::{App, Server};

/// Binds the port for one loop. Several loops have one port with [`Server::bind_many`].
pub fn bind(listen: &Listen, limits: Limits, origins: &AllowedOrigins) -> Result<Server, String> {
    let address = listen.address();
    Server::bind(address, limits, origins.clone()).map_err(|error| {
        format!("cannot listen on {address}: {error}; --bind and --port choose another address")
    })
}

/// Makes signals end [`run`].
pub fn stop_on_signals(server: &mut Server) -> Result<(), String> {
    let installed = server.stop_on_signals();
    installed.map_err(|error| format!("cannot handle signals: {error}"))
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
    let cut = server.run(app)?;
    if cut > 0 {
        eprintln!("{name}: connections that were cut at the end of the grace: {cut}");
    }
    Ok(())
}
