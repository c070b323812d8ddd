//! A task expires while its loop cancels it: it has one end with one reason. If it had expired
//! before a worker took it, it has no step.

use crate::util::{Event, FOREVER, First, Probe, end_race, explore, pool_of};
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use moored::{
    BoxTask, Clock, Dequeued, Service, Shutdown, StopReason, Task, TaskId, TaskOptions, TaskReturn,
    TaskStatus, ThreadPool, Timeout, task_fn,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The call of the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Dequeue,
    Close,
    /// The loop acts on the timeout itself.
    TakeReady,
}

/// Waits for the end of a stopped task. Returns its reason.
fn reason_of_end<T: Task>(service: &mut Service<T>, id: TaskId, event: &Event) -> StopReason {
    loop {
        if service.take_ready().any(|ready| ready.id == id) {
            match service.task_status(id) {
                Some(TaskStatus::Stopped(reason, _)) => return reason,
                _ => panic!("the task was not stopped"),
            }
        }
        event.wait();
    }
}

/// Returns whether the timeout was the reason of the end, for all schedules.
fn expiry_against(call: Call, timeout: Timeout) -> BTreeSet<bool> {
    explore(format!("{timeout:?} against {call:?}"), move || {
        let (clock, hand) = Clock::manual();
        let pool = ThreadPool::builder().threads(1).clock(clock).build().unwrap();
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let (task, seen) = Probe::new(First::TaskDone);
        let options = match timeout {
            Timeout::Queue => TaskOptions::new().queue_timeout(Duration::ZERO),
            _ => TaskOptions::new().deadline(Duration::ZERO),
        };
        // The time has passed when a worker can see the task.
        hand.advance(Duration::from_millis(1));
        let id = service.enqueue_with(1, task, options).unwrap();
        let dequeued = match call {
            Call::Dequeue => Some(service.dequeue(id)),
            Call::Close => {
                assert_eq!(service.connection_closed(1), 1);
                None
            }
            Call::TakeReady => None,
        };
        let reason = reason_of_end(&mut service, id, &event);
        end_race();
        match dequeued {
            Some(Dequeued::Removed) => assert_eq!(reason, StopReason::Dequeued),
            Some(Dequeued::AlreadyDone) => assert_eq!(reason, StopReason::TimedOut(timeout)),
            Some(Dequeued::Stopping) | None => {}
            other => panic!("{other:?}"),
        }
        let seen = seen();
        assert_eq!(
            (seen.steps, seen.told, seen.drops),
            (0, None, 1),
            "it never begins"
        );
        pool.shutdown(Shutdown::Cancel);
        pool.join_timeout(FOREVER).unwrap();
        assert!(service.take_ready().is_empty(), "announced again");
        let counters = pool.dump().counters;
        let stopped = counters.stopped;
        let counted = match reason {
            StopReason::Dequeued => stopped.dequeued,
            StopReason::ConnectionClosed => stopped.connection_closed,
            StopReason::TimedOut(Timeout::Queue) => stopped.queue_timeout,
            _ => stopped.deadline,
        };
        assert_eq!((counted, stopped.total(), counters.steps), (1, 1, 0));
        reason == StopReason::TimedOut(timeout)
    })
}

/// U7, S8: the worker and the loop each have a reason. The first one stays.
#[test]
fn an_expired_task_is_cancelled_while_a_worker_takes_it() {
    for timeout in [Timeout::Queue, Timeout::Deadline] {
        for call in [Call::Dequeue, Call::Close] {
            let by_timeout = expiry_against(call, timeout);
            assert_eq!(by_timeout, BTreeSet::from([false, true]), "{call:?}");
        }
    }
}

/// U7, S8: the loop ends it with `take_ready`, or the worker when it takes it.
#[test]
fn an_expired_task_is_ended_once_by_its_loop_or_by_a_worker() {
    for timeout in [Timeout::Queue, Timeout::Deadline] {
        let by_timeout = expiry_against(Call::TakeReady, timeout);
        assert_eq!(by_timeout, BTreeSet::from([true]));
    }
}

/// U7, S8: a step sees that its deadline has passed while the loop cancels the task. The end has
/// the reason that the step has seen.
#[test]
fn a_deadline_that_a_step_sees_races_a_cancellation() {
    let by_timeout = explore("a deadline in a step against dequeue", || {
        let pool = pool_of(1).build().unwrap();
        let event = Event::new();
        let mut service = pool.service::<BoxTask>(Arc::clone(&event));
        let told = Arc::new(std::sync::Mutex::new(None));
        let note = Arc::clone(&told);
        // With a bound for preemptions, loom does not try every order. The accesses to this flag
        // make it try a cancellation between the check in the step and the end of the step.
        let has_looked = Arc::new(AtomicBool::new(false));
        let looked = Arc::clone(&has_looked);
        let task = task_fn(move |cx| {
            cx.set_deadline(Some(Duration::ZERO));
            *note.lock().unwrap() = cx.stop_reason();
            looked.store(true, SeqCst);
            looked.load(SeqCst);
            TaskReturn::Stopped
        });
        let id = service.enqueue(1, task).unwrap();
        has_looked.load(SeqCst);
        service.dequeue(id);
        has_looked.store(true, SeqCst);
        let reason = reason_of_end(&mut service, id, &event);
        end_race();
        let told = *told.lock().unwrap();
        assert!(told.is_none_or(|told| told == reason), "{told:?}, {reason:?}");
        reason == StopReason::TimedOut(Timeout::Deadline)
    });
    assert_eq!(by_timeout, BTreeSet::from([false, true]));
}
