//! The run queue of a pool: every task that a worker may take, of all services, behind one lock.
//!
//! A worker takes a batch under one lock of the queue. What a loop has submitted lies in the ring
//! of its service until then. There are two ways out of a ring:
//!
//! - *Straight into the batch*, behind what waits in the flows, if no connection has a second task
//!   waiting and no other service has submitted anything. Then the order of the ring is the fair
//!   order, and most loops always work like this, since they have one task a connection.
//! - *Through the flows*. All rings are emptied into the flows of their services, and the flows
//!   take turns: one task of the first flow, which then goes to the end if it has more.
//!
//! The queue names services and flows by numbers. The tasks themselves, which have types, stay with
//! their service ([`crate::service::submissions`]), behind a lock that is only taken under this
//! one.

pub(crate) mod delayed;
pub(crate) mod flow;
pub(crate) mod ring;
pub(crate) mod turns;

use delayed::{Delayed, LOOP};
use slab::Slab;
use std::ops::Deref;
use turns::Turns;

/// A task on its way from a loop to a worker.
pub(crate) struct Entry<T> {
    pub(crate) task: T,
    pub(crate) serial: u64,
    /// When it was submitted.
    pub(crate) since: u64,
    /// How often it has parked, modulo 16.
    pub(crate) syncs: u64,
    pub(crate) slot: u32,
    /// The slot of its connection.
    pub(crate) flow: u32,
    pub(crate) has_started: bool,
    /// Whether its connection had another task with the workers when it was submitted.
    pub(crate) has_siblings: bool,
    /// Whether the task has set its deadline since its loop last had it.
    pub(crate) has_new_deadline: bool,
}

/// A service as the run queue sees it. All calls are made under the lock of the queue.
pub(crate) trait Source: Send + Sync {
    /// Whether no task in the ring was submitted while its connection had another with the workers.
    fn is_in_order(&self) -> bool;
    /// Moves up to `max` tasks from the ring straight into a worker's batch. `None`: they are not
    /// in order.
    fn take_submitted(&self, worker: usize, max: usize) -> Option<usize>;
    /// Moves everything from the ring into the flows.
    fn sort(&self, turns: &mut Turns);
    /// Moves up to `max` tasks of the flows whose turns are next and which are of this service,
    /// into a worker's batch.
    fn take_turns(&self, turns: &mut Turns, worker: usize, max: usize) -> usize;
    /// Gives back what is left of a worker's batch.
    fn return_batch(&self, turns: &mut Turns, worker: usize);
    /// Moves up to `max` tasks from the front of one worker's batch into another's, half of it at
    /// most.
    fn steal(&self, from: usize, to: usize, max: usize) -> usize;
    /// Moves a task into the flows whose moment has come, and which is not with
    /// [`RunQueue::delayed`] any more.
    fn end_delay(&self, turns: &mut Turns, slot: u32);
    /// Whether the ring holds anything, published or not.
    fn has_submitted(&self) -> bool;
    /// Whether the ring holds something that the loop has published.
    fn has_published(&self) -> bool;
    /// The service is no longer listed.
    fn unlist(&self);
    /// The service is listed from now on. True: it was before.
    fn relist(&self) -> bool;
}

/// The run queue, with references of type `S` to services.
pub(crate) struct RunQueue<S> {
    services: Slab<S>,
    /// The services that may have something in their rings.
    listed: Vec<u32>,
    pub(crate) turns: Turns,
    pub(crate) delayed: Delayed,
    has_limit: bool,
    /// The threads that still take tasks: the workers that have not ended, or the owner of a pool
    /// without workers.
    pub(crate) takers: usize,
}

/// What a worker has taken.
pub(crate) struct Taken<S> {
    pub(crate) service: S,
    pub(crate) count: usize,
}

impl<S: Clone + Deref<Target: Source>> RunQueue<S> {
    /// `limit` is that of the running tasks of a connection.
    pub(crate) fn new(limit: Option<u32>, takers: usize) -> Self {
        Self {
            services: Slab::new(),
            listed: Vec::new(),
            turns: Turns::new(),
            delayed: Delayed::default(),
            has_limit: limit.is_some(),
            takers,
        }
    }

    /// The number that the next service will have.
    pub(crate) fn next_number(&self) -> u32 {
        self.services.vacant_key() as u32
    }

    pub(crate) fn add(&mut self, service: S) {
        self.services.insert(service);
    }

    /// The tasks of the service are gone. The caller drops it after the lock.
    #[must_use]
    pub(crate) fn remove(&mut self, service: u32) -> S {
        self.listed.retain(|&listed| listed != service);
        self.services.remove(service as usize)
    }

    /// A service has submitted something and is not listed.
    pub(crate) fn list(&mut self, service: u32) {
        if !self.services[service as usize].relist() {
            self.listed.push(service);
        }
    }

    /// Takes up to `max` tasks for a worker, all of one service.
    pub(crate) fn take(&mut self, worker: usize, max: usize) -> Option<Taken<S>> {
        if self.listed.len() > 1 {
            self.unlist_idle();
        }
        if self.turns.is_empty()
            && !self.has_limit
            && let [listed] = self.listed[..]
        {
            let service = &self.services[listed as usize];
            if let Some(count) = service.take_submitted(worker, max) {
                return (count > 0).then(|| Taken {
                    service: service.clone(),
                    count,
                });
            }
        }
        if !self.is_in_order() {
            self.sort();
        }
        let next = self.turns.first()?;
        let service = &self.services[next.service as usize];
        let count = service.take_turns(&mut self.turns, worker, max);
        Some(Taken {
            service: service.clone(),
            count,
        })
    }

    /// Whether the tasks in the flows, and those in the ring behind them, are in the fair order.
    fn is_in_order(&self) -> bool {
        let is_single = !self.has_limit && self.turns.are_single();
        is_single
            && match self.listed[..] {
                [] => true,
                [listed] => self.services[listed as usize].is_in_order(),
                _ => false,
            }
    }

    /// Moves everything that was submitted into the flows.
    pub(crate) fn sort(&mut self) {
        let Self {
            services,
            listed,
            turns,
            ..
        } = self;
        for &service in &*listed {
            services[service as usize].sort(turns);
        }
    }

    /// Moves up to `max` tasks whose moment has come behind everything that was submitted. Returns
    /// the services whose loops are to be notified, for after the lock.
    #[must_use]
    pub(crate) fn end_delays(&mut self, now: u64, max: usize) -> Vec<S> {
        self.sort();
        let mut notified = Vec::new();
        for _ in 0..max {
            let Some(due) = self.delayed.take_due(now) else {
                break;
            };
            let service = &self.services[due.service as usize];
            if due.slot == LOOP {
                notified.push(service.clone());
            } else {
                service.end_delay(&mut self.turns, due.slot);
            }
        }
        notified
    }

    /// Forgets services whose rings are empty, so that they cost nothing.
    fn unlist_idle(&mut self) {
        let Self { services, listed, .. } = self;
        listed.retain(|&service| {
            let service = &services[service as usize];
            if service.has_submitted() {
                return true;
            }
            service.unlist();
            // The loop submits, then asks whether it is listed; here it is the other way round.
            crate::sync::fence(crate::sync::Ordering::SeqCst);
            let is_busy = service.has_submitted();
            if is_busy {
                service.relist();
            }
            is_busy
        });
    }

    /// Whether there is anything to run, published or not.
    pub(crate) fn has_tasks(&self) -> bool {
        let has_submitted = |&service: &u32| self.services[service as usize].has_submitted();
        !self.turns.is_empty() || self.listed.iter().any(has_submitted)
    }

    /// Whether there is something that a busy worker should take.
    pub(crate) fn is_worth_taking(&self) -> bool {
        let has_published = |&service: &u32| self.services[service as usize].has_published();
        !self.turns.is_empty() || self.listed.iter().any(has_published)
    }
}
