//! What belongs to one loop: its tasks, its requests that wait, and its end of the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use examples::failure;
use examples::http::Response;
use examples::net::Net;
use examples::probes::{Probes, Suspect};
use moored::{ConnId, EnqueueError, Resume, Sender, Service, TaskId, TaskOptions, TaskStatus, ThreadPool};

use crate::cancel::Cancel;
use crate::commands::{Function, Journeys, Key};
use crate::job::{Job, Output, Work};
use crate::shared::Shared;

/// How long a turn of the loop may run queries with `--fast`. One step may exceed it.
const FAST_BUDGET: Duration = Duration::from_millis(5);
/// Pause before a loop tries again to send what another one had no room for.
const KEPT_PAUSE: Duration = Duration::from_millis(1);

pub struct LoopState {
    pub number: usize,
    pub shared: Arc<Shared>,
    pub pool: Arc<ThreadPool>,
    service: Service<Job>,
    /// The tasks of the requests that have not got their whole answers.
    tasks: BTreeMap<Key, Running>,
    pub journeys: Journeys,
    /// Functions for other loops, whose mailboxes were full.
    pub kept: Vec<(Sender<Function>, ConnId, Function)>,
    /// Functions that this loop has run.
    pub run: u64,
    /// Functions that this loop has sent for requests.
    pub sent: u64,
    /// The clients that send no more.
    probes: Probes,
    /// When to stop the tasks that are left, after the server was told to stop.
    finish_at: Option<Instant>,
}

/// A task, and what was sent of its answer.
#[derive(Debug)]
struct Running {
    task: TaskId,
    cancel: Cancel,
    has_begun: bool,
    /// The task is parked until the kernel has the last part.
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
            journeys: Journeys::default(),
            kept: Vec::new(),
            run: 0,
            sent: 0,
            probes: Probes::default(),
            finish_at: None,
        }
    }

    /// Gives the request to a task.
    pub fn start(&mut self, net: &mut Net, key: Key, work: Work) {
        let cancel = Cancel::default();
        let name = match work {
            Work::Query(_) => "query",
            Work::Slow(_) => "slow",
        };
        let job = Job::new(key, work, cancel.clone(), &self.shared.means);
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
            Err(EnqueueError::Finished(_)) => answer(net, key, Response::going_down()),
            Err(full) => answer(net, key, Response::come_back(1, &full.to_string())),
        }
    }

    /// Looks at the tasks that have parked or ended.
    pub fn serve_tasks(&mut self, net: &mut Net) {
        for task in self.service.take_ready() {
            self.serve(net, task);
        }
        if self.shared.is_fast && self.service.run_pending(FAST_BUDGET) > 0 {
            for task in self.service.take_ready() {
                self.serve(net, task);
            }
        }
        if self.finish_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.pool.finish();
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
                // It stays parked until `sent`.
                if let Output::Part(part) = std::mem::replace(&mut job.output, Output::Nothing)
                    && let Some(running) = self.tasks.get_mut(&key)
                {
                    self.shared.means.counters.parts.fetch_add(1, Ordering::Relaxed);
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
            TaskStatus::Stopped(_, ref job) => {
                let key = (job.id, job.request);
                let outcome = failure::answer(&status);
                self.end(net, key, outcome);
            }
            TaskStatus::Panicked(_) => {
                let key = self
                    .tasks
                    .iter()
                    .find(|(_, it)| it.task == task)
                    .map(|(key, _)| *key);
                let outcome = failure::answer(&status);
                if let Some(key) = key {
                    self.end(net, key, outcome);
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
            Output::Failed(status, why) => {
                return self.end(net, key, Some(Response::text(status, &why)));
            }
            Output::Nothing => return self.end(net, key, Some(Response::text(500, "there is no result"))),
        };
        match self.tasks.remove(&key) {
            Some(running) if running.has_begun => {
                // If the client has gone, neither does anything.
                net.send_part(key.0, key.1, part);
                net.end_answer(key.0, key.1);
            }
            Some(_) => {
                let whole = Response::new(200).body(media_type, part);
                answer(net, key, whole.header("Cache-Control", "no-store"));
            }
            // The client has left, or has got an answer.
            None => {}
        }
    }

    /// Ends a request without the rest of its result. If its answer has begun, the connection ends, so
    /// that the client sees that the answer is not whole.
    fn end(&mut self, net: &mut Net, key: Key, outcome: Option<Response>) {
        if self.tasks.remove(&key).is_some()
            && let Some(outcome) = outcome
        {
            answer(net, key, outcome);
        }
    }

    /// The kernel has the last part of an answer: the task makes the next one.
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
        self.journeys.forget(key);
    }

    /// Finds out whether a client that sends no more has gone: `closed` follows if so.
    pub fn probe(&mut self, net: &mut Net, suspect: Suspect) {
        let id = suspect.id;
        let keys = self.keys_of(id);
        if keys.is_empty() || self.probes.probe(net, suspect) {
            return;
        }
        // Nothing tells the two apart, and hardly any client of HTTP/1.0 closes one half.
        self.cancel_all(id);
        for key in keys {
            let why = "cancelled, because the client has closed its side before the answer";
            answer(net, key, Response::text(400, why));
        }
        net.end_requests(id);
    }

    pub fn probe_due(&mut self, net: &mut Net) {
        while let Some(suspect) = self.probes.take_due() {
            self.probe(net, suspect);
        }
    }

    /// The requests of a client whose answers a task makes.
    fn keys_of(&self, id: ConnId) -> Vec<Key> {
        let of_client = (id, 0)..=(id, u64::MAX);
        self.tasks.range(of_client).map(|(key, _)| *key).collect()
    }

    /// Stops the work for a client that has left.
    pub fn cancel_all(&mut self, id: ConnId) {
        let keys = self.keys_of(id);
        // First all the marks, so that no task of this client begins to run.
        self.service.connection_closed(id);
        for key in keys {
            if let Some(running) = self.tasks.remove(&key) {
                running.cancel.cancel();
            }
        }
        self.journeys.forget_connection(id);
    }

    pub fn tasks(&self) -> usize {
        self.service.len()
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        let at = [self.finish_at, self.probes.next_due()]
            .into_iter()
            .flatten()
            .min();
        let at = at.map(|at| at.saturating_duration_since(Instant::now()));
        let kept = (!self.kept.is_empty()).then_some(KEPT_PAUSE);
        let due = [self.service.next_timeout(), at, kept];
        due.into_iter().flatten().min()
    }

    /// Tasks may end within most of the grace. The rest of it is for the answers to the others.
    pub fn stopping(&mut self) {
        self.finish_at = Some(Instant::now() + self.shared.grace * 3 / 4);
    }
}

/// Answers a request, and says which loop does it. The number comes from the name of the thread that
/// runs this, so that a wrong one would be seen.
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

/// Adds the number of the loop on whose thread this runs: that of `loop-2` is 2.
fn from_this_loop(answer: Response) -> Response {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let number = name.strip_prefix("loop-").unwrap_or("none");
    answer.header("X-Loop", number.to_owned())
}
