//! The real pool with the interface of the model: tasks by number, and every result as an
//! [`Outcome`].

use crate::calls::{Call, Look, Outcome, sorted};
use crate::script::{Actor, Log, Plan, Reply, Rules, Script, TICK, nanos};
use moored::{
    Clock, EnqueueError, GroupId, ManualClock, Ready, Resume, Service, Shutdown, Status, TaskId, TaskOptions,
    TaskReturn, TaskStatus, ThreadPool, Timeout, task_fn,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The real pool, and what the test needs to observe it.
pub(crate) struct Real {
    pub(crate) service: Service<Actor>,
    pub(crate) pool: ThreadPool,
    clock: ManualClock,
    /// A task of another service. This service must not know its id.
    pub(crate) stranger: TaskId,
    /// The ids, by the number of the task.
    pub(crate) ids: Vec<TaskId>,
    pub(crate) log: Log,
    pub(crate) alive: Arc<()>,
    pub(crate) wakes: Arc<AtomicU64>,
}

impl Real {
    pub(crate) fn new(rules: &Rules) -> Self {
        let (clock, hand) = Clock::manual();
        let mut builder = ThreadPool::builder()
            .threads(0)
            .clock(clock)
            .max_queue_depth(rules.max_queue_depth)
            .max_tasks(rules.max_tasks)
            .overload(rules.overload)
            .time_slice(Duration::from_nanos(rules.time_slice * TICK));
        if let Some(limit) = rules.max_running {
            builder = builder.max_running_per_connection(limit);
        }
        if let Some(limit) = rules.max_queued {
            builder = builder.max_queued_per_connection(limit);
        }
        let pool = builder.build().unwrap();
        let wakes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&wakes);
        Self {
            service: pool.service(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            pool,
            clock: hand,
            stranger: stranger(),
            ids: Vec::new(),
            log: Log::default(),
            alive: Arc::new(()),
            wakes,
        }
    }

    pub(crate) fn number(&self, id: TaskId) -> usize {
        self.ids
            .iter()
            .position(|&other| other == id)
            .expect("an accepted task has an id")
    }

    fn enqueue(&mut self, plan: &Plan) -> Result<usize, &'static str> {
        let number = self.ids.len();
        let actor = Actor {
            number,
            script: plan.script.clone(),
            clock: self.clock.clone(),
            log: Arc::clone(&self.log),
            _alive: Arc::clone(&self.alive),
        };
        let enqueued = match options(plan, number) {
            Some(options) => self.service.enqueue_with(plan.conn, actor, options),
            None => self.service.enqueue(plan.conn, actor),
        };
        match enqueued {
            Ok(id) => {
                assert!(!self.ids.contains(&id), "an id was used twice");
                self.ids.push(id);
                Ok(number)
            }
            Err(refused) => {
                let why = match refused {
                    EnqueueError::QueueFull(_) => "QueueFull",
                    EnqueueError::TooManyTasks(_) => "TooManyTasks",
                    EnqueueError::ConnectionFull { .. } => "ConnectionFull",
                    EnqueueError::ShuttingDown(_) => "ShuttingDown",
                    _ => "an error that the reference does not know",
                };
                assert_eq!(
                    refused.into_task().script,
                    plan.script,
                    "the error contains the refused task"
                );
                Err(why)
            }
        }
    }

    fn take_ready(&mut self) -> Vec<usize> {
        let ready = self.service.take_ready();
        let look = |ready: Ready| {
            let connection = self.service.connection_of(ready.id);
            assert_eq!(ready.connection, connection, "the connection of {:?}", ready.id);
            self.number(ready.id)
        };
        sorted(ready.map(look).collect())
    }

    fn task_status(&mut self, number: usize, reply: Reply) -> Option<Look> {
        let look = |status, why, script: Option<Script>| Look { status, why, script };
        Some(match self.service.task_status(self.ids[number])? {
            TaskStatus::Queued => look(Status::Queued, None, None),
            TaskStatus::Running => look(Status::Running, None, None),
            TaskStatus::Stopping => look(Status::Stopping, None, None),
            TaskStatus::Syncing(mut point) => {
                point.script.visits += 1;
                let script = point.script.clone();
                match reply {
                    Reply::Resume => point.resume(),
                    Reply::Stop => point.stop(),
                    Reply::Leave => {} // the task stays parked
                }
                look(Status::Syncing, None, Some(script))
            }
            TaskStatus::Finished(actor) => look(Status::Finished, None, Some(actor.script)),
            TaskStatus::Stopped(why, actor) => look(Status::Stopped, Some(why), Some(actor.script)),
            TaskStatus::Panicked(panic) => {
                assert_eq!(
                    panic.into_payload().downcast_ref(),
                    Some(&number),
                    "the payload of the task's own panic"
                );
                look(Status::Panicked, None, None)
            }
        })
    }

    fn run_pending(&mut self, budget: u64) -> usize {
        self.log.lock().unwrap().clear();
        self.service.run_pending(Duration::from_nanos(budget * TICK))
    }

    /// Makes a call, and returns its result.
    pub(crate) fn call(&mut self, call: Call, finishing: bool) -> Outcome {
        match call {
            Call::Enqueue(plan) => Outcome::Enqueued(self.enqueue(&plan)),
            Call::TakeReady => Outcome::Ready(self.take_ready()),
            Call::Serve(reply) => {
                let ready = self.take_ready();
                let look = |task| (task, self.task_status(task, reply));
                Outcome::Served(ready.into_iter().map(look).collect())
            }
            Call::TaskStatus(task, reply) => Outcome::Looked(self.task_status(task, reply)),
            Call::TaskSync(task, reply) => {
                let resume = match reply {
                    Reply::Resume => Resume::Continue,
                    _ => Resume::Stop,
                };
                Outcome::Is(self.service.task_sync(self.ids[task], resume))
            }
            Call::Dequeue(task) => Outcome::Dequeued(self.service.dequeue(self.ids[task])),
            Call::ConnectionClosed(conn) => Outcome::Count(self.service.connection_closed(conn)),
            Call::Reattach(task, conn) => Outcome::Is(self.service.reattach(self.ids[task], conn)),
            Call::SetGroup(conn, group) => {
                self.service.set_group(conn, group.map(GroupId));
                Outcome::Nothing
            }
            Call::SetGroupWeight(group, weight) => {
                self.pool.set_group_weight(GroupId(group), weight);
                Outcome::Nothing
            }
            Call::RunPending(budget) => {
                let turns = self.run_pending(budget);
                Outcome::Count(if finishing { 0 } else { turns })
            }
            Call::Advance(by) => {
                self.clock.advance(Duration::from_nanos(by * TICK));
                Outcome::Nothing
            }
            Call::Drain => {
                self.pool.shutdown(Shutdown::Drain);
                Outcome::Nothing
            }
            Call::Finish => {
                self.pool.shutdown(Shutdown::Cancel);
                // The borrow ends with this call of the service.
                assert!(self.service.task_status(self.stranger).is_none());
                Outcome::Nothing
            }
        }
    }
}

fn stranger() -> TaskId {
    let pool = ThreadPool::builder().threads(0).build().unwrap();
    let mut service = pool.service(|| {});
    service.enqueue(0, task_fn(|_| TaskReturn::TaskDone)).unwrap()
}

/// The options of a plan. `None` if it needs none.
fn options(plan: &Plan, number: usize) -> Option<TaskOptions> {
    if !plan.named && !plan.outlives && plan.timeouts.is_empty() {
        return None;
    }
    let mut options = TaskOptions::new();
    if plan.named {
        options = options.name(format!("actor {number}"));
    }
    if plan.stays_parked {
        options = options.stay_parked_when_detached();
    } else if plan.outlives {
        options = options.outlive_connection();
    }
    for &(timeout, ticks) in &plan.timeouts {
        let after = Duration::from_nanos(nanos(ticks, number));
        options = match timeout {
            Timeout::Queue => options.queue_timeout(after),
            Timeout::Sync => options.sync_timeout(after),
            Timeout::Deadline => options.deadline(after),
            other => unreachable!("no plan contains {other:?}"),
        };
    }
    Some(options)
}
