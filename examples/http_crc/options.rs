//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use examples::options::{Arguments, Stop};

pub const HELP: &str = "\
Answers POST requests with the CRC-32 of their bodies, computed on a few threads.

Usage: http_crc [options]

  --port N               port to listen on, 0 to 65535; 0 is any free one [7682]
  --bind ADDRESS         IP address to listen on [127.0.0.1]
  --threads N            worker threads of the pool, 1 to 1024 [number of cores]
  --max-queue-depth N    requests that may wait for their first step, 1 to 1000000; more are
                         answered with 503 [4096]
  --max-connections N    connections open at once, 1 to 1000000 [4096]
  --max-body BYTES       longest body, such as 65536, 64K, 64M or 8G [64M]
  --work-ms N            milliseconds of simulated work for each request, 0 to 60000 [0]
  --idle-timeout SECONDS when to close a connection whose client makes no progress, 1 to 86400;
                         also the limit for a request's head, if it is less than 10 [60]
  --grace SECONDS        on SIGINT or SIGTERM, how long to go on answering what was accepted,
                         0 to 3600 [5]
  --help                 this text

Exit codes: 0 after a clean end, 1 after an error, 2 for bad options.
";

/// A TiB.
const BODY_BYTES_MAX: usize = 1 << 40;

#[derive(Debug)]
pub struct Options {
    pub port: u16,
    pub bind: IpAddr,
    pub threads: usize,
    pub max_queue_depth: usize,
    pub max_connections: usize,
    pub max_body: usize,
    pub work: Duration,
    pub idle_timeout: Duration,
    pub grace: Duration,
}

pub fn parse(arguments: &mut Arguments) -> Result<Options, Stop> {
    let mut options = Options {
        port: 7682,
        bind: Ipv4Addr::LOCALHOST.into(),
        threads: thread::available_parallelism().map_or(2, usize::from).min(1024),
        max_queue_depth: 4096,
        max_connections: 4096,
        max_body: 64 << 20,
        work: Duration::ZERO,
        idle_timeout: Duration::from_secs(60),
        grace: Duration::from_secs(5),
    };
    while let Some(name) = arguments.next_name()? {
        match name.as_str() {
            "port" => options.port = arguments.number(0..=u16::MAX)?,
            "bind" => options.bind = arguments.ip_address()?,
            "threads" => options.threads = arguments.number(1..=1024)?,
            "max-queue-depth" => options.max_queue_depth = arguments.number(1..=1_000_000)?,
            "max-connections" => options.max_connections = arguments.number(1..=1_000_000)?,
            "max-body" => options.max_body = arguments.bytes(1..=BODY_BYTES_MAX)?,
            "work-ms" => options.work = Duration::from_millis(arguments.number(0..=60_000)?),
            "idle-timeout" => options.idle_timeout = arguments.seconds(1..=86_400)?,
            "grace" => options.grace = arguments.seconds(0..=3600)?,
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
}
