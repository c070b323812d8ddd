//! The tasks of a service on their way back to their loop: one ring for each worker.

use crate::panic::Caught;
use crate::queue::ring::{self, Consumer, Producer};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::task::phase::Phase;
use crate::task::status::StopReason;
use crossbeam_utils::CachePadded;
use std::sync::OnceLock;

/// The outcome of a turn: how the task parked or ended.
pub(crate) enum Outcome<T> {
    Parked(T),
    Finished(T),
    Stopped(StopReason, T),
    /// The task was dropped on the worker.
    Panicked(Box<Caught>),
}

impl<T> Outcome<T> {
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Parked(_) => Phase::Parked,
            Self::Finished(_) => Phase::Finished,
            Self::Stopped(..) => Phase::Stopped,
            Self::Panicked(_) => Phase::Panicked,
        }
    }

    pub(crate) fn is_parked(&self) -> bool {
        matches!(self, Self::Parked(_))
    }
}

/// A task on its way from a worker to its loop.
pub(crate) struct Completion<T> {
    pub(crate) outcome: Outcome<T>,
    /// When it parked or ended.
    pub(crate) at: u64,
    /// The worker time of the last turn, in nanoseconds. (An integer of this range would need twice
    /// the bytes.)
    pub(crate) cost: f32,
    /// How many times it has parked, modulo 16.
    pub(crate) syncs: u8,
    pub(crate) slot: u32,
    /// The slot of the connection for which it was submitted.
    pub(crate) flow: u32,
    /// Whether the task has set its deadline since it was last submitted or resumed.
    pub(crate) has_new_deadline: bool,
}

/// A producer. `None` while a worker uses it.
type SharedProducer<T> = CachePadded<Mutex<Option<Producer<Completion<T>>>>>;

/// The completion rings of a service, seen from the workers.
pub(crate) struct Completions<T> {
    /// One for each context. A worker takes its producer out while it runs a batch. External
    /// threads share the last producer. With a limit all contexts share it, because the order of
    /// the ends of a connection matters then.
    ///
    /// Created with the first task, so that an idle service uses little memory.
    producers: OnceLock<Box<[SharedProducer<T>]>>,
    /// The service was dropped. A thread that returns a task drops it instead.
    is_abandoned: AtomicBool,
    /// The loop's ends of the rings, after the service was dropped.
    orphans: Mutex<Option<Vec<Consumer<Completion<T>>>>>,
}

impl<T> Completions<T> {
    pub(crate) fn new() -> Self {
        Self {
            producers: OnceLock::new(),
            is_abandoned: AtomicBool::new(false),
            orphans: Mutex::new(None),
        }
    }

    /// Creates the rings. Returns the loop's ends.
    pub(crate) fn open(&self, contexts: usize) -> Vec<Consumer<Completion<T>>> {
        let (producers, consumers): (Vec<_>, Vec<_>) = (0..contexts).map(|_| ring::new()).unzip();
        let producer = |producer| CachePadded::new(Mutex::new(Some(producer)));
        let producers = producers.into_iter().map(producer).collect();
        let is_first = self.producers.set(producers).is_ok();
        debug_assert!(is_first, "the rings are made once");
        consumers
    }

    fn producers(&self) -> &[SharedProducer<T>] {
        self.producers.get().expect("there was a task")
    }

    /// Takes the producer of a context for a batch. Returns `None` if the context uses the shared
    /// producer.
    pub(crate) fn take_producer(&self, index: usize) -> Option<Producer<Completion<T>>> {
        let is_own = index + 1 < self.producers().len();
        is_own.then(|| self.producers()[index].lock().take()).flatten()
    }

    pub(crate) fn give_back(&self, index: usize, producer: Option<Producer<Completion<T>>>) {
        if let Some(producer) = producer {
            *self.producers()[index].lock() = Some(producer);
        }
    }

    /// Adds a completion to the shared ring.
    pub(crate) fn push_shared(&self, completion: Completion<T>) {
        let shared = self.producers().last().expect("the context of external threads");
        let mut shared = shared.lock();
        shared
            .as_mut()
            .expect("the shared producer is never taken out")
            .push(completion);
    }

    /// Whether the service was dropped. Call it after the completion was added, and after a fence.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }

    /// The service was dropped. [`take_orphans`](Self::take_orphans), called after this, finds the
    /// completions that workers added before they saw the mark.
    pub(crate) fn abandon(&self, consumers: Vec<Consumer<Completion<T>>>) {
        self.is_abandoned.store(true, Ordering::Relaxed);
        crate::sync::fence(Ordering::SeqCst);
        *self.orphans.lock() = Some(consumers);
    }

    /// The completions that no loop will receive.
    pub(crate) fn take_orphans(&self) -> Vec<Completion<T>> {
        let mut completions = Vec::new();
        if let Some(consumers) = &mut *self.orphans.lock() {
            for consumer in consumers {
                consumer.pop_each(usize::MAX, |completion| completions.push(completion));
            }
        }
        completions
    }
}
