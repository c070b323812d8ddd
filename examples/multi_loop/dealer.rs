//! Runs on the accepting thread: gives the clients to the loops, and measures the delays of the
//! loops.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use examples::acceptor::Dealer;
use mio::net::TcpStream;
use moored::{Recipient, SendError};

use crate::commands::Function;
use crate::shared::Shared;

/// Time between two measurements of the loops' delays.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);

/// Gives each client to the loop with the fewest connections. Loops with equal numbers take turns.
pub struct FewestConnections {
    shared: Arc<Shared>,
    /// Most connections that all loops together may have.
    limit: usize,
    /// Number of clients that each loop has got.
    given: Vec<u64>,
    /// The loop that comes first among loops with equal numbers of connections.
    next: usize,
    /// Number of calls of `make_room` since the last client was given to a loop.
    attempts: usize,
    next_measurement: Instant,
}

impl FewestConnections {
    pub fn new(shared: &Arc<Shared>, limit: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            limit,
            given: vec![0; shared.loops()],
            next: 0,
            attempts: 0,
            next_measurement: Instant::now(),
        }
    }

    /// Number of connections of a loop, including the clients in its mailbox.
    fn open(&self, number: usize) -> u64 {
        let figures = &self.shared.figures[number];
        let over = figures.closed.load(Ordering::Relaxed) + figures.refused.load(Ordering::Relaxed);
        self.given[number].saturating_sub(over)
    }

    /// The numbers of the loops, in the order in which they are tried for the next client.
    fn order(&self) -> Vec<usize> {
        let loops = self.shared.loops();
        let mut order: Vec<_> = (0..loops).map(|index| (self.next + index) % loops).collect();
        order.sort_by_key(|number| self.open(*number));
        order
    }

    /// Sends a function to each loop that measures the time until it runs.
    fn measure_delays(&self) {
        for (number, functions) in self.shared.functions.iter().enumerate() {
            let sent = Instant::now();
            let measure: Function = Box::new(move |state, _| {
                state.shared.figures[number].note_delay(sent.elapsed());
            });
            // A full mailbox refuses it. Then this measurement is missing.
            drop(functions.send(Recipient::Loop, measure));
        }
    }
}

/// Makes one of these loops close a silent connection. The first loop gets a function for that. If
/// it has no silent connection, it sends the function to the next loop.
fn close_in_first(shared: &Shared, mut loops: VecDeque<usize>) {
    while let Some(number) = loops.pop_front() {
        let rest = loops.clone();
        let close: Function = Box::new(move |state, net| {
            if net.has_silent() {
                net.make_room();
            } else {
                close_in_first(&state.shared, rest);
            }
        });
        // A loop with a full mailbox is left out.
        if shared.functions[number].send(Recipient::Loop, close).is_ok() {
            return;
        }
    }
}

impl Dealer for FewestConnections {
    fn has_room(&mut self) -> bool {
        let open: u64 = (0..self.shared.loops()).map(|number| self.open(number)).sum();
        open < self.limit as u64
    }

    fn deal(&mut self, mut client: TcpStream) -> Result<(), TcpStream> {
        for number in self.order() {
            match self.shared.clients[number].send(Recipient::Loop, client) {
                Ok(()) => {
                    self.given[number] += 1;
                    self.next = (number + 1) % self.shared.loops();
                    self.attempts = 0;
                    return Ok(());
                }
                Err(SendError::Closed(refused) | SendError::Full(refused)) => client = refused,
                Err(other) => client = other.into_inner(),
            }
        }
        Err(client)
    }

    /// Makes one loop close a silent connection: the loop with the most connections that has a
    /// silent one.
    fn make_room(&mut self) {
        self.shared.want_room();
        let mut order = self.order();
        order.sort_by_key(|number| Reverse(self.open(*number)));
        // A loop cannot close a connection whose data the kernel has not sent. After a failure,
        // another loop is the first.
        let loops = self.shared.loops();
        order.rotate_left(self.attempts % loops);
        self.attempts += 1;
        close_in_first(&self.shared, order.into());
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_measurement {
            self.next_measurement = now + MEASURE_INTERVAL;
            self.measure_delays();
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        Some(self.next_measurement.saturating_duration_since(Instant::now()))
    }
}
