//! The figures of `--report`: what the server has done since the last report.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::app::Counters;
use crate::quantile::quantile;

/// Messages whose delays are kept, at most: the newest of one report.
const DELAYS_MAX: usize = 65_536;

#[derive(Debug)]
pub struct Report {
    interval: Duration,
    begun_at: Instant,
    /// The counters at the last report.
    before: Counters,
    copied_before: u64,
    /// From publish to the last socket write, for each message that had a receiver.
    delays: Vec<Duration>,
    /// Resident memory before the first client came.
    memory_before: Option<u64>,
}

/// What a report is about, at the time of the report.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    pub clients: usize,
    pub slow: usize,
    pub counters: Counters,
    pub copied_bytes: u64,
}

impl Report {
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            begun_at: Instant::now(),
            before: Counters::default(),
            copied_before: 0,
            delays: Vec::new(),
            memory_before: resident_bytes(),
        }
    }

    /// Notes a message whose last socket write has just been made.
    pub fn note(&mut self, published_at: Instant) {
        if self.delays.len() < DELAYS_MAX {
            self.delays.push(published_at.elapsed());
        }
    }

    pub fn next_timeout(&self) -> Duration {
        self.interval.saturating_sub(self.begun_at.elapsed())
    }

    /// Prints a report if it is due.
    pub fn print_if_due(&mut self, situation: impl FnOnce() -> Situation) {
        if self.next_timeout() > Duration::ZERO {
            return;
        }
        let line = self.line(situation());
        // Without a reader of the reports the server goes on.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn line(&mut self, now: Situation) -> String {
        let seconds = self.begun_at.elapsed().as_secs_f64();
        let rate =
            |count: fn(&Counters) -> u64| (count(&now.counters) - count(&self.before)) as f64 / seconds;
        let memory = self
            .memory_before
            .zip(resident_bytes())
            .map(|(before, now)| now.saturating_sub(before));
        let memory = match memory {
            Some(bytes) if now.clients > 0 => format!("{} bytes", bytes / now.clients as u64),
            _ => "unknown".to_owned(),
        };
        self.delays.sort_unstable();
        let line = format!(
            "report: {} clients, {} slow; {:.1} messages/s published, {:.0} messages/s to clients, \
             {:.1} dropped/s; {} bytes copied; memory per client: {memory}; \
             publish to last write: median {}, p99 {}, max {}",
            now.clients,
            now.slow,
            rate(|counters| counters.published),
            rate(|counters| counters.deliveries),
            rate(|counters| counters.dropped),
            now.copied_bytes - self.copied_before,
            shown(quantile(&self.delays, 0.5)),
            shown(quantile(&self.delays, 0.99)),
            shown(quantile(&self.delays, 1.0)),
        );
        (self.before, self.copied_before) = (now.counters, now.copied_bytes);
        self.begun_at = Instant::now();
        self.delays.clear();
        line
    }
}

fn shown(delay: Option<Duration>) -> String {
    delay.map_or("unknown".to_owned(), |delay| {
        format!("{:.2} ms", delay.as_secs_f64() * 1000.0)
    })
}

/// Memory of this process, without that of the kernel's socket buffers.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}
