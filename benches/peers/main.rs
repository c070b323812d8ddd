//! moored beside what a user would pick instead: the same work, the same loop, the same run.
//! `cargo bench -p benches --bench peers -- --help`; `benches/README.md` says how to read it.
//!
//! From top to bottom: `measures` lists the rows and `contenders` the columns; `rounds` runs
//! each pair in child processes and `report` prints the result. Inside a child, `rows` drives
//! what `pool` asks a contender for, with the work of `job`, and `ledger` proves that all of
//! it arrived.

#![forbid(unsafe_code)]

mod args;
mod child;
mod contenders;
mod figure;
mod inbox;
mod job;
mod ledger;
mod measures;
mod notifier;
mod pool;
mod report;
mod rounds;
mod rows;

use std::env;
use std::process::ExitCode;

use args::{Args, USAGE};
use contenders::{Contender, contenders};
use measures::{Measure, measures};

fn main() -> ExitCode {
    match Args::parse(env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if args.help {
        println!("{USAGE}");
        return Ok(());
    }
    let mut measures = measures(args.quick);
    if let Some(contender) = &args.child {
        let measure = measures
            .iter()
            .find(|measure| args.measures.contains(&measure.name.into()));
        child::run(contender, measure.ok_or("no such measure")?.work, args.threads);
    }
    let mut contenders = contenders();
    select(args, &mut measures, &mut contenders)?;
    if args.list {
        for measure in &measures {
            println!("{:<14} {}", measure.name, measure.about);
        }
        println!();
        for contender in &contenders {
            println!("{:<14} {}", contender.name, contender.about);
        }
        return Ok(());
    }
    println!(
        "{} workers, {} rounds; median, min, max",
        args.threads, args.rounds
    );
    let mut ratios = Vec::new();
    for measure in &measures {
        ratios.extend(report::report(
            measure,
            &rounds::run_all(measure, &contenders, args),
        ));
    }
    println!("\nAll ratios, ours to the best peer's; below 1 is ahead:");
    for ratio in &ratios {
        println!("{ratio}");
    }
    Ok(())
}

/// Keeps what the command line names, or everything if it names nothing.
fn select(args: &Args, measures: &mut Vec<Measure>, contenders: &mut Vec<Contender>) -> Result<(), String> {
    for wanted in &args.measures {
        if !measures.iter().any(|measure| measure.name.starts_with(wanted)) {
            return Err(format!("no measure begins with {wanted}"));
        }
    }
    for wanted in &args.contenders {
        if !contenders.iter().any(|contender| contender.name == wanted) {
            return Err(format!("no contender is called {wanted}"));
        }
    }
    let is_wanted = |measure: &Measure| {
        args.measures
            .iter()
            .any(|wanted| measure.name.starts_with(wanted))
    };
    measures.retain(|measure| args.measures.is_empty() || is_wanted(measure));
    let is_named = |contender: &Contender| args.contenders.iter().any(|name| name == contender.name);
    contenders.retain(|contender| args.contenders.is_empty() || is_named(contender));
    Ok(())
}
