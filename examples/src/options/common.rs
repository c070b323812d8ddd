//! The options that several servers have, in groups: where a server listens and when it gives a
//! client up ([`Listen`]), the workers of its pool ([`Workers`]), and whose pages may use it
//! ([`Origins`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use moored::{ThreadPool, ThreadPoolBuilder};

use super::{Arguments, Group, Stop};
use crate::limits::Limits;
use crate::origin::AllowedOrigins;

/// The exit codes of a server.
pub const EXIT_CODES: &str = "\
Exit codes: 0 after SIGINT or SIGTERM, 1 after an error, 2 for bad options, 130 after a second
signal.
";

/// The longest time limit for a request to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Sockets beyond `--max-connections` if it counts `WebSockets`: for the page, the dumps, and for
/// 503 answers.
const SPARE_SOCKETS: usize = 256;

const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
const IDLE_SECONDS: RangeInclusive<u64> = 1..=86_400;
const GRACE_SECONDS: RangeInclusive<u64> = 0..=3600;
const THREADS_MAX: usize = 1024;
const QUEUE_DEPTH: RangeInclusive<usize> = 1..=1_000_000;

/// What `--max-connections` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Connections,
    WebSockets,
}

/// Where a server listens, for how many clients, and when it closes their connections.
#[derive(Debug, Clone)]
pub struct Listen {
    pub port: u16,
    pub bind: IpAddr,
    pub counted: Counted,
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub grace: Duration,
}

impl Listen {
    /// The defaults of a server with this port.
    pub fn on(port: u16, counted: Counted) -> Self {
        Self {
            port,
            bind: Ipv4Addr::LOCALHOST.into(),
            counted,
            max_connections: 4096,
            idle_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// The limits that the options set. The others have their defaults.
    pub fn limits(&self) -> Limits {
        let spare = match self.counted {
            Counted::Connections => 0,
            Counted::WebSockets => SPARE_SOCKETS,
        };
        Limits {
            sockets: self.max_connections.saturating_add(spare),
            idle_time: self.idle_timeout,
            request_time: self.idle_timeout.min(REQUEST_TIME),
            grace: self.grace,
            ..Limits::default()
        }
    }
}

impl Group for Listen {
    fn help(&self) -> String {
        let counted = match self.counted {
            Counted::Connections => "connections",
            Counted::WebSockets => "WebSockets",
        };
        let ports = range(&(0..=u16::MAX));
        let (connections, idle, grace) = (range(&CONNECTIONS), range(&IDLE_SECONDS), range(&GRACE_SECONDS));
        let (port, bind, most) = (self.port, self.bind, self.max_connections);
        let (idle_timeout, grace_time) = (self.idle_timeout.as_secs(), self.grace.as_secs());
        let request = REQUEST_TIME.as_secs();
        format!(
            "  --port N               port to listen on, {ports}; 0: any free port [{port}]
  --bind ADDRESS         IP address to listen on [{bind}]
  --max-connections N    {counted} open at once, {connections} [{most}]
  --idle-timeout SECONDS close a connection after this time if its client acknowledges no bytes,
                         or does not answer a ping, {idle}; a request must arrive in
                         this time, too, and in {request} seconds at most [{idle_timeout}]
  --grace SECONDS        after SIGINT or SIGTERM, continue to send accepted output for this time,
                         {grace} [{grace_time}]
"
        )
    }

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<bool, Stop> {
        match name {
            "port" => self.port = arguments.number(0..=u16::MAX)?,
            "bind" => self.bind = arguments.ip_address()?,
            "max-connections" => self.max_connections = arguments.number(CONNECTIONS)?,
            "idle-timeout" => self.idle_timeout = arguments.seconds(IDLE_SECONDS)?,
            "grace" => self.grace = arguments.seconds(GRACE_SECONDS)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The workers of a pool, and its queue.
#[derive(Debug, Clone)]
pub struct Workers {
    pub threads: usize,
    pub max_queue_depth: usize,
    /// 0 if the loop of the server runs tasks when there are no workers.
    pub min_threads: usize,
}

impl Workers {
    /// The defaults of a server that works without workers, too.
    pub fn or_none() -> Self {
        Self {
            min_threads: 0,
            ..Self::default()
        }
    }

    fn threads_range(&self) -> RangeInclusive<usize> {
        self.min_threads..=THREADS_MAX
    }

    /// A pool with these options.
    pub fn pool(&self, name: &str) -> ThreadPoolBuilder {
        ThreadPool::builder()
            .name(name)
            .threads(self.threads)
            .max_queue_depth(self.max_queue_depth)
    }
}

impl Default for Workers {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            threads: cores.min(THREADS_MAX),
            max_queue_depth: 4096,
            min_threads: 1,
        }
    }
}

impl Group for Workers {
    fn help(&self) -> String {
        let (threads, depth) = (range(&self.threads_range()), range(&QUEUE_DEPTH));
        let none = if self.min_threads == 0 {
            ";\n                         with 0 the loop runs the tasks"
        } else {
            ""
        };
        let most = self.max_queue_depth;
        format!(
            "  --threads N            worker threads of the pool, {threads}{none} [number of cores]
  --max-queue-depth N    tasks that may wait for their first step, {depth}; more are
                         answered with 503 [{most}]
"
        )
    }

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<bool, Stop> {
        match name {
            "threads" => self.threads = arguments.number(self.threads_range())?,
            "max-queue-depth" => self.max_queue_depth = arguments.number(QUEUE_DEPTH)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Whose pages may use a server from a browser.
#[derive(Debug, Clone)]
pub struct Origins {
    pub allowed: AllowedOrigins,
    /// What a page of an allowed origin may do, as in "may publish".
    rights: &'static str,
}

impl Origins {
    pub fn may(rights: &'static str) -> Self {
        Self {
            allowed: AllowedOrigins::default(),
            rights,
        }
    }

    /// Prints a warning if the pages of all servers are allowed.
    pub fn warn(&self, name: &str) {
        if self.allowed.are_all() {
            let rights = self.rights;
            eprintln!("{name}: warning: with --allow-origin=* every page of the web may {rights} here");
        }
    }
}

impl Group for Origins {
    fn help(&self) -> String {
        let rights = self.rights;
        format!(
            "  --allow-origin ORIGIN  a page of this origin may {rights}, such as
                         https://example.com; * allows every page. May be repeated
                         [only pages of this server]
  --trust-proxy          use the X-Forwarded headers, which a reverse proxy must set
"
        )
    }

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<bool, Stop> {
        match name {
            "allow-origin" => arguments.allow_origin(&mut self.allowed)?,
            "trust-proxy" => self.allowed.trust_proxy(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn range<N: std::fmt::Display>(range: &RangeInclusive<N>) -> String {
    format!("{} to {}", range.start(), range.end())
}
