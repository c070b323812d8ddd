//! The parent: runs every contender in fresh child processes, the rounds interleaved, so
//! that a machine that slows down for a while slows all of them down.

use std::env;
use std::io;
use std::process::{Command, Stdio};

use crate::args::Args;
use crate::contenders::Contender;
use crate::figure::Figure;
use crate::measures::Measure;

/// All rounds of one contender: a list of figures per round that succeeded.
pub(crate) struct Runs<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) rounds: Vec<Vec<Figure>>,
    pub(crate) failures: usize,
}

pub(crate) fn run_all<'a>(measure: &Measure, contenders: &'a [Contender], args: &Args) -> Vec<Runs<'a>> {
    let mut all: Vec<Runs<'a>> = contenders
        .iter()
        .filter(|contender| measure.is_run_by(contender.name))
        .map(|contender| Runs {
            contender,
            rounds: Vec::new(),
            failures: 0,
        })
        .collect();
    for round in 0..args.rounds {
        let count = all.len();
        for place in 0..count {
            // Everybody is first once, and follows everybody's predecessor in turn.
            let runs = &mut all[(place + round) % count];
            eprint!(
                "\r\x1b[K{} {}/{} {}",
                measure.name,
                round + 1,
                args.rounds,
                runs.contender.name
            );
            match run_child(measure, runs.contender, args) {
                Ok(figures) => runs.rounds.push(figures),
                Err(why) => {
                    eprintln!("\r\x1b[K{} on {}: {why}", measure.name, runs.contender.name);
                    runs.failures += 1;
                }
            }
        }
    }
    eprint!("\r\x1b[K");
    all
}

fn run_child(measure: &Measure, contender: &Contender, args: &Args) -> io::Result<Vec<Figure>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--child", contender.name, measure.name]);
    command.args(["--threads", &args.threads.to_string()]);
    if args.quick {
        command.arg("--quick");
    }
    // The only way to tell the crate `blocking` how many threads to use.
    command.env("BLOCKING_MAX_THREADS", args.threads.to_string());
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("failed, {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(Figure::parse)
        .collect())
}
