//! How a task stands, and what it has been asked.
//!
//! A task's value is always in exactly one place, and who has it owns it: the line, a worker, a lane of the loop's inbox,
//! the service's table, or the loop itself. So nobody competes for a task. What can be read from anywhere at any time are two words:
//!
//! - **what it does** (the phase), written by its owner alone;
//! - **what it was asked** (to stop, that its connection has closed), written by anybody and never taken back but by `attach`.
//!
//! | phase | where the value is |
//! |---|---|
//! | `Queued` | in line: no step has run |
//! | `Running` | on a worker, whose number is in the word |
//! | `Ready` | in line for its next step |
//! | `Syncing` | in a lane or in the table: parked until answered |
//! | `Held` | lent to the loop, through a `SyncPoint` |
//! | `Finished` `Stopped` `Panicked` | in a lane or in the table, to be reaped |
//!
//! # Why no request is lost
//!
//! Who asks a task to stop: 1. takes it out of the line if no step has run, and has it; else 2. asks; 3. empties the lanes
//! into the table, each under its lock, and if the task was parked it is there now, and is put in line. A worker that wants to park a
//! task looks at what it was asked *under the lane's lock*, and puts it there only if that is nothing. Both hold the same lock, so one
//! comes first: either the worker sees the request, or who asks finds the task. Who has a task otherwise looks before it
//! lets go: the worker before each step, the loop under the table's lock when it gives back what it was lent.

use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::status::{Status, StopReason};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Queued,
    Running,
    Ready,
    Syncing,
    Held,
    Finished,
    Stopped,
    Panicked,
}

const PHASES: [Phase; 8] = [
    Phase::Queued,
    Phase::Running,
    Phase::Ready,
    Phase::Syncing,
    Phase::Held,
    Phase::Finished,
    Phase::Stopped,
    Phase::Panicked,
];

impl Phase {
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Panicked)
    }
}

/// A reason to stop in four bits: 0 for none, or its index plus one.
fn code_of(reason: StopReason) -> u32 {
    reason.index() as u32 + 1
}

fn reason_of(code: u32) -> Option<StopReason> {
    let index = (code & STOP).checked_sub(1)?;
    Some(StopReason::ALL[index as usize])
}

/// What a task was asked: `outlives: 1 | detached: 1 | stop: 4`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked(u32);

const STOP: u32 = 0xf;
const DETACHED: u32 = 1 << 4;
const OUTLIVES: u32 = 1 << 5;

impl Asked {
    pub(crate) fn stop(self) -> Option<StopReason> {
        reason_of(self.0)
    }

    /// The first reason stays.
    fn with_stop(self, reason: StopReason) -> Self {
        if self.stop().is_some() {
            self
        } else {
            Self(self.0 | code_of(reason))
        }
    }

    pub(crate) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    /// Whether a task should not park: nobody would answer it.
    #[inline]
    pub(crate) fn must_go_on(self) -> bool {
        self.0 & (STOP | DETACHED) != 0
    }
}

/// What a task does: `syncs: 32 | worker: 16 | why it stopped: 4 | phase: 4`.
#[derive(Clone, Copy)]
struct Doing(u64);

const PHASE: u64 = 0xf;
const WHY_SHIFT: u32 = 4;
const WORKER_SHIFT: u32 = 16;
const SYNCS_SHIFT: u32 = 32;

impl Doing {
    fn new(phase: Phase, syncs: u32) -> Self {
        Self(phase as u64 | u64::from(syncs) << SYNCS_SHIFT)
    }

    fn phase(self) -> Phase {
        PHASES[(self.0 & PHASE) as usize]
    }

    fn syncs(self) -> u32 {
        (self.0 >> SYNCS_SHIFT) as u32
    }
}

/// How a task stood at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Word {
    doing: Doing,
    asked: Asked,
}

impl Word {
    pub(crate) fn phase(self) -> Phase {
        self.doing.phase()
    }

    /// Why it stopped, or is asked to.
    pub(crate) fn stop(self) -> Option<StopReason> {
        if self.has_ended() {
            reason_of((self.doing.0 >> WHY_SHIFT) as u32)
        } else {
            self.asked.stop()
        }
    }

    pub(crate) fn is_running(self) -> bool {
        self.phase() == Phase::Running
    }

    /// The worker that runs it, if one does.
    pub(crate) fn worker(self) -> Option<u16> {
        let worker = (self.doing.0 >> WORKER_SHIFT) as u16;
        (self.is_running() && worker != NO_WORKER).then_some(worker)
    }

    /// How often it has parked; past 2^32 it goes on from 1.
    pub(crate) fn syncs(self) -> u32 {
        self.doing.syncs()
    }

    pub(crate) fn has_ended(self) -> bool {
        self.phase().is_end()
    }

    /// What the outside world calls it.
    pub(crate) fn status(self) -> Status {
        match self.phase() {
            Phase::Queued | Phase::Running | Phase::Ready if self.stop().is_some() => Status::Stopping,
            Phase::Queued => Status::Queued,
            Phase::Running | Phase::Ready => Status::Running,
            Phase::Syncing | Phase::Held => Status::Syncing,
            Phase::Finished => Status::Finished,
            Phase::Stopped => Status::Stopped,
            Phase::Panicked => Status::Panicked,
        }
    }
}

/// The worker number of a thread that is none: a loop inside `run_pending`.
pub(crate) const NO_WORKER: u16 = u16::MAX;

#[derive(Debug)]
pub(crate) struct State {
    doing: AtomicU64,
    asked: AtomicU32,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            doing: AtomicU64::new(Doing::new(Phase::Queued, 0).0),
            asked: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> Word {
        Word {
            doing: self.doing(),
            asked: self.asked(),
        }
    }

    #[inline]
    pub(crate) fn asked(&self) -> Asked {
        Asked(self.asked.load(Ordering::Acquire))
    }

    /// What it does. Exact for its owner.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.doing().phase()
    }

    #[inline]
    fn doing(&self) -> Doing {
        Doing(self.doing.load(Ordering::Acquire))
    }

    #[inline]
    fn store(&self, doing: Doing) {
        self.doing.store(doing.0, Ordering::Release);
    }
}

/// For the task's owner.
impl State {
    /// Another task from now on.
    #[inline]
    pub(crate) fn renew(&self, outlives: bool) {
        self.asked
            .store(if outlives { OUTLIVES } else { 0 }, Ordering::Relaxed);
        self.store(Doing::new(Phase::Queued, 0));
    }

    /// A step begins on a worker.
    #[inline]
    pub(crate) fn start(&self, worker: u16) {
        let Doing(running) = Doing::new(Phase::Running, self.doing().syncs());
        self.store(Doing(running | u64::from(worker) << WORKER_SHIFT));
    }

    /// It parks; gives for which time.
    #[inline]
    pub(crate) fn park(&self) -> u32 {
        // Never 0, which stands for "has not parked".
        let syncs = self.doing().syncs().wrapping_add(1).max(1);
        self.store(Doing::new(Phase::Syncing, syncs));
        syncs
    }

    /// It changes hands.
    #[inline]
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.store(Doing::new(phase, self.doing().syncs()));
    }

    /// It has ended; `why` if it has stopped.
    #[inline]
    pub(crate) fn end(&self, phase: Phase, why: Option<StopReason>) {
        let Doing(ended) = Doing::new(phase, self.doing().syncs());
        self.store(Doing(ended | u64::from(why.map_or(0, code_of)) << WHY_SHIFT));
    }
}

/// For anybody. Each request is followed by a look for the task: see the head of this file.
impl State {
    fn change_asked(&self, change: impl Fn(Asked) -> Asked) -> Asked {
        let mut before = self.asked();
        loop {
            let after = change(before);
            match self
                .asked
                .compare_exchange_weak(before.0, after.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return after,
                Err(now) => before = Asked(now),
            }
        }
    }

    /// Asks it to stop. The first reason stays.
    pub(crate) fn ask_to_stop(&self, reason: StopReason) {
        self.change_asked(|asked| asked.with_stop(reason));
    }

    /// Its connection has closed: it goes on without one if it may, else it is asked to stop. Gives what it was asked in
    /// all.
    pub(crate) fn close_connection(&self) -> Asked {
        self.change_asked(|asked| {
            let detached = Asked(asked.0 | DETACHED);
            if asked.0 & OUTLIVES != 0 {
                detached
            } else {
                detached.with_stop(StopReason::ConnectionClosed)
            }
        })
    }

    /// It has a connection again.
    pub(crate) fn attach(&self) {
        self.change_asked(|asked| Asked(asked.0 & !DETACHED));
    }

    /// It may outlive its connection from now on.
    pub(crate) fn set_outlives(&self) {
        self.change_asked(|asked| Asked(asked.0 | OUTLIVES));
    }

    /// Whether it may outlive its connection.
    pub(crate) fn outlives(&self) -> bool {
        self.asked().0 & OUTLIVES != 0
    }
}
