//! The run queue of a pool: every task that a worker may take, of all services, behind one lock.
//!
//! A worker takes a batch under one lock of the queue. Until then the submissions of a loop stay in
//! the ring of its service. There are two ways out of a ring:
//!
//! - *Through the flows*. All rings are emptied into the flows of their services, and the lanes
//!   select the next flow ([`fair`], [`lanes`]).
//! - *Straight into the batch*, first in, first out, while steps are very short: then sorting would
//!   cost as much as the steps. This is only done if one service alone has submitted tasks, and the
//!   lanes contain no flows except flows in debt. A task still goes into its flow if its connection
//!   has another task in flight, is in debt, or belongs to a group. The loop knows this when it
//!   submits the task.
//!
//! The queue refers to services and flows by numbers. The tasks themselves, whose types differ,
//! stay in their service ([`crate::service::submissions`]), behind a lock that is taken only under
//! this one.

#[cfg(all(test, not(loom)))]
mod consistency;
pub(crate) mod delayed;
pub(crate) mod fair;
pub(crate) mod flow;
pub(crate) mod lanes;
mod list;
pub(crate) mod member;
pub(crate) mod ring;
#[cfg(all(test, not(loom)))]
mod simulation;

use crate::scheduler::context::WorkerContext;
use crate::task::id::GroupId;
use delayed::{Delayed, LOOP};
use fair::Debt;
use lanes::{KnownFlow, Lanes};
use list::NONE;
use member::{FlowKey, Prepaid};
use slab::Slab;
use std::ops::Deref;

/// A task on its way from a loop to a worker.
pub(crate) struct Entry<T> {
    pub(crate) task: T,
    pub(crate) serial: u64,
    /// When it was submitted.
    pub(crate) since: u64,
    pub(crate) slot: u32,
    /// The slot of the connection of the task.
    pub(crate) flow: u32,
    /// The state and the weight of its connection.
    pub(crate) state: FlowState,
    pub(crate) weight: u16,
    /// How many times the task has parked, modulo 16.
    pub(crate) syncs: u8,
    pub(crate) has_started: bool,
    /// Whether the task has set its deadline since it was last submitted or resumed.
    pub(crate) has_new_deadline: bool,
}

/// The state of a connection at the moment when a task of it is submitted, as the loop knows it.
/// `tag`: its finish tag, which is zero for a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlowState {
    /// The connection has no other task in flight, and no debt.
    Idle { tag: u64 },
    /// The connection has no other task in flight, and has a debt.
    InDebt { tag: u64 },
    /// The connection has another task in flight.
    Busy { tag: u64 },
    /// The connection is new or has just left a group, and the queue may have its slot in a group.
    LeftGroup,
    /// The connection belongs to a group. Only the queue has its finish tag.
    InGroup(GroupId),
    /// The same, and this is the first task of the connection in this group.
    NewInGroup(GroupId),
    /// The group has no other task in the queue, and no debt. Only the queue knows this.
    IdleGroup(GroupId),
}

impl FlowState {
    /// The state of a task that was moved to another connection: the tag of its old connection does
    /// not count.
    pub(crate) const MOVED: Self = Self::Busy { tag: 0 };

    #[inline]
    pub(crate) fn tag(self) -> Option<u64> {
        match self {
            Self::Idle { tag } | Self::InDebt { tag } | Self::Busy { tag } => Some(tag),
            Self::LeftGroup => Some(0),
            Self::InGroup(_) | Self::NewInGroup(_) | Self::IdleGroup(_) => None,
        }
    }

    /// The group, and the finish tag that the queue takes over. A tag of zero means a new
    /// connection. `None`: the queue knows the tag.
    #[inline]
    fn group_and_tag(self) -> (Option<GroupId>, Option<u64>) {
        match self {
            Self::Idle { tag } | Self::InDebt { tag } => (None, Some(tag)),
            Self::Busy { .. } => (None, None),
            Self::LeftGroup => (None, Some(0)),
            Self::NewInGroup(group) => (Some(group), Some(0)),
            Self::InGroup(group) | Self::IdleGroup(group) => (Some(group), None),
        }
    }

    /// Whether the task overtakes the tasks of connections and groups that have used their shares.
    #[inline]
    pub(crate) fn is_prompt(self) -> bool {
        matches!(self, Self::Idle { .. } | Self::LeftGroup | Self::IdleGroup(_))
    }

    #[inline]
    pub(crate) fn group(self) -> Option<GroupId> {
        self.group_and_tag().0
    }
}

/// The data about the flow of a task that the loop gives to the queue when it submits the task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowData {
    pub(crate) state: FlowState,
    pub(crate) weight: u16,
}

/// The flow of a new task that was refused because the queue is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedFlow {
    pub(crate) service: u32,
    /// `None`: the connection has no tasks.
    pub(crate) flow: Option<u32>,
    pub(crate) group: Option<GroupId>,
}

/// The flow to which a task moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoveTarget {
    /// The slot of its new connection.
    pub(crate) flow: u32,
    /// The weight of that connection.
    pub(crate) weight: u16,
    /// The state of that connection. `None` if the queue knows it already, or if the task is not in
    /// flight.
    pub(crate) state: Option<FlowState>,
}

/// A task in a batch.
pub(crate) struct Taken<T> {
    pub(crate) entry: Entry<T>,
    /// `None` if the task came straight from the ring. Then only its loop counts the turn.
    pub(crate) prepaid: Option<Prepaid>,
}

/// Whether tasks may be taken straight from a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Steps are very short: first in, first out.
    Submission,
    Fair,
}

/// A service as the run queue sees it. All calls are made under the lock of the queue.
pub(crate) trait Source: Send + Sync {
    /// Takes up to `max` tasks out of the ring: straight into a worker's batch, or into their flows
    /// where the rules above require it. Returns the number of tasks in the batch.
    fn take_submitted(&self, lanes: &mut Lanes, worker: usize, max: usize) -> usize;
    /// Moves everything from the ring into the flows.
    fn sort(&self, lanes: &mut Lanes);
    /// Moves up to `max` tasks of this service whose flows are next into a worker's batch, until
    /// their estimates reach a quantum. Only the first task may be of a flow in debt. Returns the
    /// number of tasks, and their expected time in nanoseconds.
    fn take_turns(&self, lanes: &mut Lanes, worker: usize, max: usize, debt: Debt) -> (usize, u64);
    /// Returns the remaining tasks of a worker's batch to the flows.
    fn return_batch(&self, lanes: &mut Lanes, worker: usize);
    /// The last record of a flow.
    fn last_member(&self, flow: u32) -> u32;
    /// Ends the newest task of a flow that has not started. Returns false if there is none.
    fn shed(&self, lanes: &mut Lanes, flow: u32, cx: &WorkerContext<'_>) -> bool;
    /// Moves up to `max` tasks, and at most half, from the front of one worker's batch into another
    /// batch.
    fn steal(&self, from: usize, to: usize, max: usize) -> usize;
    /// Moves a delayed task into the flows because its time has come. The caller has removed it
    /// from [`RunQueue::delayed`].
    fn end_delay(&self, lanes: &mut Lanes, slot: u32);
    /// Whether the ring holds anything, published or not.
    fn has_submitted(&self) -> bool;
    /// Whether the ring contains a published task.
    fn has_published(&self) -> bool;
    /// Whether the run queue looks at the ring.
    fn is_listed(&self) -> bool;
    /// The service is no longer listed.
    fn unlist(&self);
    /// Marks the service as listed. Returns true if it was listed before.
    fn relist(&self) -> bool;
}

/// The run queue, with references of type `S` to services.
pub(crate) struct RunQueue<S> {
    services: Slab<S>,
    /// The services that may have something in their rings.
    listed: Vec<u32>,
    pub(crate) lanes: Lanes,
    pub(crate) delayed: Delayed,
    /// The number of threads that still take tasks: workers that have not ended, or the owner of a
    /// pool without workers.
    pub(crate) takers: usize,
}

/// A batch that a worker has taken.
pub(crate) struct Batch<S> {
    pub(crate) service: S,
    pub(crate) count: usize,
    /// The expected time of the batch in nanoseconds, if the estimates of the flows are known.
    pub(crate) time: Option<u64>,
}

impl<S: Clone + Deref<Target: Source>> RunQueue<S> {
    /// `limit` is the largest number of running tasks of a connection.
    pub(crate) fn new(limit: Option<u32>, takers: usize) -> Self {
        Self {
            services: Slab::new(),
            listed: Vec::new(),
            lanes: Lanes::new(limit),
            delayed: Delayed::default(),
            takers,
        }
    }

    /// The number of the next service.
    pub(crate) fn next_number(&self) -> u32 {
        self.services.vacant_key() as u32
    }

    pub(crate) fn add(&mut self, service: S) {
        self.services.insert(service);
    }

    /// Removes a service whose tasks have ended. The caller drops the returned service after it
    /// releases the lock.
    #[must_use]
    pub(crate) fn remove(&mut self, service: u32) -> S {
        if self.services[service as usize].is_listed() {
            // The ring of this service is empty. Other idle services are unlisted too. Otherwise
            // each drop of a listed service would be O(services).
            self.unlist_idle();
        }
        self.services.remove(service as usize)
    }

    /// Lists a service that has submitted tasks and was not listed.
    pub(crate) fn list(&mut self, service: u32) {
        if !self.services[service as usize].relist() {
            self.listed.push(service);
        }
    }

    /// Takes up to `max` tasks for a worker, all of one service.
    pub(crate) fn take(&mut self, worker: usize, max: usize, order: Order, debt: Debt) -> Option<Batch<S>> {
        if self.listed.len() > 1 {
            self.unlist_idle();
        }
        if order == Order::Submission
            && !self.lanes.has_limit()
            && let [listed] = self.listed[..]
        {
            if !self.lanes.has_prompt() && !self.lanes.root.must_serve_debt() {
                let service = &self.services[listed as usize];
                let count = service.take_submitted(&mut self.lanes, worker, max);
                if count > 0 {
                    return Some(Batch {
                        service: service.clone(),
                        count,
                        time: None,
                    });
                }
            }
            if !self.lanes.are_single() {
                self.sort_listed();
            }
        } else {
            self.sort_listed();
        }
        let (_, next) = self.lanes.next(debt)?;
        let service = &self.services[next.service as usize];
        let (count, time) = service.take_turns(&mut self.lanes, worker, max, debt);
        Some(Batch {
            service: service.clone(),
            count,
            time: Some(time),
        })
    }

    /// Moves all submissions into the flows.
    pub(crate) fn sort(&mut self) {
        if self.listed.len() > 1 {
            self.unlist_idle();
        }
        self.sort_listed();
    }

    fn sort_listed(&mut self) {
        let Self {
            services,
            listed,
            lanes,
            ..
        } = self;
        for &service in &*listed {
            services[service as usize].sort(lanes);
        }
    }

    /// Moves up to `max` tasks whose time has come into their flows, behind all submissions.
    /// Returns the services whose loops the caller must notify after it releases the lock.
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
                service.end_delay(&mut self.lanes, due.slot);
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
            // The loop submits, and then checks whether it is listed. This side does both in the
            // opposite order.
            crate::sync::fence(crate::sync::Ordering::SeqCst);
            let is_busy = service.has_submitted();
            if is_busy {
                service.relist();
            }
            is_busy
        });
    }

    /// Ends the newest waiting task of the flow with the most waiting tasks, if that flow has at
    /// least two more than the flow of the refused task. A group counts as one flow. Returns the
    /// service of the ended task.
    pub(crate) fn shed(&mut self, refused: RefusedFlow, cx: &WorkerContext<'_>) -> Option<S> {
        self.sort();
        let RefusedFlow { service, flow, group } = refused;
        let own = flow.and_then(|flow| {
            let member = self.services[service as usize].last_member(flow);
            self.lanes.get(member, FlowKey { service, flow })
        });
        let own = own.map_or(0, |own| own.queued);
        let fattest = self.lanes.fattest(own, group)?;
        let service = &self.services[fattest.service as usize];
        service
            .shed(&mut self.lanes, fattest.flow, cx)
            .then(|| service.clone())
    }

    /// The worker time that waiting tasks get before a new task of this flow begins, in
    /// nanoseconds. `None` means the flow of a new connection. O(flows).
    pub(crate) fn time_before(&mut self, flow: Option<KnownFlow>) -> u64 {
        self.sort();
        let Some(flow) = flow else {
            return self.lanes.time_before_new_flow();
        };
        let member = match flow.key {
            Some(key) => self.services[key.service as usize].last_member(key.flow),
            // The record of this slot is that of a closed connection, if there is one.
            None => NONE,
        };
        self.lanes.time_before(flow, member)
    }

    /// Whether there is anything to run, published or not.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.lanes.is_empty() || self.has_submitted()
    }

    /// Whether the rings hold anything, published or not.
    pub(crate) fn has_submitted(&self) -> bool {
        let has_submitted = |&service: &u32| self.services[service as usize].has_submitted();
        self.listed.iter().any(has_submitted)
    }

    /// Whether there is something that a busy worker should take.
    pub(crate) fn is_worth_taking(&self) -> bool {
        let has_published = |&service: &u32| self.services[service as usize].has_published();
        !self.lanes.is_empty() || self.listed.iter().any(has_published)
    }
}
