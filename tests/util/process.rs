//! The resources of this process, from Linux.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;

/// Bytes of memory in use.
pub(crate) fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident: u64 = pages
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number of pages");
    resident * 4096
}

/// The number of threads of pools that have the default name. (The test harness has its own threads.)
pub(crate) fn pool_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let names = names.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("moored-")).count()
}

/// How many times each thread of pools with this name has gone to sleep. `None` if one of them is
/// not asleep now.
pub(crate) fn sleeps_of(pool: &str) -> Option<Vec<u64>> {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let field = |status: &str, name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("Linux");
        line.trim().to_owned()
    };
    let own = statuses.filter(|status| field(status, "Name:").starts_with(pool));
    own.map(|status| {
        let sleeps = field(&status, "voluntary_ctxt_switches:")
            .parse()
            .expect("a number");
        field(&status, "State:").starts_with('S').then_some(sleeps)
    })
    .collect()
}

pub(crate) fn file_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Whether the address sanitizer is active, found by the address of its shadow memory. It delays
/// the release of freed memory, so the bytes in use are not meaningful.
pub(crate) fn is_address_sanitized() -> bool {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux");
    ["7fff7000-", "7fff8000-"]
        .iter()
        .any(|shadow| maps.lines().any(|map| map.starts_with(shadow)))
}
