//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use lexopt::prelude::{Long, Short, ValueExt};

const HELP: &str = "\
Streams that block on their clients, on a few threads.

Usage: ws_stream [options]

  --port N             port to listen on, 0 for any free one [7681]
  --bind ADDRESS       address to listen on [127.0.0.1]
  --threads N          worker threads of the pool [number of cores]
  --max-queue-depth N  tasks that may wait for their first step [4096]
  --max-connections N  WebSockets open at once [4096]
  --idle-timeout N     seconds after which a silent WebSocket is closed, and the most
                       that a request may take, if less than 10 [60]
  --help               this text
";

#[derive(Debug)]
pub struct Options {
    pub port: u16,
    pub bind: IpAddr,
    pub threads: usize,
    pub max_queue_depth: usize,
    pub max_connections: usize,
    pub idle_timeout: Duration,
}

#[derive(Debug)]
pub enum Parsed {
    Run(Options),
    Help(&'static str),
}

pub fn parse() -> Result<Parsed, lexopt::Error> {
    let mut options = Options {
        port: 7681,
        bind: Ipv4Addr::LOCALHOST.into(),
        threads: thread::available_parallelism().map_or(2, usize::from),
        max_queue_depth: 4096,
        max_connections: 4096,
        idle_timeout: Duration::from_secs(60),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("port") => options.port = arguments.value()?.parse()?,
            Long("bind") => options.bind = arguments.value()?.parse()?,
            Long("threads") => options.threads = at_least_one(&mut arguments)?,
            Long("max-queue-depth") => options.max_queue_depth = at_least_one(&mut arguments)?,
            Long("max-connections") => options.max_connections = at_least_one(&mut arguments)?,
            Long("idle-timeout") => {
                options.idle_timeout = Duration::from_secs(at_least_one(&mut arguments)? as u64);
            }
            Long("help") | Short('h') => return Ok(Parsed::Help(HELP)),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Parsed::Run(options))
}

fn at_least_one(arguments: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    match arguments.value()?.parse()? {
        0 => Err("0 will not do here, at least 1 is needed".into()),
        number => Ok(number),
    }
}
