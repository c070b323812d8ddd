//! The command line.

use std::time::Duration;

use examples::message_queue::{QueueLimit, SlowPolicy};
use examples::options::common::{Counted, Listen, Origins};
use examples::options::{self, Arguments, Group, Stop};

#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    pub origins: Origins,
    pub interval: Duration,
    pub queue_limit: QueueLimit,
    pub max_message: usize,
    pub mailbox_capacity: usize,
    pub report: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen {
                max_connections: 16_384,
                ..Listen::on(7683, Counted::WebSockets)
            },
            origins: Origins::may("open WebSockets and publish"),
            interval: Duration::from_millis(100),
            queue_limit: QueueLimit {
                bytes: 256 * 1024,
                policy: SlowPolicy::DropOldest,
            },
            max_message: 64 * 1024,
            mailbox_capacity: 1024,
            report: None,
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "\
Sends messages of other threads to every WebSocket of a loop: the load of this machine, and bodies
POSTed to /publish.
";
    const OWN: &str = "  --interval MS          milliseconds between two figures, 1 to 3600000 [100]
  --slow POLICY          the action if the messages that wait for a client exceed --queue-bytes:
                         drop-oldest  drop its oldest messages until there is room
                         latest       drop all its messages but the newest
                         disconnect   close it with code 1013 [drop-oldest]
  --queue-bytes N        bytes that may wait for one client, 1024 to 1073741824 [262144]
  --max-message N        largest message that a client may send or publish, 1 to 67108864 bytes;
                         longer ones get code 1009 or status 413 [65536]
  --mailbox-capacity N   published messages that may wait for the loop, 1 to 1000000 [1024]
  --report SECONDS       print clients, messages, copies, memory and delays this often, 1 to 3600
                         [never]
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "interval" => self.interval = Duration::from_millis(arguments.number(1..=3_600_000)?),
            "slow" => self.queue_limit.policy = policy(arguments)?,
            "queue-bytes" => self.queue_limit.bytes = arguments.number(1024..=1 << 30)?,
            "max-message" => self.max_message = arguments.number(1..=64 << 20)?,
            "mailbox-capacity" => self.mailbox_capacity = arguments.number(1..=1_000_000)?,
            "report" => self.report = Some(arguments.seconds(1..=3600)?),
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }

    fn groups(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.listen, &mut self.origins]
    }
}

fn policy(arguments: &mut Arguments) -> Result<SlowPolicy, Stop> {
    arguments.value("drop-oldest, latest or disconnect", |text| match text {
        "drop-oldest" => Some(SlowPolicy::DropOldest),
        "latest" => Some(SlowPolicy::Latest),
        "disconnect" => Some(SlowPolicy::Disconnect),
        _ => None,
    })
}
