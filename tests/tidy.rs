//! The house rules of CONTRIBUTING.md that a machine can check.
//!
//! Every rule reads the tree as text, so this file needs nothing but the files
//! themselves. A failure names each offence as `path:line: what`.

#[path = "util/source.rs"]
mod source;
#[path = "util/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use source::{Kind, Mention, functions, mentions, tokens, without_tests};
use tree::{all_files, read, report, root, rust_files};

/// The floors of `src`, the lowest first. A file may use only files of a lower
/// floor, never one of its own. A file stands here by its path under `src`
/// without `.rs`; `lib` is the roof and uses whatever it likes.
#[rustfmt::skip]
const FLOORS: &[&[&str]] = &[
    &["primitive", "clock", "times", "id", "status", "error", "options", "wake", "unwind", "admission", "hints", "watches", "mailbox/error", "mailbox/dump"],
    &["inside", "bell", "state", "stats", "outbox", "sleep", "naps", "ready", "conns", "vacancies", "mailbox/recipient", "mailbox/closed"],
    &["line"],
    &["round", "chain"],
    &["cell", "timers", "inbox"],
    &["task", "task_dump", "table", "queue", "desk"],
    &["boxed", "job"],
    &["registry"],
    &["shared"],
    &["mailbox/mailboxes"],
    &["port", "worker", "dump", "patience", "mailbox/channel"],
    &["run", "sync_point", "visit", "mailbox/sender"],
    &["service"],
    &["pool", "mailbox"],
    &["builder"],
];

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;

/// The faults that systems of this kind really had, by their codes: `L` those
/// of `lws_threadpool`, `S` scenarios from other pools and servers, `U` those of
/// the example servers here. A test that would fail if moored had the fault says
/// so at the start of its doc comment: `/// L2, S4: ...`. What each code means is
/// in `tests/faults.md`.
const FAULTS_L: &[u32] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 20, 24, 25, 26,
];
const FAULTS_S: std::ops::RangeInclusive<u32> = 1..=28;
const FAULTS_U: std::ops::RangeInclusive<u32> = 21..=25;
const FAULT_OF_COST: &str = "LC";

/// Codes that no test covers yet. This list only ever shrinks: a code that is
/// covered must go from here.
const UNCOVERED: &[&str] = &[];

#[test]
fn a_file_uses_only_lower_floors() {
    let sources = rust_files(&["src"]);
    let names: BTreeSet<String> = sources.iter().map(|f| module_of(&f.path)).collect();
    let exports = exports_of_lib();
    let mut offences = Vec::new();
    for file in &sources {
        let name = module_of(&file.path);
        if name == "lib" {
            continue;
        }
        let module: Vec<String> = name.split('/').map(str::to_owned).collect();
        for mention in mentions(&without_tests(&tokens(&file.text)), &module) {
            let at = format!("{}:{}", file.path, mention.line);
            let Some(used) = target_of(&mention, &names, &exports) else {
                let path = mention.path.join("::");
                offences.push(format!(
                    "{at}: `{path}` names no file and nothing that lib.rs exports"
                ));
                continue;
            };
            // The test below reports a file that has no floor.
            let (Some(own), Some(other)) = (floor_of(&name), floor_of(&used)) else {
                continue;
            };
            if used != name && other >= own {
                offences.push(format!("{at}: floor {own} uses `{used}` of floor {other}"));
            }
        }
    }
    report(
        "a file of src may use only files of a lower floor (see FLOORS)",
        &offences,
    );
}

#[test]
fn every_file_of_src_has_one_floor() {
    let names: BTreeSet<String> = rust_files(&["src"]).iter().map(|f| module_of(&f.path)).collect();
    let mut offences = Vec::new();
    for name in names.iter().filter(|n| *n != "lib") {
        match FLOORS
            .iter()
            .flat_map(|floor| floor.iter())
            .filter(|f| *f == name)
            .count()
        {
            0 => offences.push(format!("src/{name}.rs: on no floor")),
            1 => {}
            n => offences.push(format!("src/{name}.rs: on {n} floors")),
        }
    }
    for name in FLOORS.iter().flat_map(|floor| floor.iter()) {
        if !names.contains(*name) {
            offences.push(format!("FLOORS: there is no src/{name}.rs"));
        }
    }
    report(
        "every file of src stands on exactly one floor (see FLOORS)",
        &offences,
    );
}

/// `src/pool/worker.rs` is `pool/worker`, `src/pool/mod.rs` is `pool`.
fn module_of(path: &str) -> String {
    let name = path.trim_start_matches("src/").trim_end_matches(".rs");
    name.trim_end_matches("/mod").to_owned()
}

fn floor_of(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// What `lib.rs` exports, by name, and the module it comes from.
fn exports_of_lib() -> BTreeMap<String, Vec<String>> {
    let lib = tokens(&read("src/lib.rs"));
    let mut exports = BTreeMap::new();
    for Mention { mut path, .. } in mentions(&lib, &[]) {
        if let Some(name) = path.pop() {
            exports.insert(name, path);
        }
    }
    exports
}

/// The file that a path leads to: its longest beginning that is a module.
fn target_of(
    mention: &Mention,
    names: &BTreeSet<String>,
    exports: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let longest = |path: &[String]| {
        (1..=path.len())
            .rev()
            .map(|n| path[..n].join("/"))
            .find(|name| names.contains(name))
    };
    longest(&mention.path).or_else(|| longest(exports.get(mention.path.first()?)?))
}

#[test]
fn files_and_functions_of_src_stay_short() {
    let mut offences = Vec::new();
    for file in rust_files(&["src"]) {
        let lines = file.text.lines().count();
        if lines > MAX_FILE_LINES {
            offences.push(format!("{}:1: {lines} lines", file.path));
        }
        for function in functions(&tokens(&file.text)) {
            let lines = function.last - function.first + 1;
            if lines > MAX_FUNCTION_LINES {
                let at = format!("{}:{}", file.path, function.first);
                offences.push(format!("{at}: fn {} has {lines} lines", function.name));
            }
        }
    }
    let limits = format!("{MAX_FILE_LINES} lines a file, {MAX_FUNCTION_LINES} a function");
    report(&limits, &offences);
}

#[test]
fn nothing_is_unsafe_and_nothing_is_left_open() {
    let mut offences = Vec::new();
    for file in rust_files(&["src", "examples", "tests", "benches"]) {
        let tokens = tokens(&file.text);
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Word {
                continue;
            }
            let call = tokens.get(at + 1).is_some_and(|t| t.is("!"));
            let open = matches!(token.text.as_str(), "todo" | "unimplemented" | "dbg") && call;
            if open || token.is("unsafe") {
                offences.push(format!("{}:{}: `{}`", file.path, token.line, token.text));
            }
        }
    }
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for file in all_files() {
        for (line, text) in file.text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| has_word(text, mark)) {
                offences.push(format!("{}:{}: {mark}", file.path, line + 1));
            }
        }
    }
    report("no unsafe code and no loose ends", &offences);
}

/// Whether `text` holds `word` with neither letter, digit nor `_` beside it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !part(before.chars().next_back()) && !part(after.chars().next())
    })
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // Put together so that this file passes its own rule.
    let places = ["home", "root", "work", "Users", "tmp"].map(|place| format!("/{place}"));
    let address = format!("\"resolved\": \"{}", "http");
    let mut offences = Vec::new();
    for file in all_files() {
        for (line, text) in file.text.lines().enumerate() {
            let at = format!("{}:{}", file.path, line + 1);
            for place in places.iter().filter(|place| has_place(text, place)) {
                offences.push(format!("{at}: a path under {place}"));
            }
            if text.contains(&address) {
                offences.push(format!("{at}: a lock file that names a download address"));
            }
        }
    }
    report("committed files name no machine's own places", &offences);
}

/// Whether `text` holds an absolute path that begins with `place`.
fn has_place(text: &str, place: &str) -> bool {
    text.match_indices(place).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + place.len()..];
        let mut rest = after.chars();
        let inside = rest.next() == Some('/')
            && rest
                .next()
                .is_some_and(|c| c.is_alphanumeric() || "._-$".contains(c));
        let absolute = !before.is_some_and(|c| c.is_alphanumeric() || "._-}/$*".contains(c));
        inside && absolute
    })
}

#[test]
fn the_changelog_has_its_head_and_this_version() {
    let text = read("CHANGELOG.md");
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let mut headings = text.lines().filter(|line| line.starts_with("## "));
    let mut offences = Vec::new();
    if text.lines().next() != Some("# Changelog") {
        offences.push("CHANGELOG.md:1: not `# Changelog`".to_owned());
    }
    if headings.next() != Some("## [Unreleased]") {
        offences.push("CHANGELOG.md: the first section is not `## [Unreleased]`".to_owned());
    }
    if !headings.next().is_some_and(|line| line.starts_with(&version)) {
        offences.push(format!("CHANGELOG.md: the second section is not `{version}`"));
    }
    report(
        "the changelog leads with Unreleased and the version of Cargo.toml",
        &offences,
    );
}

#[test]
fn the_commands_of_the_readme_are_those_that_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let mut offences = Vec::new();
    for command in ["cargo run --release --example ws_stream", "cargo test"] {
        if !readme.lines().any(|line| line.trim() == command) {
            offences.push(format!("README.md: no line `{command}`"));
        }
        let runs = |line: &str| {
            let line = line.trim();
            line.starts_with("step ") && (line.ends_with(command) || line.contains(&format!("{command} -- ")))
        };
        if !ci.lines().any(runs) {
            offences.push(format!(".ci/run: no step `{command}`"));
        }
    }
    report(
        "the README's commands are the ones that .ci/run proves",
        &offences,
    );
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let mut offences = Vec::new();
    for folder in [
        "",
        "examples/",
        "examples/fuzz/",
        "examples/parser_tests/",
        "benches/",
    ] {
        let path = format!("{folder}Cargo.toml");
        let manifest = read(&path);
        offences.extend(unexplained_dependencies(&path, &manifest));
    }
    report(
        "a dependency has the reason for it in a comment above it",
        &offences,
    );
}

fn unexplained_dependencies(path: &str, manifest: &str) -> Vec<String> {
    let lines: Vec<&str> = manifest.lines().collect();
    let mut section = "";
    let mut offences = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(|c| "[] ".contains(c));
        }
        // `[dependencies.mio]` is one dependency, `[dependencies]` a list.
        let (list, single) = (
            section.ends_with("dependencies"),
            line.starts_with('[') && section.contains("dependencies."),
        );
        let entry = list && line.contains('=') && line.starts_with(|c: char| c.is_alphabetic());
        let reason = at > 0 && lines[at - 1].starts_with("# ");
        if (entry || single) && !reason {
            offences.push(format!("{path}:{}: {line}", at + 1));
        }
    }
    offences
}

#[test]
fn every_dependency_builds_on_our_rust_version() {
    let ours = rust_version(env!("CARGO_PKG_RUST_VERSION"));
    // Only what this build has already brought here: a test downloads nothing.
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        output_of(
            command
                .args(arguments)
                .args(["--locked", "--offline"])
                .current_dir(root()),
        )
    };
    let tree = cargo(&[
        "tree",
        "--package=moored",
        "--all-features",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ]);
    let used: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let metadata = cargo(&["metadata", "--format-version=1", "--all-features"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut offences = Vec::new();
    let mut checked = 0;
    for package in packages {
        let name = format!("{} v{}", text(&package["name"]), text(&package["version"]));
        if !used.contains(&*name) {
            continue;
        }
        checked += 1;
        let needs = text(&package["rust_version"]);
        if !needs.is_empty() && rust_version(&needs) > ours {
            offences.push(format!("{name} needs Rust {needs}"));
        }
    }
    assert!(checked > 5, "no dependency was looked at");
    report(
        "no dependency of the library needs a newer Rust than Cargo.toml promises",
        &offences,
    );
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn rust_version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|n| n.parse().expect("a number")).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn tests_say_what_they_show() {
    let mut offences = Vec::new();
    for file in rust_files(&["tests", "benches", "examples"]) {
        if !file.text.starts_with("//!") {
            offences.push(format!("{}:1: no `//!` head that says what it is for", file.path));
        }
    }
    for file in rust_files(&["tests", "src", "examples"]) {
        let lines: Vec<&str> = file.text.lines().collect();
        for test in tests_of(&lines) {
            let at = format!("{}:{}", file.path, test.line);
            if test.name.starts_with("test_") || !test.name.contains('_') {
                offences.push(format!("{at}: `{}` does not name a behaviour", test.name));
            }
            if test.head.contains(&"#[ignore]") {
                offences.push(format!("{at}: `{}` is ignored without a reason", test.name));
            }
        }
    }
    report(
        "a test file opens with its purpose, a test is named by behaviour",
        &offences,
    );
}

#[test]
fn tests_wait_for_facts_not_for_time() {
    let mut offences = Vec::new();
    for file in rust_files(&["tests", "examples/tests"]) {
        let lines: Vec<&str> = file.text.lines().collect();
        for token in tokens(&file.text).iter().filter(|t| t.is("sleep")) {
            let line = lines[token.line - 1];
            let before = lines[..token.line - 1].last().map_or("", |l| l.trim());
            let explained = line.contains("// ") || before.starts_with("// ");
            if !explained && !line.trim_start().starts_with("use ") {
                offences.push(format!("{}:{}: {}", file.path, token.line, line.trim()));
            }
        }
    }
    report(
        "a sleep in a test has a comment that says why no fact would do",
        &offences,
    );
}

#[test]
fn every_known_fault_has_a_test() {
    let known: BTreeSet<String> = FAULTS_L
        .iter()
        .map(|n| format!("L{n}"))
        .chain(FAULTS_S.map(|n| format!("S{n}")))
        .chain(FAULTS_U.map(|n| format!("U{n}")))
        .chain([FAULT_OF_COST.to_owned()])
        .collect();
    let mut covered = BTreeSet::new();
    let mut offences = Vec::new();
    for file in rust_files(&["tests", "src", "examples"]) {
        let lines: Vec<&str> = file.text.lines().collect();
        for test in tests_of(&lines) {
            for code in codes_of(&test) {
                if !known.contains(&code) {
                    offences.push(format!("{}:{}: no fault {code}", file.path, test.line));
                }
                covered.insert(code);
            }
        }
    }
    let list = read("tests/faults.md");
    for code in known.iter().filter(|c| !list.contains(&format!("\n| {c} | "))) {
        offences.push(format!("{code}: has no row in tests/faults.md"));
    }
    let uncovered: BTreeSet<String> = UNCOVERED.iter().map(|c| (*c).to_owned()).collect();
    for code in known.difference(&covered).filter(|c| !uncovered.contains(*c)) {
        offences.push(format!("{code}: no test's doc comment starts with it"));
    }
    for code in uncovered.intersection(&covered) {
        offences.push(format!("{code}: covered, so take it from UNCOVERED"));
    }
    for code in uncovered.difference(&known) {
        offences.push(format!("{code}: in UNCOVERED, but no known fault"));
    }
    report("every known fault has a test that says so", &offences);
}

/// A test function, with the lines of doc comments and attributes above it.
struct Test<'a> {
    name: String,
    line: usize,
    head: Vec<&'a str>,
}

/// The test functions of a file: those whose head has a test attribute and
/// that are not ignored for good.
fn tests_of<'a>(lines: &[&'a str]) -> Vec<Test<'a>> {
    let mut tests = Vec::new();
    let mut head: Vec<&str> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim();
        if line.starts_with("///") || line.starts_with("#[") {
            head.push(line);
            continue;
        }
        if line.starts_with("//") {
            continue;
        }
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let name = words
            .iter()
            .position(|w| *w == "fn")
            .and_then(|fn_at| words.get(fn_at + 1));
        let is_test = head.iter().any(|h| *h == "#[test]" || h.ends_with("::test]"));
        if let (Some(name), true) = (name, is_test) {
            tests.push(Test {
                name: (*name).to_owned(),
                line: at + 1,
                head: head.clone(),
            });
        }
        head.clear();
    }
    tests
}

/// The codes that a test's doc comment starts with: `L2, S4` of `/// L2, S4: ...`.
fn codes_of(test: &Test<'_>) -> Vec<String> {
    let Some(first) = test.head.iter().find_map(|line| line.strip_prefix("///")) else {
        return Vec::new();
    };
    let Some((codes, _)) = first.split_once(':') else {
        return Vec::new();
    };
    let codes: Vec<&str> = codes.split(',').map(str::trim).collect();
    let is_code = |code: &&str| {
        let (letter, number) = code.split_at(code.len().min(1));
        let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        (matches!(letter, "L" | "S" | "U") && digits) || *code == FAULT_OF_COST
    };
    if codes.iter().all(is_code) {
        codes.into_iter().map(str::to_owned).collect()
    } else {
        Vec::new()
    }
}
