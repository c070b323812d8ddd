//! `cargo bench -p benches --bench steps`: instructions per item of our own operations, counted by
//! valgrind, which a busy machine does not disturb, beside the last figures that were found good
//! (`steps.txt`). Fails if one has become more than 10 % worse.
//!
//! Each operation runs in two processes that prepare the same and then do it N and 2 N times; the
//! difference, over N, is its cost. Nothing is cleaned up at their end, so that nothing else
//! differs. Without threads, and with a clock that stands still, the figures hardly move between
//! two runs.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::time::Duration;

use moored::{Clock, ConnId, Context, Service, Task, TaskId, TaskReturn, TaskStatus, ThreadPool};

const USAGE: &str = "\
cargo bench -p benches --bench steps                  all operations, beside benches/steps.txt
cargo bench -p benches --bench steps -- stream-256    some of them
cargo bench -p benches --bench steps -- --bless       writes the figures to benches/steps.txt";
/// By how much a figure may exceed the last good one.
const TOLERANCE: f64 = 0.10;

/// An operation, how often it is done for its figure, and how many items one time counts for.
struct Measure {
    name: &'static str,
    what: &'static str,
    times: usize,
    items: usize,
    run: fn(usize),
}

const WINDOW: usize = 1024;
const STREAMS: usize = 256;
const DUMPED: usize = 10_000;

const MEASURES: [Measure; 8] = [
    Measure {
        name: "told-1024",
        what: "a task, enqueued, run, told and reaped, 1,024 in flight",
        times: 4,
        items: WINDOW,
        run: told,
    },
    Measure {
        name: "stream-256",
        what: "a chunk of one of 256 streams: a step, told, looked at and resumed",
        times: 16,
        items: STREAMS,
        run: stream,
    },
    Measure {
        name: "cancel",
        what: "a queued task: enqueued, dequeued, told and reaped",
        times: 4,
        items: WINDOW,
        run: cancel,
    },
    Measure {
        name: "closed",
        what: "connection_closed of a connection with one queued task",
        times: 2_000,
        items: 1,
        run: closed,
    },
    Measure {
        name: "status",
        what: "task_status of a queued task",
        times: 4_000,
        items: 1,
        run: status,
    },
    Measure {
        name: "dump",
        what: "a task in a dump of 10,000",
        times: 1,
        items: DUMPED,
        run: dump,
    },
    Measure {
        name: "turn",
        what: "run_pending of one step of one task, 256 in line",
        times: 4_000,
        items: 1,
        run: turn,
    },
    Measure {
        name: "continue",
        what: "a step of a task that has the pool to itself",
        times: 10_000,
        items: 1,
        run: go_on,
    },
];

/// Does so many steps, and says the same after each but the last.
struct Steps {
    left: usize,
    says: fn() -> TaskReturn,
}

impl Task for Steps {
    fn step(&mut self, _cx: &mut Context<'_>) -> TaskReturn {
        self.left -= 1;
        if self.left == 0 {
            TaskReturn::TaskDone
        } else {
            (self.says)()
        }
    }
}

impl Steps {
    fn one() -> Self {
        Self::many(1, || TaskReturn::TaskDone)
    }

    fn endless(says: fn() -> TaskReturn) -> Self {
        Self::many(usize::MAX, says)
    }

    fn many(left: usize, says: fn() -> TaskReturn) -> Self {
        Self { left, says }
    }
}

/// A loop without threads, as large as any measure needs it.
struct Bench {
    pool: ThreadPool,
    service: Service<Steps>,
    /// For connections.
    next: u64,
}

const PLENTY: Duration = Duration::from_secs(3600);

impl Bench {
    fn new() -> Self {
        let (clock, _) = Clock::manual();
        let builder = ThreadPool::builder().threads(0).clock(clock);
        let pool = builder
            .time_slice(Duration::ZERO)
            .max_queue_depth(DUMPED)
            .max_tasks(DUMPED)
            .build()
            .expect("a pool without threads");
        let service = pool.service(|| {});
        Self {
            pool,
            service,
            next: 0,
        }
    }

    /// Enqueues tasks, each for a connection of its own; these count up from 0.
    fn enqueue(&mut self, tasks: usize, task: impl Fn() -> Steps) -> Vec<TaskId> {
        let one = |_| {
            self.next += 1;
            let id = self.service.enqueue(ConnId(self.next - 1), task());
            id.expect("there is room")
        };
        (0..tasks).map(one).collect()
    }

    fn run_all(&mut self) {
        self.service.run_pending(PLENTY);
    }

    fn reap_all(&mut self) {
        for id in self.service.take_ready().map(|ready| ready.id) {
            black_box(self.service.task_status(id));
        }
    }
}

fn told(times: usize) {
    let mut bench = Bench::new();
    for _ in 0..times {
        bench.enqueue(WINDOW, Steps::one);
        bench.run_all();
        bench.reap_all();
    }
    leave(bench);
}

fn stream(times: usize) {
    let mut bench = Bench::new();
    bench.enqueue(STREAMS, || Steps::endless(|| TaskReturn::Sync));
    for _ in 0..times {
        bench.run_all();
        for id in bench.service.take_ready().map(|ready| ready.id) {
            if let Some(TaskStatus::Syncing(parked)) = bench.service.task_status(id) {
                parked.resume();
            }
        }
    }
    leave(bench);
}

fn cancel(times: usize) {
    let mut bench = Bench::new();
    for _ in 0..times {
        for id in bench.enqueue(WINDOW, Steps::one) {
            bench.service.dequeue(id);
        }
        bench.reap_all();
    }
    leave(bench);
}

fn closed(times: usize) {
    let mut bench = Bench::new();
    bench.enqueue(DUMPED, Steps::one);
    for conn in 0..times {
        bench.service.connection_closed(ConnId(conn as u64));
    }
    leave(bench);
}

fn status(times: usize) {
    let mut bench = Bench::new();
    for id in bench.enqueue(DUMPED, Steps::one).into_iter().take(times) {
        black_box(bench.service.task_status(id));
    }
    leave(bench);
}

fn dump(times: usize) {
    let mut bench = Bench::new();
    bench.enqueue(DUMPED, Steps::one);
    for _ in 0..times {
        black_box(bench.pool.dump());
    }
    leave(bench);
}

fn turn(times: usize) {
    let mut bench = Bench::new();
    bench.enqueue(STREAMS, || Steps::endless(|| TaskReturn::Continue));
    for _ in 0..times {
        bench.service.run_pending(Duration::ZERO);
    }
    leave(bench);
}

fn go_on(times: usize) {
    let mut bench = Bench::new();
    bench.enqueue(1, || Steps::many(times, || TaskReturn::Continue));
    bench.run_all();
    leave(bench);
}

/// Ends the process as it is: to take things down would cost, too.
fn leave(_bench: Bench) -> ! {
    process::exit(0)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let outcome = match &arguments[..] {
        [child, name, times] if child == "--child" => run_child(name, times),
        [word, ..] if word == "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => run_all(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(name: &str, times: &str) -> Result<bool, String> {
    let measure = MEASURES.iter().find(|measure| measure.name == name);
    let run = measure.ok_or("no such measure")?.run;
    run(times.parse().map_err(|_| "no such number")?);
    Ok(true)
}

/// True if nothing has become worse.
fn run_all(arguments: &[String]) -> Result<bool, String> {
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    let blesses = !flags.is_empty();
    if flags.iter().any(|flag| *flag != "--bless") {
        return Err(format!("what is {flags:?}?"));
    }
    if let Some(name) = names
        .iter()
        .find(|name| MEASURES.iter().all(|measure| measure.name != **name))
    {
        return Err(format!("{name} is not measured"));
    }
    let wanted = |measure: &&Measure| names.is_empty() || names.iter().any(|name| measure.name == *name);
    let mut table = Table::read()?;
    let mut good = true;
    println!(
        "{:<12} {:>12} {:>12} {:>8}",
        "instructions", "now", "last good", "change"
    );
    for measure in MEASURES.iter().filter(wanted) {
        let now = instructions_per_item(measure)?;
        let last = table.figures.insert(measure.name.to_owned(), now);
        let change = last.map_or(0.0, |last| now / last - 1.0);
        let verdict = if last.is_none() {
            "is new: --bless"
        } else if change > TOLERANCE {
            "WORSE"
        } else if change < -TOLERANCE {
            "better: --bless"
        } else {
            ""
        };
        good &= change <= TOLERANCE && last.is_some();
        let last = last.map_or("-".to_owned(), |last| format!("{last:.1}"));
        let (name, change, what) = (measure.name, change * 100.0, measure.what);
        println!("{name:<12} {now:>12.1} {last:>12} {change:>+7.1}%  {verdict:<16} {what}");
    }
    if blesses {
        table.write()?;
    } else if !good {
        table.warn_of_other_compiler();
    }
    Ok(good || blesses)
}

fn instructions_per_item(measure: &Measure) -> Result<f64, String> {
    let (once, twice) = (count(measure, 1)?, count(measure, 2)?);
    Ok((twice - once) / (measure.times * measure.items) as f64)
}

/// All instructions of a process that does the operation so many times its number.
fn count(measure: &Measure, factor: usize) -> Result<f64, String> {
    let times = (measure.times * factor).to_string();
    let out = profiles().join(format!("{}-{factor}.callgrind", measure.name));
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .args(["--child", measure.name, &times])
        .output()
        .map_err(|error| format!("valgrind does not start ({error}): apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("{} has failed:\n{text}", measure.name))
}

/// Where the profiles are left, for `callgrind_annotate`.
fn profiles() -> PathBuf {
    env!("CARGO_TARGET_TMPDIR").into()
}

/// The last good figures, and the compiler that they are from.
struct Table {
    path: PathBuf,
    compiler: String,
    figures: BTreeMap<String, f64>,
}

impl Table {
    fn read() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("steps.txt");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (mut compiler, mut figures) = (String::new(), BTreeMap::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("#", rest)) => rest.clone_into(&mut compiler),
                Some((name, figure)) => {
                    let figure = figure.trim().parse();
                    figures.insert(name.to_owned(), figure.map_err(|_| format!("what is {line:?}?"))?);
                }
                None => return Err(format!("what is {line:?}?")),
            }
        }
        Ok(Self {
            path,
            compiler,
            figures,
        })
    }

    fn write(&self) -> Result<(), String> {
        let head = format!("# {}", compiler());
        let rows = self
            .figures
            .iter()
            .map(|(name, figure)| format!("{name:<12} {figure:>10.1}"));
        let lines: Vec<_> = iter::once(head).chain(rows).collect();
        fs::write(&self.path, lines.join("\n") + "\n")
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn warn_of_other_compiler(&self) {
        if self.compiler != compiler() {
            println!(
                "The last figures are from {}, these from {}.",
                self.compiler,
                compiler()
            );
        }
    }
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{}, {}", version.unwrap_or_default(), env::consts::ARCH)
}
