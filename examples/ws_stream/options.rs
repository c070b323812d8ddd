//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use examples::options::{Arguments, Stop};
use examples::origin::AllowedOrigins;

pub const HELP: &str = "\
Streams data to clients over WebSocket; a blocked stream uses no thread.

Usage: ws_stream [options]

  --port N               port to listen on, 0 to 65535; 0 is any free one [7681]
  --bind ADDRESS         IP address to listen on [127.0.0.1]
  --threads N            worker threads of the pool, 1 to 1024 [number of cores]
  --max-queue-depth N    tasks that may wait for their first step, 1 to 1000000 [4096]
  --max-connections N    WebSockets open at once, 1 to 1000000 [4096]
  --idle-timeout SECONDS when to close a connection whose client acknowledges nothing, or does
                         not answer a ping, 1 to 86400; also the limit for a request, if it
                         is less than 10 [60]
  --allow-origin ORIGIN  a page of this origin may open WebSockets, such as
                         https://example.com; * allows every page. May be repeated
                         [only pages of this server]
  --trust-proxy          believe the X-Forwarded headers of a reverse proxy
  --grace SECONDS        on SIGINT or SIGTERM, how long to go on sending what was accepted,
                         0 to 3600 [5]
  --help                 this text

Exit codes: 0 after SIGINT or SIGTERM, 1 after an error, 2 for bad options, 130 after a second
signal.
";

#[derive(Debug)]
pub struct Options {
    pub port: u16,
    pub bind: IpAddr,
    pub threads: usize,
    pub max_queue_depth: usize,
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub origins: AllowedOrigins,
    pub grace: Duration,
}

pub fn parse(arguments: &mut Arguments) -> Result<Options, Stop> {
    let mut options = Options {
        port: 7681,
        bind: Ipv4Addr::LOCALHOST.into(),
        threads: thread::available_parallelism().map_or(2, usize::from).min(1024),
        max_queue_depth: 4096,
        max_connections: 4096,
        idle_timeout: Duration::from_secs(60),
        origins: AllowedOrigins::default(),
        grace: Duration::from_secs(5),
    };
    while let Some(name) = arguments.next_name()? {
        match name.as_str() {
            "port" => options.port = arguments.number(0..=u16::MAX)?,
            "bind" => options.bind = arguments.ip_address()?,
            "threads" => options.threads = arguments.number(1..=1024)?,
            "max-queue-depth" => options.max_queue_depth = arguments.number(1..=1_000_000)?,
            "max-connections" => options.max_connections = arguments.number(1..=1_000_000)?,
            "idle-timeout" => options.idle_timeout = arguments.seconds(1..=86_400)?,
            "allow-origin" => arguments.allow_origin(&mut options.origins)?,
            "trust-proxy" => options.origins.trust_proxy(),
            "grace" => options.grace = arguments.seconds(0..=3600)?,
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
}
