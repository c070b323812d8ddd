//! The one word that says who may touch a task.
//!
//! # Phases
//!
//! | phase | the body belongs to | leaves by |
//! |---|---|---|
//! | `Queued` | nobody: no step has run | `start`, `cancel` (to `Stopped`) |
//! | `Running` | a worker, whose number is in the word | `park`, `hand_back`, `end` |
//! | `Ready` | nobody: has started, is in line for its next step | `start` |
//! | `Syncing` | nobody: parked until answered | `hold`, `resume`, `cancel`, `detach` |
//! | `Held` | the loop, through a `SyncPoint` | `resume`, `let_go` |
//! | `Finished` `Stopped` `Panicked` | the loop, which may reap it | never |
//!
//! Beside the phase stand: the reason why it was asked to stop (the first stays), whether it is detached from its
//! connection, whether it may outlive it, and how often it has parked, which tells an announcement of this
//! `Sync` from one of an earlier `Sync`.
//!
//! Every change is one compare-and-swap of the whole word, so each pair of racing calls has one winner, and the
//! loser sees what the winner did.

use crate::primitive::{AtomicU64, Ordering};
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

/// `syncs: 32 | worker: 16 | outlives: 1 | detached: 1 | (unused) | stop: 4 | phase: 4`; stop is 0 or the
/// reason's index plus one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(u64);

const PHASE: u64 = 0xf;
const STOP_SHIFT: u32 = 4;
const STOP: u64 = 0xf << STOP_SHIFT;
const DETACHED: u64 = 1 << 14;
const OUTLIVES: u64 = 1 << 15;
const WORKER_SHIFT: u32 = 16;
const WORKER: u64 = 0xffff << WORKER_SHIFT;
const SYNCS_SHIFT: u32 = 32;

impl Word {
    pub(crate) fn phase(self) -> Phase {
        PHASES[(self.0 & PHASE) as usize]
    }

    fn with_phase(self, phase: Phase) -> Self {
        Self(self.0 & !PHASE | phase as u64)
    }

    pub(crate) fn stop(self) -> Option<StopReason> {
        let code = (self.0 & STOP) >> STOP_SHIFT;
        code.checked_sub(1).map(|index| StopReason::ALL[index as usize])
    }

    /// The first reason stays.
    fn with_stop(self, reason: StopReason) -> Self {
        if self.0 & STOP != 0 {
            self
        } else {
            Self(self.0 | (reason.index() as u64 + 1) << STOP_SHIFT)
        }
    }

    pub(crate) fn is_detached(self) -> bool {
        self.0 & DETACHED != 0
    }

    fn outlives(self) -> bool {
        self.0 & OUTLIVES != 0
    }

    pub(crate) fn is_running(self) -> bool {
        self.phase() == Phase::Running
    }

    /// The worker that runs it, if one does.
    pub(crate) fn worker(self) -> Option<u16> {
        let worker = ((self.0 & WORKER) >> WORKER_SHIFT) as u16;
        (self.phase() == Phase::Running && worker != NO_WORKER).then_some(worker)
    }

    fn with_worker(self, worker: u16) -> Self {
        Self(self.0 & !WORKER | u64::from(worker) << WORKER_SHIFT)
    }

    /// How often it has parked; past 2^32 it goes on from 1.
    pub(crate) fn syncs(self) -> u32 {
        (self.0 >> SYNCS_SHIFT) as u32
    }

    /// Never 0, which stands for "has not parked".
    fn with_one_more_sync(self) -> Self {
        let next = Self(self.0.wrapping_add(1 << SYNCS_SHIFT));
        if next.syncs() == 0 {
            next.with_one_more_sync()
        } else {
            next
        }
    }

    pub(crate) fn has_ended(self) -> bool {
        matches!(self.phase(), Phase::Finished | Phase::Stopped | Phase::Panicked)
    }

    /// What the outside world calls it.
    pub(crate) fn status(self) -> Status {
        match self.phase() {
            Phase::Queued => Status::Queued,
            Phase::Running | Phase::Ready if self.stop().is_some() => Status::Stopping,
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

/// What a worker learns when a step has returned `Sync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Park {
    /// Parked, for the n-th time; the loop may have it already.
    Parked(u32),
    /// Asked to stop, or without a connection: nobody would answer, so the next step runs at once.
    GoOn,
}

/// What is left to do for who asked a task to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancel {
    /// It had not started: it is `Stopped` now, by this call, which must announce it.
    NeverRan,
    /// It was parked: it is `Ready` now, and this call must put it in line.
    PutInLine,
    /// It will see the request by itself.
    WillSee,
    /// It had ended before.
    Ended,
}

#[derive(Debug)]
pub(crate) struct State(AtomicU64);

impl State {
    pub(crate) fn new(outlives: bool) -> Self {
        let word = Word(if outlives { OUTLIVES } else { 0 });
        Self(AtomicU64::new(
            word.with_phase(Phase::Queued).with_worker(NO_WORKER).0,
        ))
    }

    #[inline]
    pub(crate) fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Changes the word by `change` unless it answers `None`. Gives the word before and after.
    #[inline]
    fn change(&self, change: impl Fn(Word) -> Option<Word>) -> Result<(Word, Word), Word> {
        let mut before = self.load();
        loop {
            let Some(after) = change(before) else {
                return Err(before);
            };
            match self
                .0
                .compare_exchange_weak(before.0, after.0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok((before, after)),
                Err(now) => before = Word(now),
            }
        }
    }

    /// A worker takes the body. `Err`: it was cancelled while in line. `Ok` has the word before.
    #[inline]
    pub(crate) fn start(&self, worker: u16) -> Result<Word, Word> {
        self.change(|word| {
            matches!(word.phase(), Phase::Queued | Phase::Ready)
                .then(|| word.with_phase(Phase::Running).with_worker(worker))
        })
        .map(|(before, _)| before)
    }

    /// The step returned `Sync`.
    #[inline]
    pub(crate) fn park(&self) -> Park {
        let parked = self.change(|word| {
            let nobody_answers = word.stop().is_some() || word.is_detached();
            (!nobody_answers).then(|| word.with_phase(Phase::Syncing).with_one_more_sync())
        });
        match parked {
            Ok((_, after)) => Park::Parked(after.syncs()),
            Err(_) => Park::GoOn,
        }
    }

    /// The worker gives the body back although the task wants to go on.
    pub(crate) fn hand_back(&self) {
        let _ = self.change(|word| Some(word.with_phase(Phase::Ready)));
    }

    /// The task has ended as `phase`; `reason` is what the worker has booked, whoever asks for a stop meanwhile.
    #[inline]
    pub(crate) fn end(&self, phase: Phase, reason: Option<StopReason>) {
        let _ = self.change(|word| {
            let word = match reason {
                Some(reason) => Word(word.0 & !STOP).with_stop(reason),
                None => word,
            };
            Some(word.with_phase(phase))
        });
    }

    /// The loop takes the body of a parked task.
    #[inline]
    pub(crate) fn hold(&self) -> bool {
        self.change(|word| (word.phase() == Phase::Syncing).then(|| word.with_phase(Phase::Held)))
            .is_ok()
    }

    /// The loop gives the body back unanswered. True: it was asked to stop meanwhile and must be put in line.
    pub(crate) fn let_go(&self) -> bool {
        let let_go = self.change(|word| {
            let next = if word.stop().is_some() {
                Phase::Ready
            } else {
                Phase::Syncing
            };
            (word.phase() == Phase::Held).then(|| word.with_phase(next))
        });
        matches!(let_go, Ok((_, after)) if after.phase() == Phase::Ready)
    }

    /// The loop's answer to a parked task: go on. True: it must be put in line.
    #[inline]
    pub(crate) fn resume(&self) -> bool {
        self.change(|word| {
            matches!(word.phase(), Phase::Syncing | Phase::Held).then(|| word.with_phase(Phase::Ready))
        })
        .is_ok()
    }

    /// The loop's answer to a task it holds: stop. It must be put in line.
    pub(crate) fn resume_stopping(&self, reason: StopReason) {
        let _ = self.change(|word| Some(word.with_stop(reason).with_phase(Phase::Ready)));
    }

    /// Asks it to stop.
    pub(crate) fn cancel(&self, reason: StopReason) -> Cancel {
        self.cancel_and(reason, 0)
    }

    /// Stops it if it has not started; else nothing happens.
    pub(crate) fn expire_in_line(&self, reason: StopReason) -> Cancel {
        let expired = self.change(|word| {
            (word.phase() == Phase::Queued).then(|| word.with_stop(reason).with_phase(Phase::Stopped))
        });
        if expired.is_ok() {
            Cancel::NeverRan
        } else {
            Cancel::WillSee
        }
    }

    fn cancel_and(&self, reason: StopReason, flags: u64) -> Cancel {
        let asked = self.change(|word| {
            let asked = Word(word.with_stop(reason).0 | flags);
            match word.phase() {
                Phase::Queued => Some(asked.with_phase(Phase::Stopped)),
                Phase::Syncing => Some(asked.with_phase(Phase::Ready)),
                Phase::Running | Phase::Ready | Phase::Held => Some(asked),
                Phase::Finished | Phase::Stopped | Phase::Panicked => {
                    (flags & !word.0 != 0).then_some(Word(word.0 | flags))
                }
            }
        });
        match asked {
            Ok((before, _)) => match before.phase() {
                Phase::Queued => Cancel::NeverRan,
                Phase::Syncing => Cancel::PutInLine,
                Phase::Running | Phase::Ready | Phase::Held => Cancel::WillSee,
                _ => Cancel::Ended,
            },
            Err(_) => Cancel::Ended,
        }
    }

    /// Its connection has closed: stop, or go on without one if it may.
    pub(crate) fn connection_closed(&self) -> Cancel {
        let outlived = self.change(|word| {
            let next = match word.phase() {
                Phase::Syncing => Phase::Ready,
                phase => phase,
            };
            word.outlives().then(|| Word(word.with_phase(next).0 | DETACHED))
        });
        match outlived {
            Ok((before, _)) if before.phase() == Phase::Syncing => Cancel::PutInLine,
            Ok((before, _)) if before.has_ended() => Cancel::Ended,
            Ok(_) => Cancel::WillSee,
            Err(_) => self.cancel_and(StopReason::ConnectionClosed, DETACHED),
        }
    }

    /// It has a connection again.
    pub(crate) fn attach(&self) {
        let _ = self.change(|word| Some(Word(word.0 & !DETACHED)));
    }

    /// It may outlive its connection from now on.
    pub(crate) fn set_outlives(&self) {
        let _ = self.change(|word| Some(Word(word.0 | OUTLIVES)));
    }
}
