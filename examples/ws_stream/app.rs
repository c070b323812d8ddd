//! What happens to a request, and to a task.

use std::collections::HashMap;
use std::time::Duration;

use examples::assets::Asset;
use examples::connection::Sent;
use examples::http::{Request, Response, Route};
use examples::net::Net;
use examples::query::Query;
use examples::server::{App, Server};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use moored::{
    ConnId, EnqueueError, Resume, Service, StopReason, TaskId, TaskOptions, TaskStatus, ThreadPool,
};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::job::{Job, Source};
use crate::mandelbrot::Tile;
use crate::page;
use crate::stream::Stream;

/// The subprotocol of the libwebsockets example this one has grown from.
const LWS_PROTOCOL: &str = "lws-minimal";
/// Tasks that `/dump.json` lists, unless it is asked for more.
const DUMPED_TASKS: usize = 200;
/// Tasks that are resumed together. One by one, many would find the workers asleep again and
/// have to wake one (2 to 3 system calls a message instead of 1.2, measured with 100 clients);
/// all at once, the workers would wait until the last message of a turn is written.
const RESUMED_TOGETHER: usize = 128;

pub struct WsStream<'pool> {
    pool: &'pool ThreadPool,
    service: Service<Job>,
    /// The page's files by their paths.
    files: HashMap<&'static str, Asset>,
    /// Tasks whose message has been sent in part: they go on when the client has read the rest.
    unread: HashMap<ConnId, TaskId>,
    /// Tasks whose message has been sent, and that are about to go on.
    sent: Vec<TaskId>,
    max_connections: usize,
}

/// A WebSocket that is asked for: what to send on it, and what to call it.
struct Wanted {
    source: Source,
    name: &'static str,
    protocol: Option<&'static str>,
}

impl<'pool> WsStream<'pool> {
    pub fn new(pool: &'pool ThreadPool, server: &Server, max_connections: usize) -> Self {
        let service = pool.service(server.waker());
        Self {
            pool,
            service,
            files: page::files(),
            unread: HashMap::new(),
            sent: Vec::new(),
            max_connections,
        }
    }

    /// A task for the connection, or the answer that says why not. The task comes before the
    /// upgrade, so that a full queue can still be told as an HTTP status.
    fn start(&mut self, net: &Net, id: ConnId, request: &Request) -> Result<Option<&'static str>, Response> {
        let wanted = wanted(request)?;
        if net.websockets() >= self.max_connections {
            return Err(Response::come_back(1, "all connections are taken"));
        }
        let options = TaskOptions::new().name(wanted.name);
        match self.service.enqueue_with(id, Job::new(wanted.source), options) {
            Ok(_) => Ok(wanted.protocol),
            Err(EnqueueError::Finished(_)) => Err(Response::come_back(5, "the server is going down")),
            Err(full) => Err(Response::come_back(1, &full.to_string())),
        }
    }

    /// Sees to a task that has parked or ended.
    fn serve(&mut self, net: &mut Net, task: TaskId) {
        let id = self.service.connection_of(task);
        // Asked in any case: an ended task is kept until it is.
        let (Some(status), Some(id)) = (self.service.task_status(task), id) else {
            return;
        };
        match status {
            TaskStatus::Syncing(job) => match net.send(id, job.message()) {
                Sent::All => self.sent.push(task),
                // The job stays parked, and its message with it.
                Sent::Partly => drop(self.unread.insert(id, task)),
                // `closed` has stopped it, or is about to.
                Sent::Gone => {}
            },
            TaskStatus::Finished(_) => net.close(id, CloseCode::Normal, ""),
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

    fn get(&self, request: &Request) -> Response {
        match request.path() {
            "/dump" => Response::new(200)
                .body("text/plain; charset=utf-8", self.pool.dump().to_string())
                .header("Cache-Control", "no-store"),
            "/dump.json" => self
                .dump_json(request.query())
                .unwrap_or_else(|why| Response::text(400, &why)),
            path => match self.files.get(path) {
                Some(file) => file.answer(request),
                // `route` lets no other path through.
                None => Response::text(404, self.not_found()),
            },
        }
    }

    fn dump_json(&self, query: &str) -> Result<Response, String> {
        let mut query = Query::new(query);
        let limit = query.take_number("limit", DUMPED_TASKS, 0..=usize::MAX)?;
        query.finish()?;
        let mut dump = self.pool.dump();
        dump.tasks.truncate(limit);
        let json = serde_json::to_vec(&dump).map_err(|error| error.to_string())?;
        Ok(Response::new(200)
            .body("application/json", json)
            .header("Cache-Control", "no-store"))
    }
}

impl App for WsStream<'_> {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/" => Some(Route::get().or_websocket()),
            "/dump" | "/dump.json" => Some(Route::get()),
            "/stream" | "/tiles" => Some(Route::websocket()),
            _ => self.files.contains_key(path).then(Route::get),
        }
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /dump, /dump.json, /stream or /tiles"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        if !request.is_handshake {
            net.answer(id, request.number, self.get(&request));
            return;
        }
        match self.start(net, id, &request) {
            Ok(protocol) => net.upgrade(id, &request, protocol),
            Err(answer) => net.answer(id, request.number, answer),
        }
    }

    fn turn(&mut self, net: &mut Net) {
        for task in self.service.take_ready() {
            self.serve(net, task);
            if self.sent.len() == RESUMED_TOGETHER {
                self.resume_sent();
            }
        }
        self.resume_sent();
    }

    fn drained(&mut self, _net: &mut Net, id: ConnId) {
        if let Some(task) = self.unread.remove(&id) {
            self.service.task_sync(task, Resume::Continue);
        }
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.unread.remove(&id);
        self.service.connection_closed(id);
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.service.next_timeout()
    }

    fn stopping(&mut self, _net: &mut Net) {
        self.pool.finish();
    }
}

fn wanted(request: &Request) -> Result<Wanted, Response> {
    let query = request.query();
    let (source, name, protocol) = match request.path() {
        "/stream" => (Stream::from_query(query).map(Source::Stream), "stream", None),
        "/tiles" => (Tile::from_query(query).map(Source::Tile), "tile", None),
        _ if request.lists(SEC_WEBSOCKET_PROTOCOL, LWS_PROTOCOL) => (
            Ok(Source::Stream(Stream::endless())),
            LWS_PROTOCOL,
            Some(LWS_PROTOCOL),
        ),
        _ => (
            Err(format!("/ speaks the subprotocol {LWS_PROTOCOL} only")),
            "",
            None,
        ),
    };
    Ok(Wanted {
        source: source.map_err(|why| Response::text(400, &why))?,
        name,
        protocol,
    })
}

fn reason(why: StopReason) -> &'static str {
    match why {
        StopReason::PoolFinished => "the server is going down",
        StopReason::TimedOut(_) => "the task took too long",
        _ => "the task was stopped",
    }
}
