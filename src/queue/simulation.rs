//! The shares of connections in simulated time. The tests run the real flows and lanes, with
//! simulated workers that take batches as real workers do, a virtual clock, and scheduling without
//! cost.

use super::fair::{Debt, WAIT_PART};
use super::flow::Flows;
use super::lanes::Lanes;
use super::member::Prepaid;
use super::{Entry, FlowState};
use crate::scheduler::{BATCH_MAX, QUANTUM};
use crate::task::id::GroupId;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// How long a loop takes to resume a stream, unless a test says otherwise.
const LOOP: u64 = 2 * US;

/// A connection: streams that are resumed after each step.
#[derive(Clone, Copy)]
struct Connection {
    streams: u32,
    /// The mean time of a step. Steps vary by half of it.
    step: u64,
    weight: u16,
    group: Option<GroupId>,
    lifetime: Lifetime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Long,
    /// The connection closes after each step. A new one opens in its slot, in the same group.
    OneStep,
}

fn streams(streams: u32, step: u64) -> Connection {
    Connection {
        streams,
        step,
        weight: 1,
        group: None,
        lifetime: Lifetime::Long,
    }
}

impl Connection {
    fn in_group(self, group: u64) -> Self {
        let group = Some(GroupId(group));
        Self { group, ..self }
    }
}

enum Event {
    /// A loop submits or resumes a task.
    Submit { task: u32 },
    /// The step of this worker ends.
    StepEnds { worker: usize },
    /// A new client enqueues its only task.
    Newcomer,
    /// The stream of a client that is idle most of the time is resumed.
    Return { task: u32 },
    /// The wait of this worker before it takes a flow in debt is over, unless it was ended or
    /// changed before.
    WaitEnds { worker: usize },
}

/// Whether workers wait before they take a flow in debt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DebtWaits {
    On,
    Off,
}

struct Running {
    task: u32,
    flow: u32,
    prepaid: Prepaid,
    begun: u64,
    cost: u64,
}

#[derive(Default)]
struct Worker {
    batch: VecDeque<(Entry<()>, Prepaid)>,
    running: Option<Running>,
    charges: Vec<(Prepaid, u64)>,
    last_turn: Option<Prepaid>,
    /// How long the worker may still wait before it takes a flow in debt.
    wait_max: u64,
    /// The beginning and the end of a wait.
    wait: Option<(u64, u64)>,
}

struct Simulation {
    loop_time: u64,
    waits: DebtWaits,
    connections: Vec<Connection>,
    lanes: Lanes,
    flows: Flows<()>,
    workers: Vec<Worker>,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    kinds: Vec<Option<Event>>,
    random: fastrand::Rng,
    /// The worker time of each connection.
    served: Vec<u64>,
    /// For each task: its flow, and when the task was submitted.
    tasks: Vec<(u32, u64)>,
    has_run: Vec<bool>,
    /// The time until each step of newcomers and of clients that return.
    newcomers: Vec<u64>,
}

impl Simulation {
    fn new(workers: usize, connections: &[Connection]) -> Self {
        let mut simulation = Self {
            loop_time: LOOP,
            waits: DebtWaits::On,
            connections: connections.to_vec(),
            lanes: Lanes::new(None),
            flows: Flows::new(0),
            workers: (0..workers).map(|_| Worker::default()).collect(),
            now: 0,
            events: BinaryHeap::new(),
            kinds: Vec::new(),
            random: fastrand::Rng::with_seed(1),
            served: vec![0; connections.len()],
            tasks: Vec::new(),
            has_run: Vec::new(),
            newcomers: Vec::new(),
        };
        for (flow, connection) in connections.iter().enumerate() {
            for _ in 0..connection.streams {
                let task = simulation.add_task(flow as u32);
                simulation.at(0, Event::Submit { task });
            }
        }
        simulation
    }

    fn add_task(&mut self, flow: u32) -> u32 {
        self.tasks.push((flow, self.now));
        self.has_run.push(false);
        self.tasks.len() as u32 - 1
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, self.kinds.len() as u64)));
        self.kinds.push(Some(event));
    }

    fn run(mut self, until: u64) -> Self {
        while let Some(Reverse((time, number))) = self.events.pop()
            && time <= until
        {
            self.now = time;
            match self.kinds[number as usize].take().expect("once") {
                Event::Submit { task } => self.submit(task),
                Event::StepEnds { worker } => self.end_step(worker),
                Event::WaitEnds { worker } => {
                    if self.workers[worker].wait.is_none_or(|(_, end)| end != time) {
                        continue;
                    }
                }
                Event::Newcomer => {
                    let flow = (self.connections.len() + self.newcomers.len()) as u32;
                    let task = self.add_task(flow);
                    self.submit(task);
                    let pause = 5 * MS + self.random.u64(0..5 * MS);
                    self.at(self.now + pause, Event::Newcomer);
                }
                Event::Return { task } => {
                    self.submit(task);
                    let pause = 400 * MS + self.random.u64(0..200 * MS);
                    self.at(self.now + pause, Event::Return { task });
                }
            }
            for worker in 0..self.workers.len() {
                if self.workers[worker].running.is_none() {
                    self.work(worker);
                }
            }
        }
        self
    }

    fn submit(&mut self, task: u32) {
        let (flow, _) = self.tasks[task as usize];
        self.tasks[task as usize].1 = self.now;
        let connection = self.connections.get(flow as usize);
        let has_started = self.has_run[task as usize];
        let tag = u64::from(has_started);
        let has_others = connection.is_some_and(|connection| connection.streams > 1);
        let is_new = !has_others && !has_started
            || connection.is_some_and(|connection| connection.lifetime == Lifetime::OneStep);
        let state = match connection.and_then(|connection| connection.group) {
            Some(group) if is_new => FlowState::NewInGroup(group),
            Some(group) => FlowState::InGroup(group),
            None if has_others => FlowState::Busy { tag },
            None => FlowState::Idle { tag },
        };
        let entry = Entry {
            task: (),
            serial: task.into(),
            since: self.now,
            slot: task,
            flow,
            state,
            weight: connection.map_or(1, |connection| connection.weight),
            syncs: 0,
            has_started,
            has_new_deadline: false,
        };
        self.flows.push(entry, &mut self.lanes);
    }

    /// The next action of a worker without work, as in `Worker::next_batch`.
    fn work(&mut self, worker: usize) {
        self.end_wait(worker);
        if self.workers[worker].batch.is_empty() {
            self.charge(worker);
            self.take(worker, Debt::Leave);
        }
        if self.workers[worker].batch.is_empty() {
            self.steal(worker);
        }
        if self.workers[worker].batch.is_empty() && !self.begin_wait(worker) {
            self.take(worker, Debt::Take);
        }
        if let Some((entry, prepaid)) = self.workers[worker].batch.pop_front() {
            let step = self
                .connections
                .get(entry.flow as usize)
                .map_or(100 * US, |own| own.step);
            let cost = step / 2 + self.random.u64(0..=step);
            if entry.flow as usize >= self.connections.len() {
                self.newcomers.push(self.now - entry.since);
            }
            self.has_run[entry.slot as usize] = true;
            self.workers[worker].running = Some(Running {
                task: entry.slot,
                flow: entry.flow,
                prepaid,
                begun: self.now,
                cost,
            });
            self.at(self.now + cost, Event::StepEnds { worker });
        }
    }

    /// Charges the turns of the last batch of a worker.
    fn charge(&mut self, worker: usize) {
        let own = &mut self.workers[worker];
        let time: u64 = own.charges.iter().map(|&(_, nanos)| nanos).sum();
        own.wait_max = own.wait_max.max(time / WAIT_PART);
        for (prepaid, nanos) in own.charges.drain(..) {
            own.last_turn = Some(prepaid);
            self.lanes.charge(prepaid, nanos);
        }
    }

    /// Begins a wait before a flow in debt, as `Worker::wait_before_debt` does. Returns whether the
    /// worker waits.
    fn begin_wait(&mut self, worker: usize) -> bool {
        let own = &mut self.workers[worker];
        if self.waits == DebtWaits::Off || own.wait_max <= QUANTUM / WAIT_PART {
            return false;
        }
        let wait = own.last_turn.map_or(0, |last| self.lanes.time_before_debt(last));
        let wait = wait.min(own.wait_max);
        if wait > 0 {
            let end = self.now + wait;
            own.wait = Some((self.now, end));
            self.at(end, Event::WaitEnds { worker });
        }
        wait > 0
    }

    fn end_wait(&mut self, worker: usize) {
        let own = &mut self.workers[worker];
        if let Some((begin, end)) = own.wait.take() {
            let has_found = self.now < end;
            own.wait_max = if has_found {
                own.wait_max - (self.now - begin)
            } else {
                0
            };
        }
    }

    /// The same as `Source::take_turns`.
    fn take(&mut self, worker: usize, mut debt: Debt) {
        let batch = &mut self.workers[worker].batch;
        let mut time = 0;
        while batch.len() < BATCH_MAX
            && time < QUANTUM
            && let Some((entry, prepaid, turn)) = self.flows.pop(debt, &mut self.lanes)
        {
            batch.push_back((entry, prepaid));
            time += turn;
            debt = Debt::Leave;
        }
    }

    fn steal(&mut self, worker: usize) {
        let len = |&victim: &usize| self.workers[victim].batch.len();
        let victim = (0..self.workers.len()).max_by_key(len).expect("a worker");
        let count = self.workers[victim].batch.len().div_ceil(2);
        let stolen: Vec<_> = self.workers[victim].batch.drain(..count).collect();
        self.workers[worker].batch.extend(stolen);
    }

    fn end_step(&mut self, worker: usize) {
        let running = self.workers[worker].running.take().expect("it runs");
        let Running {
            task,
            flow,
            prepaid,
            begun,
            cost,
        } = running;
        self.workers[worker].charges.push((prepaid, self.now - begun));
        if let Some(served) = self.served.get_mut(flow as usize) {
            *served += cost;
            self.at(self.now + self.loop_time, Event::Submit { task });
        }
    }

    /// The share of the first connection in percent.
    fn share(&self) -> f64 {
        self.share_of(0..1)
    }

    /// The share of some connections in percent.
    fn share_of(&self, connections: std::ops::Range<usize>) -> f64 {
        let all: u64 = self.served.iter().sum();
        let own: u64 = self.served[connections].iter().sum();
        100.0 * own as f64 / all as f64
    }

    /// The part of the workers' time that they spent in steps, in percent.
    fn used(&self) -> f64 {
        let all: u64 = self.served.iter().sum();
        100.0 * all as f64 / (self.now * self.workers.len() as u64) as f64
    }
}

/// Jain's index of some shares: 1 if they are equal.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&time| time as f64).sum();
    let squares: f64 = shares.iter().map(|&time| (time as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

fn share(workers: usize, connections: &[Connection]) -> f64 {
    Simulation::new(workers, connections).run(SECOND).share()
}

/// Two connections, each with its number of streams and its step.
fn loops(workers: usize, connections: [(u32, u64); 2], loop_time: u64, waits: DebtWaits) -> Simulation {
    let connections = connections.map(|(count, step)| streams(count, step));
    let simulation = Simulation {
        loop_time,
        waits,
        ..Simulation::new(workers, &connections)
    };
    simulation.run(SECOND)
}

/// The steps of two connections: the long ones and the short ones.
const PAIRS: [(u64, u64); 3] = [(10 * MS, MS), (20 * MS, 200 * US), (5 * MS, 10 * US)];

#[test]
fn two_connections_with_many_streams_have_half_of_the_time_each() {
    for (long, short) in PAIRS {
        for (workers, points) in [(1, 3.0), (2, 3.0), (4, 3.0), (8, 7.0)] {
            let share = share(workers, &[streams(8, long), streams(8, short)]);
            assert!(
                (share - 50.0).abs() <= points,
                "{long} : {short} ns, {workers} workers: {share} %"
            );
        }
    }
}

/// One stream can use one worker at most.
#[test]
fn a_connection_with_one_long_stream_has_what_one_stream_can_have() {
    for (long, short) in PAIRS {
        for (workers, attainable) in [(1, 50.0), (2, 50.0), (4, 25.0)] {
            let share = share(workers, &[streams(1, long), streams(8, short)]);
            assert!(
                (share - attainable).abs() <= 3.0,
                "{long} : {short} ns, {workers} workers: {share} %"
            );
        }
    }
}

#[test]
fn weights_divide_worker_time() {
    for (heavy, light) in [
        (MS, MS),
        (10 * MS, MS),
        (MS, 10 * MS),
        (10 * US, 10 * US),
        (5 * MS, 10 * US),
    ] {
        for workers in [1, 2, 4] {
            let heavy_connection = Connection {
                weight: 3,
                ..streams(8, heavy)
            };
            let share = share(workers, &[heavy_connection, streams(8, light)]);
            let ratio = share / (100.0 - share);
            assert!(
                (ratio / 3.0 - 1.0).abs() <= 0.05,
                "{heavy} : {light} ns, {workers} workers: {ratio}"
            );
        }
    }
}

/// Jain's index of the shares of 100 connections, whose steps take from 1 us to 50 ms.
#[test]
fn many_connections_with_different_steps_have_equal_shares() {
    let mut random = fastrand::Rng::with_seed(77);
    let step = |random: &mut fastrand::Rng| (1_000.0 * 50_000_f64.powf(random.f64())) as u64;
    let connections: Vec<_> = (0..100).map(|_| streams(4, step(&mut random))).collect();
    let end = Simulation::new(2, &connections).run(10 * SECOND);
    assert!(end.used() >= 99.0, "{} %", end.used());
    let index = jain(&end.served);
    assert!(index >= 0.99, "{index}");
}

/// Two connections with 8 streams each, whose loops take 20 and 50 us to resume a stream: without
/// the wait before a flow in debt, long steps begin while all short streams are with their loop.
#[test]
fn two_connections_have_half_of_the_time_each_although_loops_are_slow() {
    for (workers, loop_time, without, with) in [
        (1, 50 * US, 40.0, 47.0),
        (2, 20 * US, 47.0, 47.0),
        (2, 50 * US, 26.0, 40.0),
    ] {
        let share = |waits| 100.0 - loops(workers, [(8, 5 * MS), (8, 10 * US)], loop_time, waits).share();
        let shares = [share(DebtWaits::Off), share(DebtWaits::On)];
        assert!(
            shares[0] <= without && shares[1] >= with,
            "{workers} workers, loop {loop_time} ns: {shares:?} %"
        );
    }
}

/// One short stream beside 8 long ones. A worker that takes a flow in debt at once serves a short
/// step after each long step. Each short step needs a wait, and the waits are limited.
#[test]
fn a_connection_with_one_short_stream_gets_more_than_a_turn_for_each_long_step() {
    let least = [[43.0, 37.0], [44.0, 37.0], [11.0, 9.0]];
    for ((long, short), least) in PAIRS.into_iter().zip(least) {
        for (workers, least) in [1, 2].into_iter().zip(least) {
            let share = |waits| 100.0 - loops(workers, [(8, long), (1, short)], LOOP, waits).share();
            let shares = [share(DebtWaits::Off), share(DebtWaits::On)];
            let of_long = short as f64 / (WAIT_PART * LOOP) as f64;
            let most = f64::min(50.0, 100.0 * of_long / (1.0 + of_long));
            assert!(
                shares[0] <= 10.0 && (least..=most).contains(&shares[1]),
                "{long} : {short} ns, {workers} workers: {shares:?} %"
            );
        }
    }
}

/// Each wait may be in vain, or much longer than the step that the worker waits for.
#[test]
fn waits_take_a_thirty_second_part_of_the_workers_time() {
    for (long, short) in PAIRS {
        for workers in [1, 2, 4] {
            for loop_time in [2 * US, 20 * US, 50 * US, 200 * US, 5 * MS] {
                let used = |waits| loops(workers, [(8, long), (1, short)], loop_time, waits).used();
                let (off, on) = (used(DebtWaits::Off), used(DebtWaits::On));
                assert!(
                    on >= off - 3.5,
                    "{long} : {short} ns, {workers} workers, loop {loop_time} ns: {off} and {on} %"
                );
            }
        }
    }
}

#[test]
fn a_connection_alone_never_waits() {
    for step in [10 * US, MS, 20 * MS] {
        for count in [1, 2, 8] {
            let served = |waits| loops(2, [(count, step), (0, step)], 50 * US, waits).served[0];
            assert_eq!(
                served(DebtWaits::On),
                served(DebtWaits::Off),
                "{count} streams, {step} ns"
            );
        }
    }
}

/// Within two steps, in 99 of 100 cases.
#[test]
fn a_newcomer_starts_soon_beside_many_streams() {
    for count in [100, 1_000, 4_000] {
        let connections = vec![streams(1, 100 * US); count];
        let mut simulation = Simulation::new(2, &connections);
        simulation.at(SECOND, Event::Newcomer);
        let mut waits = simulation.run(3 * SECOND).newcomers;
        waits.sort_unstable();
        let p99 = waits[waits.len() * 99 / 100];
        assert!(waits.len() > 200 && p99 <= 200 * US, "{count} streams: {p99} ns");
    }
}

/// A client that uses 40 % of its share: 100 us of 250 us in half a second.
#[test]
fn a_client_that_returns_starts_soon_beside_many_streams() {
    let connections = vec![streams(1, 100 * US); 4_000];
    let mut simulation = Simulation::new(2, &connections);
    let task = simulation.add_task(4_000);
    simulation.at(SECOND, Event::Return { task });
    let waits = simulation.run(30 * SECOND).newcomers;
    let longest = waits.iter().max().expect("it has returned");
    assert!(waits.len() > 50 && *longest <= MS, "{longest} ns");
}

/// The steps of a group with many connections, and of another group with one.
const STEPS_OF_GROUPS: [(u64, u64); 3] = [(100 * US, 100 * US), (5 * MS, 10 * US), (10 * US, 5 * MS)];

#[test]
fn a_group_of_1000_connections_has_the_share_of_a_group_of_one() {
    for (many, one) in STEPS_OF_GROUPS {
        for workers in [1, 2, 4] {
            let mut connections = vec![streams(1, many).in_group(1); 1000];
            connections.push(streams(8, one).in_group(2));
            let end = Simulation::new(workers, &connections).run(SECOND);
            let share = end.share_of(0..1000);
            assert!(
                (share - 50.0).abs() <= 3.0,
                "{many} : {one} ns, {workers} workers: {share} %"
            );
        }
    }
}

/// The same beside a connection without a group.
#[test]
fn a_group_of_1000_connections_has_the_share_of_a_connection_without_a_group() {
    for (many, one) in STEPS_OF_GROUPS {
        let mut connections = vec![streams(1, many).in_group(1); 1000];
        connections.push(streams(8, one));
        let share = Simulation::new(2, &connections).run(SECOND).share_of(0..1000);
        assert!((share - 50.0).abs() <= 3.0, "{many} : {one} ns: {share} %");
    }
}

#[test]
fn weights_of_groups_divide_worker_time() {
    for step in [10 * US, MS] {
        let mut connections = vec![streams(2, step).in_group(1); 4];
        connections.extend([streams(1, 5 * step).in_group(2); 20]);
        connections.push(streams(8, 2 * step));
        let mut simulation = Simulation::new(2, &connections);
        simulation.lanes.set_group_weight(GroupId(2), 2);
        let end = simulation.run(2 * SECOND);
        for (group, goal) in [(0..4, 25.0), (4..24, 50.0), (24..25, 25.0)] {
            let share = end.share_of(group);
            assert!(
                (share - goal).abs() <= 3.0,
                "{step} ns: {share} % instead of {goal} %"
            );
        }
    }
}

/// Weights of connections divide the share of their group.
#[test]
fn weights_of_connections_divide_the_time_of_their_group() {
    let heavy = Connection {
        weight: 3,
        ..streams(8, MS).in_group(1)
    };
    let connections = [heavy, streams(8, MS).in_group(1), streams(8, MS).in_group(2)];
    let end = Simulation::new(2, &connections).run(SECOND);
    for (connection, goal) in [(0, 37.5), (1, 12.5), (2, 50.0)] {
        let share = end.share_of(connection..connection + 1);
        assert!(
            (share - goal).abs() <= 3.0,
            "connection {connection}: {share} % instead of {goal} %"
        );
    }
}

/// Each connection of the group is new, so that it is served first in its group.
#[test]
fn new_connections_without_end_have_only_the_share_of_their_group() {
    for (new, old) in STEPS_OF_GROUPS {
        let new_connection = Connection {
            lifetime: Lifetime::OneStep,
            ..streams(1, new).in_group(1)
        };
        let mut connections = vec![new_connection; 100];
        connections.push(streams(8, old));
        let share = Simulation::new(2, &connections).run(SECOND).share_of(0..100);
        assert!(share <= 53.0, "{new} : {old} ns: {share} %");
    }
}

#[test]
fn connections_of_a_group_have_equal_shares_of_the_time_of_the_group() {
    let mut random = fastrand::Rng::with_seed(77);
    let step = |random: &mut fastrand::Rng| (1_000.0 * 50_000_f64.powf(random.f64())) as u64;
    let mut connections: Vec<_> = (0..100)
        .map(|_| streams(4, step(&mut random)).in_group(1))
        .collect();
    connections.push(streams(8, MS));
    let end = Simulation::new(2, &connections).run(20 * SECOND);
    let (index, share) = (jain(&end.served[..100]), end.share_of(0..100));
    assert!(index >= 0.99, "{index}");
    assert!((share - 50.0).abs() <= 3.0, "{share} %");
}
