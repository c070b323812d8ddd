//! The tasks of a service between the loop and the workers: its submission ring, its flows, and its
//! part of each worker's batch.

use super::inner::ServiceInner;
use crate::clock::nanos;
use crate::queue::delayed::Moment;
use crate::queue::fair::Debt;
use crate::queue::flow::Flows;
use crate::queue::lanes::Lanes;
use crate::queue::member::Prepaid;
use crate::queue::ring::{self, Consumer, Producer};
use crate::queue::{Entry, FlowState, MoveTarget, Source, Taken};
use crate::scheduler::QUANTUM;
use crate::scheduler::context::WorkerContext;
use crate::scheduler::shared_context::SharedContext;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use crate::task::header::NEVER;
use crate::task::id::GroupId;
use crate::task::phase::Phase;
use crate::task::{Task, requests};
use crossbeam_utils::CachePadded;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};
use std::time::Duration;

/// The numbers that the loop publishes about its submission ring. Only the loop writes them.
pub(crate) struct Submitted {
    /// The number of submissions. Written after the ring.
    pub(crate) count: AtomicUsize,
    /// The number of submissions that busy workers may take. Later ones wait until the loop
    /// publishes more.
    pub(crate) published: Count,
}

pub(crate) struct Submissions<T> {
    /// Created with the first task, so that an idle service uses little memory.
    opened: OnceLock<Box<Opened<T>>>,
    /// Whether the run queue lists the service, and so looks at the ring.
    is_listed: AtomicBool,
    /// The number of delayed tasks. Written under the lock of the run queue.
    delayed: AtomicUsize,
}

struct Opened<T> {
    /// Under the lock of the run queue only.
    state: CachePadded<Mutex<State<T>>>,
    submitted: CachePadded<Submitted>,
    /// The number of submissions taken out of the ring. Accessed under the lock of the run queue
    /// only.
    taken: Count,
    /// One for each context. Written under the lock of the run queue, except that the thread of the
    /// context takes its tasks without that lock.
    batches: Box<[CachePadded<Mutex<Entries<T>>>]>,
}

type Entries<T> = VecDeque<Taken<T>>;

struct State<T> {
    ring: Consumer<Entry<T>>,
    flows: Flows<T>,
    /// The delayed tasks, by slot.
    delayed: FxHashMap<u32, (Moment, Entry<T>)>,
}

impl<T> Submissions<T> {
    pub(crate) fn new() -> Self {
        Self {
            opened: OnceLock::new(),
            is_listed: AtomicBool::new(false),
            delayed: AtomicUsize::new(0),
        }
    }

    /// Creates the ring and the batches. Returns the loop's end.
    pub(crate) fn open(&self, service: u32, contexts: usize) -> Producer<Entry<T>> {
        let (producer, ring) = ring::new();
        let state = State {
            ring,
            flows: Flows::new(service),
            delayed: FxHashMap::default(),
        };
        let batch = |_| CachePadded::new(Mutex::new(VecDeque::new()));
        let opened = Opened {
            state: CachePadded::new(Mutex::new(state)),
            submitted: CachePadded::new(Submitted {
                count: AtomicUsize::new(0),
                published: Count::new(0),
            }),
            taken: Count::new(0),
            batches: (0..contexts).map(batch).collect(),
        };
        let is_first = self.opened.set(Box::new(opened)).is_ok();
        debug_assert!(is_first, "it is opened once");
        producer
    }

    fn opened(&self) -> &Opened<T> {
        self.opened.get().expect("there was a task")
    }

    #[inline]
    pub(crate) fn submitted(&self) -> &Submitted {
        &self.opened().submitted
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.opened().state.lock()
    }

    /// The number of submissions in the ring. They are visible after this.
    #[inline]
    fn in_ring(&self) -> usize {
        let Opened { submitted, taken, .. } = self.opened();
        submitted
            .count
            .load(Ordering::Acquire)
            .wrapping_sub(taken.load(Relaxed))
    }

    /// Takes up to `max` submissions out of the ring.
    fn pop_each(&self, ring: &mut Consumer<Entry<T>>, max: usize, sink: impl FnMut(Entry<T>)) -> usize {
        let count = ring.pop_each(max, sink);
        let taken = &self.opened().taken;
        taken.store(taken.load(Relaxed).wrapping_add(count), Relaxed);
        count
    }

    /// Whether the service is listed in the run queue. Call it after the submission, and after a
    /// fence.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }
}

/// A locked batch. If its length has changed, the unlock publishes the length. A worker has one
/// length for the batches of all services, since at most one of them has tasks.
struct Batch<'a, T> {
    /// The length when it was locked.
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

/// Cancels the turn of a taken task.
fn cancel(prepaid: Option<Prepaid>, lanes: &mut Lanes) {
    if let Some(prepaid) = prepaid {
        lanes.cancel_turn(prepaid);
    }
}

impl<T: Task> Source for ServiceInner<T> {
    fn take_submitted(&self, lanes: &mut Lanes, worker: usize, max: usize) -> usize {
        let own = &self.submissions;
        let count = own.in_ring().min(max);
        if count == 0 {
            return 0;
        }
        let State { ring, flows, .. } = &mut *own.state();
        let mut batch = self.batch(worker);
        own.pop_each(ring, count, |entry| {
            if let FlowState::Idle { tag } = entry.state {
                lanes.root.pass(tag);
                if tag == 0 {
                    flows.forget_record(entry.flow);
                }
                let prepaid = None;
                batch.entries.push_back(Taken { entry, prepaid });
            } else {
                flows.push(entry, lanes);
            }
        });
        batch.entries.len()
    }

    fn sort(&self, lanes: &mut Lanes) {
        let own = &self.submissions;
        let count = own.in_ring();
        if count > 0 {
            let State { ring, flows, .. } = &mut *own.state();
            own.pop_each(ring, count, |entry| flows.push(entry, lanes));
        }
    }

    fn take_turns(&self, lanes: &mut Lanes, worker: usize, max: usize, debt: Debt) -> (usize, u64) {
        let own = &self.submissions;
        let State { flows, .. } = &mut *own.state();
        let mut batch = self.batch(worker);
        let entries = &mut batch.entries;
        let (mut count, mut time, mut debt) = (0, 0, debt);
        while count < max
            && time < QUANTUM
            && let Some(turn) = flows.take_next(debt, lanes, |entry, prepaid| {
                let prepaid = Some(prepaid);
                entries.push_back(Taken { entry, prepaid });
            })
        {
            count += 1;
            time += turn;
            debt = Debt::Leave;
        }
        (count, time)
    }

    fn return_batch(&self, lanes: &mut Lanes, worker: usize) {
        let mut state = self.submissions.state();
        let mut batch = self.batch(worker);
        for Taken { entry, prepaid } in batch.entries.drain(..) {
            cancel(prepaid, lanes);
            state.flows.put_back(entry, lanes);
        }
    }

    fn last_member(&self, flow: u32) -> u32 {
        self.submissions.state().flows.last_member(flow)
    }

    fn shed(&self, lanes: &mut Lanes, flow: u32, cx: &WorkerContext<'_>) -> bool {
        let mut state = self.submissions.state();
        let Some(entry) = state.flows.pop_newest(flow, lanes) else {
            return false;
        };
        self.return_shed(entry, cx);
        true
    }

    fn steal(&self, from: usize, to: usize, max: usize) -> usize {
        let stolen: Vec<_> = {
            let mut batch = self.batch(from);
            let count = batch.entries.len().div_ceil(2).min(max);
            batch.entries.drain(..count).collect()
        };
        let count = stolen.len();
        self.batch(to).entries.extend(stolen);
        count
    }

    fn end_delay(&self, lanes: &mut Lanes, slot: u32) {
        let mut state = self.submissions.state();
        if let Some((_, entry)) = state.delayed.remove(&slot) {
            self.note_delay_end(slot, state.delayed.len());
            state.flows.push_again(entry, lanes);
        }
    }

    fn has_submitted(&self) -> bool {
        self.submissions.in_ring() > 0
    }

    fn has_published(&self) -> bool {
        let Opened { submitted, taken, .. } = self.submissions.opened();
        let unseen = submitted
            .published
            .load(Relaxed)
            .wrapping_sub(taken.load(Relaxed));
        // Negative if more were taken than were published.
        unseen.cast_signed() > 0
    }

    fn is_listed(&self) -> bool {
        self.submissions.is_listed()
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

/// Methods for the loop, and for workers.
impl<T: Task> ServiceInner<T> {
    fn batch(&self, index: usize) -> Batch<'_, T> {
        let entries = self.submissions.opened().batches[index].lock();
        Batch {
            len: entries.len(),
            entries,
            shared: &self.scheduler.contexts[index],
        }
    }

    /// Takes the next task out of the batch of this context.
    #[inline]
    pub(crate) fn next_in_batch(&self, cx: &WorkerContext<'_>) -> Option<Taken<T>> {
        let mut entries = self.submissions.opened().batches[cx.index].lock();
        let taken = entries.pop_front()?;
        cx.set_batch_len(entries.len());
        Some(taken)
    }

    /// Tells the workers if a task in the flows may run.
    fn publish_flows(&self, lanes: &Lanes) {
        if !lanes.is_empty() {
            self.scheduler.hints.note_submitted();
            self.scheduler.hints.note_published();
        }
    }

    /// Removes a task that has not started from its place. Returns `None` if the task has started,
    /// or if a worker is about to start it. Moves all other submissions into the flows: amortized
    /// O(1).
    pub(crate) fn take_out(&self, slot: u32) -> Option<Entry<T>> {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state();
        if let Some(entry) = state.flows.remove(slot, &mut queue.lanes) {
            return Some(entry);
        }
        let Taken { entry, prepaid } = self.take_out_of_batch(slot)?;
        cancel(prepaid, &mut queue.lanes);
        state.flows.forget_move(slot);
        state.flows.release(slot, &mut queue.lanes);
        // With a limit, the next task of its connection may now start.
        self.publish_flows(&queue.lanes);
        Some(entry)
    }

    fn take_out_of_batch(&self, slot: u32) -> Option<Taken<T>> {
        (0..self.scheduler.contexts.len()).find_map(|index| {
            let mut batch = self.batch(index);
            let is_it = |taken: &Taken<T>| taken.entry.slot == slot && !taken.entry.has_started;
            let place = batch.entries.iter().position(is_it)?;
            batch.entries.remove(place)
        })
    }

    /// Adds a task that gives way to the flows, behind all earlier submissions.
    pub(crate) fn push_back(&self, entry: Entry<T>, cx: &WorkerContext<'_>) {
        let mut queue = self.scheduler.queue.lock();
        cx.settle(&mut queue.lanes);
        queue.sort();
        let mut state = self.submissions.state();
        state.flows.push_again(entry, &mut queue.lanes);
        self.publish_flows(&queue.lanes);
    }

    /// Keeps a task that has started for this time, or until its deadline, unless it was asked to
    /// stop.
    #[cold]
    pub(crate) fn delay(&self, entry: Entry<T>, time: Duration, cx: &WorkerContext<'_>) {
        cx.note_timer();
        let (slot, service) = (entry.slot, self.queue_number);
        let page = self.pages.of(slot);
        let deadline = page.deadline(slot, entry.serial).unwrap_or(NEVER - 1);
        let at = cx.now().saturating_add(nanos(time)).min(deadline);
        let mut queue = self.scheduler.queue.lock();
        cx.settle(&mut queue.lanes);
        let mut state = self.submissions.state();
        let delayed = state.delayed.len();
        self.submissions.delayed.store(delayed + 1, Ordering::Relaxed);
        // The loop asks the task to stop, and then checks whether it is delayed. This thread does
        // both in the opposite order.
        fence(Ordering::SeqCst);
        if requests(&self.scheduler, page, slot, entry.serial)
            .stop()
            .is_some()
        {
            self.note_delay_end(slot, delayed);
            drop(state);
            drop(queue);
            return self.push_back(entry, cx);
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

    /// Ends the delay of a task that was asked to stop, so that it runs as soon as a worker is
    /// free. Returns true if the task was delayed.
    #[inline]
    pub(crate) fn cut_delay_short(&self, slot: u32) -> bool {
        fence(Ordering::SeqCst);
        self.submissions.delayed.load(Ordering::Relaxed) > 0 && self.cut_short(slot)
    }

    #[cold]
    fn cut_short(&self, slot: u32) -> bool {
        let mut queue = self.scheduler.queue.lock();
        let delayed = self
            .submissions
            .state()
            .delayed
            .get(&slot)
            .map(|&(moment, _)| moment);
        let Some(moment) = delayed else { return false };
        queue.delayed.remove(moment);
        self.scheduler.hints.set_next_moment(queue.delayed.next());
        queue.sort();
        self.end_delay(&mut queue.lanes, slot);
        self.publish_flows(&queue.lanes);
        true
    }

    /// Called with a limit when a taken task has ended, so that its connection may start another
    /// one. `publish` makes the end visible. It is called under the lock of the queue, so that the
    /// ends of a connection become visible in order, and a slot gets no new task before the end of
    /// the old one is counted.
    pub(crate) fn release(&self, slot: u32, cx: &WorkerContext<'_>, publish: impl FnOnce()) {
        let mut queue = self.scheduler.queue.lock();
        cx.settle(&mut queue.lanes);
        queue.sort();
        let mut state = self.submissions.state();
        publish();
        state.flows.release(slot, &mut queue.lanes);
        self.publish_flows(&queue.lanes);
    }

    /// Moves a task to another connection.
    pub(crate) fn relocate(&self, slot: u32, to: MoveTarget) {
        let mut queue = self.scheduler.queue.lock();
        queue.sort();
        let mut state = self.submissions.state();
        // One that was taken and not begun was taken for the connection that it had.
        let taken = self.scheduler.limit.and_then(|_| self.take_out_of_batch(slot));
        if let Some(Taken { entry, prepaid }) = taken {
            cancel(prepaid, &mut queue.lanes);
            state.flows.release(slot, &mut queue.lanes);
            state.flows.push_moved(entry, to, &mut queue.lanes);
        } else {
            let is_waiting = state.flows.relocate(slot, to, &mut queue.lanes);
            let page = self.pages.of(slot);
            let phase = page.owner(slot).serial().map(|serial| page.phase(slot, serial));
            let is_on_its_way = matches!(phase, Some(Phase::Queued | Phase::Running | Phase::Waiting));
            if !is_waiting && is_on_its_way {
                state.flows.note_move(slot, to);
            }
        }
        self.publish_flows(&queue.lanes);
    }

    /// Moves a connection that has tasks in flight to another group, or to no group, with its
    /// waiting tasks.
    #[cold]
    pub(crate) fn set_group(&self, flow: u32, group: Option<GroupId>) {
        let mut queue = self.scheduler.queue.lock();
        // Earlier submissions say that the connection is in its old group.
        queue.sort();
        let mut state = self.submissions.state();
        state.flows.set_group(flow, group, &mut queue.lanes);
        self.publish_flows(&queue.lanes);
    }

    /// A task that was moved while a worker had it has been returned to its loop.
    #[cold]
    pub(crate) fn forget_move(&self, slot: u32) {
        let _queue = self.scheduler.queue.lock();
        self.submissions.state().flows.forget_move(slot);
    }

    /// Lists the service in the run queue.
    #[cold]
    pub(crate) fn list(&self) {
        self.scheduler.queue.lock().list(self.queue_number);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{TaskReturn, ThreadPool, task_fn};
    use std::sync::mpsc;

    /// The note about the move stayed, and moved a later task in the same slot.
    #[test]
    fn a_task_that_stays_with_its_connection_is_not_moved() {
        let pool = ThreadPool::builder().threads(1).build().expect("a thread");
        let mut service = pool.service(|| {});
        let ((begins, begun), (ends, end)) = (mpsc::channel(), mpsc::channel::<()>());
        let task = task_fn(move |_| {
            begins.send(()).expect("the test waits");
            end.recv().expect("the test sends");
            TaskReturn::TaskDone
        });
        let id = service.enqueue(1, task).expect("room");
        begun.recv().expect("the task begins");
        assert!(service.reattach(id, 1));
        ends.send(()).expect("the task waits");
        while service.peek(id).is_some_and(|status| !status.is_ended()) {
            std::thread::yield_now();
        }
        drop(service.task_status(id));
        assert!(!service.inner.submissions.state().flows.has_moves());
    }
}
