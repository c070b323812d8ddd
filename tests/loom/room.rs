//! A service is refused while room is made. It is notified, or its task is accepted, and it never
//! waits for ever.

use crate::util::{Event, First, Probe, explore, pool_of};
use loom::thread;
use moored::{Dequeued, Service, TaskStatus, ThreadPool};
use std::sync::Arc;

/// Enqueues a task like a loop that was refused: again after each notification.
fn enqueue(service: &mut Service<Probe>, event: &Event) -> usize {
    let mut refusals = 0;
    while service.enqueue(2, Probe::new(First::TaskDone).0).is_err() {
        refusals += 1;
        event.wait();
        let _ = service.take_ready();
    }
    refusals
}

/// A loop on its own thread that enqueues a task. It returns its service.
fn other_loop(pool: &ThreadPool) -> thread::JoinHandle<(Service<Probe>, usize)> {
    let event = Event::new();
    let mut service = pool.service(Arc::clone(&event));
    thread::spawn(move || {
        let refusals = enqueue(&mut service, &event);
        (service, refusals)
    })
}

/// The only room is that of a reaped task. `poll` is called before and after the reap.
fn race_with_a_reap(name: &str, poll: fn(&mut Service<Probe>)) {
    let refusals = explore(name, move || {
        let pool = pool_of(0).max_tasks(1).build().unwrap();
        let mut own = pool.service(|| {});
        let id = own.enqueue(1, Probe::new(First::TaskDone).0).unwrap();
        own.run_pending(crate::util::FOREVER);
        poll(&mut own);
        let other = other_loop(&pool);
        assert!(matches!(own.task_status(id), Some(TaskStatus::Finished(_))));
        poll(&mut own);
        other.join().unwrap().1
    });
    assert_eq!(refusals.into_iter().collect::<Vec<_>>(), [0, 1]);
}

/// U10: the loop reports the reaped task at once.
#[test]
fn a_refusal_races_a_reaped_task() {
    race_with_a_reap("refuse against reap", |_| ());
}

/// U10: the same with a loop that calls `poll_timeout`. It may report a reaped task as late as in
/// its next call.
#[test]
fn a_refusal_races_a_loop_that_polls() {
    race_with_a_reap("refuse against reap and poll", |own| _ = own.poll_timeout());
}

/// U10: the room is that of a cancelled task.
#[test]
fn a_refusal_races_a_cancelled_task() {
    let refusals = explore("refuse against cancel", || {
        let pool = pool_of(0).max_queue_depth(1).build().unwrap();
        let mut own = pool.service(|| {});
        let id = own.enqueue(1, Probe::new(First::TaskDone).0).unwrap();
        let other = other_loop(&pool);
        assert_eq!(own.dequeue(id), Dequeued::Removed);
        other.join().unwrap().1
    });
    assert_eq!(refusals.into_iter().collect::<Vec<_>>(), [0, 1]);
}

/// U10: the room is that of a task that a worker starts. The two loops have different tasks, so
/// that no end of a task wakes the loop that waits.
#[test]
fn a_refusal_races_a_worker_that_starts_a_task() {
    let refusals = explore("refuse against start", || {
        let pool = pool_of(1).max_queue_depth(1).build().unwrap();
        let mut own = pool.service(|| {});
        let tasks = [(); 2].map(|()| own.enqueue(1, Probe::new(First::TaskDone).0).is_ok());
        assert_eq!(tasks, [true; 2], "one for the idle worker, one in the queue");
        let event = Event::new();
        let mut other = pool.service(Arc::clone(&event));
        let refusals = enqueue(&mut other, &event);
        drop((own, other));
        refusals.min(1)
    });
    assert_eq!(refusals.into_iter().collect::<Vec<_>>(), [0, 1]);
}
