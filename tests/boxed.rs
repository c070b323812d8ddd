//! Tasks in a box, and closures that return a value.

mod util;

use moored::{BoxTask, Call, Dequeued, Service, StopReason, Task, TaskReturn, TaskStatus, call, task_fn};
use util::{Alive, End, Loop, PLENTY, Twice, Work, panic_silently, pool, reap};

/// U19: the result of a closure needed a channel.
#[test]
fn the_value_of_a_closure_comes_back_by_value() {
    let pool = pool(2);
    let mut lp = Loop::<Call<String>>::new(&pool);
    for conn in 0..100_u64 {
        lp.enqueue(
            conn,
            call(move |cx| format!("{:?}", cx.connection().map(|conn| conn.0))),
        )
        .unwrap();
    }
    let mut values: Vec<_> = lp
        .ends(100)
        .into_iter()
        .map(|(_, end)| end.finished().into_value().expect("the closure has returned"))
        .collect();
    values.sort_unstable();
    let mut expected: Vec<_> = (0..100).map(|conn| format!("Some({conn})")).collect();
    expected.sort_unstable();
    assert_eq!(values, expected);
}

#[test]
fn a_closure_that_was_not_called_is_dropped_and_has_no_value() {
    let pool = pool(0);
    let alive = Alive::new();
    let mut lp = Loop::<Call<u32>>::new(&pool);
    let token = alive.token();
    let id = lp
        .enqueue(
            1,
            call(move |_| {
                drop(token);
                7
            }),
        )
        .unwrap();
    assert_eq!(lp.dequeue(id), Dequeued::Removed);
    lp.run_pending(PLENTY);
    let (why, task) = reap(&mut lp, id).stopped();
    assert_eq!(
        (why, task.value(), alive.count()),
        (StopReason::Dequeued, None, 1)
    );
    assert_eq!((task.into_value(), alive.count()), (None, 0));
}

#[test]
fn a_closure_that_panics_ends_its_task_as_panicked() {
    let pool = pool(1);
    let mut lp = Loop::<Call<u32>>::new(&pool);
    lp.enqueue(1, call(|_| panic_silently())).unwrap();
    lp.enqueue(2, call(|_| 7)).unwrap();
    let mut values = Vec::new();
    for (_, end) in lp.ends(2) {
        match end {
            End::Panicked(_) => values.push(None),
            end => values.push(end.finished().into_value()),
        }
    }
    values.sort_unstable();
    assert_eq!(values, [None, Some(7)]);
}

/// U19: the task in a box could not be accessed, neither while it was parked nor after its end.
#[test]
fn a_task_in_a_box_is_reached_while_it_is_parked_and_when_it_has_ended() {
    let pool = pool(0);
    let mut service: Service<BoxTask> = pool.service(|| {});
    let id = service.enqueue(1, BoxTask::new(Work::parks_times(3))).unwrap();
    service.run_pending(PLENTY);
    match service.task_status(id) {
        Some(TaskStatus::Syncing(mut point)) => {
            assert!(point.is::<Work>() && !point.is::<Call<u32>>());
            assert!(
                point.downcast_ref::<Call<u32>>().is_none() && point.downcast_mut::<Call<u32>>().is_none()
            );
            assert_eq!(point.downcast_ref::<Work>().map(|work| work.steps), Some(1));
            point.downcast_mut::<Work>().expect("the task is a `Work`").steps += 2;
            point.resume();
        }
        other => panic!("{other:?}"),
    }
    service.run_pending(PLENTY);
    let task = reap(&mut service, id).finished();
    let Err(task) = task.downcast::<Call<u32>>() else {
        panic!("the task is not a call")
    };
    assert_eq!(task.downcast::<Work>().expect("the task is a `Work`").steps, 4);
}

#[test]
fn a_service_of_boxes_runs_calls_and_closures_side_by_side() {
    let pool = pool(0);
    let mut service: Service<BoxTask> = pool.service(|| {});
    let value = service.enqueue(1, call(|_| vec![1, 2, 3]).into()).unwrap();
    let plain = service.enqueue(2, task_fn(|_| TaskReturn::TaskDone)).unwrap();
    service.run_pending(PLENTY);
    let call = reap(&mut service, value).finished().downcast::<Call<Vec<i32>>>();
    assert_eq!(
        call.expect("it was enqueued as a call").into_value(),
        Some(vec![1, 2, 3])
    );
    assert!(
        reap(&mut service, plain)
            .finished()
            .downcast::<Call<u32>>()
            .is_err()
    );
}

/// U20: `Box<dyn Task>` did not implement `Task`.
#[test]
fn a_box_of_any_task_is_a_task() {
    let pool = pool(0);
    let mut service: Service<Box<dyn Task>> = pool.service(|| {});
    let ids = [
        service
            .enqueue(1, Box::new(Twice::default()) as Box<dyn Task>)
            .unwrap(),
        service.enqueue(2, Box::new(Box::new(Twice::default()))).unwrap(),
        service.enqueue(3, Box::new(call(|_| 7))).unwrap(),
    ];
    service.run_pending(PLENTY);
    for id in ids {
        reap(&mut service, id).finished();
    }
    assert_eq!(pool.dump().counters.steps, 5);
}
