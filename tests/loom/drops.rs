//! The pool and its services end in any order and on any thread: no deadlock, no leak, and parked
//! tasks end.

use crate::util::{Event, FOREVER, First, Probe, end_race, explore, parked, pool_of};
use moored::{
    Context, Resume, Service, Shutdown, StopReason, Task, TaskId, TaskReturn, TaskStatus, ThreadPool,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A pool of one worker, and a service with one task.
fn scene(first: First) -> (ThreadPool, Service<Probe>, Arc<Event>, impl Fn() -> usize) {
    let pool = pool_of(1).build().unwrap();
    let event = Event::new();
    let mut service = pool.service(Arc::clone(&event));
    let (task, seen) = Probe::new(first);
    service.enqueue(1, task).unwrap();
    (pool, service, event, move || seen().drops)
}

/// S1, S24: the drop of the pool waits for its worker. Ended tasks stay in the service, whose loop
/// never looks.
#[test]
fn the_pool_is_dropped_before_the_service() {
    for first in [First::Continue, First::Sync, First::Panic] {
        explore(format!("pool before service, {first:?}"), move || {
            let (pool, service, event, drops) = scene(first);
            drop(pool);
            drop(service);
            assert_eq!(drops(), 1);
            assert_eq!(Arc::strong_count(&event), 1, "the service has leaked");
        });
    }
}

/// S24: the worker drops the task of a service that was dropped.
#[test]
fn the_service_is_dropped_before_the_pool() {
    for first in [First::Continue, First::Sync, First::Panic] {
        explore(format!("service before pool, {first:?}"), move || {
            let (pool, service, event, drops) = scene(first);
            drop(service);
            drop(pool);
            assert_eq!(drops(), 1);
            assert_eq!(Arc::strong_count(&event), 1, "the service has leaked");
        });
    }
}

/// S24: both are dropped at the same time, on two threads.
#[test]
fn the_pool_and_the_service_are_dropped_at_the_same_time() {
    explore("pool and service at once", || {
        let (pool, service, event, drops) = scene(First::Sync);
        let other = loom::thread::spawn(move || drop(pool));
        drop(service);
        other.join().unwrap();
        assert_eq!(drops(), 1);
        assert_eq!(Arc::strong_count(&event), 1, "the service has leaked");
    });
}

/// S1: two workers are about to sleep, asleep, or at work.
#[test]
fn the_pool_is_dropped_while_two_workers_go_to_sleep() {
    explore("pool of two workers", || {
        let pool = pool_of(2).build().unwrap();
        let mut service = pool.service(|| {});
        let (task, seen) = Probe::new(First::TaskDone);
        service.enqueue(1, task).unwrap();
        drop(pool);
        drop(service);
        assert_eq!(seen().drops, 1);
    });
}

/// A task with a value that its step drops.
struct Owner<O>(Option<O>);

impl<O: Send + 'static> Task for Owner<O> {
    fn step(&mut self, _cx: &mut Context<'_>) -> TaskReturn {
        self.0 = None;
        TaskReturn::TaskDone
    }
}

/// S24: a task owns the last handle of its pool. The worker cannot wait for itself, and ends all
/// the same.
#[test]
fn the_pool_is_dropped_inside_a_step_on_its_own_worker() {
    explore("pool dropped by a step", || {
        let (event, gone) = (Event::new(), Event::new());
        let worker_goes = Arc::clone(&gone);
        let builder = pool_of(1).on_thread_stop(move |_| worker_goes.happen());
        let pool = Arc::new(builder.build().unwrap());
        let mut service = pool.service(Arc::clone(&event));
        let id = service.enqueue(1, Owner(Some(Arc::clone(&pool)))).unwrap();
        let weak = Arc::downgrade(&pool);
        drop(pool);
        while service.take_ready().all(|ready| ready.id != id) {
            event.wait();
        }
        let end = service.task_status(id);
        assert!(
            matches!(end, Some(TaskStatus::Finished(_) | TaskStatus::Stopped(..))),
            "{end:?}"
        );
        drop(end);
        assert!(weak.upgrade().is_none());
        drop(service);
        gone.wait();
        assert_eq!(Arc::strong_count(&event), 1, "the service has leaked");
    });
}

/// S24: a service is dropped on a worker of its pool, while one of its tasks is queued.
#[test]
fn a_service_is_dropped_inside_a_step_of_another_one() {
    explore("service dropped by a step", || {
        let (pool, inner, event, drops) = scene(First::Sync);
        let mut outer = pool.service(|| {});
        outer.enqueue(1, Owner(Some(inner))).unwrap();
        pool.shutdown(Shutdown::Cancel);
        pool.join_timeout(FOREVER).unwrap();
        drop(outer);
        assert_eq!(drops(), 1);
        assert_eq!(Arc::strong_count(&event), 1, "the inner service has leaked");
    });
}

/// The answer of the loop to a parked task while another thread shuts the pool down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Resume,
    Stop,
    /// No answer, not even later.
    Never,
    /// No answer at first, and `task_sync` later.
    Late,
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Finished,
    Stopped,
}

/// Looks at an announced task. Answers if it is parked, and returns its end if it has ended.
fn look(service: &mut Service<Probe>, id: TaskId, answer: Answer) -> Option<End> {
    match service.task_status(id) {
        Some(TaskStatus::Syncing(point)) => match answer {
            Answer::Resume => point.resume(),
            Answer::Stop => point.stop(),
            Answer::Never => {}
            Answer::Late => drop(service.task_sync(id, Resume::Continue)),
        },
        Some(TaskStatus::Stopping) => {}
        Some(TaskStatus::Finished(_)) => return Some(End::Finished),
        Some(TaskStatus::Stopped(..)) => return Some(End::Stopped),
        other => panic!("announced, but it is {other:?}"),
    }
    None
}

fn a_shutdown_races_the_holder_of_a_parked_task(answer: Answer) -> BTreeSet<End> {
    explore(
        format!("shutdown while a task is parked, {answer:?}"),
        move || {
            let pool = Arc::new(pool_of(1).build().unwrap());
            let (mut service, event, id, seen) = parked(&pool);
            let finisher = loom::thread::spawn({
                let pool = Arc::clone(&pool);
                move || pool.shutdown(Shutdown::Cancel)
            });
            let mut end = look(&mut service, id, answer);
            while end.is_none() {
                event.wait();
                end = service
                    .take_ready()
                    .next()
                    .and_then(|ready| look(&mut service, ready.id, answer));
            }
            end_race();
            let told = seen().told;
            let (by_finish, by_loop) = (Some(StopReason::PoolShutdown), Some(StopReason::Dequeued));
            match end {
                Some(End::Finished) => assert_eq!((seen().steps, told), (2, None)),
                _ => assert!(
                    told == by_finish || told == by_loop && answer == Answer::Stop,
                    "{told:?}"
                ),
            }
            finisher.join().unwrap();
            drop(pool);
            assert!(service.take_ready().is_empty(), "announced again");
            end.expect("the loop has received the end")
        },
    )
}

/// L8, S24: the workers may have ended before the answer. The task ends in this case too, and its
/// end is announced.
#[test]
fn an_answer_races_a_shutdown() {
    let both = BTreeSet::from([End::Finished, End::Stopped]);
    assert_eq!(a_shutdown_races_the_holder_of_a_parked_task(Answer::Resume), both);
    assert_eq!(a_shutdown_races_the_holder_of_a_parked_task(Answer::Late), both);
    assert_eq!(
        a_shutdown_races_the_holder_of_a_parked_task(Answer::Stop),
        BTreeSet::from([End::Stopped])
    );
}

/// L3, L6, S10: the loop has looked at a parked task and left it parked. The shutdown notifies the
/// loop, and the task stops.
#[test]
fn a_task_that_was_left_parked_is_stopped_by_a_shutdown() {
    assert_eq!(
        a_shutdown_races_the_holder_of_a_parked_task(Answer::Never),
        BTreeSet::from([End::Stopped])
    );
}

/// S3, S10: another thread shuts the pool down after the beginning of a look and before its re-arm,
/// and the loop was notified of another event before. A loop that reads the flag only before the
/// re-arm sleeps for ever, although its parked task must stop.
#[test]
fn a_look_races_a_shutdown() {
    explore("a look while another thread shuts the pool down", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let (mut service, event, parked, _seen) = parked(&pool);
        let (task, _seen) = Probe::new(First::TaskDone);
        let done = service.enqueue(2, task).unwrap();
        event.wait();
        // The task is reaped by its id, so the next look finds nothing.
        let end = service.task_status(done);
        assert!(matches!(end, Some(TaskStatus::Finished(_))), "{end:?}");
        drop(end);
        let finisher = loom::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.shutdown(moored::Shutdown::Cancel)
        });
        let mut look = || service.take_ready().find(|ready| ready.id == parked);
        let mut announced = look();
        while announced.is_none() {
            event.wait();
            announced = look();
        }
        end_race();
        assert!(matches!(
            service.task_status(parked),
            Some(TaskStatus::Stopped(StopReason::PoolShutdown, _))
        ));
        finisher.join().unwrap();
    });
}
