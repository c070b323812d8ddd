//! The accepting thread's part: it deals the clients out, and measures how late the loops are.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use examples::acceptor::Dealer;
use mio::net::TcpStream;
use moored::{Recipient, SendError};

use crate::commands::Function;
use crate::shared::Shared;

/// Time from one measurement of the loops' delays to the next.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Deals to the loop with the fewest connections; loops with the same number take turns.
pub struct RoundRobin {
    shared: Arc<Shared>,
    /// Connections open at once, of all loops.
    limit: usize,
    /// Clients that each loop has got.
    dealt: Vec<u64>,
    /// The loop whose turn it is.
    next: usize,
    next_probe: Instant,
}

impl RoundRobin {
    pub fn new(shared: &Arc<Shared>, limit: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            limit,
            dealt: vec![0; shared.loops()],
            next: 0,
            next_probe: Instant::now(),
        }
    }

    /// Connections of a loop, with those that are on their way to it.
    fn open(&self, number: usize) -> u64 {
        let figures = &self.shared.figures[number];
        let over = figures.closed.load(Ordering::Relaxed) + figures.refused.load(Ordering::Relaxed);
        self.dealt[number].saturating_sub(over)
    }

    /// The loops, the one that gets the next client first.
    fn order(&self) -> Vec<usize> {
        let loops = self.shared.loops();
        let mut order: Vec<_> = (0..loops).map(|index| (self.next + index) % loops).collect();
        order.sort_by_key(|number| self.open(*number));
        order
    }

    /// Sends each loop a function that knows when it was sent.
    fn probe(&self) {
        for (number, functions) in self.shared.functions.iter().enumerate() {
            let sent = Instant::now();
            let measure: Function = Box::new(move |state, _| {
                state.shared.figures[number].note_delay(sent.elapsed());
            });
            // A loop with a full mailbox is late without being asked.
            drop(functions.send(Recipient::Loop, measure));
        }
    }
}

impl Dealer for RoundRobin {
    fn has_room(&mut self) -> bool {
        let open: u64 = (0..self.shared.loops()).map(|number| self.open(number)).sum();
        open < self.limit as u64
    }

    fn deal(&mut self, mut client: TcpStream) -> Result<(), TcpStream> {
        for number in self.order() {
            match self.shared.clients[number].send(Recipient::Loop, client) {
                Ok(()) => {
                    self.dealt[number] += 1;
                    self.next = (number + 1) % self.shared.loops();
                    return Ok(());
                }
                Err(SendError::Closed(refused) | SendError::Full(refused)) => client = refused,
                Err(other) => client = other.into_inner(),
            }
        }
        Err(client)
    }

    /// Asks the loops with the most connections: as many as have a connection.
    fn make_room(&mut self) {
        self.shared.want_room();
        let mut order = self.order();
        order.sort_by_key(|number| Reverse(self.open(*number)));
        for number in order {
            let close: Function = Box::new(|_, net| net.make_room());
            // A loop with a full mailbox is asked again later.
            drop(self.shared.functions[number].send(Recipient::Loop, close));
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_probe {
            self.next_probe = now + PROBE_INTERVAL;
            self.probe();
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        Some(self.next_probe.saturating_duration_since(Instant::now()))
    }
}
