//! Implements the server's `App` for one loop: requests, answers, and the end of connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, ThreadId};
use std::time::Duration;

use examples::http::{Request, Response, Route};
use examples::net::Net;
use examples::probes::ProbeTarget;
use examples::server::App;
use mio::net::TcpStream;
use moored::{ConnId, Mailbox};

use crate::commands::{Function, Key};
use crate::database::part::Reader;
use crate::job::Work;
use crate::loop_state::{LoopState, answer};
use crate::report;
use crate::request::{Sql, loop_number, slow_time};
use crate::shared::{LoopParts, Shared};

/// The app of one loop, with the mailboxes that other threads send to.
pub struct LoopApp {
    state: LoopState,
    functions: Mailbox<Function>,
    clients: Mailbox<TcpStream>,
    thread: ThreadId,
}

impl LoopApp {
    /// Makes the app of a loop that runs on the calling thread.
    pub fn new(parts: LoopParts, shared: &Arc<Shared>) -> Self {
        let LoopParts {
            number,
            pool,
            service,
            functions,
            clients,
        } = parts;
        Self {
            state: LoopState::new(number, pool, service, Arc::clone(shared)),
            functions,
            clients,
            thread: thread::current().id(),
        }
    }

    /// Panics unless the loop's own thread calls this: a connection never leaves its loop.
    fn check_thread(&self) {
        let (loop_thread, this) = (self.thread, thread::current().id());
        assert_eq!(
            loop_thread, this,
            "loop {}: a call on another thread",
            self.state.number
        );
    }

    /// Adds the clients and runs the functions that other threads have sent to this loop.
    fn drain_mailboxes(&mut self, net: &mut Net) {
        for (_, client) in self.clients.drain() {
            net.adopt(client);
        }
        for (_, function) in self.functions.drain() {
            self.state.run += 1;
            function(&mut self.state, net);
        }
    }

    /// Publishes the figures of this loop for the other threads.
    fn publish(&self, net: &Net) {
        let state = &self.state;
        let (figures, counters) = (&state.shared.figures[state.number], net.counters());
        let connections = counters.connections;
        figures.connections.store(connections, Ordering::Relaxed);
        figures.tasks.store(state.tasks(), Ordering::Relaxed);
        figures.functions.store(state.run, Ordering::Relaxed);
        figures.requests.store(counters.requests, Ordering::Relaxed);
        figures.refused.store(counters.refused, Ordering::Relaxed);
        state.shared.net_counters.publish(state.number, counters);
    }

    fn start_query(&mut self, net: &mut Net, key: Key, query: &str) -> Result<(), String> {
        let sql = Sql::parse(query)?;
        let reader = Reader::new(&sql.text, sql.after, self.state.shared.part_bytes);
        self.state.start(net, key, Work::Query(reader));
        Ok(())
    }

    /// Starts the work for a request. An error is the text of the answer.
    fn begin(&mut self, net: &mut Net, key: Key, request: &Request) -> Result<(), String> {
        let state = &mut self.state;
        let loops = state.shared.loops();
        let query = request.query();
        match request.path() {
            "/query" => self.start_query(net, key, query)?,
            "/slow" => state.start(net, key, Work::Slow(slow_time(query)?)),
            "/move" => {
                let to = loop_number(query, loops)?;
                state.run_in_loops(key, to..=to);
            }
            "/broadcast" => state.run_in_loops(key, 0..=loops - 1),
            "/ping" => answer(net, key, Response::text(200, "pong")),
            "/deadlock" => answer(net, key, state.wait_for_itself()),
            _ => {
                self.publish(net);
                let report = report::answer(&self.state, request);
                // `route` accepts no other path.
                let report = report.unwrap_or_else(|| Response::text(404, self.not_found()));
                answer(net, key, report);
            }
        }
        Ok(())
    }
}

impl App for LoopApp {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/query" | "/slow" | "/ping" | "/move" | "/broadcast" | "/deadlock" => Some(Route::get()),
            _ => report::route(&self.state, path),
        }
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /query, /slow, /ping, /move, /broadcast, /deadlock, /loops.json, /dump, \
         /dump.json or /metrics"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        self.check_thread();
        let key = (id, request.number);
        if let Err(why) = self.begin(net, key, &request) {
            answer(net, key, Response::text(400, &why));
        }
    }

    fn sent(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.check_thread();
        self.state.resume((id, request));
    }

    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        self.check_thread();
        self.state.probe(net, ProbeTarget::new(id));
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.check_thread();
        self.state.cancel((id, request));
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.check_thread();
        self.state.cancel_all(id);
        let shared = &self.state.shared;
        shared.figures[self.state.number]
            .closed
            .fetch_add(1, Ordering::Relaxed);
        shared.note_room();
    }

    fn turn(&mut self, net: &mut Net) {
        self.check_thread();
        self.drain_mailboxes(net);
        self.state.serve_tasks(net);
        self.state.probe_due(net);
        self.state.send_unsent();
        self.publish(net);
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        self.state.poll_timeout()
    }

    fn stopping(&mut self, _net: &mut Net) {
        self.check_thread();
        self.state.stopping();
    }
}
