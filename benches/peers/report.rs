//! Tables for people, RATIO lines for programs.

use crate::contenders::Part;
use crate::figure::{Figure, median};
use crate::measures::{Measure, Rivals};
use crate::rounds::Runs;

/// One contender's line: the median of its rounds and their range.
struct Line<'a> {
    name: &'a str,
    part: Part,
    unit: String,
    median: f64,
    min: f64,
    max: f64,
    against: Option<(String, f64)>,
}

/// The RATIO lines, to be repeated at the end of everything.
pub(crate) fn report(measure: &Measure, all: &[Runs<'_>]) -> Vec<String> {
    println!("\n{}: {}", measure.name, measure.about);
    for runs in all.iter().filter(|runs| runs.failures > 0) {
        println!("  {}: {} rounds FAILED", runs.contender.name, runs.failures);
    }
    let mut suffixes: Vec<&str> = Vec::new();
    for figure in all.iter().flat_map(|runs| runs.rounds.iter().flatten()) {
        if !suffixes.contains(&figure.suffix.as_str()) {
            suffixes.push(&figure.suffix);
        }
    }
    let mut ratios = Vec::new();
    for suffix in suffixes {
        let mut lines: Vec<_> = all.iter().filter_map(|runs| line(runs, suffix)).collect();
        lines.sort_by(|a, b| a.median.total_cmp(&b.median));
        let name = format!("{}{suffix}", measure.name);
        print_table(&name, &lines);
        ratios.extend(ratio_lines(measure, &name, &lines));
    }
    for ratio in &ratios {
        println!("{ratio}");
    }
    ratios
}

fn line<'a>(runs: &Runs<'a>, suffix: &str) -> Option<Line<'a>> {
    let figures: Vec<&Figure> = runs
        .rounds
        .iter()
        .flatten()
        .filter(|figure| figure.suffix == suffix)
        .collect();
    let mut values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
    let against = figures.iter().filter_map(|figure| figure.against.as_ref());
    let (names, mut references): (Vec<&String>, Vec<f64>) =
        against.map(|(name, value)| (name, *value)).unzip();
    Some(Line {
        name: runs.contender.name,
        part: runs.contender.part,
        unit: figures.first()?.unit.clone(),
        median: median(&mut values),
        min: values[0],
        max: values[values.len() - 1],
        against: names
            .first()
            .map(|name| ((*name).clone(), median(&mut references))),
    })
}

fn print_table(name: &str, lines: &[Line<'_>]) {
    let ours = lines
        .iter()
        .find(|line| line.part == Part::Ours)
        .map(|line| line.median);
    let unit = lines.first().map_or("", |line| &line.unit);
    println!(
        "  {name:<28} {:>12} {:>12} {:>12}  {:>9}",
        "median", "min", "max", "of ours"
    );
    for line in lines {
        let factor = ours
            .filter(|&ours| ours > 0.0)
            .map_or(String::new(), |ours| format!("{:.2}x", line.median / ours));
        let label = match line.part {
            Part::Shown => format!("({})", line.name),
            Part::Ours | Part::Peer => line.name.to_owned(),
        };
        println!(
            "    {label:<26} {:>12} {:>12} {:>12}  {factor:>9}  {unit}",
            short(line.median),
            short(line.min),
            short(line.max),
        );
    }
}

fn ratio_lines(measure: &Measure, name: &str, lines: &[Line<'_>]) -> Vec<String> {
    let Some(ours) = lines.iter().find(|line| line.part == Part::Ours) else {
        return Vec::new();
    };
    let is_rival = |line: &&Line<'_>| match measure.rivals() {
        Rivals::Peers => line.part == Part::Peer,
        Rivals::Tokio => line.name.starts_with("tokio"),
        Rivals::Nobody => false,
    };
    let mut ratios = Vec::new();
    // The lines are sorted: the first rival is the best one.
    if let Some(best) = lines.iter().find(is_rival) {
        ratios.push(ratio_line(name, ours.median, best.name, best.median));
    }
    for shown in lines.iter().filter(|line| line.part == Part::Shown) {
        let name = format!("{name}-vs-{}", shown.name);
        ratios.push(ratio_line(&name, ours.median, shown.name, shown.median));
    }
    if let Some((reference, value)) = &ours.against {
        let is_own_row = measure.rivals() == Rivals::Nobody;
        let name = if is_own_row {
            name.to_owned()
        } else {
            format!("{name}-vs-{reference}")
        };
        ratios.push(ratio_line(&name, ours.median, reference, *value));
    }
    ratios
}

fn ratio_line(name: &str, ours: f64, best: &str, value: f64) -> String {
    format!(
        "RATIO {name} {:.3} ours={} best={best}:{}",
        ours / value,
        short(ours),
        short(value)
    )
}

/// Three or so digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
