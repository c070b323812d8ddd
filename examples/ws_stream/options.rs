//! The command line.

use examples::options::common::{Counted, Listen, Origins, Workers};
use examples::options::{self, Arguments, Group, Stop};

#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    pub workers: Workers,
    pub origins: Origins,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen::on(7681, Counted::WebSockets),
            workers: Workers::default(),
            origins: Origins::may("open WebSockets"),
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "Streams data to clients over WebSocket; a blocked stream uses no thread.\n";
    const OWN: &str = "";

    fn read(&mut self, _name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        Err(arguments.unknown())
    }

    fn groups(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.listen, &mut self.workers, &mut self.origins]
    }
}
