//! The two headers of a task: the part that any thread may read without a lock.
//!
//! The service's loop writes one of them, and the worker that runs the task writes the other. They
//! lie on different cache lines, so that the two threads do not wait for each other's lines. The
//! headers lie in pages of a fixed size that never move. A slot's headers are used for one task
//! after the other, so the worker's header is valid for a task only if it has the serial number of
//! that task.

use crate::task::phase::{Phase, Requests};
use crate::task::status::{StopReason, Timeout};
use std::sync::atomic::{
    AtomicU64 as Figure,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use std::sync::{Arc, OnceLock};

use crate::sync::{AtomicU64, Ordering};

/// The number of tasks whose headers share one page.
pub(crate) const PAGE: usize = if cfg!(loom) { 4 } else { 32 };

/// The worker number of a thread that is not a worker of the pool.
pub(crate) const NO_WORKER: u16 = u16::MAX;

const SYNCS_BITS: u32 = 4;
const SYNCS: u64 = (1 << SYNCS_BITS) - 1;

/// The header that the loop writes.
#[derive(Debug, Default)]
pub(crate) struct LoopHeader {
    /// `serial: 56 | connection has closed: 1 | syncs answered: 4 | phase: 3`. The phase is
    /// `Vacant`, or `Queued` until the loop resumes the task for the first time, or `Waiting`. The
    /// header of the worker says more.
    state: Figure,
    /// When the task was accepted.
    born: Figure,
    /// How long the task was parked in total.
    parked: Figure,
    connection: Figure,
}

const CLOSED: u64 = 1 << (Phase::BITS + SYNCS_BITS);
const LOOP_SERIAL_SHIFT: u32 = Phase::BITS + SYNCS_BITS + 1;

impl LoopHeader {
    /// The slot has another task from now on.
    #[inline]
    pub(crate) fn renew(&self, serial: u64, connection: u64, now: u64) {
        // A thread that reads the new times must also see that the slot was vacant.
        fence(Release);
        self.born.store(now, Relaxed);
        self.parked.store(0, Relaxed);
        self.connection.store(connection, Relaxed);
        let state = serial << LOOP_SERIAL_SHIFT | Phase::Queued as u64;
        self.state.store(state, Release);
    }

    #[inline]
    fn set_bits(&self, mask: u64, bits: u64) {
        self.state.store(self.state.load(Relaxed) & !mask | bits, Relaxed);
    }

    /// The task was reaped.
    #[inline]
    pub(crate) fn vacate(&self) {
        self.set_bits((1 << Phase::BITS) - 1, Phase::Vacant as u64);
    }

    /// The loop has resumed the task. The task has parked `syncs` times, modulo 16, and was parked
    /// for `nanos` nanoseconds this time.
    #[inline]
    pub(crate) fn resume(&self, syncs: u8, nanos: u64) {
        let parked = self.parked.load(Relaxed).saturating_add(nanos);
        self.parked.store(parked, Relaxed);
        let mask = (1 << (Phase::BITS + SYNCS_BITS)) - 1;
        let bits = (u64::from(syncs) & SYNCS) << Phase::BITS | Phase::Waiting as u64;
        self.set_bits(mask, bits);
    }

    pub(crate) fn set_connection(&self, connection: u64) {
        self.connection.store(connection, Relaxed);
        self.set_bits(CLOSED, 0);
    }

    pub(crate) fn close_connection(&self) {
        self.set_bits(0, CLOSED);
    }

    /// The serial number of the task in the slot. `None` if the slot is vacant.
    pub(crate) fn serial(&self) -> Option<u64> {
        let state = self.state.load(Acquire);
        (Phase::from_bits(state) != Phase::Vacant).then_some(state >> LOOP_SERIAL_SHIFT)
    }

    pub(crate) fn connection_id(&self) -> u64 {
        self.connection.load(Relaxed)
    }

    pub(crate) fn connection(&self) -> Option<u64> {
        let is_open = self.state.load(Relaxed) & CLOSED == 0;
        is_open.then(|| self.connection_id())
    }

    fn phase(&self) -> Phase {
        Phase::from_bits(self.state.load(Relaxed))
    }

    fn syncs(&self) -> u64 {
        self.state.load(Relaxed) >> Phase::BITS & SYNCS
    }
}

/// The header that the worker of the task writes. Only the requests are written by other threads.
#[derive(Debug)]
pub(crate) struct WorkHeader {
    /// `serial: 41 | syncs: 4 | worker: 16 | phase: 3`.
    state: AtomicU64,
    /// `serial: 40 | requests: 24`.
    requests: AtomicU64,
    /// How long the task has waited for a worker in total, and how long it was on a worker.
    queued: Figure,
    run: Figure,
}

const WORKER_SHIFT: u32 = Phase::BITS;
const WORK_SYNCS_SHIFT: u32 = WORKER_SHIFT + 16;
const WORK_SERIAL_SHIFT: u32 = WORK_SYNCS_SHIFT + SYNCS_BITS;

impl WorkHeader {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            queued: Figure::new(0),
            run: Figure::new(0),
        }
    }

    /// The task changes its phase. `syncs` is how many times it has parked.
    #[inline]
    pub(crate) fn set(&self, serial: u64, syncs: u8, worker: u16, phase: Phase) {
        let serial_and_syncs = serial << WORK_SERIAL_SHIFT | (u64::from(syncs) & SYNCS) << WORK_SYNCS_SHIFT;
        let state = serial_and_syncs | u64::from(worker) << WORKER_SHIFT | phase as u64;
        self.state.store(state, Ordering::Release);
    }

    /// Starts the times of a task: it waits from now on.
    #[inline]
    pub(crate) fn renew(&self, queued: u64) {
        self.queued.store(queued, Relaxed);
        self.run.store(0, Relaxed);
    }

    #[inline]
    pub(crate) fn add_queued(&self, nanos: u64) {
        let queued = self.queued.load(Relaxed).saturating_add(nanos);
        self.queued.store(queued, Relaxed);
    }

    #[inline]
    pub(crate) fn add_run(&self, nanos: u64) {
        self.run
            .store(self.run.load(Relaxed).saturating_add(nanos), Relaxed);
    }

    /// The state of this task. `None` if no worker has taken it yet.
    #[inline]
    fn state_of(&self, serial: u64) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        let is_it = state >> WORK_SERIAL_SHIFT == serial << WORK_SERIAL_SHIFT >> WORK_SERIAL_SHIFT;
        (is_it && Phase::from_bits(state) != Phase::Vacant).then_some(state)
    }

    #[inline]
    pub(crate) fn requests(&self, serial: u64) -> Requests {
        requests_of(serial, self.requests.load(Ordering::Acquire))
    }

    /// Changes the requests. Returns the new value.
    pub(crate) fn request(&self, serial: u64, change: impl Fn(Requests) -> Requests) -> Requests {
        loop {
            let word = self.requests.load(Ordering::Acquire);
            let after = change(requests_of(serial, word));
            let new = serial << Requests::BITS | after.bits();
            let result = self
                .requests
                .compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed);
            if result.is_ok() {
                return after;
            }
        }
    }
}

/// The requests to this task in the word of its slot.
#[inline]
fn requests_of(serial: u64, word: u64) -> Requests {
    if word >> Requests::BITS == serial << Requests::BITS >> Requests::BITS {
        Requests::from_bits(word)
    } else {
        Requests::default()
    }
}

/// The times by which tasks must have started and ended, for tasks that have such limits.
#[derive(Debug)]
pub(crate) struct Limits {
    queue: Figure,
    deadline: Figure,
    /// The time for which the task waits.
    delay: Figure,
}

/// The value of a time that is not set.
pub(crate) const NEVER: u64 = u64::MAX;

impl Limits {
    fn new() -> Self {
        Self {
            queue: Figure::new(NEVER),
            deadline: Figure::new(NEVER),
            delay: Figure::new(NEVER),
        }
    }

    /// Ends the queue timeout, because the task has started.
    #[inline]
    pub(crate) fn note_start(&self) {
        self.queue.store(NEVER, Relaxed);
    }

    /// Moves the deadline; `None` removes it. Called by the task's step.
    pub(crate) fn set_deadline(&self, deadline: Option<u64>) {
        self.deadline.store(deadline.unwrap_or(NEVER), Relaxed);
    }

    /// Sets the time for which the task waits; `None` if it does not wait.
    pub(crate) fn set_delay(&self, moment: Option<u64>) {
        self.delay.store(moment.unwrap_or(NEVER), Relaxed);
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Relaxed)).filter(|&at| at != NEVER)
    }

    /// The timeout that has run out; the earlier one if both have run out.
    fn passed(&self, now: u64) -> Option<Timeout> {
        let (queue, deadline) = (self.queue.load(Relaxed), self.deadline.load(Relaxed));
        let (at, timeout) = if queue < deadline {
            (queue, Timeout::Queue)
        } else {
            (deadline, Timeout::Deadline)
        };
        (at <= now && at != NEVER).then_some(timeout)
    }
}

/// The state of a task at one moment, from its headers. If the task changes at that moment, a time
/// may miss the part that is being added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) phase: Phase,
    pub(crate) requests: Requests,
    pub(crate) connection: Option<u64>,
    pub(crate) worker: Option<u16>,
    pub(crate) queued: u64,
    pub(crate) run: u64,
    pub(crate) parked: u64,
    /// When it entered its phase.
    pub(crate) since: u64,
    /// The time for which the task waits.
    pub(crate) delay: Option<u64>,
}

/// The headers of [`PAGE`] tasks: first those that workers write, then those that the loop writes.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Page {
    work: [WorkHeader; PAGE],
    owner: [LoopHeader; PAGE],
    /// Created for the first task that needs it.
    limits: OnceLock<Box<[Limits]>>,
}

impl Page {
    fn new() -> Self {
        Self {
            work: std::array::from_fn(|_| WorkHeader::new()),
            owner: std::array::from_fn(|_| LoopHeader::default()),
            limits: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn work(&self, slot: u32) -> &WorkHeader {
        &self.work[slot as usize % PAGE]
    }

    #[inline]
    pub(crate) fn owner(&self, slot: u32) -> &LoopHeader {
        &self.owner[slot as usize % PAGE]
    }

    /// The limits of a task. `queue` and `deadline` count only if its requests have the bit
    /// `timed`.
    #[inline]
    pub(crate) fn limits(&self, slot: u32) -> &Limits {
        let limits = self
            .limits
            .get_or_init(|| (0..PAGE).map(|_| Limits::new()).collect());
        &limits[slot as usize % PAGE]
    }

    /// Gives a task that is not timed a queue timeout and a deadline. No other thread may use the
    /// task at that time.
    pub(crate) fn set_limits(&self, slot: u32, serial: u64, queue: Option<u64>, deadline: Option<u64>) {
        let limits = self.limits(slot);
        limits.queue.store(queue.unwrap_or(NEVER), Relaxed);
        limits.deadline.store(deadline.unwrap_or(NEVER), Relaxed);
        self.work(slot).request(serial, Requests::timed);
    }

    /// The time by which a task must have ended.
    pub(crate) fn deadline(&self, slot: u32, serial: u64) -> Option<u64> {
        let is_timed = self.work(slot).requests(serial).is_timed();
        is_timed.then(|| self.limits(slot).deadline()).flatten()
    }

    /// Asks a timed task to stop if its time has run out. Returns its requests after that. The
    /// first reason stays; the loop or a worker may give it.
    #[cold]
    pub(crate) fn time_out(&self, slot: u32, serial: u64, now: u64) -> Requests {
        let header = self.work(slot);
        match self.limits(slot).passed(now) {
            Some(timeout) => {
                let reason = StopReason::TimedOut(timeout);
                header.request(serial, |requests| requests.with_stop(reason))
            }
            None => header.requests(serial),
        }
    }

    /// The phase of the task with this serial number, from its headers. A task that a worker has
    /// returned counts as returned before the loop has received it.
    #[inline]
    pub(crate) fn phase(&self, slot: u32, serial: u64) -> Phase {
        let (owner, work) = (self.owner(slot), self.work(slot));
        let phase = owner.phase();
        if phase == Phase::Vacant {
            return phase;
        }
        let Some(state) = work.state_of(serial) else {
            return phase;
        };
        let is_old =
            Phase::from_bits(state) == Phase::Parked && state >> WORK_SYNCS_SHIFT & SYNCS == owner.syncs();
        if is_old {
            Phase::Waiting
        } else {
            Phase::from_bits(state)
        }
    }

    /// The state of the task with this serial number. `None` if the task was reaped; the slot may
    /// have another task.
    pub(crate) fn snapshot(&self, slot: u32, serial: u64) -> Option<Snapshot> {
        let (owner, work) = (self.owner(slot), self.work(slot));
        let phase = self.phase(slot, serial);
        let state = work.state_of(serial);
        let parked = owner.parked.load(Relaxed);
        let (queued, run) = match state {
            Some(_) => (work.queued.load(Relaxed), work.run.load(Relaxed)),
            None => (0, 0),
        };
        let worker = state.map(|state| (state >> WORKER_SHIFT) as u16);
        let born = owner.born.load(Relaxed);
        let limits = self.limits.get().filter(|_| phase == Phase::Waiting);
        let delay = limits.map(|limits| limits[slot as usize % PAGE].delay.load(Relaxed));
        let snapshot = Snapshot {
            phase,
            requests: work.requests(serial),
            connection: owner.connection(),
            worker: worker.filter(|&worker| phase == Phase::Running && worker != NO_WORKER),
            queued,
            run,
            parked,
            since: born
                .saturating_add(queued)
                .saturating_add(run)
                .saturating_add(parked),
            delay: delay.filter(|&at| at != NEVER),
        };
        // If the loop reaped the task during the reads, a part of them is about the next task. The
        // fence keeps the reads before the check; its counterpart is in `renew`.
        fence(Acquire);
        let is_current = phase != Phase::Vacant && owner.serial() == Some(serial);
        is_current.then_some(snapshot)
    }
}

/// The number of pages in the first bucket. Each bucket has eight times as many pages as the one
/// before it.
const FIRST_BUCKET: usize = 16;
const GROWTH_BITS: u32 = 3;
/// Enough for every slot that a `u32` can number.
const BUCKETS: usize = 9;

/// A bucket of pages. Its places are filled one by one.
type Bucket = OnceLock<Box<[OnceLock<Arc<Page>>]>>;

/// All pages of a service. The loop adds them, any thread reads them, and they never move.
pub(crate) struct Pages([Bucket; BUCKETS]);

impl Pages {
    pub(crate) fn new() -> Self {
        Self([const { OnceLock::new() }; BUCKETS])
    }

    #[inline]
    fn place(page: usize) -> (usize, usize) {
        // The number of pages in all buckets before this one: `FIRST_BUCKET * (8^bucket - 1) / 7`.
        const LESS: usize = (1 << GROWTH_BITS) - 1;
        let bucket = (page * LESS / FIRST_BUCKET + 1).ilog2() / GROWTH_BITS;
        let before = FIRST_BUCKET * ((1 << (GROWTH_BITS * bucket)) - 1) / LESS;
        (bucket as usize, page - before)
    }

    #[inline]
    fn find(&self, page: usize) -> Option<&Arc<Page>> {
        let (bucket, index) = Self::place(page);
        self.0.get(bucket)?.get()?[index].get()
    }

    /// The page of a slot, which must exist.
    #[inline]
    pub(crate) fn of(&self, slot: u32) -> &Page {
        self.find(slot as usize / PAGE).expect("the page of a task")
    }

    /// The pages, in order.
    pub(crate) fn get(&self, page: usize) -> Option<&Page> {
        self.find(page).map(|page| &**page)
    }

    /// Adds the page with this number, which must be the lowest number that has no page.
    pub(crate) fn add(&self, page: usize) -> Arc<Page> {
        let (bucket, index) = Self::place(page);
        let pages = self.0[bucket].get_or_init(|| {
            let places = FIRST_BUCKET << (GROWTH_BITS * bucket as u32);
            (0..places).map(|_| OnceLock::new()).collect()
        });
        Arc::clone(pages[index].get_or_init(|| Arc::new(Page::new())))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn headers_are_half_a_cache_line_each() {
        assert_eq!((size_of::<LoopHeader>(), size_of::<WorkHeader>()), (32, 32));
        assert_eq!(size_of::<Page>(), 64 * (PAGE + 1));
    }

    #[test]
    fn every_page_has_a_place_of_its_own() {
        let pages = Pages::new();
        let added: Vec<_> = (0..2000).map(|page| pages.add(page)).collect();
        for (number, page) in added.iter().enumerate() {
            let found = pages.find(number).expect("it was added");
            assert!(Arc::ptr_eq(page, found));
        }
        assert!(pages.get(2000).is_none());
    }

    #[test]
    fn there_is_a_bucket_for_the_last_slot() {
        assert_eq!(Pages::place(u32::MAX as usize / PAGE).0, BUCKETS - 1);
    }

    /// S11: the header that a worker wrote for one task is not valid for the next task in the slot.
    #[test]
    fn the_header_of_an_earlier_task_does_not_count() {
        let page = Page::new();
        page.owner(0).renew(7, 1, 0);
        page.work(0).request(7, Requests::outliving);
        page.work(0).set(7, 1, 3, Phase::Parked);
        assert_eq!(page.phase(0, 7), Phase::Parked);
        page.owner(0).renew(8, 1, 0);
        assert_eq!(page.phase(0, 8), Phase::Queued);
        assert!(!page.work(0).requests(8).outlives());
    }

    /// A dump showed a reaped task again, with the phase and the connection of the next task in the
    /// slot.
    #[test]
    fn there_is_no_snapshot_of_a_reaped_task() {
        let page = Page::new();
        page.owner(0).renew(7, 1, 0);
        page.work(0).set(7, 1, 3, Phase::Finished);
        let phase = |serial| page.snapshot(0, serial).map(|snapshot| snapshot.phase);
        assert_eq!(phase(7), Some(Phase::Finished));
        page.owner(0).vacate();
        assert_eq!(phase(7), None);
        page.owner(0).renew(8, 2, 0);
        page.work(0).set(8, 0, 3, Phase::Running);
        assert_eq!((phase(7), phase(8)), (None, Some(Phase::Running)));
    }

    #[test]
    fn a_task_that_was_resumed_waits_until_a_worker_has_it_again() {
        let page = Page::new();
        page.owner(0).renew(7, 1, 0);
        page.work(0).set(7, 1, 3, Phase::Parked);
        page.owner(0).resume(1, 0);
        assert_eq!(page.phase(0, 7), Phase::Waiting);
        page.work(0).set(7, 1, 3, Phase::Running);
        assert_eq!(page.phase(0, 7), Phase::Running);
        page.work(0).set(7, 2, 3, Phase::Parked);
        assert_eq!(page.phase(0, 7), Phase::Parked);
    }
}
