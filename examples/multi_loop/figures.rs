//! Counters of the loops and workers, for the page, `/loops.json` and `/metrics`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// Delays that are unsent: the last 30 seconds.
const DELAYS: usize = 300;

/// Counters of all loops and workers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Queries that were interrupted because the client had left or the time limit was reached.
    pub interrupted: AtomicU64,
    /// Parts of long results that were sent.
    pub parts: AtomicU64,
    /// Waits that were refused because they would have been deadlocks.
    pub refused_waits: AtomicU64,
}

/// Figures of one loop. Only the loop writes them; any thread may read them.
#[derive(Debug, Default)]
pub struct Figures {
    pub connections: AtomicUsize,
    /// Tasks that have not ended.
    pub tasks: AtomicUsize,
    /// Number of times that a worker or a sender has woken the loop.
    pub notifications: AtomicU64,
    /// Number of functions that have run in the loop.
    pub functions: AtomicU64,
    pub requests: AtomicU64,
    /// Number of connections that have closed.
    pub closed: AtomicU64,
    /// Number of clients that the loop has closed without serving them.
    pub refused: AtomicU64,
    delays: Mutex<Delays>,
}

/// Microseconds between the sending of a function and its start.
#[derive(Debug, Default)]
struct Delays(VecDeque<u64>);

/// Delays of a loop, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    pub count: usize,
    pub median: f64,
    pub p99: f64,
    pub max: f64,
}

impl Figures {
    pub fn note_delay(&self, delay: Duration) {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.0.len() == DELAYS {
            delays.0.pop_front();
        }
        delays.0.push_back(delay.as_micros() as u64);
    }

    pub fn delay(&self) -> Delay {
        let delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = delays.0.iter().copied().collect();
        drop(delays);
        sorted.sort_unstable();
        // The smallest delay that `percent` of the samples do not exceed.
        let at = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
        };
        Delay {
            count: sorted.len(),
            median: at(50),
            p99: at(99),
            max: at(100),
        }
    }

    pub fn to_json(&self, number: usize) -> Value {
        let delay = self.delay();
        json!({
            "loop": number,
            "connections": self.connections.load(Ordering::Relaxed),
            "tasks": self.tasks.load(Ordering::Relaxed),
            "notifications": self.notifications.load(Ordering::Relaxed),
            "functions": self.functions.load(Ordering::Relaxed),
            "requests": self.requests.load(Ordering::Relaxed),
            "delay_ms": { "count": delay.count, "p50": delay.median, "p99": delay.p99, "max": delay.max },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_the_last_samples() {
        let figures = Figures::default();
        assert_eq!(figures.delay().count, 0);
        for ms in 0..DELAYS as u64 + 200 {
            figures.note_delay(Duration::from_millis(ms));
        }
        let delay = figures.delay();
        assert_eq!(delay.count, DELAYS);
        let close = |one: f64, other: f64| (one - other).abs() < 0.001;
        assert!(close(delay.median, 349.0), "{delay:?}");
        assert!(close(delay.p99, 496.0), "{delay:?}");
        assert!(close(delay.max, 499.0), "{delay:?}");
    }
}
