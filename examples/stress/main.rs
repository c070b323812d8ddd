//! cargo run --release --example stress -- --seconds 60
//!
//! Beats a pool with random load and checks every promise meanwhile: that chunks come in order and
//! once, that every task ends once and for a good reason, that accepted = finished + stopped +
//! panicked, that nothing is left over. Each second a line; at the end a verdict, and exit code 1
//! if a promise was broken. A plain binary: build it with a sanitizer, run it on your machine, for
//! hours if you like.

mod baseline;
mod load;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use examples::options::{self, Arguments, Stop};
use moored::PoolDump;

use baseline::Resources;
use load::round::{ENDS, Setup};

/// How many calls a loop makes in a round: about a second. Each round has a new pool, and another
/// end.
const ACTS: u64 = 50_000;

struct Options {
    duration: Duration,
    seed: u64,
    threads: usize,
    services: usize,
}

fn main() -> ExitCode {
    examples::options::main("stress", check)
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(10),
            seed: fastrand::u64(..1_000_000),
            threads: 4,
            services: 3,
        }
    }
}

impl options::Options for Options {
    const ABOUT: &str = "Runs a pool under random load and checks its guarantees.\n";
    const OWN: &str = "  --seconds N            how long to run, 1 to 604800 [10]
  --seed N               seed of the random numbers, 0 to 18446744073709551615; the same seed
                         gives the same random calls, but threads may change their order [random]
  --threads N            workers of the pool, 1 to 1024 [4]
  --services N           loops, each on a thread of its own, 1 to 1024 [3]
";
    const EXIT_CODES: &str = "\
Exit codes: 0 if every check has passed, 1 if one has failed or after another error,
2 for bad options.
";

    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
        match name {
            "seconds" => self.duration = arguments.seconds(1..=604_800)?,
            "seed" => self.seed = arguments.number(0..=u64::MAX)?,
            "threads" => self.threads = arguments.number(1..=1024)?,
            "services" => self.services = arguments.number(1..=1024)?,
            _ => return Err(arguments.unknown()),
        }
        Ok(())
    }
}

/// Runs and prints the verdict. A failed check is an error.
fn check(options: &Options) -> Result<(), Box<dyn Error>> {
    let faults = run(options)?;
    for fault in &faults {
        println!("broken: {fault}");
    }
    if faults.is_empty() {
        println!("verdict: every promise was kept (seed {})", options.seed);
        return Ok(());
    }
    println!("verdict: BROKEN (seed {})", options.seed);
    Err("a check has failed".into())
}

/// Round after round, until the time is over or a promise broken; what was broken.
fn run(options: &Options) -> Result<Vec<String>, Box<dyn Error>> {
    println!(
        "seed {}, {} threads, {} services",
        options.seed, options.threads, options.services
    );
    let mut progress = Progress::new();
    // A sanitizer starts a thread of its own with the first that is started.
    let _ = std::thread::spawn(|| {}).join();
    let at_start = Resources::now();
    let mut baseline = None;
    for number in 0.. {
        if progress.begun.elapsed() >= options.duration {
            break;
        }
        let setup = Setup {
            seed: options.seed.wrapping_add(number * 1_000_003),
            threads: options.threads,
            services: options.services,
            acts: ACTS,
            end: ENDS[number as usize % ENDS.len()],
            in_order: number % 2 == 1,
        };
        let (last, mut faults) = load::round::run(setup, |dump| progress.show(dump))?;
        progress.add(&last);
        let baseline = baseline.get_or_insert_with(|| at_start.after_warming_up());
        faults.extend(baseline.expect_back().err());
        if !faults.is_empty() {
            faults.push(format!("in round {number}: {setup:?}"));
            return Ok(faults);
        }
    }
    progress.sum_up(baseline);
    Ok(Vec::new())
}

/// What is said each second.
struct Progress {
    begun: Instant,
    shown: u64,
    /// Of the rounds that are over.
    tasks: u64,
    steps: u64,
    panicked: u64,
    stopped: u64,
}

impl Progress {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            shown: 0,
            tasks: 0,
            steps: 0,
            panicked: 0,
            stopped: 0,
        }
    }

    fn show(&mut self, dump: &PoolDump) {
        let second = self.begun.elapsed().as_secs();
        if second == self.shown {
            return;
        }
        self.shown = second;
        let (tasks, steps) = (
            self.tasks + dump.counters.accepted,
            self.steps + dump.counters.steps,
        );
        let counts = dump.counts;
        println!(
            "{second:>4} s  {tasks} tasks  {steps} steps  now: {} queued, {} running, {} parked, {} ended  {}",
            counts.queued,
            counts.running(),
            counts.parked,
            counts.ended,
            Resources::now()
        );
    }

    fn add(&mut self, dump: &PoolDump) {
        self.tasks += dump.counters.accepted;
        self.steps += dump.counters.steps;
        self.panicked += dump.counters.panicked;
        self.stopped += dump.counters.stopped.total();
    }

    fn sum_up(&self, baseline: Option<Resources>) {
        println!(
            "{} tasks: {} stopped, {} panicked; {} steps",
            self.tasks, self.stopped, self.panicked, self.steps
        );
        if let Some(baseline) = baseline {
            println!(
                "after the first round: {baseline}; at the end: {}",
                Resources::now()
            );
        }
    }
}
