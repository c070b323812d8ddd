//! The part of a service that its loop, the workers and the pool share.

use super::completions::{Completion, Completions, Outcome};
use super::submissions::Submissions;
use crate::dump::end::{EndDump, EndReason};
use crate::dump::task::TaskDump;
use crate::mailbox::dump::MailboxDump;
use crate::mailbox::mailboxes::Mailboxes;
use crate::panic::{Caught, drop_quietly};
use crate::queue::ring::{Consumer, Producer};
use crate::queue::{Entry, FlowState};
use crate::scheduler::Scheduler;
use crate::scheduler::any_service::{AnyService, Description, ServiceRef};
use crate::scheduler::context::WorkerContext;
use crate::scheduler::counters::ThreadCounters;
use crate::sync::{ArcFence, AtomicUsize, Mutex, Ordering};
use crate::task::header::{PAGE, Pages};
use crate::task::id::{ConnId, TaskId};
use crate::task::status::StopReason;
use crate::task::{Task, requests};
use crate::wake::Wake;
use crate::wake::notifier::Notifier;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, AtomicUsize as Figure, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

/// The name of a task, and the serial number of the task.
type Name = (u64, Cow<'static, str>);

pub(crate) struct ServiceInner<T: Task> {
    pub(crate) scheduler: Arc<Scheduler>,
    /// The number of the service within the process, which is part of the ids of its tasks.
    pub(crate) number: u32,
    /// Its number in the run queue.
    pub(crate) queue_number: u32,
    pub(crate) pages: Pages,
    /// The names of the tasks that have one, by slot.
    names: Mutex<FxHashMap<u32, Name>>,
    pub(crate) submissions: Submissions<T>,
    pub(crate) completions: Completions<T>,
    /// After the service was dropped: the number of tasks that have not ended.
    orphans: AtomicUsize,
    pub(crate) notifier: Arc<Notifier>,
    /// Written by the loop's thread only.
    pub(crate) counters: Arc<ThreadCounters>,
    registry_slot: Figure,
    /// Created with the first mailbox. Most services have none, and then mailboxes cost nothing.
    mailboxes: OnceLock<Arc<Mailboxes>>,
}

/// The loop's ends of the rings.
pub(crate) struct LoopEnds<T> {
    pub(crate) submissions: Producer<Entry<T>>,
    pub(crate) completions: Vec<Consumer<Completion<T>>>,
}

/// Numbers the services of the process, so that an id of one service is unknown to all others.
static SERVICES: AtomicU32 = AtomicU32::new(0);

impl<T: Task> ServiceInner<T> {
    pub(crate) fn new(scheduler: &Arc<Scheduler>, wake: Box<dyn Wake>) -> Arc<Self> {
        let counters = Arc::new(ThreadCounters::default());
        let notifier = Arc::new(Notifier::new(wake));
        let inner = {
            let mut queue = scheduler.queue.lock();
            let queue_number = queue.next_number();
            let inner = Arc::new(Self {
                scheduler: Arc::clone(scheduler),
                number: SERVICES.fetch_add(1, Relaxed),
                queue_number,
                pages: Pages::new(),
                names: Mutex::new(FxHashMap::default()),
                submissions: Submissions::new(),
                completions: Completions::new(),
                orphans: AtomicUsize::new(0),
                notifier,
                counters: Arc::clone(&counters),
                registry_slot: Figure::new(0),
                mailboxes: OnceLock::new(),
            });
            queue.add(ServiceRef::new(Arc::clone(&inner) as _));
            inner
        };
        let weak: Weak<Self> = Arc::downgrade(&inner);
        let slot = scheduler.registry.add(weak, counters);
        inner.registry_slot.store(slot, Relaxed);
        inner
    }

    /// Creates the rings for the first task.
    #[cold]
    pub(crate) fn open(&self) -> LoopEnds<T> {
        let contexts = self.scheduler.contexts.len();
        LoopEnds {
            submissions: self.submissions.open(self.queue_number, contexts),
            completions: self.completions.open(contexts),
        }
    }

    /// `None` before the first mailbox.
    pub(crate) fn mailboxes(&self) -> Option<&Arc<Mailboxes>> {
        self.mailboxes.get()
    }

    pub(crate) fn open_mailboxes(&self) -> &Arc<Mailboxes> {
        self.mailboxes
            .get_or_init(|| Mailboxes::new(Arc::clone(&self.scheduler)))
    }

    #[inline]
    pub(crate) fn task_id(&self, slot: u32, serial: u64) -> TaskId {
        TaskId::new(self.number, serial, slot)
    }

    pub(crate) fn set_name(&self, slot: u32, serial: u64, name: Cow<'static, str>) {
        self.names.lock().insert(slot, (serial, name));
    }

    pub(crate) fn remove_name(&self, slot: u32) {
        let name = self.names.lock().remove(&slot);
        drop(name);
    }

    fn name_of(&self, slot: u32, serial: u64) -> Option<Cow<'static, str>> {
        let names = self.names.lock();
        let (owner, name) = names.get(&slot)?;
        (*owner == serial).then(|| name.clone())
    }

    /// Keeps the data of a task that has panicked, has timed out, or was shed, for dumps. The
    /// header of the task must already have the ended phase.
    #[inline]
    pub(crate) fn note_end(&self, slot: u32, serial: u64, outcome: &Outcome<T>) {
        let (reason, panic) = match outcome {
            Outcome::Panicked(caught) => (EndReason::Panicked, Some(&**caught)),
            Outcome::Stopped(StopReason::TimedOut(timeout), _) => (EndReason::TimedOut(*timeout), None),
            Outcome::Stopped(StopReason::Shed, _) => (EndReason::Shed, None),
            _ => return,
        };
        self.note_abnormal_end(slot, serial, reason, panic);
    }

    #[cold]
    fn note_abnormal_end(&self, slot: u32, serial: u64, reason: EndReason, panic: Option<&Caught>) {
        let page = self.pages.of(slot);
        let Some(snapshot) = page.snapshot(slot, serial) else {
            return;
        };
        let connection = ConnId(page.owner(slot).connection_id());
        let (id, name) = (self.task_id(slot, serial), self.name_of(slot, serial));
        let at = snapshot.since.saturating_sub(self.scheduler.born);
        let end = EndDump::new(id, name, connection, reason, panic, &snapshot, at);
        self.scheduler.abnormal_ends.add(end);
    }

    /// The service was dropped, and `left` tasks have not ended. All of them were asked to stop. A
    /// thread that returns one of them drops it.
    pub(crate) fn abandon(
        &self,
        left: usize,
        consumers: Vec<Consumer<Completion<T>>>,
        cx: &WorkerContext<'_>,
    ) {
        // One more than the number of tasks, for this call.
        self.orphans.store(left + 1, Ordering::Relaxed);
        self.completions.abandon(consumers);
        self.reap_orphans(cx);
        self.forget_orphan();
    }

    /// Drops the tasks that were returned after the service was dropped.
    #[cold]
    pub(crate) fn reap_orphans(&self, cx: &WorkerContext<'_>) {
        for Completion {
            outcome,
            at,
            syncs,
            slot,
            flow,
            has_new_deadline,
            ..
        } in self.completions.take_orphans()
        {
            let owner = self.pages.of(slot).owner(slot);
            if let Outcome::Parked(task) = outcome {
                let Some(serial) = owner.serial() else { continue };
                cx.counters.unparked.add(1);
                owner.resume(syncs, cx.now().saturating_sub(at));
                let entry = Entry {
                    task,
                    serial,
                    since: cx.now().max(at),
                    slot,
                    flow,
                    state: FlowState::Busy {
                        tag: cx.scheduler.virtual_time(),
                    },
                    weight: 1,
                    syncs,
                    has_started: true,
                    has_new_deadline,
                };
                self.push_back(entry, cx);
                crate::sync::fence(Ordering::SeqCst);
                self.scheduler.wake_worker(cx.counters);
                continue;
            }
            owner.vacate();
            self.remove_name(slot);
            cx.counters.reaped.add(1);
            self.tell_reaped(1, cx.counters);
            drop_quietly(outcome);
            self.forget_orphan();
        }
    }

    /// Reports reaped tasks to the pool. `counters` are the counters of this thread.
    pub(crate) fn tell_reaped(&self, tasks: u64, counters: &ThreadCounters) {
        self.scheduler.admission.count_reaped(tasks);
        self.scheduler.note_room_after_count(counters);
    }

    fn forget_orphan(&self) {
        if self.orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.scheduler.remove_service(self.queue_number);
        }
    }
}

impl<T: Task> AnyService for ServiceInner<T> {
    fn run_batch(&self, cx: &WorkerContext<'_>) -> usize {
        self.run_tasks(cx)
    }

    fn wake_loop(&self) -> bool {
        self.notifier.notify()
    }

    fn notify_shed(&self, cx: &WorkerContext<'_>) {
        self.notify_loop(cx);
    }

    fn copy_tasks(&self, from: usize, now: u64, tasks: &mut Vec<TaskDump>) -> Option<usize> {
        let page = self.pages.get(from / PAGE)?;
        for slot in from as u32..(from + PAGE) as u32 {
            let owner = page.owner(slot);
            if let Some(serial) = owner.serial()
                && let Some(mut snapshot) = page.snapshot(slot, serial)
            {
                snapshot.requests = requests(&self.scheduler, page, slot, serial);
                let (id, name) = (self.task_id(slot, serial), self.name_of(slot, serial));
                let connection = snapshot.connection.map(ConnId);
                tasks.push(TaskDump::new(id, &snapshot, name, connection, now));
            }
        }
        Some(from + PAGE)
    }

    fn describe(&self, slot: u32, serial: u64) -> Option<Description> {
        let owner = self.pages.get(slot as usize / PAGE)?.owner(slot);
        let connection = owner.connection().map(ConnId);
        let is_it = owner.serial() == Some(serial);
        is_it.then(|| (self.task_id(slot, serial), self.name_of(slot, serial), connection))
    }

    fn dump_mailboxes(&self) -> Vec<MailboxDump> {
        self.mailboxes()
            .map_or(Vec::new(), |mailboxes| mailboxes.dump(self.number))
    }

    fn arc_fence(&self) -> &ArcFence {
        &self.notifier.arc_fence
    }
}

impl<T: Task> Drop for ServiceInner<T> {
    fn drop(&mut self) {
        self.notifier.arc_fence.pass();
        self.scheduler.registry.remove(self.registry_slot.load(Relaxed));
    }
}
