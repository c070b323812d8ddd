//! The ends of the pool and of its services, in any order and on any thread: nothing hangs, nothing
//! is left over, and what the loop still holds comes to its end.

use crate::util::{Event, FOREVER, First, Probe, explore, parked, pool_of};
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

/// S1, S24: the pool waits for its worker; what has ended is still there for the loop, which never
/// looks.
#[test]
fn the_pool_goes_before_the_service() {
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

/// S24: the worker drops what it was given by a service that is gone.
#[test]
fn the_service_goes_before_the_pool() {
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

/// S24: and both at once, on two threads.
#[test]
fn the_pool_and_the_service_go_at_the_same_time() {
    explore("pool and service at once", || {
        let (pool, service, event, drops) = scene(First::Sync);
        let other = loom::thread::spawn(move || drop(pool));
        drop(service);
        other.join().unwrap();
        assert_eq!(drops(), 1);
        assert_eq!(Arc::strong_count(&event), 1, "the service has leaked");
    });
}

/// A task that owns something which its step drops.
struct Owner<O>(Option<O>);

impl<O: Send + 'static> Task for Owner<O> {
    fn step(&mut self, _cx: &mut Context<'_>) -> TaskReturn {
        self.0 = None;
        TaskReturn::TaskDone
    }
}

/// S24: the last handle of a pool is a task's: the worker cannot wait for itself, and ends all the
/// same.
#[test]
fn the_pool_goes_inside_a_step_on_its_own_worker() {
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

/// S24: a service goes on a worker of its pool, with a task in line.
#[test]
fn a_service_goes_inside_a_step_of_another_one() {
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

/// What the loop does with a parked task while another thread finishes the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Resume,
    Stop,
    /// None, and later none either.
    Never,
    /// None, and a later `task_sync`.
    Late,
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Finished,
    Stopped,
}

/// Looks at a task that was announced, and answers if it is parked; gives its end if it has ended.
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
        other => panic!("announced for nothing: {other:?}"),
    }
    None
}

fn a_shutdown_races_the_holder_of_a_parked_task(answer: Answer) -> BTreeSet<End> {
    explore(
        format!("finish while the loop holds a task, {answer:?}"),
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
            end.expect("the loop went on until then")
        },
    )
}

/// L8, S24: the workers may have gone when the answer comes; the task ends all the same, and the
/// loop is told.
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

/// L3, L6, S10: the loop has looked at a parked task and left it so; it is woken, and the task
/// stops.
#[test]
fn a_task_that_was_left_parked_is_stopped_by_a_shutdown() {
    assert_eq!(
        a_shutdown_races_the_holder_of_a_parked_task(Answer::Never),
        BTreeSet::from([End::Stopped])
    );
}

/// S3, S10: the pool is shut down between the beginning of a look and its re-arm, and the loop has
/// been notified of something else before. A loop that reads the flag only before it re-arms sleeps
/// for ever beside its parked task.
#[test]
fn a_look_races_a_shutdown() {
    explore("a look while another thread shuts the pool down", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let (mut service, event, parked, _seen) = parked(&pool);
        let (task, _seen) = Probe::new(First::TaskDone);
        let done = service.enqueue(2, task).unwrap();
        event.wait();
        // Reaped by its id: the next look finds nothing.
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
        assert!(matches!(
            service.task_status(parked),
            Some(TaskStatus::Stopped(StopReason::PoolShutdown, _))
        ));
        finisher.join().unwrap();
    });
}
