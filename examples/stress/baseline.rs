//! What the process holds: memory, file descriptors, threads. Linux only; elsewhere nothing is compared.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resources {
    rss_kib: Option<u64>,
    fds: Option<usize>,
    threads: Option<usize>,
}

impl Resources {
    pub(crate) fn now() -> Self {
        Self {
            rss_kib: rss_kib(),
            fds: fds(),
            threads: fs::read_dir("/proc/self/task").ok().map(Iterator::count),
        }
    }

    /// After a first round: what the allocator, or a sanitizer, keeps of it is part of the baseline; a thread is not.
    pub(crate) fn after_warming_up(self) -> Self {
        Self {
            threads: self.threads,
            ..Self::now()
        }
    }

    /// Between two rounds everything must be back, but for what an allocator keeps. A joined thread is listed for a
    /// moment longer.
    pub(crate) fn expect_back(self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            if self.allows(now) {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(5) {
                return Err(format!("resources are not back: {now}, before: {self}"));
            }
            std::thread::yield_now();
        }
    }

    fn allows(self, now: Self) -> bool {
        let memory_fits = match (self.rss_kib, now.rss_kib) {
            (Some(before), Some(now)) => now <= before + before / 2 + 32 * 1024,
            _ => true,
        };
        memory_fits && self.fds == now.fds && self.threads == now.threads
    }
}

/// Descriptors but pipes: nothing here opens one, and a sanitizer talks to its symbolizer through two, from the first report
/// on, be that suppressed or not.
fn fds() -> Option<usize> {
    let is_pipe = |path: &Path| {
        let target = fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("pipe:")
    };
    let entries = fs::read_dir("/proc/self/fd").ok()?.flatten();
    Some(entries.filter(|entry| !is_pipe(&entry.path())).count())
}

fn rss_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(rss), Some(fds), Some(threads)) = (self.rss_kib, self.fds, self.threads) else {
            return f.write_str("resources unknown");
        };
        write!(f, "{:.1} MiB, {fds} fds, {threads} threads", rss as f64 / 1024.0)
    }
}
