//! The command line.

use std::time::Duration;

use examples::limits::Limits;
use examples::options::common::{Counted, Listen, Workers};
use examples::options::{self, Arguments, Group, Stop};

#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    pub workers: Workers,
    pub loops: usize,
    pub request_timeout: Duration,
    /// None if an answer in parts may take any time.
    pub stream_timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen::on(7685, Counted::Connections),
            workers: Workers::or_none(),
            loops: 1,
            request_timeout: Duration::from_secs(60),
            stream_timeout: None,
        }
    }
}

impl Options {
    pub fn limits(&self) -> Limits {
        Limits {
            answer_time: self.request_timeout,
            ..self.listen.limits()
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "\
Handlers that answer immediately, let a task answer, or reject the request. A task sends one
response, a response in parts, or server-sent events.
";
    const OWN: &str =
        "  --loops N              loops, each on a thread, that accept and serve clients, 1 to 256 [1]
  --request-timeout SECONDS
                         answer 504 and stop the task after this time, if no part of the answer was
                         given, 1 to 86400 [60]
  --stream-timeout SECONDS
                         cut off an answer in parts after this time, 0 to 86400; 0: never [0]
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "loops" => self.loops = arguments.number(1..=256)?,
            "request-timeout" => self.request_timeout = arguments.seconds(1..=86_400)?,
            "stream-timeout" => {
                let timeout = arguments.seconds(0..=86_400)?;
                self.stream_timeout = (!timeout.is_zero()).then_some(timeout);
            }
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }

    fn groups(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.listen, &mut self.workers]
    }
}
