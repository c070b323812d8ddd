//! Random sequences of the operations of loops and workers, on the real connections, flows and
//! lanes. After each operation their numbers and lists must say the same.

use super::fair::Debt;
use super::flow::Flows;
use super::lanes::Lanes;
use super::member::{FlowKey, Prepaid};
use super::{Entry, FlowData, FlowState, MoveTarget};
use crate::service::connections::Connections;
use crate::task::id::{ConnId, GroupId};

const SERVICES: usize = 2;
const CONNECTIONS: u64 = 12;
const GROUPS: u64 = 4;
const NONE: u32 = u32::MAX;

/// Where a task is.
enum Place {
    Free,
    /// In the ring or in a flow.
    Submitted,
    /// A worker has it.
    Taken(Entry<()>, Option<Prepaid>),
    Delayed(Entry<()>),
    Parked,
}

struct Task {
    place: Place,
    connection: u32,
    has_started: bool,
    was_moved: bool,
}

struct Loop {
    connections: Connections,
    flows: Flows<()>,
    tasks: Vec<Task>,
}

struct Model {
    random: fastrand::Rng,
    limit: Option<u32>,
    /// The largest number of tasks of a loop. With few tasks, there are idle connections.
    tasks_max: usize,
    lanes: Lanes,
    loops: Vec<Loop>,
    /// The turns that a worker has not charged yet.
    charges: Vec<(Prepaid, Option<u64>)>,
    time: u64,
    serial: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = random.bool().then(|| random.u32(1..3));
        let new_loop = |service| Loop {
            connections: Connections::new(),
            flows: Flows::new(service),
            tasks: Vec::new(),
        };
        Self {
            limit,
            tasks_max: random.usize(2..40),
            lanes: Lanes::new(limit),
            loops: (0..SERVICES as u32).map(new_loop).collect(),
            random,
            charges: Vec::new(),
            time: 0,
            serial: 0,
        }
    }

    fn conn(&mut self) -> ConnId {
        ConnId(self.random.u64(0..CONNECTIONS))
    }

    fn group(&mut self) -> Option<GroupId> {
        (self.random.u8(0..4) > 0).then(|| GroupId(self.random.u64(0..GROUPS)))
    }

    fn cost(&mut self) -> u64 {
        self.random
            .choice([0, 300, 2_000, 50_000, 10_000_000])
            .expect("not empty")
    }

    fn settle(&mut self) {
        for (prepaid, cost) in self.charges.drain(..) {
            match cost {
                Some(cost) => self.lanes.charge(prepaid, cost),
                None => self.lanes.cancel_turn(prepaid),
            }
        }
    }

    /// A task of this loop in a place that passes.
    fn task(&mut self, service: usize, passes: impl Fn(&Task) -> bool) -> Option<u32> {
        let tasks = self.loops[service].tasks.iter().enumerate();
        let slots: Vec<_> = tasks
            .filter(|(_, task)| passes(task))
            .map(|(slot, _)| slot as u32)
            .collect();
        self.random.choice(slots)
    }

    fn submit(&mut self, service: usize, slot: u32) {
        let virtual_time = self.lanes.root.virtual_time();
        (self.time, self.serial) = (self.time + 1, self.serial + 1);
        let own = &mut self.loops[service];
        let task = &mut own.tasks[slot as usize];
        let FlowData { state, weight } = own.connections.submit(task.connection, virtual_time);
        let entry = Entry {
            task: (),
            serial: self.serial,
            since: self.time,
            slot,
            flow: task.connection,
            state,
            weight,
            syncs: 0,
            has_started: task.has_started,
            has_new_deadline: false,
        };
        let is_short = self.limit.is_none() && self.random.bool() && !self.lanes.has_prompt();
        if let FlowState::Idle { tag } = state
            && is_short
        {
            self.lanes.root.pass(tag);
            if tag == 0 {
                own.flows.forget_record(task.connection);
            }
            task.place = Place::Taken(entry, None);
        } else {
            task.place = Place::Submitted;
            own.flows.push(entry, &mut self.lanes);
        }
    }

    fn enqueue(&mut self, service: usize) {
        let conn = self.conn();
        let slot = match self.task(service, |task| matches!(task.place, Place::Free)) {
            Some(slot) => slot,
            None if self.loops[service].tasks.len() >= self.tasks_max => return,
            None => {
                self.loops[service].tasks.push(Task {
                    place: Place::Free,
                    connection: NONE,
                    has_started: false,
                    was_moved: false,
                });
                self.loops[service].tasks.len() as u32 - 1
            }
        };
        let own = &mut self.loops[service];
        let connection = own.connections.find_or_open(conn);
        own.link(slot, connection);
        let task = &mut own.tasks[slot as usize];
        (task.has_started, task.was_moved) = (false, false);
        self.submit(service, slot);
    }

    fn take(&mut self) {
        let debt = if self.random.bool() {
            Debt::Take
        } else {
            Debt::Leave
        };
        let was_empty = self.lanes.is_empty();
        let mut taken = false;
        for service in 0..SERVICES {
            let own = &mut self.loops[service];
            if let Some((entry, prepaid, _)) = own.flows.pop(debt, &mut self.lanes) {
                let slot = entry.slot as usize;
                own.tasks[slot].place = Place::Taken(entry, Some(prepaid));
                taken = true;
            }
        }
        assert!(!(taken && was_empty) && (taken || was_empty || debt == Debt::Leave));
    }

    /// A worker runs a task that it has taken.
    fn run(&mut self, service: usize) {
        let Some(slot) = self.task(service, |task| matches!(task.place, Place::Taken(..))) else {
            return;
        };
        let cost = self.cost();
        let own = &mut self.loops[service];
        let task = &mut own.tasks[slot as usize];
        let Place::Taken(mut entry, prepaid) = std::mem::replace(&mut task.place, Place::Free) else {
            unreachable!()
        };
        if let Some(prepaid) = prepaid {
            // A task that Codel sheds does not run.
            let runs = entry.has_started || self.random.u8(0..8) > 0;
            self.charges.push((prepaid, runs.then_some(cost)));
            if !runs {
                return self.end(service, slot, 0);
            }
        } else {
            let tag = entry.state.tag().expect("it has no group");
            entry.state = FlowState::Busy {
                tag: tag.max(self.lanes.root.virtual_time()) + (cost << 8),
            };
        }
        (entry.has_started, task.has_started) = (true, true);
        self.time += 1;
        entry.since = self.time;
        match self.random.u8(0..4) {
            0 => {
                self.settle();
                let own = &mut self.loops[service];
                own.tasks[slot as usize].place = Place::Submitted;
                own.flows.push_again(entry, &mut self.lanes);
            }
            1 => {
                self.settle();
                self.loops[service].tasks[slot as usize].place = Place::Delayed(entry);
            }
            2 => {
                own.receive(slot, cost);
                own.tasks[slot as usize].place = Place::Parked;
            }
            _ => self.end(service, slot, cost),
        }
    }

    /// The task has ended, is received by its loop and reaped.
    fn end(&mut self, service: usize, slot: u32, cost: u64) {
        if self.limit.is_some() {
            self.settle();
        }
        let own = &mut self.loops[service];
        own.flows.release(slot, &mut self.lanes);
        own.receive(slot, cost);
        own.reap(slot);
    }

    /// Takes a task out of the queue or out of a batch.
    fn remove(&mut self, service: usize) {
        let Some(slot) = self.task(service, |task| !task.has_started) else {
            return;
        };
        let own = &mut self.loops[service];
        if own.flows.remove(slot, &mut self.lanes).is_none() {
            match std::mem::replace(&mut own.tasks[slot as usize].place, Place::Free) {
                Place::Taken(_, prepaid) => {
                    if let Some(prepaid) = prepaid {
                        self.lanes.cancel_turn(prepaid);
                    }
                    own.flows.forget_move(slot);
                    own.flows.release(slot, &mut self.lanes);
                }
                place => return own.tasks[slot as usize].place = place,
            }
        }
        own.receive(slot, 0);
        own.reap(slot);
    }

    fn shed(&mut self, service: usize) {
        let conn = self.conn();
        let own = &self.loops[service];
        let known = own.connections.find(conn);
        let queued = known.and_then(|flow| {
            let service = service as u32;
            let member = own.flows.last_member(flow);
            self.lanes.get(member, FlowKey { service, flow })
        });
        let queued = queued.map_or(0, |member| member.queued);
        let group = known.and_then(|flow| own.connections[flow].group());
        if let Some(FlowKey { service, flow }) = self.lanes.fattest(queued, group) {
            let own = &mut self.loops[service as usize];
            let entry = own.flows.pop_newest(flow, &mut self.lanes).expect("it has tasks");
            own.receive(entry.slot, 0);
            own.reap(entry.slot);
        }
    }

    fn put_back(&mut self, service: usize) {
        let Some(slot) = self.task(service, |task| matches!(task.place, Place::Taken(..))) else {
            return;
        };
        let own = &mut self.loops[service];
        let place = &mut own.tasks[slot as usize].place;
        if let Place::Taken(entry, prepaid) = std::mem::replace(place, Place::Submitted) {
            if let Some(prepaid) = prepaid {
                self.lanes.cancel_turn(prepaid);
            }
            own.flows.put_back(entry, &mut self.lanes);
        }
    }

    fn end_delay(&mut self, service: usize) {
        let Some(slot) = self.task(service, |task| matches!(task.place, Place::Delayed(_))) else {
            return;
        };
        let own = &mut self.loops[service];
        let place = &mut own.tasks[slot as usize].place;
        if let Place::Delayed(entry) = std::mem::replace(place, Place::Submitted) {
            own.flows.push_again(entry, &mut self.lanes);
        }
    }

    fn resume(&mut self, service: usize) {
        if let Some(slot) = self.task(service, |task| matches!(task.place, Place::Parked)) {
            self.submit(service, slot);
        }
    }

    fn reattach(&mut self, service: usize) {
        let conn = self.conn();
        let Some(slot) = self.task(service, |task| task.connection != NONE) else {
            return;
        };
        let virtual_time = self.lanes.root.virtual_time();
        let own = &mut self.loops[service];
        let from = own.tasks[slot as usize].connection;
        let flow = own.connections.find_or_open(conn);
        if flow == from {
            return;
        }
        let mut state = None;
        let task = &mut own.tasks[slot as usize];
        if !matches!(task.place, Place::Parked) {
            task.was_moved = true;
            own.connections[from].away -= 1;
            state = Some(own.connections.submit(flow, virtual_time).state);
        }
        own.unlink(slot);
        own.link(slot, flow);
        let weight = own.connections[flow].weight;
        let new = MoveTarget { flow, weight, state };
        let task = &mut own.tasks[slot as usize];
        let is_fresh = self.limit.is_some() && !task.has_started;
        match std::mem::replace(&mut task.place, Place::Submitted) {
            Place::Taken(entry, prepaid) if is_fresh => {
                if let Some(prepaid) = prepaid {
                    self.lanes.cancel_turn(prepaid);
                }
                own.flows.release(slot, &mut self.lanes);
                own.flows.push_moved(entry, new, &mut self.lanes);
            }
            place => {
                task.place = place;
                let is_away = matches!(task.place, Place::Taken(..) | Place::Delayed(_));
                let is_waiting = own.flows.relocate(slot, new, &mut self.lanes);
                assert_eq!(
                    is_waiting,
                    matches!(own.tasks[slot as usize].place, Place::Submitted)
                );
                if is_away {
                    own.flows.note_move(slot, new);
                }
            }
        }
    }

    fn set_group(&mut self, service: usize) {
        let (conn, group) = (self.conn(), self.group());
        let own = &mut self.loops[service];
        if let Some(flow) = own.connections.set_group(conn, group) {
            own.flows.set_group(flow, group, &mut self.lanes);
        }
    }

    fn close(&mut self, service: usize) {
        let conn = self.conn();
        let own = &mut self.loops[service];
        if let Some(slot) = own.connections.find(conn) {
            own.connections.close(slot);
        }
    }

    fn estimate(&mut self, service: usize) {
        let conn = self.conn();
        let own = &self.loops[service];
        let task = own
            .connections
            .find(conn)
            .and_then(|flow| own.connections[flow].known_flow(service as u32, flow));
        if let Some(task) = task {
            let member = task.key.map_or(NONE, |key| own.flows.last_member(key.flow));
            let time = self.lanes.time_before(task, member);
            assert!(time <= self.lanes.work(), "more than all tasks need");
        }
    }

    fn forgive(&mut self) {
        self.settle();
        let is_taken = |task: &Task| matches!(task.place, Place::Taken(..));
        let nothing_runs = !self.loops.iter().any(|own| own.tasks.iter().any(is_taken));
        if self.lanes.is_empty() && nothing_runs {
            self.lanes.forgive();
        }
    }

    fn step(&mut self) {
        let service = self.random.usize(0..SERVICES);
        match self.random.u8(0..40) {
            0..10 => self.enqueue(service),
            10..16 => self.take(),
            16..23 => self.run(service),
            23 => self.remove(service),
            24 => self.shed(service),
            25 | 26 => self.put_back(service),
            27 => self.end_delay(service),
            28 | 29 => self.resume(service),
            30 | 31 => self.reattach(service),
            32 | 33 => self.set_group(service),
            34 => self.close(service),
            35 => self.estimate(service),
            36 => self.settle(),
            37 => self.forgive(),
            38 => self.lanes.sweep_soon(),
            _ => {
                let (conn, weight) = (self.conn(), self.random.u16(1..5));
                self.loops[service].connections.set_weight(conn, weight);
                let group = GroupId(self.random.u64(0..GROUPS));
                self.lanes.set_group_weight(group, self.random.u16(1..5));
            }
        }
    }

    fn check(&mut self) {
        let mut taken: Vec<_> = self.charges.iter().map(|&(prepaid, _)| prepaid).collect();
        let mut waiting = 0;
        for own in &mut self.loops {
            taken.extend(own.tasks.iter().filter_map(|task| match task.place {
                Place::Taken(_, prepaid) => prepaid,
                _ => None,
            }));
            waiting += own.flows.check(&self.lanes, |slot| {
                let connection = own.tasks[slot as usize].connection;
                (connection, own.connections[connection].group())
            });
        }
        assert_eq!(self.lanes.tasks(), waiting);
        self.lanes.check(&taken);
    }

    /// Ends everything.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.take();
            for service in 0..SERVICES {
                self.run(service);
                self.end_delay(service);
                self.resume(service);
            }
        }
        self.settle();
        self.check();
        let is_free = |task: &Task| matches!(task.place, Place::Free);
        assert!(self.loops.iter().all(|own| own.tasks.iter().all(is_free)));
        assert!(self.lanes.is_empty());
        for own in &self.loops {
            assert!(!own.flows.has_moves());
        }
    }
}

impl Loop {
    /// Links a task. Only whether a connection has tasks matters here.
    fn link(&mut self, slot: u32, connection: u32) {
        self.tasks[slot as usize].connection = connection;
        self.connections[connection].first = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let connection = std::mem::replace(&mut self.tasks[slot as usize].connection, NONE);
        let other = self.tasks.iter().position(|task| task.connection == connection);
        self.connections[connection].first = other.map_or(NONE, |slot| slot as u32);
        if other.is_none() {
            self.connections.note_idle(connection);
        }
    }

    /// The loop receives a task from a worker.
    fn receive(&mut self, slot: u32, cost: u64) {
        let task = &mut self.tasks[slot as usize];
        let connection = &mut self.connections[task.connection];
        connection.charge(cost);
        connection.away -= 1;
        if std::mem::take(&mut task.was_moved) {
            self.flows.forget_move(slot);
        }
    }

    fn reap(&mut self, slot: u32) {
        self.unlink(slot);
        self.tasks[slot as usize].place = Place::Free;
    }
}

#[test]
fn all_records_agree_after_any_sequence_of_operations() {
    for seed in 0..10 {
        let mut model = Model::new(seed);
        for step in 0..3_000 {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                model.step();
                model.check();
            }));
            assert!(ran.is_ok(), "seed {seed}, step {step}");
        }
        model.drain();
    }
}
