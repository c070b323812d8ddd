//! What happens to a request, and to a task.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use examples::http::{Piece, Request, Response, Route};
use examples::net::Net;
use examples::page;
use examples::page::Page;
use examples::server::{App, Server};
use examples::{failure, monitor};
use http::Method;
use moored::{ConnId, EnqueueError, GroupId, Service, Shutdown, TaskId, TaskOptions, TaskStatus, ThreadPool};

use crate::job::{Form, Job, Origin};
use crate::options::Options;

/// One step of a task.
const PIECE_BYTES: usize = 256 * 1024;
/// `/fast` keeps bodies whole, and nothing else is served while it computes their checksums.
const FAST_BODY_BYTES: usize = 64 * 1024;

pub struct HttpCrc<'pool> {
    pool: &'pool ThreadPool,
    service: Service<Job>,
    page: Page,
    /// The tasks of the requests that have no answer yet.
    tasks: BTreeMap<(ConnId, u64), TaskId>,
    max_body: usize,
    work: Duration,
    group_by_address: bool,
    grace: Duration,
    /// When to stop the tasks that are left, after the server was told to stop.
    finish_at: Option<Instant>,
}

impl<'pool> HttpCrc<'pool> {
    pub fn new(pool: &'pool ThreadPool, server: &Server, options: &Options) -> Self {
        Self {
            pool,
            service: pool.service(server.waker()),
            page: page!["page.css", "page.html", "page.js"],
            tasks: BTreeMap::new(),
            max_body: options.max_body,
            work: options.work,
            group_by_address: options.group_by_address,
            grace: options.listen.grace,
            finish_at: None,
        }
    }

    /// Gives the request to a task. A body that has all arrived goes with it; another one goes to
    /// the task in pieces, when the task asks for them.
    fn start(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let number = request.number;
        let origin = Origin {
            id,
            request: number,
            form: match request.path() {
                "/crc" => Form::Digits,
                _ => Form::Json,
            },
        };
        if self.group_by_address {
            self.service
                .set_group(id, net.client_address(id).map(GroupId::from));
        }
        let enqueued = if request.body_follows {
            let options = TaskOptions::new().name("upload");
            self.service
                .enqueue_with(id, Job::new(origin, self.work), options)
        } else {
            let job = Job::with_body(origin, self.work, request.body);
            self.service.enqueue(id, job)
        };
        match enqueued {
            Ok(task) => drop(self.tasks.insert((id, number), task)),
            Err(EnqueueError::ShuttingDown(_)) => {
                net.answer(id, number, Response::come_back(5, "the server is going down"));
            }
            Err(full) => {
                let wait = self.service.estimated_wait(id);
                net.answer(id, number, Response::busy(wait, &full.to_string()));
            }
        }
    }

    /// Looks at a task that has parked or ended, or that `piece` is for.
    fn serve(&mut self, net: &mut Net, task: TaskId, piece: Option<Piece>) {
        let Some(status) = self.service.task_status(task) else {
            return;
        };
        let answer = match status {
            TaskStatus::Syncing(mut job) => {
                if let Some(piece) = piece {
                    job.add(piece);
                    job.resume();
                } else {
                    // It stays parked until the next piece has arrived.
                    job.drop_piece();
                    net.want_body(job.origin.id, job.origin.request);
                }
                return;
            }
            TaskStatus::Finished(job) => Some(((job.origin.id, job.origin.request), answer(&job))),
            TaskStatus::Stopped(why, job) => {
                let Origin { id, request, .. } = job.origin;
                let answer = failure::stopped(why, || self.service.estimated_wait(id));
                Some(((id, request), answer))
            }
            TaskStatus::Panicked(_) => {
                let key = self
                    .tasks
                    .iter()
                    .find(|(_, it)| **it == task)
                    .map(|(key, _)| *key);
                key.zip(Some(failure::panicked()))
            }
            TaskStatus::Queued | TaskStatus::Running | TaskStatus::Stopping => None,
        };
        // Without an entry the client has left, or has got an answer.
        if let Some((key, answer)) = answer
            && self.tasks.remove(&key).is_some()
        {
            net.answer(key.0, key.1, answer);
        }
    }

    /// Stops the task of a request that has got its answer.
    fn cancel(&mut self, id: ConnId, request: u64) {
        if let Some(task) = self.tasks.remove(&(id, request)) {
            self.service.dequeue(task);
        }
    }

    /// Stops the tasks of a connection. Returns the requests that they were for.
    fn cancel_all(&mut self, id: ConnId) -> Vec<u64> {
        let all = self.tasks.range((id, 0)..=(id, u64::MAX));
        let requests: Vec<_> = all.map(|((_, request), _)| *request).collect();
        for request in &requests {
            self.tasks.remove(&(id, *request));
        }
        self.service.connection_closed(id);
        requests
    }

    fn get(&self, net: &Net, request: &Request) -> Response {
        if let Some(answer) = monitor::answer(request, self.pool, net) {
            return answer;
        }
        // `route` lets no other path through.
        let file = self.page.answer(request);
        file.unwrap_or_else(|| Response::text(404, self.not_found()))
    }
}

impl App for HttpCrc<'_> {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/" => Some(Route::get_and_post(self.max_body).in_pieces(PIECE_BYTES)),
            "/crc" => Some(Route::post(self.max_body).in_pieces(PIECE_BYTES)),
            "/fast" => Some(Route::get_and_post(FAST_BODY_BYTES)),
            _ => self.page.route(path).or_else(|| monitor::route(path)),
        }
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /crc, /fast, /dump, /dump.json or /metrics"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        if request.path() == "/fast" {
            let digest = crc32fast::hash(&request.body);
            net.answer(id, request.number, digits(digest));
        } else if request.method == Method::POST {
            self.start(net, id, request);
        } else {
            let answer = self.get(net, &request);
            net.answer(id, request.number, answer);
        }
    }

    fn body(&mut self, net: &mut Net, id: ConnId, request: u64, piece: Piece) {
        if let Some(task) = self.tasks.get(&(id, request)) {
            self.serve(net, *task, Some(piece));
        }
    }

    fn body_failed(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.cancel(id, request);
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.cancel(id, request);
    }

    /// TCP does not tell a client that has left from one that only sends no more. Work for the
    /// first would be wasted, and HTTP clients do not close one half, so both are cancelled.
    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        let requests = self.cancel_all(id);
        if requests.is_empty() {
            return;
        }
        for request in requests {
            let why = "cancelled, because the client has closed its side before the answer";
            net.answer(id, request, Response::text(400, why));
        }
        net.end_requests(id);
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.cancel_all(id);
    }

    fn turn(&mut self, net: &mut Net) {
        for ready in self.service.take_ready() {
            self.serve(net, ready.id, None);
        }
        if self.finish_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.pool.shutdown(Shutdown::Cancel);
        }
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let finish = self
            .finish_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        [self.service.poll_timeout(), finish].into_iter().flatten().min()
    }

    /// Tasks that have begun may end within most of the grace. The rest of it is for the answers
    /// to those that have not.
    fn stopping(&mut self, _net: &mut Net) {
        self.finish_at = Some(Instant::now() + self.grace * 3 / 4);
    }
}

fn answer(job: &Job) -> Response {
    match job.origin.form {
        Form::Digits => digits(job.crc32()),
        Form::Json => {
            let (crc32, length) = (job.crc32(), job.length());
            let json = format!("{{\"crc32\":\"{crc32:08x}\",\"length\":{length}}}\n");
            Response::new(200).body("application/json", json)
        }
    }
}

fn digits(crc32: u32) -> Response {
    Response::text(200, &format!("{crc32:08x}"))
}
