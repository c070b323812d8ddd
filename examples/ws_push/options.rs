//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use examples::message_queue::{QueueLimit, SlowPolicy};
use examples::options::{Arguments, Stop};
use examples::origin::AllowedOrigins;

pub const HELP: &str = "\
Messages from other threads to every WebSocket of a loop: the figures of this machine, and what is
POSTed to /publish.

Usage: ws_push [options]

  --port N               port to listen on, 0 to 65535; 0 is any free one [7682]
  --bind ADDRESS         IP address to listen on [127.0.0.1]
  --interval MS          milliseconds between two figures, 1 to 3600000 [100]
  --slow POLICY          what to do if the messages that wait for a client exceed --queue-bytes:
                         drop-oldest  drop its oldest messages until there is room
                         latest       drop all its messages but the newest
                         disconnect   close it with code 1013 [drop-oldest]
  --queue-bytes N        bytes that may wait for one client, 1024 to 1073741824 [262144]
  --max-message N        bytes of a message that a client sends or publishes, 1 to 67108864;
                         longer ones get code 1009 or status 413 [65536]
  --mailbox-capacity N   published messages that may wait for the loop, 1 to 1000000 [1024]
  --max-connections N    WebSockets open at once, 1 to 1000000 [16384]
  --idle-timeout SECONDS when to close a WebSocket that is silent or does not read, 1 to 86400;
                         also the limit for a request, if it is less than 10 [60]
  --allow-origin ORIGIN  a page of this origin may open WebSockets and publish, such as
                         https://example.com; * allows every page. May be repeated
                         [only pages of this server]
  --trust-proxy          believe the X-Forwarded headers of a reverse proxy
  --report SECONDS       print clients, messages, copies, memory and delays this often, 1 to 3600
                         [never]
  --grace SECONDS        on SIGINT or SIGTERM, how long to go on sending what was accepted,
                         0 to 3600 [5]
  --help                 this text

Exit codes: 0 after a clean end, 1 after an error, 2 for bad options.
";

#[derive(Debug)]
pub struct Options {
    pub port: u16,
    pub bind: IpAddr,
    pub interval: Duration,
    pub queue_limit: QueueLimit,
    pub max_message: usize,
    pub mailbox_capacity: usize,
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub origins: AllowedOrigins,
    pub report: Option<Duration>,
    pub grace: Duration,
}

pub fn parse(arguments: &mut Arguments) -> Result<Options, Stop> {
    let mut options = Options {
        port: 7682,
        bind: Ipv4Addr::LOCALHOST.into(),
        interval: Duration::from_millis(100),
        queue_limit: QueueLimit {
            bytes: 256 * 1024,
            policy: SlowPolicy::DropOldest,
        },
        max_message: 64 * 1024,
        mailbox_capacity: 1024,
        max_connections: 16_384,
        idle_timeout: Duration::from_secs(60),
        origins: AllowedOrigins::default(),
        report: None,
        grace: Duration::from_secs(5),
    };
    while let Some(name) = arguments.next_name()? {
        match name.as_str() {
            "port" => options.port = arguments.number(0..=u16::MAX)?,
            "bind" => options.bind = arguments.ip_address()?,
            "interval" => options.interval = Duration::from_millis(arguments.number(1..=3_600_000)?),
            "slow" => options.queue_limit.policy = policy(arguments)?,
            "queue-bytes" => options.queue_limit.bytes = arguments.number(1024..=1 << 30)?,
            "max-message" => options.max_message = arguments.number(1..=64 << 20)?,
            "mailbox-capacity" => options.mailbox_capacity = arguments.number(1..=1_000_000)?,
            "max-connections" => options.max_connections = arguments.number(1..=1_000_000)?,
            "idle-timeout" => options.idle_timeout = arguments.seconds(1..=86_400)?,
            "allow-origin" => arguments.allow_origin(&mut options.origins)?,
            "trust-proxy" => options.origins.trust_proxy(),
            "report" => options.report = Some(arguments.seconds(1..=3600)?),
            "grace" => options.grace = arguments.seconds(0..=3600)?,
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
}

fn policy(arguments: &mut Arguments) -> Result<SlowPolicy, Stop> {
    arguments.value("drop-oldest, latest or disconnect", |text| match text {
        "drop-oldest" => Some(SlowPolicy::DropOldest),
        "latest" => Some(SlowPolicy::Latest),
        "disconnect" => Some(SlowPolicy::Disconnect),
        _ => None,
    })
}
