//! State of one loop: its tasks, its waiting requests, and its service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use examples::failure;
use examples::http::Response;
use examples::net::Net;
use examples::probes::{ProbeTarget, Probes};
use moored::{ConnId, EnqueueError, Resume, Service, TaskId, TaskOptions, TaskStatus, ThreadPool};

use crate::cancel::Cancel;
use crate::commands::{Key, PendingReports, Unsent};
use crate::job::{Job, Output, Work};
use crate::shared::Shared;

/// Time for queries in one turn of the loop, with `--fast`. A single step can take longer.
const FAST_BUDGET: Duration = Duration::from_millis(5);
/// Time until a loop sends a function again that did not fit into a mailbox.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

pub struct LoopState {
    pub number: usize,
    pub shared: Arc<Shared>,
    pub pool: Arc<ThreadPool>,
    service: Service<Job>,
    /// Tasks of the requests whose answers are not complete.
    tasks: BTreeMap<Key, Running>,
    pub pending_reports: PendingReports,
    /// Functions for other loops whose mailboxes were full.
    pub unsent: Vec<Unsent>,
    /// Number of functions that this loop has run.
    pub run: u64,
    /// Number of functions that this loop has sent for requests.
    pub sent: u64,
    /// Clients that have closed their sending side.
    probes: Probes,
    /// Time at which the remaining tasks are stopped. Set when the server stops.
    finish_at: Option<Instant>,
}

/// A task, and the progress of its answer.
#[derive(Debug)]
struct Running {
    task: TaskId,
    cancel: Cancel,
    has_begun: bool,
    /// The task is parked until the kernel has taken the last part.
    is_sending: bool,
}

impl LoopState {
    pub fn new(number: usize, pool: Arc<ThreadPool>, service: Service<Job>, shared: Arc<Shared>) -> Self {
        Self {
            number,
            shared,
            pool,
            service,
            tasks: BTreeMap::new(),
            pending_reports: PendingReports::default(),
            unsent: Vec::new(),
            run: 0,
            sent: 0,
            probes: Probes::default(),
            finish_at: None,
        }
    }

    /// Starts a task for the request.
    pub fn start(&mut self, net: &mut Net, key: Key, work: Work) {
        let cancel = Cancel::default();
        let name = match work {
            Work::Query(_) => "query",
            Work::Slow(_) => "slow",
        };
        let job = Job::new(key, work, cancel.clone(), &self.shared.context);
        match self
            .service
            .enqueue_with(key.0, job, TaskOptions::new().name(name))
        {
            Ok(task) => {
                let running = Running {
                    task,
                    cancel,
                    has_begun: false,
                    is_sending: false,
                };
                self.tasks.insert(key, running);
            }
            Err(EnqueueError::ShuttingDown(_)) => answer(net, key, Response::going_down()),
            Err(full) => {
                let wait = self.service.estimated_wait(key.0);
                answer(net, key, Response::busy(wait, &full.to_string()));
            }
        }
    }

    /// Handles the tasks that have parked or ended.
    pub fn serve_tasks(&mut self, net: &mut Net) {
        for task in self.service.take_ready().map(|ready| ready.id) {
            self.serve(net, task);
        }
        if self.shared.is_fast && self.service.run_pending(FAST_BUDGET) > 0 {
            for task in self.service.take_ready().map(|ready| ready.id) {
                self.serve(net, task);
            }
        }
        if self.finish_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.pool.shutdown(moored::Shutdown::Cancel);
            self.tasks.values().for_each(|running| running.cancel.cancel());
        }
    }

    fn serve(&mut self, net: &mut Net, task: TaskId) {
        let Some(status) = self.service.task_status(task) else {
            return;
        };
        match status {
            TaskStatus::Syncing(mut job) => {
                let key = (job.id, job.request);
                let media_type = job.media_type();
                // The task stays parked until `sent` is called.
                if let Output::Part(part) = std::mem::replace(&mut job.output, Output::Nothing)
                    && let Some(running) = self.tasks.get_mut(&key)
                {
                    self.shared.context.counters.parts.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut running.has_begun, true) {
                        net.begin_answer(key.0, key.1, head(media_type));
                    }
                    running.is_sending = true;
                    if !net.send_part(key.0, key.1, part) {
                        self.cancel(key);
                    }
                }
            }
            TaskStatus::Finished(job) => self.finish(net, job),
            TaskStatus::Stopped(why, job) => {
                let key = (job.id, job.request);
                let outcome = failure::stopped(why, || self.service.estimated_wait(job.id));
                self.end(net, key, outcome);
            }
            TaskStatus::Panicked(_) => {
                let key = self
                    .tasks
                    .iter()
                    .find(|(_, it)| it.task == task)
                    .map(|(key, _)| *key);
                if let Some(key) = key {
                    self.end(net, key, failure::panicked());
                }
            }
            TaskStatus::Queued | TaskStatus::Running | TaskStatus::Stopping => {}
        }
    }

    /// Sends the last part of an answer, or all of it.
    fn finish(&mut self, net: &mut Net, job: Job) {
        let key = (job.id, job.request);
        let media_type = job.media_type();
        let part = match job.output {
            Output::Part(part) => part,
            Output::Failed(response) => return self.end(net, key, response),
            Output::Nothing => return self.end(net, key, Response::text(500, "there is no result")),
        };
        match self.tasks.remove(&key) {
            Some(running) if running.has_begun => {
                // If the client has left, these two calls do nothing.
                net.send_part(key.0, key.1, part);
                net.end_answer(key.0, key.1);
            }
            Some(_) => {
                let whole = Response::new(200).body(media_type, part);
                answer(net, key, whole.header("Cache-Control", "no-store"));
            }
            // The client has left, or the request was answered with an error.
            None => {}
        }
    }

    /// Ends a request without the rest of its result. If its answer has begun, the connection is
    /// closed, so that the client can see that the answer is not complete.
    fn end(&mut self, net: &mut Net, key: Key, outcome: Response) {
        if self.tasks.remove(&key).is_some() {
            answer(net, key, outcome);
        }
    }

    /// Resumes the task after the kernel has taken the last part: it makes the next part.
    pub fn resume(&mut self, key: Key) {
        if let Some(running) = self.tasks.get_mut(&key)
            && std::mem::take(&mut running.is_sending)
        {
            self.service.task_sync(running.task, Resume::Continue);
        }
    }

    /// Stops the work for a request.
    pub fn cancel(&mut self, key: Key) {
        if let Some(running) = self.tasks.remove(&key) {
            running.cancel.cancel();
            self.service.dequeue(running.task);
        }
        self.pending_reports.forget(key);
    }

    /// Checks whether a client that has closed its sending side has left. If so, `closed` is
    /// called.
    pub fn probe(&mut self, net: &mut Net, target: ProbeTarget) {
        let id = target.id;
        let keys = self.keys_of(id);
        if keys.is_empty() || self.probes.probe(net, target) {
            return;
        }
        // With HTTP/1.0 a client that has left and a client that has closed only its sending side
        // look the same. The second kind is rare.
        self.cancel_all(id);
        for key in keys {
            let why = "cancelled, because the client has closed its side before the answer";
            answer(net, key, Response::text(400, why));
        }
        net.end_requests(id);
    }

    pub fn probe_due(&mut self, net: &mut Net) {
        while let Some(target) = self.probes.take_due() {
            self.probe(net, target);
        }
    }

    /// The requests of a client that have tasks.
    fn keys_of(&self, id: ConnId) -> Vec<Key> {
        let of_client = (id, 0)..=(id, u64::MAX);
        self.tasks.range(of_client).map(|(key, _)| *key).collect()
    }

    /// Stops the work for a client that has left.
    pub fn cancel_all(&mut self, id: ConnId) {
        let keys = self.keys_of(id);
        // This comes first, so that no queued task of this client starts meanwhile.
        self.service.connection_closed(id);
        for key in keys {
            if let Some(running) = self.tasks.remove(&key) {
                running.cancel.cancel();
            }
        }
        self.pending_reports.forget_connection(id);
    }

    pub fn tasks(&self) -> usize {
        self.service.len()
    }

    pub fn poll_timeout(&mut self) -> Option<Duration> {
        let at = [self.finish_at, self.probes.next_due()]
            .into_iter()
            .flatten()
            .min();
        let at = at.map(|at| at.saturating_duration_since(Instant::now()));
        let unsent = (!self.unsent.is_empty()).then_some(RETRY_PAUSE);
        let due = [self.service.poll_timeout(), at, unsent];
        due.into_iter().flatten().min()
    }

    /// Lets tasks run for three quarters of the grace. The last quarter is for the error answers of
    /// the tasks that are stopped then.
    pub fn stopping(&mut self) {
        self.finish_at = Some(Instant::now() + self.shared.grace * 3 / 4);
    }
}

/// Answers a request, and adds the number of the loop. The number comes from the name of the
/// current thread, so that a test can detect an answer from a wrong thread.
pub fn answer(net: &mut Net, (id, request): Key, answer: Response) {
    net.answer(id, request, from_this_loop(answer));
}

fn head(media_type: &'static str) -> Response {
    let head = Response::new(200)
        .header("Content-Type", media_type)
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-store");
    from_this_loop(head)
}

/// Adds the number of the loop that runs on the current thread: 2 for the thread `loop-2`.
fn from_this_loop(answer: Response) -> Response {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let number = name.strip_prefix("loop-").unwrap_or("none");
    answer.header("X-Loop", number.to_owned())
}
