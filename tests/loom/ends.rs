//! Every way in which a step can end, against everything that can happen to its task meanwhile: one
//! end, one announcement of it, one drop, and counters that agree, whoever comes first.

use crate::util::{Event, FOREVER, First, Probe, Seen, explore_deeper};
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use moored::{
    Clock, Dequeued, ManualClock, Resume, Service, Shutdown, StopReason, TaskId, TaskOptions, TaskStatus,
    ThreadPool, Timeout,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const CLIENT: u64 = 7;
const RETURNED_CLIENT: u64 = 8;
const BYSTANDER: u64 = 9;

/// How the first step ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// With `Continue`, and goes on at once.
    Continue,
    /// With `Continue`, and goes back in line, since another connection waits.
    GiveWay,
    Sync,
    /// Waits for a moment that never comes.
    Delay,
    TaskDone,
    Panic,
}

const STEPS: [Step; 6] = [
    Step::Continue,
    Step::GiveWay,
    Step::Sync,
    Step::Delay,
    Step::TaskDone,
    Step::Panic,
];

/// What happens meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Dequeue,
    SyncContinue,
    SyncStop,
    Close,
    /// The same with a task that may outlive its connection.
    Detach,
    /// Its client comes back.
    DetachAndReattach,
    Deadline,
    QueueTimeout,
    /// On another thread.
    Finish,
    /// On another thread, which waits for the workers.
    DropPool,
    DropService,
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Finished,
    Stopped,
    Panicked,
}

/// A task's life: the steps that were not told to stop, whether one was told, the end.
type Life = (usize, bool, End);

/// What the first step comes to when nobody interferes.
fn undisturbed(step: Step) -> Life {
    match step {
        Step::Continue | Step::GiveWay | Step::Sync | Step::Delay => (2, false, End::Finished),
        Step::TaskDone => (1, false, End::Finished),
        Step::Panic => (1, false, End::Panicked),
    }
}

/// Every life that must be found among the schedules, and no other may be.
fn lives(step: Step, act: Act) -> BTreeSet<Life> {
    let before_its_start = (0, false, End::Stopped);
    let before_its_first_look = (0, true, End::Stopped);
    let before_its_second_look = (1, true, End::Stopped);
    let has_two_steps = matches!(step, Step::Continue | Step::GiveWay | Step::Sync | Step::Delay);
    let mut lives = BTreeSet::from([undisturbed(step)]);
    match act {
        Act::SyncStop if step == Step::Sync => drop(lives.insert(before_its_second_look)),
        Act::Detach | Act::DetachAndReattach | Act::SyncContinue | Act::SyncStop => {}
        Act::QueueTimeout => drop(lives.insert(before_its_start)),
        _ => {
            lives.extend([before_its_start, before_its_first_look]);
            if has_two_steps {
                lives.insert(before_its_second_look);
            }
            if step == Step::Delay {
                lives.remove(&undisturbed(step));
            }
            // The loop acts before it answers.
            if step == Step::Sync && !matches!(act, Act::Finish | Act::DropPool) {
                lives.remove(&undisturbed(step));
            }
        }
    }
    lives
}

fn reason(act: Act) -> Option<StopReason> {
    match act {
        Act::Dequeue | Act::SyncStop => Some(StopReason::Dequeued),
        Act::Close => Some(StopReason::ConnectionClosed),
        Act::Deadline => Some(StopReason::TimedOut(Timeout::Deadline)),
        Act::QueueTimeout => Some(StopReason::TimedOut(Timeout::Queue)),
        Act::Finish | Act::DropPool => Some(StopReason::PoolShutdown),
        Act::DropService => Some(StopReason::ServiceDropped),
        Act::SyncContinue | Act::Detach | Act::DetachAndReattach => None,
    }
}

/// One run of a pair: the loop on this thread, one worker, and sometimes one thread more.
struct Race {
    act: Act,
    pool: Option<Arc<ThreadPool>>,
    hand: ManualClock,
    /// Whether a step has begun.
    begun: Arc<AtomicBool>,
    event: Arc<Event>,
    service: Service<Probe>,
    id: TaskId,
    ends: Vec<(End, Option<StopReason>)>,
    syncs_seen: usize,
    /// The parked task was answered before the loop had heard of it.
    answered: bool,
}

impl Race {
    fn new(step: Step, act: Act) -> (Self, impl Fn() -> Seen) {
        let (clock, hand) = Clock::manual();
        let mut builder = ThreadPool::builder().threads(1).clock(clock);
        if step == Step::GiveWay {
            builder = builder.time_slice(Duration::ZERO);
        }
        let pool = Arc::new(builder.build().unwrap());
        let event = Event::new();
        let mut service = pool.service(Arc::clone(&event));
        let options = match act {
            Act::Deadline => TaskOptions::new().deadline(Duration::from_secs(1)),
            Act::QueueTimeout => TaskOptions::new().queue_timeout(Duration::from_secs(1)),
            Act::Detach | Act::DetachAndReattach => TaskOptions::new().outlive_connection(),
            _ => TaskOptions::new(),
        };
        let (mut task, seen) = Probe::new(match step {
            Step::Continue | Step::GiveWay => First::Continue,
            Step::Sync => First::Sync,
            Step::Delay => First::Delay,
            Step::TaskDone => First::TaskDone,
            Step::Panic => First::Panic,
        });
        let begun = Arc::new(AtomicBool::new(false));
        if matches!(act, Act::Deadline | Act::QueueTimeout) {
            task.tell(&begun);
        }
        let id = service.enqueue_with(CLIENT, task, options).unwrap();
        if step == Step::GiveWay {
            let (bystander, _) = Probe::new(First::TaskDone);
            service.enqueue(BYSTANDER, bystander).unwrap();
        }
        let race = Self {
            act,
            pool: Some(pool),
            hand,
            begun,
            event,
            service,
            id,
            ends: Vec::new(),
            syncs_seen: 0,
            answered: false,
        };
        (race, seen)
    }

    /// Does it at once: the worker can be anywhere.
    fn act(&mut self) -> Option<loom::thread::JoinHandle<()>> {
        match self.act {
            Act::Dequeue => assert_ne!(self.service.dequeue(self.id), Dequeued::Unknown),
            Act::SyncContinue => self.answered = self.service.task_sync(self.id, Resume::Continue),
            Act::SyncStop => self.answered = self.service.task_sync(self.id, Resume::Stop),
            Act::Close | Act::Detach => assert_eq!(self.service.connection_closed(CLIENT), 1),
            Act::DetachAndReattach => {
                assert_eq!(self.service.connection_closed(CLIENT), 1);
                assert!(self.service.reattach(self.id, RETURNED_CLIENT));
            }
            Act::Deadline | Act::QueueTimeout => {
                // loom does not see the clock. It sees that workers take their tasks under the lock
                // that this needs, and that steps begin: so it explores both orders of that and of
                // what follows.
                let _ = self.pool.as_ref().unwrap().counts();
                self.begun.load(SeqCst);
                self.hand.advance(Duration::from_secs(2));
                self.drain();
            }
            Act::Finish => {
                let pool = self.pool.clone();
                return Some(loom::thread::spawn(move || {
                    pool.unwrap().shutdown(Shutdown::Cancel);
                }));
            }
            Act::DropPool => {
                let pool = self.pool.take();
                return Some(loom::thread::spawn(move || drop(pool)));
            }
            Act::DropService => unreachable!("its loop is gone"),
        }
        None
    }

    fn drain(&mut self) {
        for id in self.service.take_ready().map(|ready| ready.id) {
            let status = self
                .service
                .task_status(id)
                .expect("announced once, and not reaped");
            if id != self.id {
                continue; // the bystander
            }
            match status {
                TaskStatus::Syncing(point) => {
                    self.syncs_seen += 1;
                    point.resume();
                }
                TaskStatus::Finished(_) => self.ends.push((End::Finished, None)),
                TaskStatus::Stopped(why, _) => self.ends.push((End::Stopped, Some(why))),
                TaskStatus::Panicked(_) => self.ends.push((End::Panicked, None)),
                // Parked when it was announced, and stopped since, by the other thread.
                TaskStatus::Stopping if matches!(self.act, Act::Finish | Act::DropPool) => {}
                other => panic!("announced for nothing: {other:?}"),
            }
        }
    }

    /// Sleeps and drains until every task is reaped.
    fn run_loop(&mut self) {
        while !self.service.is_empty() {
            self.event.wait();
            self.drain();
        }
        assert_eq!(self.ends.len(), 1, "{:?}", self.ends);
        // One that was answered before is not announced, and one without a connection does not
        // park.
        let may_park = !self.answered && self.act != Act::Detach;
        assert!(self.syncs_seen <= usize::from(may_park), "announced for nothing");
    }

    /// Nothing is left of anything once all is dropped.
    fn wind_up(mut self) {
        if let Some(pool) = self.pool.take() {
            check_counters(&pool, self.ends[0].0);
            drop(pool);
        }
        assert!(self.service.take_ready().is_empty(), "announced again");
        drop(self.service);
        assert_eq!(Arc::strong_count(&self.event), 1, "the service has leaked");
    }
}

/// Accepted is ended, once, as what the loop was told.
fn check_counters(pool: &ThreadPool, end: End) {
    let counters = pool.dump().counters;
    let (finished, stopped, panicked) = (counters.finished, counters.stopped.total(), counters.panicked);
    assert_eq!(counters.accepted, finished + stopped + panicked);
    let booked = match end {
        End::Finished => finished,
        End::Stopped => stopped,
        End::Panicked => panicked,
    };
    assert!(booked > 0, "it ended as {end:?}: {counters:?}");
}

fn life_of(seen: &Seen, end: End, act: Act) -> Life {
    assert_eq!(seen.drops, 1);
    assert!(seen.told.is_none() || seen.told == reason(act), "{seen:?}");
    if seen.steps > 0 && end == End::Stopped {
        assert!(seen.told.is_some(), "it had started and was not told");
    }
    (seen.steps, seen.told.is_some(), end)
}

fn race(step: Step, act: Act) -> Life {
    let (mut race, seen) = Race::new(step, act);
    let other = race.act();
    race.run_loop();
    if let Some(other) = other {
        other.join().unwrap();
    }
    let (end, why) = race.ends[0];
    assert!(end != End::Stopped || why == reason(act), "{why:?}");
    race.wind_up();
    life_of(&seen(), end, act)
}

/// Nobody is told of the end, so the counters say what it was.
fn race_with_the_drop_of_the_service(step: Step, act: Act) -> Life {
    let (mut race, seen) = Race::new(step, act);
    drop(race.service);
    let pool = race.pool.take().unwrap();
    pool.join_timeout(FOREVER).unwrap();
    let counters = pool.dump().counters;
    let end = match (seen().told, counters.panicked) {
        (Some(_), 0) => End::Stopped,
        (None, 1) => End::Panicked,
        (None, 0) if seen().steps == 0 => End::Stopped,
        (None, 0) => End::Finished,
        other => panic!("{other:?}"),
    };
    check_counters(&pool, end);
    drop(pool);
    assert_eq!(Arc::strong_count(&race.event), 1, "the service has leaked");
    life_of(&seen(), end, act)
}

fn against_every_step(act: Act) {
    // A delay that nothing ends never ends.
    let ends_a_delay = reason(act).is_some() && !matches!(act, Act::SyncStop | Act::QueueTimeout);
    for step in STEPS
        .into_iter()
        .filter(|&step| step != Step::Delay || ends_a_delay)
    {
        let name = format!("{act:?} against {step:?}");
        // Two preemptions do not let the worker get as far as to park before the loop answers.
        let preemptions = if act == Act::SyncStop { 3 } else { 2 };
        let found = explore_deeper(preemptions, &name, move || match act {
            Act::DropService => race_with_the_drop_of_the_service(step, act),
            _ => race(step, act),
        });
        assert_eq!(found, lives(step, act), "{name}");
    }
}

/// L13, L17, S8: a cancelled task ends once; if it had started, it was told.
#[test]
fn dequeue_races_every_end_of_a_step() {
    against_every_step(Act::Dequeue);
}

/// L2, S8: an answer counts for a task that has parked, and then nobody hears of that `Sync` any
/// more.
#[test]
fn the_answer_to_go_on_races_every_end_of_a_step() {
    against_every_step(Act::SyncContinue);
}

/// L3, S8: the same with the answer to stop.
#[test]
fn the_answer_to_stop_races_every_end_of_a_step() {
    against_every_step(Act::SyncStop);
}

/// S8, S12, S13, S14: the client goes while its task waits, runs, or is parked.
#[test]
fn a_closing_connection_races_every_end_of_a_step() {
    against_every_step(Act::Close);
}

/// L5, L7, S15: an outliving task runs to its own end, parked or not when the client went.
#[test]
fn a_connection_that_is_outlived_races_every_end_of_a_step() {
    against_every_step(Act::Detach);
}

/// S15: the same when the client comes back at once.
#[test]
fn a_client_that_comes_back_races_every_end_of_a_step() {
    against_every_step(Act::DetachAndReattach);
}

/// L4, S8: a deadline passes while the task waits, runs or is parked.
#[test]
fn a_deadline_races_every_end_of_a_step() {
    against_every_step(Act::Deadline);
}

/// L4, S8: it has started, or its time in the queue is over, and never both.
#[test]
fn a_queue_timeout_races_the_start_of_a_task() {
    against_every_step(Act::QueueTimeout);
}

/// L8, S8: another thread finishes the pool; the loop goes on until it has heard of every end.
#[test]
fn a_shutdown_on_another_thread_races_every_end_of_a_step() {
    against_every_step(Act::Finish);
}

/// L6, S1, S24: another thread drops the pool and waits for its workers; the loop goes on
/// meanwhile.
#[test]
fn the_drop_of_the_pool_races_every_end_of_a_step() {
    against_every_step(Act::DropPool);
}

/// S8, S24: the service is dropped while its task waits, runs or is parked.
#[test]
fn the_drop_of_the_service_races_every_end_of_a_step() {
    against_every_step(Act::DropService);
}
