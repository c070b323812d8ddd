//! A loop calls `take_ready` while workers complete tasks: no notification is lost, and there is at
//! most one for each call.

use crate::util::{Event, First, Probe, end_race, explore, explore_deeper, pool_of};
use moored::{
    BoxTask, Clock, ManualClock, ReadyTasks, Resume, Service, Shutdown, TaskId, TaskReturn, TaskStatus,
    ThreadPool, task_fn,
};
use std::sync::Arc;
use std::time::Duration;

/// A loop that only sleeps, calls `take_ready`, and reaps.
struct Loop {
    event: Arc<Event>,
    service: Service<Probe>,
    drains: usize,
    ended: Vec<TaskId>,
}

impl Loop {
    fn new(pool: &ThreadPool) -> Self {
        let event = Event::new();
        let service = pool.service(Arc::clone(&event));
        Self {
            event,
            service,
            drains: 0,
            ended: Vec::new(),
        }
    }

    fn enqueue(&mut self, conn: u64, first: First) -> TaskId {
        self.service.enqueue(conn, Probe::new(first).0).unwrap()
    }

    fn drain(&mut self) {
        self.drains += 1;
        let ready = self.service.take_ready();
        self.look_at(ready);
    }

    fn look_at(&mut self, ready: ReadyTasks) {
        for id in ready.map(|ready| ready.id) {
            match self.service.task_status(id) {
                Some(TaskStatus::Syncing(point)) => point.resume(),
                Some(TaskStatus::Finished(_) | TaskStatus::Stopped(..)) => self.ended.push(id),
                other => panic!("announced, but it is {other:?}"),
            }
        }
    }

    fn run(&mut self) {
        while !self.service.is_empty() {
            self.event.wait();
            self.drain();
        }
        end_race();
        self.check_wakes();
    }

    /// The iteration of a busy loop: it sleeps only after `take_ready` has returned nothing.
    fn run_until_nothing_is_left(&mut self) {
        while !self.service.is_empty() {
            self.drains += 1;
            let ready = self.service.take_ready();
            if ready.is_empty() {
                self.event.wait();
            }
            self.look_at(ready);
        }
        end_race();
        self.check_wakes();
    }

    fn check_wakes(&self) {
        // Each `take_ready` allows one notification, and one is allowed at the start.
        let wakes = self.event.total();
        assert!(
            wakes <= self.drains + 1,
            "{wakes} wake-ups for {} calls of `take_ready`",
            self.drains
        );
    }
}

fn drain_against(workers: usize, firsts: &'static [First]) {
    explore(format!("{firsts:?} by {workers} workers"), move || {
        let pool = pool_of(workers).build().unwrap();
        let mut own = Loop::new(&pool);
        let ids: Vec<_> = (0..)
            .zip(firsts)
            .map(|(conn, &first)| own.enqueue(conn, first))
            .collect();
        own.run();
        own.ended.sort_unstable();
        assert_eq!(own.ended, ids, "each is announced once");
    });
}

/// S3, S4: a worker ends a task, and parks one, between any two steps of the loop's `take_ready`.
#[test]
fn take_ready_races_the_completions_of_one_worker() {
    drain_against(1, &[First::Sync, First::TaskDone, First::TaskDone]);
}

/// S3, S4: two workers complete tasks at the same time, each in its own completion ring.
#[test]
fn take_ready_races_the_completions_of_two_workers() {
    drain_against(2, &[First::TaskDone, First::TaskDone]);
}

/// S3: the loop also calls `take_ready` early, and then sleeps. A task that the early call has not
/// found wakes it.
#[test]
fn an_early_take_ready_loses_nothing() {
    explore("an early take_ready", || {
        let pool = pool_of(1).build().unwrap();
        let mut own = Loop::new(&pool);
        let id = own.enqueue(1, First::Sync);
        own.drain();
        own.run();
        assert_eq!(own.ended, [id]);
    });
}

/// S3: the loop sleeps when it finds nothing more. A completion between that look and the sleep
/// ends the sleep.
#[test]
fn a_loop_that_looks_until_it_finds_nothing_races_completions() {
    explore("until nothing is left", || {
        let pool = pool_of(1).build().unwrap();
        let mut own = Loop::new(&pool);
        let ids = [First::Sync, First::TaskDone].map(|first| own.enqueue(1, first));
        own.run_until_nothing_is_left();
        own.ended.sort_unstable();
        assert_eq!(own.ended, ids, "each is announced once");
    });
}

/// L2: the loop answers before the `Sync` was announced, and the task parks again. Of the two
/// `Sync`s only one is announced.
#[test]
fn a_sync_that_was_answered_early_is_not_announced_with_the_next_one() {
    let early = explore_deeper(3, "an early answer", || {
        let pool = pool_of(1).build().unwrap();
        let mut own = Loop::new(&pool);
        let id = own.enqueue(1, First::SyncTwice);
        let early = own.service.task_sync(id, Resume::Continue);
        own.run();
        assert_eq!(own.ended, [id]);
        early
    });
    assert_eq!(early.len(), 2);
}

/// A task with a long step, which ends only when the loop has seen something.
fn long(begun: &Arc<Event>, seen: &Arc<Event>, hand: &ManualClock) -> BoxTask {
    let (begun, seen, hand) = (Arc::clone(begun), Arc::clone(seen), hand.clone());
    task_fn(move |_| {
        hand.advance(Duration::from_millis(1));
        begun.happen();
        seen.wait();
        TaskReturn::TaskDone
    })
}

/// S3: a worker with more tasks may defer a notification, but not for the length of a step.
#[test]
fn an_end_is_announced_while_every_worker_is_in_a_long_step() {
    explore("notified during long steps", || {
        let (clock, hand) = Clock::manual();
        let [begun, seen, other_begun, other_heard, event] = [(); 5].map(|()| Event::new());
        // The second worker takes its first task before the first worker takes any.
        let first = Arc::clone(&begun);
        let waits_for_the_second = move |worker| {
            if worker == 0 {
                first.wait();
            }
        };
        let builder = ThreadPool::builder().threads(2).clock(clock);
        let pool = builder.on_thread_start(waits_for_the_second).build().unwrap();
        let mut service = pool.service(Arc::clone(&event));
        let short = || task_fn(|_| TaskReturn::TaskDone);
        service.enqueue(0, long(&begun, &seen, &hand)).unwrap();
        // After the first short task, steps count as short.
        service.enqueue(1, short()).unwrap();
        service.enqueue(2, short()).unwrap();
        service
            .enqueue(3, long(&other_begun, &other_heard, &hand))
            .unwrap();
        let mut told = 0;
        while told < 2 {
            event.wait();
            told += service.take_ready().count();
        }
        end_race();
        seen.happen();
        other_heard.happen();
        drop(pool);
    });
}

/// S3: the only worker defers a notification while the loop polls, and begins a long step. The loop
/// looks again without a notification. At most one look finds nothing, and then the loop is
/// notified.
#[test]
fn an_end_is_announced_while_the_only_worker_is_in_a_long_step_and_the_loop_polls() {
    let naps = explore("announced to a loop that polls", || {
        let (clock, hand) = Clock::manual();
        let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
        let [event, begun, seen] = [(); 3].map(|()| Event::new());
        let mut service = pool.service(Arc::clone(&event));
        // After the first short task, steps count as short, and a batch has two tasks.
        for conn in 1..3 {
            service.enqueue(conn, task_fn(|_| TaskReturn::TaskDone)).unwrap();
        }
        service.enqueue(3, long(&begun, &seen, &hand)).unwrap();
        let (mut told, mut naps) = (0, 0);
        while told < 2 {
            if service.poll_timeout().is_some() {
                naps += 1;
                loom::thread::yield_now();
            } else {
                event.wait();
            }
            told += service.take_ready().count();
        }
        end_race();
        seen.happen();
        drop(pool);
        naps
    });
    assert!(naps.len() > 1, "{naps:?}");
}

/// S5: the loop cancels its only queued task. Either its own call or the worker notifies it.
#[test]
fn a_loop_is_notified_of_the_task_that_it_cancelled_itself() {
    explore("cancelled by the loop", || {
        let pool = pool_of(1).build().unwrap();
        let mut own = Loop::new(&pool);
        let first = own.enqueue(1, First::TaskDone);
        let second = own.enqueue(1, First::TaskDone);
        own.service.dequeue(second);
        own.run();
        own.ended.sort_unstable();
        assert_eq!(own.ended, [first, second]);
    });
}

/// With a limit of one, the end of a task starts the next one, on either worker, and the ends are
/// announced in order.
#[test]
fn the_ends_of_a_limited_connection_are_announced_in_order() {
    explore("ends in order", || {
        let pool = pool_of(2).max_running_per_connection(1).build().unwrap();
        let mut own = Loop::new(&pool);
        let ids = [own.enqueue(1, First::TaskDone), own.enqueue(1, First::TaskDone)];
        own.run();
        assert_eq!(own.ended, ids);
    });
}

/// S9: the task is accepted and ends, or it is returned.
#[test]
fn enqueue_races_a_shutdown() {
    let accepted = explore("enqueue and finish", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let mut own = Loop::new(&pool);
        let finisher = loom::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.shutdown(Shutdown::Cancel)
        });
        let (task, seen) = Probe::new(First::Continue);
        let accepted = own.service.enqueue(1, task).is_ok();
        own.run();
        finisher.join().unwrap();
        assert_eq!(own.ended.len(), usize::from(accepted));
        assert_eq!(seen().drops, 1);
        accepted
    });
    assert_eq!(accepted.len(), 2);
}
