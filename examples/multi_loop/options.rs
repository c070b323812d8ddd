//! The options of the command line.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use examples::options::common::{Counted, Listen, Workers};
use examples::options::{self, Arguments, Group, Stop};

#[derive(Debug)]
pub struct Options {
    pub listen: Listen,
    pub workers: Workers,
    pub loops: usize,
    pub fast: bool,
    pub database: PathBuf,
    pub rows: u32,
    pub query_timeout: Duration,
    pub part_bytes: usize,
    pub nice: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen::on(7686, Counted::Connections),
            workers: Workers::default(),
            loops: thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 16)),
            fast: false,
            database: std::env::temp_dir().join("moored_multi_loop.sqlite3"),
            rows: 1_000_000,
            query_timeout: Duration::from_secs(10),
            part_bytes: 64 * 1024,
            nice: 10,
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "\
Several event loops share one pool. Its workers run queries of an SQLite database. Each connection
stays on its loop. The first start creates the database file.
";
    const OWN: &str =
        "  --loops N              event loops, each on a thread of its own, 1 to 64 [number of cores, 2
                         to 16]
  --fast                 run the queries on the threads of the loops, like the fast database
                         clients of Drogon; each query then delays all clients of its loop, and
                         at a stop the server waits for running queries; --threads has no effect
  --database FILE        the database; it is created if it does not exist [moored_multi_loop.sqlite3
                         in the folder for temporary files]
  --rows N               rows of the table; a database of this example with another number of rows
                         is replaced, 1 to 100000000 [1000000]
  --query-timeout SECONDS
                         time limit until the answer begins, and for each part of a long result;
                         then the query is interrupted and the answer is 504, or is cut off, 1 to
                         3600 [10]
  --part-bytes N         size of the parts of a long result; each client that reads slowly keeps
                         one part in memory, 1024 to 1048576 [65536]
  --nice N               added to the nice value of the workers, so that the loops get a core
                         first, 0 to 19; only on Linux [10]
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "loops" => self.loops = arguments.number(1..=64)?,
            "fast" => self.fast = true,
            "database" => self.database = arguments.value("a path", |text| Some(text.into()))?,
            "rows" => self.rows = arguments.number(1..=100_000_000)?,
            "query-timeout" => self.query_timeout = arguments.seconds(1..=3600)?,
            "part-bytes" => self.part_bytes = arguments.number(1024..=1 << 20)?,
            "nice" => self.nice = arguments.number(0..=19)?,
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }

    fn groups(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.listen, &mut self.workers]
    }
}
