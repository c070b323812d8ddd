//! What happens to a request, and to a task.

use std::collections::HashMap;
use std::time::Duration;

use examples::connection::Sent;
use examples::http::{Request, Response, Route};
use examples::monitor;
use examples::net::Net;
use examples::page;
use examples::page::Page;
use examples::server::{App, Server};
use examples::upgrade;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use moored::{
    ConnId, EnqueueError, Resume, Service, Shutdown, StopReason, TaskId, TaskOptions, TaskStatus, ThreadPool,
};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::job::{Job, LWS_PROTOCOL, Source};
use crate::mandelbrot::Tile;
use crate::options::Options;
use crate::stream::Stream;

/// Tasks that are resumed together. If tasks are resumed one by one, the workers may be parked and
/// must be woken each time (2 to 3 system calls a message instead of 1.2, measured with 100
/// clients). If all are resumed at once, the workers wait until the last message of a turn is
/// written.
const RESUMED_TOGETHER: usize = 128;

pub struct WsStream<'pool> {
    pool: &'pool ThreadPool,
    service: Service<Job>,
    page: Page,
    /// Per blocked connection: the task whose message has been sent in part, then the tasks whose
    /// messages wait behind it. They go on when the client has read.
    unread: HashMap<ConnId, Vec<TaskId>>,
    /// Tasks whose message has been sent, and that are about to go on.
    sent: Vec<TaskId>,
    max_connections: usize,
    max_queue_depth: usize,
}

/// A WebSocket that is asked for: a task for each source, and the subprotocol.
struct Wanted {
    sources: Vec<Source>,
    protocol: Option<&'static str>,
}

impl<'pool> WsStream<'pool> {
    pub fn new(pool: &'pool ThreadPool, server: &Server, options: &Options) -> Self {
        let service = pool.service(server.waker());
        Self {
            pool,
            service,
            page: page![
                "page.css",
                "page.html",
                "page.js",
                "sockets.js",
                "tiles.js",
                "view.js"
            ],
            unread: HashMap::new(),
            sent: Vec::new(),
            max_connections: options.listen.max_connections,
            max_queue_depth: options.workers.max_queue_depth,
        }
    }

    /// Submits the tasks of the connection, or gives the answer that says why not. They are
    /// submitted before the upgrade, so that a full queue can still be reported as an HTTP status.
    fn start(&mut self, net: &Net, id: ConnId, request: &Request) -> Result<Option<&'static str>, Response> {
        let wanted = wanted(request)?;
        self.check_connections(net)?;
        for source in wanted.sources {
            let options = TaskOptions::new().name(source.name());
            let Err(refused) = self.service.enqueue_with(id, Job::new(source), options) else {
                continue;
            };
            // All or nothing: the tasks before this one are cancelled.
            self.service.connection_closed(id);
            return Err(match refused {
                EnqueueError::ShuttingDown(_) => Response::going_down(),
                full => Response::busy(self.service.estimated_wait(id), &full.to_string()),
            });
        }
        Ok(wanted.protocol)
    }

    fn check_connections(&self, net: &Net) -> Result<(), Response> {
        if net.websockets() >= self.max_connections {
            return Err(Response::come_back(1, "all connections are taken"));
        }
        Ok(())
    }

    /// The answer to a WebSocket's path without an upgrade. A browser does not tell a page why its
    /// WebSocket has failed, so the page sends a plain request and reads the reason.
    fn explain(&self, net: &Net, request: &Request) -> Result<(), Response> {
        let tasks = wanted(request)?.sources.len();
        self.check_connections(net)?;
        let room = self.max_queue_depth.saturating_sub(self.pool.counts().queued);
        if tasks > room {
            let why = format!("tasks: {tasks}, room in the queue: {room}");
            return Err(Response::busy(self.pool.estimated_wait(), &why));
        }
        Ok(())
    }

    /// Handles a task that has parked or ended.
    fn serve(&mut self, net: &mut Net, task: TaskId) {
        let id = self.service.connection_of(task);
        // Called for every task: an ended task is kept until then.
        let (Some(status), Some(id)) = (self.service.task_status(task), id) else {
            return;
        };
        match status {
            TaskStatus::Syncing(job) => {
                if let Some(waiting) = self.unread.get_mut(&id) {
                    waiting.push(task);
                    return;
                }
                match net.send(id, job.message()) {
                    Sent::All => self.sent.push(task),
                    // The job stays parked, and its message with it.
                    Sent::Partly => drop(self.unread.insert(id, vec![task])),
                    // `closed` has stopped it, or is about to.
                    Sent::Gone => {}
                }
            }
            TaskStatus::Finished(_) => {
                if self.service.tasks_of(id).is_empty() {
                    net.close(id, CloseCode::Normal, "");
                }
            }
            TaskStatus::Stopped(StopReason::Shed, _) => {
                net.close(id, CloseCode::Again, "the server has too many tasks");
            }
            TaskStatus::Stopped(why, _) => net.close(id, CloseCode::Away, reason(why)),
            TaskStatus::Panicked(_) => net.close(id, CloseCode::Error, "the task has panicked"),
            TaskStatus::Queued | TaskStatus::Running | TaskStatus::Stopping => {}
        }
    }

    fn resume_sent(&mut self) {
        for task in self.sent.drain(..) {
            self.service.task_sync(task, Resume::Continue);
        }
    }

    fn get(&self, net: &Net, request: &Request) -> Response {
        if let Some(answer) = monitor::answer(request, self.pool, net) {
            return answer;
        }
        if matches!(request.path(), "/stream" | "/tiles") {
            return self.explain(net, request).err().unwrap_or_else(upgrade::required);
        }
        // `route` lets no other path through.
        let file = self.page.answer(request);
        file.unwrap_or_else(|| Response::text(404, self.not_found()))
    }
}

impl App for WsStream<'_> {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/" | "/stream" | "/tiles" => Some(Route::get().or_websocket()),
            _ => self.page.route(path).or_else(|| monitor::route(path)),
        }
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /dump, /dump.json, /metrics, /stream or /tiles"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        if !request.is_handshake {
            net.answer(id, request.number, self.get(net, &request));
            return;
        }
        match self.start(net, id, &request) {
            Ok(protocol) => net.upgrade(id, &request, protocol),
            Err(answer) => net.answer(id, request.number, answer),
        }
    }

    fn turn(&mut self, net: &mut Net) {
        for ready in self.service.take_ready() {
            self.serve(net, ready.id);
            if self.sent.len() == RESUMED_TOGETHER {
                self.resume_sent();
            }
        }
        self.resume_sent();
    }

    fn drained(&mut self, net: &mut Net, id: ConnId) {
        let mut tasks = self.unread.remove(&id).into_iter().flatten();
        if let Some(task) = tasks.next() {
            self.service.task_sync(task, Resume::Continue);
        }
        for task in tasks {
            self.serve(net, task);
        }
        self.resume_sent();
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.unread.remove(&id);
        self.service.connection_closed(id);
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        self.service.poll_timeout()
    }

    fn stopping(&mut self, _net: &mut Net) {
        eprintln!("ws_stream: stopping, sends what was accepted; a second signal stops it at once");
        self.pool.shutdown(Shutdown::Cancel);
    }
}

fn wanted(request: &Request) -> Result<Wanted, Response> {
    let query = request.query();
    let (sources, protocol) = match request.path() {
        "/stream" => (
            Stream::from_query(query).map(|stream| vec![Source::Stream(stream)]),
            None,
        ),
        "/tiles" => (
            Tile::from_query(query).map(|tiles| tiles.into_iter().map(Source::Tile).collect()),
            None,
        ),
        _ if request.lists(SEC_WEBSOCKET_PROTOCOL, LWS_PROTOCOL) => {
            (Ok(vec![Source::Lws(Stream::endless())]), Some(LWS_PROTOCOL))
        }
        _ => (Err(format!("/ speaks the subprotocol {LWS_PROTOCOL} only")), None),
    };
    let sources = sources.map_err(|why| Response::text(400, &why))?;
    Ok(Wanted { sources, protocol })
}

fn reason(why: StopReason) -> &'static str {
    match why {
        StopReason::PoolShutdown => "the server is going down",
        StopReason::TimedOut(_) => "the task took too long",
        _ => "the task was stopped",
    }
}
