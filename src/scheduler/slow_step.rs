//! Reports of slow steps. Other workers and loops make the reports; there is no watchdog thread.

use super::Scheduler;
use crate::panic::quietly;
use crate::sync::Ordering;
use crate::task::header::NEVER;
use crate::task::id::{ConnId, TaskId};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

/// A slow step: see [`ThreadPoolBuilder::on_slow_step`](crate::ThreadPoolBuilder::on_slow_step).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SlowStep {
    /// The task's id.
    pub id: TaskId,
    /// The task's name, if it has one.
    pub name: Option<Cow<'static, str>>,
    /// The task's connection; `None` if the connection has closed.
    pub connection: Option<ConnId>,
    /// The number of the worker that runs the step.
    pub worker: usize,
    /// How long the step has taken so far.
    pub elapsed: Duration,
}

/// The option `on_slow_step` of the pool.
#[derive(Clone)]
pub(crate) struct SlowSteps {
    pub(crate) threshold: u64,
    pub(crate) report: Arc<dyn Fn(&SlowStep) + Send + Sync>,
}

impl fmt::Debug for SlowSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowSteps")
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

/// The step that a worker runs. Written only if the pool has the option.
pub(super) struct PresentStep {
    /// When the step began; [`NEVER`] if there is no step. Written last: if a reader finds the same
    /// value before and after it reads the other fields, these belong to one step.
    begun: AtomicU64,
    slot: AtomicU32,
    serial: AtomicU64,
    /// The beginning of the step that was reported last.
    reported: AtomicU64,
}

impl PresentStep {
    pub(super) fn new() -> Self {
        Self {
            begun: AtomicU64::new(NEVER),
            slot: AtomicU32::new(0),
            serial: AtomicU64::new(0),
            reported: AtomicU64::new(NEVER),
        }
    }

    pub(super) fn begin(&self, slot: u32, serial: u64, now: u64) {
        self.slot.store(slot, Release);
        self.serial.store(serial, Release);
        self.begun.store(now, Release);
    }

    pub(super) fn end(&self) {
        self.begun.store(NEVER, Release);
    }

    fn has_begun(&self, begun: u64) -> bool {
        self.begun.load(Relaxed) == begun
    }

    /// If the worker runs a step that began before `limit`: the slot and the serial number of the
    /// task, and when the step began. Each step is returned once.
    fn claim(&self, limit: u64) -> Option<(u32, u64, u64)> {
        let begun = self.begun.load(Acquire);
        if begun > limit {
            return None;
        }
        let (slot, serial) = (self.slot.load(Acquire), self.serial.load(Acquire));
        (self.has_begun(begun) && self.reported.swap(begun, Ordering::AcqRel) != begun)
            .then_some((slot, serial, begun))
    }
}

impl Scheduler {
    /// Reports the slow steps, each once. The caller runs no step and holds no lock. `prepare` is
    /// called before each report, because a report is code of the user and can block.
    #[inline]
    pub(crate) fn report_slow_steps(&self, prepare: impl Fn()) {
        if let Some(slow_steps) = &self.slow_steps {
            self.report_those(slow_steps, prepare);
        }
    }

    #[cold]
    fn report_those(&self, slow_steps: &SlowSteps, prepare: impl Fn()) {
        let now = self.clock.now();
        let Some(limit) = now.checked_sub(slow_steps.threshold) else {
            return;
        };
        for (worker, context) in self.workers().iter().enumerate() {
            let Some((slot, serial, begun)) = context.present_step.claim(limit) else {
                continue;
            };
            // Also before the drop of the reference to the service, which can be the last one.
            prepare();
            let service = context.service.lock().clone();
            let task = service.and_then(|service| service.describe(slot, serial));
            // If the step has ended since, the header may be that of another task.
            let Some((id, name, connection)) = task.filter(|_| context.present_step.has_begun(begun)) else {
                continue;
            };
            let step = SlowStep {
                id,
                name,
                connection,
                worker,
                elapsed: Duration::from_nanos(now - begun),
            };
            quietly(|| (slow_steps.report)(&step));
        }
    }
}
