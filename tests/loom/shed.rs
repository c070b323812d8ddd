//! A task is shed while a worker takes the tasks of its connection.

use crate::util::{Event, First, Probe, explore_within, pool_of};
use moored::{EnqueueError, Overload, StopReason, TaskStatus};
use std::sync::Arc;

/// U1: a worker begins the task, or the task is shed, and each task ends once. The new task is
/// accepted in either case, if the other connection has at least two more waiting tasks.
#[test]
fn shedding_races_a_worker_that_takes_the_tasks() {
    let found = explore_within(2, "shed against start", || {
        let builder = pool_of(1).max_queue_depth(1).overload(Overload::ShedFattest);
        let pool = builder.build().unwrap();
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let mut accepted = 0;
        for _ in 0..2 {
            accepted += usize::from(service.enqueue(1, Probe::new(First::TaskDone).0).is_ok());
        }
        match service.enqueue(2, Probe::new(First::TaskDone).0) {
            Ok(_) => accepted += 1,
            Err(EnqueueError::QueueFull(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        let (mut ended, mut shed) = (0, 0);
        while !service.is_empty() {
            event.wait();
            for id in service.take_ready().map(|ready| ready.id) {
                ended += 1;
                match service.task_status(id) {
                    Some(TaskStatus::Finished(_)) => {}
                    Some(TaskStatus::Stopped(StopReason::Shed, _)) => shed += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(ended, accepted);
        assert_eq!(pool.dump().counters.stopped.shed, shed);
        shed
    });
    assert!(found.contains(&0) && found.contains(&1), "{found:?}");
}
