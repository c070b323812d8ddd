//! Pools, services and tasks are dropped in any order, on any thread, without a deadlock or a leak.

mod util;

use moored::{BoxTask, Status, StopReason, TaskOptions, TaskReturn, ThreadPool, task_fn};
use std::cell::RefCell;
use std::sync::Arc;
use util::{Alive, Count, Gate, Loop, PATIENCE, Work, eventually, pool, reap, within_patience};

/// S24: a task owns the last handle of its pool, and is dropped on a worker.
#[test]
fn a_pool_may_be_dropped_on_its_own_worker() {
    within_patience("the drop on a worker", || {
        let (gone, stopped) = (Alive::new(), Count::new());
        let count = Arc::clone(&stopped);
        let builder = ThreadPool::builder()
            .threads(2)
            .on_thread_stop(move |_| count.add(1));
        let pool = Arc::new(builder.build().unwrap());
        let mut service = pool.service::<BoxTask>(|| {});
        let gate = Gate::new();
        let (held, token, step_gate) = (Arc::clone(&pool), gone.token(), gate.clone());
        let task = task_fn(move |_| {
            let _held = (&held, &token);
            step_gate.pass();
            TaskReturn::TaskDone
        });
        service.enqueue(1, task).unwrap();
        gate.wait_for(1);
        drop(service);
        drop(pool);
        gate.open();
        stopped.wait_for(2);
        assert_eq!(gone.count(), 0);
    });
}

/// L10: the `Drop` of a task may use and drop the pool's handle, on the loop's thread and on a
/// worker.
#[test]
fn the_drop_of_a_task_may_use_its_pool() {
    struct CleanUp(Arc<ThreadPool>, Arc<Count>);
    impl Drop for CleanUp {
        fn drop(&mut self) {
            let mut service = self.0.service::<BoxTask>(|| {});
            if let Ok(id) = service.enqueue(1, task_fn(|_| TaskReturn::TaskDone)) {
                service.dequeue(id);
            }
            self.1.add(self.0.dump().tasks.len());
        }
    }
    within_patience("a clean-up", || {
        for on_worker in [false, true] {
            let pool = Arc::new(pool(1));
            let (cleaned, gate) = (Count::new(), Gate::new());
            let mut lp = Loop::<BoxTask>::new(&pool);
            let (clean_up, step_gate) = (CleanUp(Arc::clone(&pool), Arc::clone(&cleaned)), gate.clone());
            let task = task_fn(move |_| {
                let _held = &clean_up;
                step_gate.pass();
                TaskReturn::TaskDone
            });
            lp.enqueue(1, task).unwrap();
            gate.wait_for(1);
            if on_worker {
                drop(lp);
                gate.open();
            } else {
                gate.open();
                lp.end().finished();
            }
            cleaned.wait_for(1);
        }
    });
}

/// S24: a thread-local is dropped when its thread ends, after the other values of the thread.
#[test]
fn a_pool_and_a_service_may_live_in_a_thread_local() {
    thread_local! {
        static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
        static LOOP: RefCell<Option<Loop<Work>>> = const { RefCell::new(None) };
    }
    let alive = Alive::new();
    let token = alive.token();
    within_patience("the end of a thread", move || {
        let pool = pool(2);
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::parks().holding(token)).unwrap();
        lp.parked(1);
        LOOP.set(Some(lp));
        POOL.set(Some(pool));
    });
    assert_eq!(alive.count(), 0);
}

/// S24: queued tasks are dropped. Started tasks are asked to stop, and dropped when they have
/// ended.
#[test]
fn dropping_a_service_stops_and_drops_its_tasks_and_no_others() {
    let pool = pool(2);
    let (mut lp, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let (alive, gate) = (Alive::new(), Gate::new());
    let _guard = gate.guard();
    let (tell, told) = std::sync::mpsc::channel();
    let reports = |first: TaskReturn| {
        let tell = tell.clone();
        Work::stubborn(move |cx, _| match cx.stop_reason() {
            None => first,
            Some(why) => {
                tell.send(why).unwrap();
                TaskReturn::Stopped
            }
        })
        .holding(alive.token())
    };
    lp.enqueue(0, Work::done().holding(alive.token())).unwrap();
    lp.news(); // ended, not reaped
    let outlives = TaskOptions::new().outlive_connection();
    lp.enqueue(1, reports(TaskReturn::Sync)).unwrap();
    lp.enqueue_with(2, reports(TaskReturn::Sync), outlives).unwrap();
    lp.parked(2);
    let kept = other.enqueue(1, Work::parks()).unwrap();
    other.parked(1);
    for _ in 0..2 {
        lp.enqueue(1, Work::at(&gate).holding(alive.token())).unwrap();
    }
    gate.wait_for(2);
    lp.enqueue(1, reports(TaskReturn::TaskDone)).unwrap();
    assert_eq!(alive.count(), 6);
    drop(lp);
    assert_eq!(alive.count(), 4, "ended and queued tasks are dropped at once");
    gate.open();
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(PATIENCE), Ok(StopReason::ServiceDropped));
    }
    eventually("all are dropped", || alive.count() == 0);
    assert_eq!(other.peek(kept), Some(Status::Syncing));
    eventually("and reaped", || pool.dump().tasks.len() == 1);
}

/// S24: every order of pool, service and thread, with tasks in every state.
#[test]
fn pool_and_service_may_be_dropped_in_any_order_on_any_thread() {
    for round in 0..200 {
        let alive = Alive::new();
        let pool = pool(round % 3);
        let mut lp = Loop::new(&pool);
        for conn in 0..30 {
            lp.enqueue(conn, Work::parks_times((conn % 3) as u32).holding(alive.token()))
                .unwrap();
        }
        let _ = lp.take_ready().count();
        let one = move || drop(pool);
        let two = move || drop(lp);
        match round % 4 {
            0 => (one(), two()),
            1 => (two(), one()),
            2 => within_patience("two drops at the same time", move || {
                let other = std::thread::spawn(one);
                two();
                (other.join().unwrap(), ())
            }),
            _ => (
                within_patience("a drop elsewhere", one),
                within_patience("a drop elsewhere", two),
            ),
        };
        eventually("every task is dropped", || alive.count() == 0);
    }
}

#[test]
fn the_ends_of_a_dropped_pool_can_still_be_taken() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::new();
    let id = lp.enqueue(1, Work::at(&gate)).unwrap();
    gate.wait_for(1);
    gate.open();
    drop(pool);
    assert_eq!(lp.ready(), [id]);
    reap(&mut lp, id).finished();
    assert!(!format!("{:?}", lp.service).is_empty());
}
