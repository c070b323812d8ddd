//! The files of this repository, and how `tidy.rs` reports what it finds.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository, by its path from the root, with `/`.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every text file under the root but what a build or an install puts there.
pub(crate) fn all_files() -> Vec<TextFile> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    found.into_iter().filter_map(|path| load(&path)).collect()
}

/// The Rust files under one of these folders of the root.
pub(crate) fn rust_files(folders: &[&str]) -> Vec<TextFile> {
    let within = |path: &str| folders.iter().any(|f| path.starts_with(&format!("{f}/")));
    let mut files = all_files();
    files.retain(|f| Path::new(&f.path).extension().is_some_and(|e| e == "rs") && within(&f.path));
    files
}

fn load(path: &Path) -> Option<TextFile> {
    // What is not UTF-8 is a picture or the like: no rule is about those.
    let text = fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root()).expect("the walk starts at the root");
    Some(TextFile {
        path: path.to_string_lossy().replace('\\', "/"),
        text,
    })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("a file type");
        let built = matches!(name.as_str(), ".git" | "target" | "node_modules" | "out");
        let skipped = built || name.starts_with("mutants.out");
        if skipped {
            // In a git worktree `.git` is a file.
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), found);
        } else if kind.is_file() && entry.path().extension().is_none_or(|kind| kind != "log") {
            found.push(entry.path());
        }
    }
}

/// Fails with every offence on a line of its own.
pub(crate) fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}\n  {}\n", offences.join("\n  "));
}
