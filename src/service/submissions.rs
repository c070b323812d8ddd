//! The tasks of a service on their way to the workers: its ring, its flows, and its part of each
//! worker's batch.

use super::inner::ServiceInner;
use crate::queue::delayed::Moment;
use crate::queue::flow::Flows;
use crate::queue::ring::Consumer;
use crate::queue::turns::Turns;
use crate::queue::{Entry, Source};
use crate::scheduler::SharedContext;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use crate::task::Task;
use crossbeam_utils::CachePadded;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

/// What the loop has submitted, as far as it tells the workers beside the ring. Written by the
/// loop.
pub(crate) struct Submitted {
    /// The number of submissions. Written after the ring.
    pub(crate) count: AtomicUsize,
    /// Workers that are busy come for this many submissions; the later ones wait for more to come.
    pub(crate) published: Count,
    /// The number of submissions whose connection had another task with the workers.
    pub(crate) siblings: Count,
}

pub(crate) struct Submissions<T> {
    /// Under the lock of the run queue only.
    state: CachePadded<Mutex<State<T>>>,
    pub(crate) submitted: CachePadded<Submitted>,
    /// The numbers of submissions that were taken out of the ring, all and those with siblings.
    /// Under the lock of the run queue only.
    taken: Count,
    siblings_taken: Count,
    /// The number of tasks that wait for a moment. Written under the lock of the run queue.
    delayed: AtomicUsize,
    /// Whether the run queue looks at the ring.
    is_listed: AtomicBool,
    /// By context. Written under the lock of the run queue, but for the context's thread, which takes
    /// its tasks one by one.
    batches: Box<[CachePadded<Mutex<Entries<T>>>]>,
}

type Entries<T> = VecDeque<Entry<T>>;

struct State<T> {
    ring: Consumer<Entry<T>>,
    flows: Flows<T>,
    /// The tasks that wait for a moment, by slot.
    delayed: FxHashMap<u32, (Moment, Entry<T>)>,
}

impl<T> Submissions<T> {
    pub(crate) fn new(ring: Consumer<Entry<T>>, service: u32, limit: Option<u32>, contexts: usize) -> Self {
        let state = State {
            ring,
            flows: Flows::new(service, limit),
            delayed: FxHashMap::default(),
        };
        let batch = |_| CachePadded::new(Mutex::new(VecDeque::new()));
        Self {
            state: CachePadded::new(Mutex::new(state)),
            submitted: CachePadded::new(Submitted {
                count: AtomicUsize::new(0),
                published: Count::new(0),
                siblings: Count::new(0),
            }),
            taken: Count::new(0),
            siblings_taken: Count::new(0),
            delayed: AtomicUsize::new(0),
            is_listed: AtomicBool::new(false),
            batches: (0..contexts).map(batch).collect(),
        }
    }

    /// The number of submissions in the ring. They are visible after this, with their siblings.
    #[inline]
    fn in_ring(&self) -> usize {
        let count = self.submitted.count.load(Ordering::Acquire);
        count.wrapping_sub(self.taken.load(Relaxed))
    }

    /// Whether no submission in the ring has a sibling.
    fn are_single(&self) -> bool {
        self.submitted.siblings.load(Relaxed) == self.siblings_taken.load(Relaxed)
    }

    /// Takes up to `max` submissions out of the ring.
    fn pop_each(&self, ring: &mut Consumer<Entry<T>>, max: usize, mut sink: impl FnMut(Entry<T>)) -> usize {
        let mut siblings = 0;
        let count = ring.pop_each(max, |entry| {
            siblings += usize::from(entry.has_siblings);
            sink(entry);
        });
        let add = |total: &Count, n: usize| total.store(total.load(Relaxed).wrapping_add(n), Relaxed);
        add(&self.taken, count);
        add(&self.siblings_taken, siblings);
        count
    }

    /// Whether the run queue looks at the ring. Call it after the submission, and a fence.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }

    /// The next task of the batch of this context.
    #[inline]
    pub(crate) fn next_in_batch(&self, index: usize, shared: &SharedContext) -> Option<Entry<T>> {
        let mut batch = self.batches[index].lock();
        let entry = batch.pop_front();
        shared.set_batch_len(batch.len());
        entry
    }

    fn batch<'a>(&'a self, index: usize, contexts: &'a [CachePadded<SharedContext>]) -> Batch<'a, T> {
        let entries = self.batches[index].lock();
        Batch {
            len: entries.len(),
            entries,
            shared: &contexts[index],
        }
    }
}

/// A locked batch; its length is told to others when it is unlocked, if it has changed: a worker
/// has one length for the batches of all services, and at most one of them has tasks.
struct Batch<'a, T> {
    /// When it was locked.
    len: usize,
    entries: MutexGuard<'a, Entries<T>>,
    shared: &'a SharedContext,
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        if self.entries.len() != self.len {
            self.shared.set_batch_len(self.entries.len());
        }
    }
}

impl<T: Task> Source for ServiceInner<T> {
    fn is_in_order(&self) -> bool {
        self.submissions.in_ring() == 0 || self.submissions.are_single()
    }

    fn take_submitted(&self, worker: usize, max: usize) -> Option<usize> {
        let own = &self.submissions;
        let count = own.in_ring().min(max);
        if count == 0 {
            return Some(0);
        }
        if !own.are_single() {
            return None;
        }
        let mut state = own.state.lock();
        let mut batch = own.batch(worker, &self.scheduler.contexts);
        Some(own.pop_each(&mut state.ring, count, |entry| batch.entries.push_back(entry)))
    }

    fn sort(&self, turns: &mut Turns) {
        let own = &self.submissions;
        let count = own.in_ring();
        if count > 0 {
            let State { ring, flows, .. } = &mut *own.state.lock();
            own.pop_each(ring, count, |entry| flows.push(entry, turns));
        }
    }

    fn take_turns(&self, turns: &mut Turns, worker: usize, max: usize) -> usize {
        let own = &self.submissions;
        let mut state = own.state.lock();
        let mut batch = own.batch(worker, &self.scheduler.contexts);
        let mut count = 0;
        while count < max
            && let Some(next) = turns.first()
            && next.service == self.queue_number
            && let Some(entry) = state.flows.pop(next.flow, turns)
        {
            batch.entries.push_back(entry);
            count += 1;
        }
        count
    }

    fn return_batch(&self, turns: &mut Turns, worker: usize) {
        let mut state = self.submissions.state.lock();
        let mut batch = self.submissions.batch(worker, &self.scheduler.contexts);
        for entry in batch.entries.drain(..) {
            state.flows.put_back(entry, turns);
        }
    }

    fn steal(&self, from: usize, to: usize, max: usize) -> usize {
        let contexts = &self.scheduler.contexts;
        let stolen: Vec<_> = {
            let mut batch = self.submissions.batch(from, contexts);
            let count = batch.entries.len().div_ceil(2).min(max);
            batch.entries.drain(..count).collect()
        };
        let count = stolen.len();
        self.submissions.batch(to, contexts).entries.extend(stolen);
        count
    }

    fn end_delay(&self, turns: &mut Turns, slot: u32) {
        let mut state = self.submissions.state.lock();
        if let Some((_, entry)) = state.delayed.remove(&slot) {
            self.note_delay_end(slot, state.delayed.len());
            state.flows.push(entry, turns);
        }
    }

    fn has_submitted(&self) -> bool {
        self.submissions.in_ring() > 0
    }

    fn has_published(&self) -> bool {
        let published = self.submissions.submitted.published.load(Relaxed);
        let unseen = published.wrapping_sub(self.submissions.taken.load(Relaxed));
        // Negative if more were taken than were published.
        unseen.cast_signed() > 0
    }

    fn unlist(&self) {
        self.submissions.is_listed.store(false, Ordering::Relaxed);
    }

    fn relist(&self) -> bool {
        let is_listed = self.submissions.is_listed();
        self.submissions.is_listed.store(true, Ordering::Relaxed);
        is_listed
    }
}

/// For the loop, and for workers that give a task back.
impl<T: Task> ServiceInner<T> {
    /// Takes a task out that has not started, wherever it waits. `None`: it has started, or a
    /// worker is about to start it. Everything else that was submitted is moved into the flows:
    /// amortized O(1).
    pub(crate) fn take_out(&self, slot: u32) -> Option<Entry<T>> {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state.lock();
        if let Some(entry) = state.flows.remove(slot, &mut queue.turns) {
            return Some(entry);
        }
        let entry = self.take_out_of_batch(slot)?;
        state.flows.release(slot, &mut queue.turns);
        // With a limit, the next task of its connection may have become free to run.
        if !queue.turns.is_empty() {
            self.scheduler.hints.note_submitted();
            self.scheduler.hints.note_published();
        }
        Some(entry)
    }

    fn take_out_of_batch(&self, slot: u32) -> Option<Entry<T>> {
        let contexts = &self.scheduler.contexts;
        (0..contexts.len()).find_map(|index| {
            let mut batch = self.submissions.batch(index, contexts);
            let is_it = |entry: &Entry<T>| entry.slot == slot && !entry.has_started;
            let place = batch.entries.iter().position(is_it)?;
            batch.entries.remove(place)
        })
    }

    /// Adds a task that has started to the flows, behind everything that was submitted before.
    pub(crate) fn push_back(&self, entry: Entry<T>) {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state.lock();
        state.flows.push(entry, &mut queue.turns);
        self.scheduler.hints.note_submitted();
        self.scheduler.hints.note_published();
    }

    /// Keeps a task that has started until a moment, unless it was asked to stop.
    #[cold]
    pub(crate) fn delay(&self, entry: Entry<T>, at: u64) {
        let (slot, service) = (entry.slot, self.queue_number);
        let page = self.pages.of(slot);
        let mut queue = self.scheduler.queue.lock();
        let mut state = self.submissions.state.lock();
        self.submissions
            .delayed
            .store(state.delayed.len() + 1, Ordering::Relaxed);
        // The loop asks the task to stop, then looks whether it is delayed; here it is the other
        // way round.
        fence(Ordering::SeqCst);
        if self.requests(page, slot, entry.serial).stop().is_some() {
            self.note_delay_end(slot, state.delayed.len());
            drop(state);
            drop(queue);
            return self.push_back(entry);
        }
        let moment = Moment { at, service, slot };
        page.limits(slot).set_delay(Some(at));
        state.delayed.insert(slot, (moment, entry));
        queue.delayed.insert(moment);
        self.scheduler.hints.set_next_moment(queue.delayed.next());
    }

    fn note_delay_end(&self, slot: u32, left: usize) {
        self.pages.of(slot).limits(slot).set_delay(None);
        self.submissions.delayed.store(left, Ordering::Relaxed);
    }

    /// The task was asked to stop: if it waits for a moment, it runs as soon as a worker is free.
    /// True: it did.
    #[inline]
    pub(crate) fn cut_delay_short(&self, slot: u32) -> bool {
        fence(Ordering::SeqCst);
        self.submissions.delayed.load(Ordering::Relaxed) > 0 && self.cut_short(slot)
    }

    #[cold]
    fn cut_short(&self, slot: u32) -> bool {
        let mut queue = self.scheduler.queue.lock();
        let moment = self
            .submissions
            .state
            .lock()
            .delayed
            .get(&slot)
            .map(|&(moment, _)| moment);
        let Some(moment) = moment else { return false };
        queue.delayed.remove(moment);
        self.scheduler.hints.set_next_moment(queue.delayed.next());
        queue.sort();
        self.end_delay(&mut queue.turns, slot);
        self.scheduler.hints.note_submitted();
        self.scheduler.hints.note_published();
        true
    }

    /// With a limit: a task that was taken has ended, so its connection may start another. `publish`
    /// makes the end visible; under the lock of the queue, so that the ends of a connection are
    /// visible in order, and that the slot has no other task before its end is booked.
    pub(crate) fn release(&self, slot: u32, publish: impl FnOnce()) {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state.lock();
        publish();
        state.flows.release(slot, &mut queue.turns);
        if !queue.turns.is_empty() {
            self.scheduler.hints.note_submitted();
            self.scheduler.hints.note_published();
        }
    }

    /// A task belongs to another connection from now on.
    pub(crate) fn relocate(&self, slot: u32, to: u32) {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state.lock();
        if let Some((_, entry)) = state.delayed.get_mut(&slot) {
            entry.flow = to;
        }
        // One that was taken and not begun was taken for the connection that it had.
        let taken = self.scheduler.limit.and_then(|_| self.take_out_of_batch(slot));
        if let Some(entry) = taken {
            state.flows.release(slot, &mut queue.turns);
            state.flows.push(Entry { flow: to, ..entry }, &mut queue.turns);
        } else {
            state.flows.relocate(slot, to, &mut queue.turns);
        }
        if !queue.turns.is_empty() {
            self.scheduler.hints.note_submitted();
            self.scheduler.hints.note_published();
        }
    }

    /// The run queue looks at the ring from now on.
    #[cold]
    pub(crate) fn list(&self) {
        self.scheduler.queue.lock().list(self.queue_number);
    }
}
