//! Requests that tasks answer: whatever becomes of the task, the client gets its answer.

#[path = "util/in_process.rs"]
mod in_process;

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use examples::failure;
use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::origin::AllowedOrigins;
use examples::server::{App, Server};
use in_process::{connect, exchange, read_all};
use moored::{
    ConnId, Context, Service, Shutdown, Task, TaskId, TaskOptions, TaskReturn, TaskStatus, ThreadPool,
};

/// What a request asks its task to do.
enum Work {
    Finish,
    Panic,
    Stop,
    /// Goes on until it is asked to stop.
    Endless,
}

impl Task for Work {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        match self {
            Self::Finish => TaskReturn::TaskDone,
            Self::Panic => std::panic::resume_unwind(Box::new("on purpose")),
            Self::Stop => TaskReturn::Stopped,
            Self::Endless if cx.is_stopping() => TaskReturn::Stopped,
            Self::Endless => TaskReturn::Sync,
        }
    }
}

/// A server whose requests are answered by tasks. A task that parks stays parked.
struct Delegating<'pool> {
    pool: &'pool ThreadPool,
    service: Service<Work>,
    /// The task of a request.
    tasks: HashMap<(ConnId, u64), TaskId>,
    /// Requests whose answers were overdue.
    overdue: Arc<AtomicUsize>,
    /// Tells the test that a request has arrived.
    arrived: Arc<(Mutex<usize>, Condvar)>,
}

impl App for Delegating<'_> {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let (work, options) = match request.path() {
            "/panic" => (Work::Panic, TaskOptions::new()),
            "/stop" => (Work::Stop, TaskOptions::new()),
            "/deadline" => (
                Work::Endless,
                TaskOptions::new().deadline(Duration::from_millis(50)),
            ),
            "/endless" => (Work::Endless, TaskOptions::new()),
            _ => (Work::Finish, TaskOptions::new()),
        };
        match self.service.enqueue_with(id, work, options) {
            Ok(task) => drop(self.tasks.insert((id, request.number), task)),
            Err(refused) => net.answer(id, request.number, Response::come_back(1, &refused.to_string())),
        }
        *self.arrived.0.lock().expect("no panic") += 1;
        self.arrived.1.notify_all();
    }

    fn overdue(&mut self, _net: &mut Net, id: ConnId, request: u64) {
        self.overdue.fetch_add(1, Ordering::SeqCst);
        if let Some(task) = self.tasks.remove(&(id, request)) {
            self.service.dequeue(task);
        }
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.tasks.retain(|(conn, _), _| *conn != id);
        self.service.connection_closed(id);
    }

    fn turn(&mut self, net: &mut Net) {
        for ready in self.service.take_ready() {
            let answer = match self.service.task_status(ready.id) {
                Some(TaskStatus::Finished(_)) => Some(Response::text(200, "done")),
                Some(TaskStatus::Stopped(why, _)) => {
                    Some(failure::stopped(why, || self.pool.estimated_wait()))
                }
                Some(TaskStatus::Panicked(_)) => Some(failure::panicked()),
                _ => None,
            };
            let owner = self
                .tasks
                .iter()
                .find(|(_, it)| **it == ready.id)
                .map(|(owner, _)| *owner);
            if let (Some(answer), Some((id, request))) = (answer, owner) {
                self.tasks.remove(&(id, request));
                net.answer(id, request, answer);
            }
        }
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        self.service.poll_timeout()
    }

    fn stopping(&mut self, _net: &mut Net) {
        self.pool.shutdown(Shutdown::Cancel);
    }
}

/// What a test can see of the app.
struct Facts {
    overdue: Arc<AtomicUsize>,
    arrived: Arc<(Mutex<usize>, Condvar)>,
}

impl Facts {
    fn wait_for_requests(&self, count: usize) {
        let arrived = self.arrived.0.lock().expect("no panic");
        let waited = self
            .arrived
            .1
            .wait_timeout_while(arrived, Duration::from_secs(30), |it| *it < count);
        assert!(
            !waited.expect("no panic").1.timed_out(),
            "{count} requests never arrived"
        );
    }
}

/// Runs a server for as long as `client` takes, which may stop it before.
fn with_tasks(limits: Limits, client: impl FnOnce(std::net::SocketAddr, &Facts, &dyn Fn())) {
    let pool = ThreadPool::builder().threads(2).build().expect("two threads");
    let server =
        Server::bind(([127, 0, 0, 1], 0).into(), limits, AllowedOrigins::default()).expect("a free port");
    let (address, stop) = (server.local_addr().expect("bound"), server.stopper());
    let facts = Facts {
        overdue: Arc::default(),
        arrived: Arc::default(),
    };
    let mut app = Delegating {
        service: pool.service(server.waker()),
        pool: &pool,
        tasks: HashMap::new(),
        overdue: Arc::clone(&facts.overdue),
        arrived: Arc::clone(&facts.arrived),
    };
    thread::scope(|scope| {
        let running = scope.spawn(move || server.run(&mut app));
        let stop = in_process::StopOnDrop(stop);
        client(address, &facts, &|| {
            stop.0.stop();
        });
        drop(stop);
        running.join().expect("no panic").expect("a clean end");
    });
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// S21, U24: a task that panics, stops or is late is answered with 500, 503 or 504.
#[test]
fn a_task_that_fails_is_answered() {
    with_tasks(Limits::default(), |address, _, _| {
        for (path, status) in [("/", 200), ("/panic", 500), ("/stop", 503), ("/deadline", 504)] {
            let answer = exchange(address, get(path).as_bytes());
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{path}: {answer}"
            );
        }
    });
}

/// U24: a connection that is owed an answer does not wait for ever, and its task is stopped.
#[test]
fn an_overdue_answer_is_504_and_the_app_is_told() {
    let limits = Limits {
        answer_time: Duration::from_millis(200),
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    with_tasks(limits, |address, facts, _| {
        let answer = exchange(address, get("/endless").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert_eq!(facts.overdue.load(Ordering::SeqCst), 1);
        // The answers behind it still leave in order.
        let keep = get("/endless").replace("Connection: close\r\n", "");
        let answers = exchange(address, (keep + &get("/")).as_bytes());
        let statuses: Vec<_> = answers
            .match_indices("HTTP/1.1 ")
            .map(|(at, _)| &answers[at + 9..at + 12])
            .collect();
        assert_eq!(statuses, ["504", "200"]);
    });
}

/// U25: a request whose answer is owed is answered when the server stops.
#[test]
fn pending_answers_are_given_when_the_server_stops() {
    with_tasks(Limits::default(), |address, facts, stop| {
        let mut owed: Vec<_> = (0..10)
            .map(|_| {
                let mut stream = connect(address);
                let request = get("/endless").replace("Connection: close\r\n", "");
                stream.write_all(request.as_bytes()).expect("sent");
                stream
            })
            .collect();
        let mut idle = connect(address);
        let mut half = connect(address);
        half.write_all(b"GET / HTTP/1.1\r\nHo").expect("sent");
        // The one that is answered shows that the half one has been read.
        exchange(address, get("/").as_bytes());
        facts.wait_for_requests(11);
        stop();
        for stream in &mut owed {
            let answer = read_all(stream);
            assert!(
                answer.starts_with("HTTP/1.1 503 ") && answer.contains("Connection: close"),
                "{answer}"
            );
        }
        assert_eq!(read_all(&mut idle), "");
        assert!(read_all(&mut half).starts_with("HTTP/1.1 503 "));
        // Nobody is served any more.
        let refused = std::net::TcpStream::connect(address);
        assert!(refused.is_err(), "{refused:?}");
    });
}
