//! The command line.

use std::time::Duration;

use examples::options::common::{Counted, Listen, Workers};
use examples::options::{self, Arguments, Group, Stop};

/// A TiB.
const BODY_BYTES_MAX: usize = 1 << 40;

#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    pub workers: Workers,
    pub max_body: usize,
    pub work: Duration,
    /// Whether the connections of one address have one share of the pool together.
    pub group_by_address: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen::on(7682, Counted::Connections),
            workers: Workers::default(),
            max_body: 64 << 20,
            work: Duration::ZERO,
            group_by_address: false,
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str =
        "Answers POST requests with the CRC-32 of their bodies, computed by the workers of a pool.\n";
    const OWN: &str = "  --max-body BYTES       longest body, such as 65536, 64K, 64M or 8G [64M]
  --work-ms N            milliseconds of simulated work for each request, 0 to 60000 [0]
  --group-by-address     all connections of one address have one share of the workers; do not use it
                         behind a reverse proxy
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "max-body" => self.max_body = arguments.bytes(1..=BODY_BYTES_MAX)?,
            "work-ms" => self.work = Duration::from_millis(arguments.number(0..=60_000)?),
            "group-by-address" => self.group_by_address = true,
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }

    fn groups(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.listen, &mut self.workers]
    }
}
