//! Checks whether clients have left that closed their sending side before they had their answers.
//! TCP does not show the difference between a client that has left and one that still reads. So
//! each such client is probed a few times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moored::ConnId;

use crate::net::Net;

/// Time between the first two probes of a client. Each later time is four times as long, up to
/// `LAST_DELAY`.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(4);

/// Clients to probe again.
#[derive(Debug, Default)]
pub struct Probes {
    /// The time of the next probe, and the time between it and the last one.
    due: BTreeMap<(Instant, ConnId), Duration>,
}

/// A client that may have left.
#[derive(Debug, Clone, Copy)]
pub struct ProbeTarget {
    pub id: ConnId,
    /// Time until the next probe.
    delay: Duration,
}

impl ProbeTarget {
    /// A client that was not probed yet, for use in
    /// [`App::half_closed`](crate::server::App::half_closed).
    pub fn new(id: ConnId) -> Self {
        Self {
            id,
            delay: FIRST_DELAY,
        }
    }
}

impl Probes {
    /// Probes a client now, and schedules the next probe. If the client has left,
    /// [`App::closed`](crate::server::App::closed) is called. Returns false if it cannot be probed,
    /// see [`Net::probe`].
    pub fn probe(&mut self, net: &mut Net, ProbeTarget { id, delay }: ProbeTarget) -> bool {
        let can_probe = net.probe(id);
        // If the client leaves after the last probe, TCP keep-alive detects it within about a
        // minute.
        if can_probe && delay <= LAST_DELAY {
            self.due.insert((Instant::now() + delay, id), delay);
        }
        can_probe
    }

    /// Removes the next client that is due. It may have its answers already, or have left.
    pub fn take_due(&mut self) -> Option<ProbeTarget> {
        let next = self.due.first_entry()?;
        if next.key().0 > Instant::now() {
            return None;
        }
        let ((_, id), delay) = next.remove_entry();
        let delay = 4 * delay;
        Some(ProbeTarget { id, delay })
    }

    /// Time of the next probe.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}
