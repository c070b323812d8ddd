//! A pool that drains: the workers end in every case. It does not matter on which thread the last
//! task ends.

use crate::util::{Event, FOREVER, First, Probe, explore, pool_of};
use moored::{Dequeued, Resume, Shutdown, TaskStatus, ThreadPool};
use std::sync::Arc;

fn drain_on_another_thread(pool: &Arc<ThreadPool>) -> loom::thread::JoinHandle<()> {
    let pool = Arc::clone(pool);
    loom::thread::spawn(move || pool.shutdown(Shutdown::Drain))
}

/// U14: the drain comes while the task waits, runs, is parked, is resumed, or has ended.
#[test]
fn a_drain_races_a_task_that_parks() {
    explore("drain against park and resume", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let (task, seen) = Probe::new(First::Sync);
        service.enqueue(1, task).unwrap();
        let drains = drain_on_another_thread(&pool);
        while !service.is_empty() {
            event.wait();
            for id in service.take_ready().map(|ready| ready.id) {
                match service.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => point.resume(),
                    Some(TaskStatus::Finished(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((seen().steps, seen().told), (2, None));
        drains.join().unwrap();
        pool.join_timeout(FOREVER).unwrap();
    });
}

/// U14: the loop ends the last task, or a worker does.
#[test]
fn a_drain_races_a_task_that_is_dequeued() {
    let found = explore("drain against dequeue", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let (task, _) = Probe::new(First::Sync);
        let id = service.enqueue(1, task).unwrap();
        let drains = drain_on_another_thread(&pool);
        let dequeued = service.dequeue(id);
        while !service.is_empty() {
            event.wait();
            for id in service.take_ready().map(|ready| ready.id) {
                let status = service.task_status(id);
                assert!(matches!(status, Some(TaskStatus::Stopped(..))), "{status:?}");
            }
        }
        drains.join().unwrap();
        pool.join_timeout(FOREVER).unwrap();
        dequeued == Dequeued::Removed
    });
    assert_eq!(found.len(), 2);
}

/// U14: two workers end the last two tasks. The worker that is first must not sleep for ever.
#[test]
fn two_workers_end_the_last_tasks_of_a_drain() {
    explore("drain, two workers", || {
        let pool = pool_of(2).build().unwrap();
        let mut service = pool.service(|| {});
        for conn in 0..2 {
            service.enqueue(conn, Probe::new(First::TaskDone).0).unwrap();
        }
        pool.shutdown(Shutdown::Drain);
        pool.join_timeout(FOREVER).unwrap();
        assert_eq!(pool.dump().counters.finished, 2);
    });
}

/// U14, S9: the task is accepted, and the workers do not end before it has finished, or it is
/// refused.
#[test]
fn an_enqueue_races_a_drain() {
    let found = explore("drain against enqueue", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let drains = drain_on_another_thread(&pool);
        let (task, _) = Probe::new(First::Sync);
        let accepted = service.enqueue(1, task).is_ok();
        while !service.is_empty() {
            event.wait();
            for id in service.take_ready().map(|ready| ready.id) {
                if !service.task_sync(id, Resume::Continue) {
                    assert!(matches!(service.task_status(id), Some(TaskStatus::Finished(_))));
                }
            }
        }
        drains.join().unwrap();
        pool.join_timeout(FOREVER).unwrap();
        accepted
    });
    assert_eq!(found.len(), 2);
}

/// U14: a task that waits for a time needs a worker, also when it is asked to stop. A loop that has
/// not seen the drain must not submit it to a pool that has ended.
#[test]
fn an_enqueue_of_a_task_with_a_delay_races_a_drain() {
    let found = explore("drain against enqueue and delay", || {
        let pool = Arc::new(pool_of(1).build().unwrap());
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let drains = drain_on_another_thread(&pool);
        let (task, seen) = Probe::new(First::Delay);
        let accepted = service.enqueue(1, task);
        let is_accepted = accepted.is_ok();
        if let Ok(id) = accepted {
            let _ = service.dequeue(id);
            while !service.is_empty() {
                event.wait();
                for id in service.take_ready().map(|ready| ready.id) {
                    let status = service.task_status(id);
                    assert!(matches!(status, Some(TaskStatus::Stopped(..))), "{status:?}");
                }
            }
            assert_eq!(seen().drops, 1);
        }
        drains.join().unwrap();
        pool.join_timeout(FOREVER).unwrap();
        is_accepted
    });
    assert_eq!(found.len(), 2);
}
