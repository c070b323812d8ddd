//! What must be true of a pool's counters, while it runs and at rest.

use moored::{Counters, PoolDump};

/// Looks at one pool's dumps, one after the other.
#[derive(Default)]
pub(crate) struct Audit {
    last: Option<Counters>,
}

fn ended(counters: &Counters) -> u64 {
    counters.finished + counters.panicked + counters.stopped.total()
}

impl Audit {
    /// While tasks move, nothing has ended that was not accepted before, and no counter goes back.
    pub(crate) fn check(&mut self, dump: &PoolDump) -> Result<(), String> {
        let now = dump.counters;
        let figures = |counters: &Counters| {
            [
                counters.accepted,
                counters.finished,
                counters.panicked,
                counters.stopped.total(),
                counters.refused.queue_full
                    + counters.refused.too_many_tasks
                    + counters.refused.connection_full
                    + counters.refused.shutting_down,
                counters.steps,
                counters.syncs,
                counters.wakes,
            ]
        };
        if ended(&now) > now.accepted {
            return Err(format!("{} tasks ended, {} accepted", ended(&now), now.accepted));
        }
        if let Some(last) = self.last.replace(now) {
            let back = figures(&last)
                .iter()
                .zip(&figures(&now))
                .any(|(last, now)| now < last);
            if back {
                return Err(format!("a counter went back: {last:?}, then {now:?}"));
            }
        }
        Ok(())
    }

    /// At rest every accepted task has ended, and is gone.
    pub(crate) fn close(&mut self, dump: &PoolDump) -> Result<(), String> {
        self.check(dump)?;
        let (accepted, ended) = (dump.counters.accepted, ended(&dump.counters));
        if accepted == ended && dump.tasks.is_empty() && dump.counts.ended == 0 {
            Ok(())
        } else {
            Err(format!(
                "{accepted} accepted, {ended} ended, left over:\n{dump:.20}"
            ))
        }
    }
}
