//! What Linux knows about another process, by its id, and signals to it.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]

use std::fs;
use std::process::Command;

/// Sends a signal: `INT` is what Ctrl-C does.
pub fn signal(pid: u32, name: &str) {
    let (name, pid) = (format!("-{name}"), pid.to_string());
    let status = Command::new("kill").args([name, pid]).status();
    assert!(status.expect("kill is there").success());
}

/// Processor time used so far, in hundredths of a second.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
    // The name before it may hold anything, also spaces and brackets.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let field = |index: usize| {
        fields
            .split(' ')
            .nth(index)
            .and_then(|text| text.parse::<u64>().ok())
    };
    field(11).expect("utime") + field(12).expect("stime")
}

pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("Linux").count()
}

pub fn resident_bytes(pid: u32) -> usize {
    status_kib(pid, "VmRSS:") * 1024
}

/// The most memory it has ever had.
pub fn peak_bytes(pid: u32) -> usize {
    status_kib(pid, "VmHWM:") * 1024
}

fn status_kib(pid: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_else(|| panic!("{name} in {status}"))
}

/// Lets this process, and those it starts, have a few thousand sockets.
pub fn allow_many_files() {
    let pid = std::process::id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=4096:"])
        .status();
    assert!(status.expect("prlimit is there").success());
}
