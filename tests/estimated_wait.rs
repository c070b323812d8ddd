//! The estimate of the wait beside connections and groups of different weights, compared with the
//! wait of the task that is enqueued then.

mod util;

use moored::{Clock, GroupId, ManualClock, TaskReturn, ThreadPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use util::{Loop, PLENTY, Work};

const HEAVY: u16 = 100;
/// The connection whose wait is estimated, and its group in the tests with groups.
const OWN: u64 = 0;
const OWN_GROUP: GroupId = GroupId(1);
const HEAVY_GROUP: GroupId = GroupId(2);

/// A pool without workers, whose clock is moved by the steps.
struct Load {
    pool: ThreadPool,
    lp: Loop<Work>,
    time: ManualClock,
    /// The time of all steps, in microseconds.
    used: Arc<AtomicU64>,
}

impl Load {
    fn new() -> Self {
        let (clock, time) = Clock::manual();
        let builder = ThreadPool::builder().threads(0).clock(clock);
        let pool = builder.max_queue_depth(100_000).build().unwrap();
        let lp = Loop::new(&pool);
        let used = Arc::default();
        Self { pool, lp, time, used }
    }

    fn turn(&mut self) {
        assert_eq!(self.lp.run_pending(Duration::ZERO), 1);
    }

    /// Enqueues tasks of one step.
    fn enqueue(&mut self, conn: u64, tasks: usize, micros: u64) {
        for _ in 0..tasks {
            let (time, used) = (self.time.clone(), Arc::clone(&self.used));
            let task = Work::new(move |_, _| {
                time.advance(Duration::from_micros(micros));
                used.fetch_add(micros, Relaxed);
                TaskReturn::TaskDone
            });
            self.lp.enqueue(conn, task).unwrap();
        }
    }

    /// Runs tasks of each connection, so that the recent cost of its turns is known.
    fn learn(&mut self, conns: impl IntoIterator<Item = u64>, micros: u64) {
        for conn in conns {
            for _ in 0..20 {
                self.enqueue(conn, 2, micros);
                self.lp.run_pending(PLENTY);
            }
        }
    }

    /// Compares the estimate for a connection with the time until its next task begins.
    #[track_caller]
    fn check(&mut self, conn: u64) {
        let estimate = self.lp.estimated_wait(conn);
        let begun = Arc::new(AtomicU64::new(u64::MAX));
        let (used, note) = (Arc::clone(&self.used), Arc::clone(&begun));
        let before = used.load(Relaxed);
        let task = Work::new(move |_, _| {
            note.store(used.load(Relaxed), Relaxed);
            TaskReturn::TaskDone
        });
        self.lp.enqueue(conn, task).unwrap();
        while begun.load(Relaxed) == u64::MAX {
            self.turn();
        }
        let wait = Duration::from_micros(begun.load(Relaxed) - before);
        assert!(
            estimate <= 2 * wait && wait <= 2 * estimate,
            "{estimate:?} instead of {wait:?}\n{:.0}",
            self.pool.dump()
        );
    }
}

/// Checks the wait of a connection beside another one, which is made heavy and has few tasks or many.
#[track_caller]
fn check_beside_heavy(make_heavy: impl Fn(&mut Load, u64)) {
    for tasks in [1, 10, 1_000] {
        let mut load = Load::new();
        make_heavy(&mut load, 1);
        load.learn([OWN, 1], 10_000);
        load.enqueue(OWN, 5, 10_000);
        load.turn();
        load.enqueue(1, tasks, 10_000);
        load.check(OWN);
    }
}

/// It said 4 s for 50 ms.
#[test]
fn a_heavy_group_is_not_expected_to_use_more_time_than_its_tasks_need() {
    check_beside_heavy(|load, conn| {
        load.pool.set_group_weight(HEAVY_GROUP, HEAVY);
        load.lp.set_group(conn, HEAVY_GROUP);
    });
}

#[test]
fn a_heavy_connection_is_not_expected_to_use_more_time_than_its_tasks_need() {
    check_beside_heavy(|load, conn| load.lp.set_weight(conn, HEAVY));
}

#[test]
fn a_task_of_a_heavy_connection_waits_for_few_of_the_others() {
    let mut load = Load::new();
    load.lp.set_weight(OWN, HEAVY);
    load.learn(0..20, 1_000);
    for conn in 1..20 {
        load.enqueue(conn, 50, 1_000);
    }
    (0..40).for_each(|_| load.turn());
    load.enqueue(OWN, 60, 1_000);
    load.check(OWN);
}

/// One connection has used its share. The others have a short task each, or many tasks.
#[test]
fn connections_with_few_tasks_do_not_count_like_a_flood() {
    for floods in [0, 3] {
        let mut load = Load::new();
        load.learn(0..100, 1_000);
        load.enqueue(OWN, 50, 1_000);
        (0..20).for_each(|_| load.turn());
        for conn in 1..100 {
            load.enqueue(conn, if conn <= floods { 500 } else { 1 }, 1_000);
        }
        load.check(OWN);
    }
}

/// The recent turns of the pool were long, those of the waiting connections are short.
#[test]
fn the_cost_of_a_turn_is_that_of_its_connection() {
    for conn in [OWN, 300] {
        let mut load = Load::new();
        load.learn(100..130, 50);
        load.learn([OWN], 50_000);
        load.enqueue(OWN, 2, 50_000);
        load.turn();
        for conn in 100..130 {
            load.enqueue(conn, 1, 50);
        }
        load.check(conn);
    }
}

#[test]
fn a_task_in_a_group_waits_for_the_tasks_that_the_other_groups_have() {
    for (own_weight, heavy_tasks, lone_tasks) in [(1, 2, 1), (1, 300, 1), (1, 300, 40), (HEAVY, 300, 40)] {
        let mut load = Load::new();
        load.pool.set_group_weight(HEAVY_GROUP, HEAVY);
        load.pool.set_group_weight(OWN_GROUP, own_weight);
        for conn in 0..4 {
            load.lp.set_group(conn, OWN_GROUP);
            load.lp.set_group(10 + conn, HEAVY_GROUP);
        }
        load.learn((0..4).chain(10..14).chain(20..25), 2_000);
        for conn in 0..4 {
            load.enqueue(conn, 5, 2_000);
        }
        (0..8).for_each(|_| load.turn());
        for conn in 10..14 {
            load.enqueue(conn, heavy_tasks / 2, 2_000);
        }
        for conn in 20..25 {
            load.enqueue(conn, lone_tasks, 2_000);
        }
        load.check(OWN);
    }
}

/// The other connection of the group is heavy and has one task.
#[test]
fn a_heavy_connection_of_the_group_counts_with_its_tasks() {
    for tasks in [1, 300] {
        let mut load = Load::new();
        for conn in [OWN, 1] {
            load.lp.set_group(conn, OWN_GROUP);
        }
        load.lp.set_weight(1, HEAVY);
        load.learn([OWN, 1, 2], 5_000);
        load.enqueue(OWN, 6, 5_000);
        load.turn();
        load.enqueue(1, tasks, 5_000);
        load.enqueue(2, 3, 5_000);
        load.check(OWN);
    }
}

/// A group with long steps of one connection and short steps of another one.
#[test]
fn the_work_of_a_group_is_the_sum_of_the_work_of_its_connections() {
    let mut load = Load::new();
    load.pool.set_group_weight(HEAVY_GROUP, HEAVY);
    for conn in [1, 2] {
        load.lp.set_group(conn, HEAVY_GROUP);
    }
    load.learn([OWN, 1], 5_000);
    load.learn([2], 20);
    load.enqueue(OWN, 8, 5_000);
    load.turn();
    load.enqueue(1, 3, 5_000);
    load.enqueue(2, 100, 20);
    load.check(OWN);
}
