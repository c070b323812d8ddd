//! The figures of the machine, as JSON: processor, memory, network and load, from `/proc`.
//!
//! A figure that cannot be read is `null`; so all of them are on systems without `/proc`.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Reads the figures. Rates are those since the read before.
#[derive(Debug)]
pub struct Meter {
    last_read: Instant,
    processor: Option<Processor>,
    network: Option<Network>,
    number: u64,
}

/// Time of all processors since the start of the machine, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processor {
    total: u64,
    idle: u64,
}

/// Bytes of all interfaces, without the loopback interface, since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    received: u64,
    sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    total: u64,
    used: u64,
}

impl Meter {
    pub fn new() -> Self {
        Self {
            last_read: Instant::now(),
            processor: read("stat", Processor::parse),
            network: read("net/dev", Network::parse),
            number: 0,
        }
    }

    /// The figures as one JSON text: bytes, bytes per second, percent.
    pub fn read(&mut self) -> String {
        let now = Instant::now();
        let seconds = now.duration_since(self.last_read).as_secs_f64();
        let processor = read("stat", Processor::parse);
        let network = read("net/dev", Network::parse);
        let rates = self.network.zip(network).filter(|_| seconds > 0.0);
        let rate = |bytes: fn(Network) -> u64| {
            rates.map(|(before, now)| (bytes(now).saturating_sub(bytes(before)) as f64 / seconds).round())
        };
        self.number += 1;
        let figures = json!({
            "type": "figures",
            "number": self.number,
            "time_ms": time_ms(),
            "cpu_percent": self.processor.zip(processor).and_then(|(before, now)| now.percent_since(before)),
            "memory": read("meminfo", Memory::parse).map(|memory| json!({
                "used": memory.used,
                "total": memory.total,
            })),
            "network": { "received": rate(|n| n.received), "sent": rate(|n| n.sent) },
            "load": read("loadavg", parse_load),
        });
        (self.last_read, self.processor, self.network) = (now, processor, network);
        figures.to_string()
    }
}

impl Processor {
    /// Parses the first line of `/proc/stat`: `cpu  user nice system idle iowait irq softirq steal`.
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<u64> = numbers.take(8).map_while(|number| number.parse().ok()).collect();
        Some(Self {
            total: ticks.iter().sum(),
            idle: ticks.get(3)? + ticks.get(4)?,
        })
    }

    /// None if no time has passed.
    fn percent_since(self, before: Self) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|ticks| *ticks > 0)?;
        let idle = self.idle.saturating_sub(before.idle).min(total);
        Some((1000.0 * (total - idle) as f64 / total as f64).round() / 10.0)
    }
}

impl Network {
    /// Parses `/proc/net/dev`: two lines of headings, then `name: received 7 more sent 7 more`.
    fn parse(text: &str) -> Option<Self> {
        let mut sum = Self { received: 0, sent: 0 };
        for line in text.lines().skip(2) {
            let (name, numbers) = line.split_once(':')?;
            if name.trim() == "lo" {
                continue;
            }
            let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
            sum.received += numbers.next()?.ok()?;
            sum.sent += numbers.nth(7)?.ok()?;
        }
        Some(sum)
    }
}

impl Memory {
    /// Parses `/proc/meminfo`: lines such as `MemTotal: 4041234 kB`.
    fn parse(text: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
        };
        let total = bytes("MemTotal:")?;
        Some(Self {
            total,
            used: total.saturating_sub(bytes("MemAvailable:")?),
        })
    }
}

/// Parses the averages over 1, 5 and 15 minutes in `/proc/loadavg`.
fn parse_load(text: &str) -> Option<Value> {
    let numbers = text.split_whitespace().take(3);
    let averages: Vec<f64> = numbers.map_while(|number| number.parse().ok()).collect();
    (averages.len() == 3).then(|| json!(averages))
}

fn read<T>(file: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(&fs::read_to_string(format!("/proc/{file}")).ok()?)
}

fn time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_understood() {
        let before = Processor::parse("cpu  100 0 100 700 100 0 0 0 9 9\ncpu0 1 2 3").expect("a line");
        let now = Processor::parse("cpu  150 0 125 770 105 0 0 0 9 9").expect("a line");
        assert_eq!(now.percent_since(before), Some(50.0));
        assert_eq!(now.percent_since(now), None);
        let network = "Inter-| Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
            eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n wlan0:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        let sum = Network {
            received: 105,
            sent: 26,
        };
        assert_eq!(Network::parse(network), Some(sum));
        let memory = Memory::parse("MemTotal:  4 kB\nMemFree: 1 kB\nMemAvailable:   3 kB\n");
        let expected = Memory {
            total: 4096,
            used: 1024,
        };
        assert_eq!(memory, Some(expected));
        assert_eq!(parse_load("0.5 1.25 2 3/400 5\n"), Some(json!([0.5, 1.25, 2.0])));
    }

    #[test]
    fn other_texts_are_no_figures() {
        for text in ["", "cpu", "cpu  1 2", "a\nb\nc", "MemTotal: x kB"] {
            assert_eq!(Processor::parse(text), None);
            assert_eq!(Memory::parse(text), None);
            assert_eq!(parse_load(text), None);
        }
        assert_eq!(Network::parse("a\nb\nc"), None);
    }
}
