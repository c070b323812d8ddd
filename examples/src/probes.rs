//! Clients that send no more while they wait for answers: have they gone? TCP does not say, so each
//! is probed a few times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moored::ConnId;

use crate::net::Net;

/// Time until a client is probed again; then four times as long, up to the last one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(4);

/// The clients to probe again.
#[derive(Debug, Default)]
pub struct Probes {
    /// When, and how long after the last time.
    due: BTreeMap<(Instant, ConnId), Duration>,
}

/// A client that may have gone.
#[derive(Debug, Clone, Copy)]
pub struct ProbeTarget {
    pub id: ConnId,
    /// Time until the next probe.
    delay: Duration,
}

impl ProbeTarget {
    /// One that was never probed, for use in [`App::half_closed`](crate::server::App::half_closed).
    pub fn new(id: ConnId) -> Self {
        Self {
            id,
            delay: FIRST_DELAY,
        }
    }
}

impl Probes {
    /// Probes a client now, and again later: [`App::closed`](crate::server::App::closed) follows if
    /// it has gone. False if it cannot be probed, see [`Net::probe`].
    pub fn probe(&mut self, net: &mut Net, ProbeTarget { id, delay }: ProbeTarget) -> bool {
        let can_probe = net.probe(id);
        // After the last one the kernel finds out, within a minute or so.
        if can_probe && delay <= LAST_DELAY {
            self.due.insert((Instant::now() + delay, id), delay);
        }
        can_probe
    }

    /// The next client that is due. It may have got its answers, or have gone.
    pub fn take_due(&mut self) -> Option<ProbeTarget> {
        let next = self.due.first_entry()?;
        if next.key().0 > Instant::now() {
            return None;
        }
        let ((_, id), delay) = next.remove_entry();
        let delay = 4 * delay;
        Some(ProbeTarget { id, delay })
    }

    /// When the next client is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}
