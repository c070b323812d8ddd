//! What this process uses of the machine, as Linux tells it.

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

/// Threads of pools that have the default name. (The test harness has threads of its own, which come and go.)
pub(crate) fn pool_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let names = names.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("moored-")).count()
}

pub(crate) fn file_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Whether this is a build with the address sanitizer, known by where its shadow memory begins. It keeps what is freed for
/// a while, so that the bytes in use say nothing.
pub(crate) fn is_address_sanitized() -> bool {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux");
    ["7fff7000-", "7fff8000-"]
        .iter()
        .any(|shadow| maps.lines().any(|map| map.starts_with(shadow)))
}
