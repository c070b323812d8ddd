//! Streams that stay parked while their clients are disconnected.

mod util;

use moored::{ConnId, Dequeued, ManualClock, Resume, Shutdown, Status, StopReason, TaskId};
use moored::{TaskOptions, ThreadPool, Timeout};
use std::time::Duration;
use util::{Alive, Gate, Loop, PLENTY, Work, eventually, pool, reap, resume};

const CLIENT: u64 = 1;
const RETURNED: u64 = 2;

fn stays() -> TaskOptions {
    TaskOptions::new().stay_parked_when_detached()
}

fn announced(lp: &mut Loop<Work>) -> Vec<(TaskId, Option<ConnId>)> {
    let ready = lp.take_ready();
    ready.map(|ready| (ready.id, ready.connection)).collect()
}

/// A stream in a pool without threads that is parked, was announced, and is detached.
fn away(options: TaskOptions) -> (ThreadPool, Loop<Work>, TaskId, ManualClock) {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue_with(CLIENT, Work::parks_times(2), options).unwrap();
    lp.run_pending(PLENTY);
    assert_eq!(announced(&mut lp), [(id, Some(ConnId(CLIENT)))]);
    hand.advance(Duration::from_secs(3));
    assert_eq!(lp.connection_closed(CLIENT), 1);
    (pool, lp, id, hand)
}

/// U17: the stream ran all its chunks while its client was disconnected.
#[test]
fn a_parked_stream_waits_for_its_client() {
    let (_pool, mut lp, id, _) = away(stays());
    assert_eq!((lp.run_pending(PLENTY), announced(&mut lp)), (0, vec![]));
    assert_eq!((lp.peek(id), lp.poll_timeout()), (Some(Status::Syncing), None));
    let wakes = lp.wakes.total();
    assert!(lp.reattach(id, RETURNED));
    assert_eq!(lp.wakes.total(), wakes + 1, "the loop is notified");
    assert_eq!(lp.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(announced(&mut lp), [(id, Some(ConnId(RETURNED)))]);
    assert_eq!(announced(&mut lp), [], "once");
    resume(&mut lp, id);
    lp.run_pending(PLENTY);
    // The client disconnects and connects again before the loop has received the next chunk.
    lp.connection_closed(RETURNED);
    assert!(lp.reattach(id, CLIENT));
    assert_eq!(announced(&mut lp), [(id, Some(ConnId(CLIENT)))]);
    resume(&mut lp, id);
    lp.run_pending(PLENTY);
    let task = reap(&mut lp, id).finished();
    assert_eq!((task.steps, task.told), (3, None));
}

/// U17: the client disconnects before the stream starts, or during a step.
#[test]
fn a_stream_parks_while_its_client_is_disconnected() {
    let pool = pool(1);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    let at_gate = gate.clone();
    let running = Work::new(move |cx, _| {
        at_gate.pass();
        assert!(cx.is_detached());
        moored::TaskReturn::Sync
    });
    let running = lp.enqueue_with(CLIENT, running, stays()).unwrap();
    gate.wait_for(1);
    let queued = lp.enqueue_with(CLIENT, Work::parks_times(1), stays()).unwrap();
    lp.connection_closed(CLIENT);
    gate.open();
    eventually("both are parked", || pool.counts().parked == 2);
    assert_eq!(announced(&mut lp), []);
    assert_eq!(lp.poll_timeout(), None);
    for id in [queued, running] {
        assert!(lp.reattach(id, RETURNED));
        assert_eq!(announced(&mut lp), [(id, Some(ConnId(RETURNED)))]);
    }
    assert!(lp.task_sync(queued, Resume::Continue));
    lp.end().finished();
    lp.dequeue(running);
    assert_eq!(lp.end().stopped().0, StopReason::Dequeued);
}

/// U17: the timeouts of the stream count. The timeout of its `Sync` begins when the client
/// disconnects.
#[test]
fn a_stream_does_not_wait_for_ever() {
    let second = Duration::from_secs(1);
    for (options, reason, left) in [
        (stays().sync_timeout(5 * second), Timeout::Sync, 5),
        (stays().deadline(5 * second), Timeout::Deadline, 2),
    ] {
        let (_pool, mut lp, id, hand) = away(options);
        assert_eq!(lp.poll_timeout(), Some(left * second));
        hand.advance((left - 1) * second);
        assert_eq!(announced(&mut lp), []);
        assert_eq!(lp.peek(id), Some(Status::Syncing));
        hand.advance(second);
        assert_eq!(announced(&mut lp), []);
        lp.run_pending(PLENTY);
        assert_eq!(announced(&mut lp), [(id, None)]);
        assert_eq!(reap(&mut lp, id).stopped().0, StopReason::TimedOut(reason));
    }
}

/// U17: a client that has connected again has the whole timeout.
#[test]
fn the_sync_timeout_begins_again_for_the_new_client() {
    let second = Duration::from_secs(1);
    let (_pool, mut lp, id, hand) = away(stays().sync_timeout(5 * second));
    hand.advance(4 * second);
    assert!(lp.reattach(id, RETURNED));
    hand.advance(4 * second);
    assert_eq!(announced(&mut lp), [(id, Some(ConnId(RETURNED)))]);
    assert_eq!(lp.poll_timeout(), Some(5 * second));
}

/// U17: every other way to end a task ends the stream.
#[test]
fn a_stream_that_waits_for_its_client_can_be_ended() {
    let (_pool, mut lp, id, _) = away(stays());
    assert_eq!(lp.dequeue(id), Dequeued::Stopping);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::Dequeued);

    let (pool, mut lp, id, _) = away(stays());
    pool.shutdown(Shutdown::Cancel);
    lp.run_pending(PLENTY);
    assert_eq!(reap(&mut lp, id).stopped().0, StopReason::PoolShutdown);

    let pool = util::pool(1);
    let (mut lp, alive) = (Loop::new(&pool), Alive::new());
    let work = Work::parks().holding(alive.token());
    lp.enqueue_with(CLIENT, work, stays()).unwrap();
    lp.parked(1);
    lp.connection_closed(CLIENT);
    drop(lp);
    eventually("the task is dropped", || alive.count() == 0);
}
