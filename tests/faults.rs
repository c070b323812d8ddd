//! Checks that the compiler cannot make: every known fault has a test, and CI runs the commands of
//! the README.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Rust files of a folder and of its subfolders.
fn rust_files(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(fs::read_to_string(path).expect("UTF-8"));
        }
    }
}

/// The codes that a doc comment starts with: `L2`, `S4` of `/// L2, S4: ...`.
fn codes_of(line: &str) -> Vec<&str> {
    let is_code = |code: &&str| {
        let (letter, number) = code.split_at(code.len().min(1));
        let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        *code == "LC" || matches!(letter, "L" | "S" | "U") && is_number
    };
    let comment = line
        .trim()
        .strip_prefix("/// ")
        .and_then(|text| text.split_once(':'));
    let codes: Vec<_> = comment.map_or(Vec::new(), |(codes, _)| codes.split(", ").collect());
    if codes.iter().all(is_code) {
        codes
    } else {
        Vec::new()
    }
}

/// The codes of the rows of `tests/faults.md`.
fn known_codes(list: &str) -> BTreeSet<&str> {
    let cells = list
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    cells
        .map(|(code, _)| code)
        .filter(|&code| code != "code")
        .collect()
}

#[test]
fn every_known_fault_has_a_test_and_every_code_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples"] {
        rust_files(&root.join(folder), &mut files);
    }
    let covered: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| file.lines().flat_map(codes_of))
        .collect();
    let list = read("tests/faults.md");
    let known = known_codes(&list);
    assert!(known.len() > 50, "tests/faults.md has rows `| L1 | ...`");
    let untested: Vec<_> = known.difference(&covered).collect();
    assert!(
        untested.is_empty(),
        "no test's doc comment begins with {untested:?}"
    );
    let unknown: Vec<_> = covered.difference(&known).collect();
    assert!(unknown.is_empty(), "tests/faults.md has no row for {unknown:?}");
}

#[test]
fn the_commands_of_the_readme_are_those_that_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in ["cargo run --release --example ws_stream", "cargo test"] {
        let has_line = readme.lines().any(|line| line.trim() == command);
        assert!(has_line, "README.md has no line `{command}`");
        let runs = |line: &str| {
            let line = line.trim();
            line.starts_with("step ") && (line.ends_with(command) || line.contains(&format!("{command} -- ")))
        };
        assert!(ci.lines().any(runs), ".ci/run has no step `{command}`");
    }
}
