//! What the loop does: it calls handlers, writes the output of tasks, and tells them whether it was
//! written.

use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use bytes::Bytes;
use examples::http::{Request, Response, Route};
use examples::loops::LoopCounters;
use examples::monitor::Metrics;
use examples::net::Net;
use examples::page;
use examples::page::Page;
use examples::probes::{ProbeTarget, Probes};
use examples::server::{App, Server};
use examples::{failure, monitor};
use http::Method;
use moored::{
    ConnId, EnqueueError, Resume, Service, Shutdown, StopReason, TaskId, TaskOptions, TaskStatus, ThreadPool,
};

use crate::counts::{Decision, End};
use crate::handlers::{self, Handled, Site};
use crate::job::{Job, Key, Style};
use crate::options::Options;
use crate::records::{AllRecords, Record, Records, State};

/// Without workers: time for tasks in a turn of the loop, before it is the turn of the sockets.
const RUN_TIME: Duration = Duration::from_millis(2);

/// What the loops share.
pub struct Shared<'pool> {
    pub pool: &'pool ThreadPool,
    pub records: AllRecords,
    pub counters: LoopCounters,
}

/// One loop.
pub struct HttpDelegate<'pool> {
    shared: &'pool Shared<'pool>,
    /// The number of this loop.
    number: usize,
    service: Service<Job>,
    page: Page,
    /// The tasks that pause, and until when.
    timers: BTreeSet<(Instant, Key)>,
    /// The clients that send no more.
    probes: Probes,
    has_workers: bool,
    stream_timeout: Option<Duration>,
    grace: Duration,
    /// When to stop the tasks that are left, after the server was told to stop.
    finish_at: Option<Instant>,
}

/// Why the loop looks at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The task has parked or ended.
    Announced,
    /// The kernel has taken what the task has given.
    Written,
}

impl<'pool> HttpDelegate<'pool> {
    pub fn new(shared: &'pool Shared<'pool>, number: usize, server: &Server, options: &Options) -> Self {
        Self {
            shared,
            number,
            service: shared.pool.service(server.waker()),
            page: page!["page.css", "page.html", "page.js", "requests.js"],
            timers: BTreeSet::new(),
            probes: Probes::default(),
            has_workers: options.workers.threads > 0,
            stream_timeout: options.stream_timeout,
            grace: options.listen.grace,
            finish_at: None,
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.shared.records.of(self.number)
    }

    /// Gives the job to the pool.
    fn accept(&mut self, net: &mut Net, id: ConnId, request: &Request, mut job: Job) -> Decision {
        let style = job.style();
        job.key = (id, request.number);
        if request.method == Method::HEAD && style != Style::Whole {
            // The answer to HEAD is the head. It needs no task.
            net.begin_answer(id, request.number, head(style));
            net.end_answer(id, request.number);
            return Decision::Answered;
        }
        let mut options = TaskOptions::new().name(request.path().to_owned());
        if let Some(timeout) = self.stream_timeout.filter(|_| style != Style::Whole) {
            options = options.deadline(timeout);
        }
        match self.service.enqueue_with(id, job, options) {
            Ok(task) => {
                let target = format!("{}?{}", request.path(), request.query());
                let record = Record::new(style, task, target.trim_end_matches('?'));
                self.records().live.insert((id, request.number), record);
                Decision::Accepted
            }
            Err(EnqueueError::ShuttingDown(_)) => {
                net.answer(id, request.number, Response::going_down());
                Decision::Refused
            }
            Err(full) => {
                let wait = self.service.estimated_wait(id);
                net.answer(id, request.number, Response::busy(wait, &full.to_string()));
                Decision::Refused
            }
        }
    }

    /// Looks at a task that has parked or ended, or whose output the kernel has taken.
    fn look(&mut self, net: &mut Net, task: TaskId, news: News) {
        let Some(status) = self.service.task_status(task) else {
            return;
        };
        match status {
            TaskStatus::Syncing(mut job) if news == News::Announced => {
                let (key, style, output) = (job.key, job.style(), job.take_output());
                self.write(net, key, style, output);
            }
            TaskStatus::Syncing(mut job) => {
                let (key, pause) = (job.key, job.note_written());
                if pause.is_zero() {
                    job.resume();
                    self.set_state(key, State::Computing);
                } else {
                    // It stays parked, without a thread.
                    self.pause(key, pause);
                }
            }
            TaskStatus::Finished(job) => self.finish(net, job.key),
            TaskStatus::Stopped(why, job) => {
                let end = match why {
                    StopReason::TimedOut(_) => End::TimedOut,
                    _ => End::Stopped,
                };
                let answer = failure::stopped(why, || self.service.estimated_wait(job.key.0));
                self.fail(net, job.key, answer, end, job.outcome().stopped);
            }
            TaskStatus::Panicked(_) => {
                let key = self.records().key_of(task);
                if let Some(key) = key {
                    self.fail(net, key, failure::panicked(), End::Panicked, None);
                }
            }
            TaskStatus::Queued | TaskStatus::Running | TaskStatus::Stopping => {}
        }
    }

    /// Writes the output of a task. `sent` follows, or `closed` if the client goes before that.
    fn write(&mut self, net: &mut Net, key: Key, style: Style, output: Bytes) {
        let (id, request) = key;
        let is_first = self.records().note_asked(key, State::Writing);
        if style == Style::Whole {
            let answer = Response::new(200).body("text/plain; charset=utf-8", output);
            net.answer(id, request, answer.with_report());
            return;
        }
        if is_first {
            net.begin_answer(id, request, head(style));
        }
        net.send_part(id, request, output);
    }

    fn pause(&mut self, key: Key, pause: Duration) {
        let until = Instant::now() + pause;
        let mut records = self.shared.records.of(self.number);
        if let Some(record) = records.live.get_mut(&key) {
            record.state = State::Pausing;
            record.timer = Some(until);
            self.timers.insert((until, key));
        }
    }

    /// Resumes the tasks whose pauses are over.
    fn resume_due(&mut self) {
        let now = Instant::now();
        while let Some((until, key)) = self.timers.first().copied()
            && until <= now
        {
            self.timers.pop_first();
            let mut records = self.shared.records.of(self.number);
            if let Some(record) = records.live.get_mut(&key) {
                record.timer = None;
                record.state = State::Computing;
                self.service.task_sync(record.task, Resume::Continue);
            }
        }
    }

    fn set_state(&self, key: Key, state: State) {
        if let Some(record) = self.records().live.get_mut(&key) {
            record.state = state;
        }
    }

    /// The task is done. What is left of an answer in parts is its end.
    fn finish(&mut self, net: &mut Net, key: Key) {
        let ending = self.records().live.get(&key).map(|record| record.ending);
        match ending {
            Some(None) => {
                self.records().note_asked(key, State::Finishing);
                net.end_answer(key.0, key.1);
            }
            Some(Some((end, _))) => self.end(key, end, None),
            // The request has ended before its task.
            None => {}
        }
    }

    /// The task has ended without being done. `answer` says so; a client that has got parts of
    /// another one sees that it is cut off.
    fn fail(&mut self, net: &mut Net, key: Key, answer: Response, end: End, task_saw: Option<StopReason>) {
        let mut records = self.shared.records.of(self.number);
        let Some(record) = records.live.get_mut(&key) else {
            return;
        };
        if record.style == Style::Whole && !record.is_pending() && record.ending.is_none() {
            // The answer is on its way.
            record.state = State::Finishing;
        }
        if record.state == State::Finishing {
            return;
        }
        // The client has gone, or has got an answer.
        let ending = record.ending;
        drop(records);
        if let Some((end, _)) = ending {
            return self.end(key, end, task_saw);
        }
        net.answer(key.0, key.1, answer);
        self.end(key, end, task_saw);
    }

    fn end(&mut self, key: Key, end: End, task_saw: Option<StopReason>) {
        let timer = self.records().end(key, end, task_saw);
        if let Some(until) = timer {
            self.timers.remove(&(until, key));
        }
    }

    /// Ends a stream of events as after the last event: the client reconnects to the next server.
    fn end_events(&mut self, net: &mut Net, key: Key, task: TaskId) {
        if self.records().is_pending(key) {
            // The client gets its answer when the task has ended.
            self.service.dequeue(task);
            return;
        }
        self.records().note_asked(key, State::Finishing);
        net.end_answer(key.0, key.1);
        self.service.dequeue(task);
    }

    /// Checks whether a client that has closed its sending side has left. If so, `closed` is
    /// called. It may leave later, so this is repeated.
    fn probe(&mut self, net: &mut Net, target: ProbeTarget) {
        let id = target.id;
        let keys = self.records().keys_of(id);
        if keys.is_empty() || self.probes.probe(net, target) {
            return;
        }
        // The two cannot be told apart, and few clients of HTTP/1.0 close one half only.
        for (_, request) in keys {
            self.records().begin_end((id, request), End::ClientGone);
            let why = "cancelled, because the client has closed its side before the answer";
            net.answer(id, request, Response::text(400, why));
        }
        net.end_requests(id);
        self.service.connection_closed(id);
    }

    fn probe_due(&mut self, net: &mut Net) {
        while let Some(target) = self.probes.take_due() {
            self.probe(net, target);
        }
    }

    fn add_metrics(&self, text: &mut Metrics) {
        self.shared.records.counts().add_to(text);
        text.gauge("loops", "Loops that serve clients.", self.shared.records.loops());
    }

    /// Pages and figures, which have no handlers.
    fn get(&self, request: &Request) -> Response {
        let counters = self.shared.counters.total();
        let figures = monitor::answer_with(request, self.shared.pool, &counters, |text| {
            self.add_metrics(text);
        });
        // `route` lets no other path through.
        let file = figures.or_else(|| self.page.answer(request));
        file.unwrap_or_else(|| Response::text(404, self.not_found()))
    }
}

impl App for HttpDelegate<'_> {
    fn route(&self, path: &str) -> Option<Route> {
        let handled = handlers::find(path).map(|(route, _)| route);
        handled
            .or_else(|| self.page.route(path))
            .or_else(|| monitor::route(path))
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /now, /echo, /reject, /work, /stream, /events, /requests.json, \
         /dump, /dump.json or /metrics"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let Some((_, handler)) = handlers::find(request.path()) else {
            net.answer(id, request.number, self.get(&request));
            return;
        };
        let site = Site {
            loop_number: self.number,
            records: &self.shared.records,
        };
        let decision = match handler(&site, &request) {
            Handled::Answered(answer) => {
                net.answer(id, request.number, answer);
                Decision::Answered
            }
            Handled::Accepted(job) => self.accept(net, id, &request, job),
            Handled::Rejected(status, why) => {
                net.answer(id, request.number, Response::text(status, &why));
                Decision::Rejected
            }
        };
        self.records().counts.add_decision(decision);
    }

    /// The kernel has taken everything that was given of an answer, so its task continues.
    fn sent(&mut self, net: &mut Net, id: ConnId, request: u64) {
        let key = (id, request);
        let mut records = self.shared.records.of(self.number);
        records.note_written(key);
        let Some(record) = records.live.get(&key) else {
            return;
        };
        let (task, style, is_finishing) = (record.task, record.style, record.state == State::Finishing);
        drop(records);
        // A whole answer is complete before its task ends.
        if is_finishing || style == Style::Whole {
            self.end(key, End::Done, None);
        }
        self.look(net, task, News::Written);
    }

    /// The client has gone, or it only sends no more.
    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        self.probe(net, ProbeTarget::new(id));
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        let task = self.records().begin_end((id, request), End::TimedOut);
        if let Some(task) = task {
            self.service.dequeue(task);
        }
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        let keys = self.records().keys_of(id);
        for key in keys {
            let mut records = self.shared.records.of(self.number);
            records.begin_end(key, End::ClientGone);
            let is_finishing = records
                .live
                .get(&key)
                .is_some_and(|record| record.state == State::Finishing);
            drop(records);
            // No end of a task follows.
            if is_finishing {
                self.end(key, End::ClientGone, None);
            }
        }
        self.service.connection_closed(id);
    }

    fn turn(&mut self, net: &mut Net) {
        if !self.has_workers {
            self.service.run_pending(RUN_TIME);
        }
        for ready in self.service.take_ready() {
            self.look(net, ready.id, News::Announced);
        }
        self.resume_due();
        self.probe_due(net);
        if self.finish_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.shared.pool.shutdown(Shutdown::Cancel);
        }
        self.shared.counters.publish(self.number, net.counters());
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let timer = self.timers.first().map(|(until, _)| *until);
        let probe = self.probes.next_due();
        let at = [timer, probe, self.finish_at].into_iter().flatten().min();
        let own = at.map(|at| at.saturating_duration_since(now));
        [self.service.poll_timeout(), own].into_iter().flatten().min()
    }

    /// Events end at once. Other tasks may end within most of the grace; the rest of it is for the
    /// answers to those that have not.
    fn stopping(&mut self, net: &mut Net) {
        let live = self.records().events();
        for (key, task) in live {
            self.end_events(net, key, task);
        }
        self.finish_at = Some(Instant::now() + self.grace * 3 / 4);
    }
}

/// The head of an answer in parts.
fn head(style: Style) -> Response {
    let media_type = match style {
        Style::Events => "text/event-stream",
        Style::Whole | Style::Parts => "text/plain; charset=utf-8",
    };
    Response::new(200)
        .header("Content-Type", media_type)
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-store")
        // Otherwise nginx keeps parts back.
        .header("X-Accel-Buffering", "no")
}
