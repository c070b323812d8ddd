//! Every kind of end of a step, against every action on its task at the same time. In each order
//! there is one end, one announcement and one drop, and the counters agree.

use crate::util::{Event, FOREVER, First, Probe, Seen, end_race, explore_deeper};
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

/// The end of the first step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// `Continue`, and the worker runs the next step.
    Continue,
    /// `Continue`, and the task goes back into the queue, since another connection waits.
    GiveWay,
    Sync,
    /// Waits for a time that never comes.
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

/// The action during the step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Dequeue,
    SyncContinue,
    SyncStop,
    Close,
    /// The same for a task that may outlive its connection.
    Detach,
    /// The client connects again, and the task is reattached.
    DetachAndReattach,
    /// The same with a task that stays parked while it is detached.
    AwayAndBack,
    Deadline,
    QueueTimeout,
    /// On another thread.
    Finish,
    /// On another thread, which waits for the workers.
    DropPool,
    DropService,
}

/// The end of a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Finished,
    Stopped,
    Panicked,
}

/// The life of a task: the number of steps that were not asked to stop, whether a step was, and the
/// end.
type Life = (usize, bool, End);

/// The result of the first step without an action.
fn undisturbed(step: Step) -> Life {
    match step {
        Step::Continue | Step::GiveWay | Step::Sync | Step::Delay => (2, false, End::Finished),
        Step::TaskDone => (1, false, End::Finished),
        Step::Panic => (1, false, End::Panicked),
    }
}

/// The possible lives. The model must find each of them, and no other.
fn lives(step: Step, act: Act) -> BTreeSet<Life> {
    let before_its_start = (0, false, End::Stopped);
    let before_its_first_look = (0, true, End::Stopped);
    let before_its_second_look = (1, true, End::Stopped);
    let has_two_steps = matches!(step, Step::Continue | Step::GiveWay | Step::Sync | Step::Delay);
    let mut lives = BTreeSet::from([undisturbed(step)]);
    match act {
        Act::SyncStop if step == Step::Sync => drop(lives.insert(before_its_second_look)),
        Act::Detach | Act::DetachAndReattach | Act::AwayAndBack | Act::SyncContinue | Act::SyncStop => {}
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
        Act::SyncContinue | Act::Detach | Act::DetachAndReattach | Act::AwayAndBack => None,
    }
}

/// One run of a pair: the loop on this thread, one worker, and in some pairs another thread.
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
    /// Whether the loop answered the parked task before it was announced.
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
            Act::AwayAndBack => TaskOptions::new().stay_parked_when_detached(),
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

    /// Acts immediately: the worker can be at any point.
    fn act(&mut self) -> Option<loom::thread::JoinHandle<()>> {
        match self.act {
            Act::Dequeue => assert_ne!(self.service.dequeue(self.id), Dequeued::Unknown),
            Act::SyncContinue => self.answered = self.service.task_sync(self.id, Resume::Continue),
            Act::SyncStop => self.answered = self.service.task_sync(self.id, Resume::Stop),
            Act::Close | Act::Detach => assert_eq!(self.service.connection_closed(CLIENT), 1),
            Act::DetachAndReattach | Act::AwayAndBack => {
                assert_eq!(self.service.connection_closed(CLIENT), 1);
                assert!(self.service.reattach(self.id, RETURNED_CLIENT));
            }
            Act::Deadline | Act::QueueTimeout => {
                // loom does not model the clock. It models the lock under which workers take their
                // tasks, and the beginning of steps. So it explores both orders of these and of the
                // code below.
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
            Act::DropService => unreachable!("its loop has ended"),
        }
        None
    }

    fn drain(&mut self) {
        for id in self.service.take_ready().map(|ready| ready.id) {
            let status = self
                .service
                .task_status(id)
                .expect("the task was announced once and not reaped");
            if id != self.id {
                continue; // the task of the other connection
            }
            match status {
                TaskStatus::Syncing(point) => {
                    self.syncs_seen += 1;
                    point.resume();
                }
                TaskStatus::Finished(_) => self.ends.push((End::Finished, None)),
                TaskStatus::Stopped(why, _) => self.ends.push((End::Stopped, Some(why))),
                TaskStatus::Panicked(_) => self.ends.push((End::Panicked, None)),
                // Announced as parked, and stopped since then by the other thread.
                TaskStatus::Stopping if matches!(self.act, Act::Finish | Act::DropPool) => {}
                other => panic!("announced, but it is {other:?}"),
            }
        }
    }

    /// Sleeps and calls `take_ready` until every task is reaped.
    fn run_loop(&mut self) {
        while !self.service.is_empty() {
            self.event.wait();
            self.drain();
        }
        end_race();
        assert_eq!(self.ends.len(), 1, "{:?}", self.ends);
        // A task that was answered before is not announced, and a task without a connection does
        // not park.
        let may_park = !self.answered && self.act != Act::Detach;
        assert!(
            self.syncs_seen <= usize::from(may_park),
            "announced without a park"
        );
    }

    /// No value is left after everything was dropped.
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

/// Each accepted task has ended once, and the counters show the end that the loop saw.
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
        assert!(seen.told.is_some(), "a started task was not asked to stop");
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

/// No loop receives the end, so it is read from the counters.
fn race_with_the_drop_of_the_service(step: Step, act: Act) -> Life {
    let (mut race, seen) = Race::new(step, act);
    drop(race.service);
    let pool = race.pool.take().unwrap();
    pool.shutdown(Shutdown::Cancel);
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
    // This delay never ends without a request.
    let ends_a_delay = reason(act).is_some() && !matches!(act, Act::SyncStop | Act::QueueTimeout);
    let steps = STEPS
        .into_iter()
        .filter(|&step| step != Step::Delay || ends_a_delay);
    against(act, steps);
}

fn against(act: Act, steps: impl IntoIterator<Item = Step>) {
    for step in steps {
        let name = format!("{act:?} against {step:?}");
        // With two preemptions the worker cannot park the task before the loop answers.
        let preemptions = if act == Act::SyncStop { 3 } else { 2 };
        let found = explore_deeper(preemptions, &name, move || match act {
            Act::DropService => race_with_the_drop_of_the_service(step, act),
            _ => race(step, act),
        });
        assert_eq!(found, lives(step, act), "{name}");
    }
}

/// L13, L17, S8: a cancelled task ends once. If it had started, it was asked to stop.
#[test]
fn dequeue_races_every_end_of_a_step() {
    against_every_step(Act::Dequeue);
}

/// L2, S8: an answer counts if the task has parked. Then that `Sync` is not announced any more.
#[test]
fn the_answer_continue_races_every_end_of_a_step() {
    against_every_step(Act::SyncContinue);
}

/// L3, S8: the same with the answer `Stop`.
#[test]
fn the_answer_stop_races_every_end_of_a_step() {
    against_every_step(Act::SyncStop);
}

/// S8, S12, S13, S14: the connection closes while its task waits, runs, or is parked.
#[test]
fn a_closing_connection_races_every_end_of_a_step() {
    against_every_step(Act::Close);
}

/// L5, L7, S15: a task that outlives its connection runs to its end, whether or not it was parked
/// at the close.
#[test]
fn the_close_of_an_outlived_connection_races_every_end_of_a_step() {
    against_every_step(Act::Detach);
}

/// S15: the same, and the client connects again immediately.
#[test]
fn a_reattachment_races_every_end_of_a_step() {
    against_every_step(Act::DetachAndReattach);
}

/// U17, S15: the same with a task that stays parked while it is detached. It is announced once.
#[test]
fn a_stream_that_waits_for_its_client_races_every_end_of_a_step() {
    against_every_step(Act::AwayAndBack);
}

/// L4, S8: a deadline passes while the task waits, runs, or is parked.
#[test]
fn a_deadline_races_every_end_of_a_step() {
    against_every_step(Act::Deadline);
}

/// L4, S8: the task has started, or its queue timeout has run out, and never both.
#[test]
fn a_queue_timeout_races_the_start_of_a_task() {
    against_every_step(Act::QueueTimeout);
}

// The next two actions have many schedules, so each has several tests, which run at the same time.

/// L8, S8: another thread shuts the pool down. The loop continues until it has every end.
#[test]
fn a_shutdown_on_another_thread_races_a_task_that_continues() {
    against(Act::Finish, [Step::Continue, Step::GiveWay]);
}

/// L8, S8: the same.
#[test]
fn a_shutdown_on_another_thread_races_a_task_that_waits() {
    against(Act::Finish, [Step::Sync, Step::Delay]);
}

/// L8, S8: the same.
#[test]
fn a_shutdown_on_another_thread_races_a_task_that_ends() {
    against(Act::Finish, [Step::TaskDone, Step::Panic]);
}

/// L6, S1, S24: another thread drops the pool and waits for its workers, while the loop continues.
/// For the loop and the worker this is a shutdown, so one way to continue is enough.
#[test]
fn the_drop_of_the_pool_races_a_task_that_continues_or_ends() {
    against(Act::DropPool, [Step::Continue, Step::TaskDone, Step::Panic]);
}

/// L6, S1, S24: the same.
#[test]
fn the_drop_of_the_pool_races_a_task_that_waits() {
    against(Act::DropPool, [Step::Sync, Step::Delay]);
}

/// S8, S24: the service is dropped while its task waits, runs or is parked.
#[test]
fn the_drop_of_the_service_races_every_end_of_a_step() {
    against_every_step(Act::DropService);
}
