//! Several loops: on one port, or with clients that another thread accepts.

#[path = "util/in_process.rs"]
mod in_process;

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Barrier, mpsc};
use std::time::Duration;
use std::{io, thread};

use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::loops::{self, LoopCounters};
use examples::net::Net;
use examples::origin::AllowedOrigins;
use examples::server::{App, Server};
use in_process::{StopOnDrop, connect, exchange, read_all};
use mio::net::TcpStream;
use moored::ConnId;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Answers with the number of its loop.
struct Numbered {
    number: usize,
    counters: LoopCounters,
    /// Clients that another thread has accepted.
    clients: Option<mpsc::Receiver<TcpStream>>,
}

impl App for Numbered {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        net.answer(id, request.number, Response::text(200, &self.number.to_string()));
    }

    fn closed(&mut self, net: &mut Net, _id: ConnId) {
        self.counters.publish(self.number, net.counters());
    }

    fn turn(&mut self, net: &mut Net) {
        self.counters.publish(self.number, net.counters());
        for client in self.clients.iter().flat_map(mpsc::Receiver::try_iter) {
            net.adopt(client);
        }
    }
}

/// The body of an answer that is a number.
fn number(answer: &str) -> usize {
    let line = answer.lines().last().expect("a body");
    line.parse().expect(answer)
}

#[test]
fn all_loops_listen_on_one_port() {
    const LOOPS: usize = 3;
    let any = ([127, 0, 0, 1], 0).into();
    let servers = Server::bind_many(LOOPS, any, &Limits::default(), &AllowedOrigins::default());
    let servers = servers.expect("a free port");
    let address = servers[0].local_addr().expect("bound");
    for server in &servers {
        assert_eq!(server.local_addr().expect("bound"), address);
    }
    let stop = StopOnDrop(servers[0].stopper());
    let counters = LoopCounters::new(LOOPS);
    let barrier = Barrier::new(LOOPS + 1);
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            loops::run(servers, |number, server| {
                barrier.wait();
                server.run(&mut Numbered {
                    number,
                    counters: counters.clone(),
                    clients: None,
                })
            })
        });
        barrier.wait();
        let mut seen = HashSet::new();
        let mut requests = 0;
        while seen.len() < LOOPS {
            assert!(requests < 10_000, "the kernel leaves a loop out");
            seen.insert(number(&exchange(address, REQUEST)));
            requests += 1;
        }
        let used = Server::bind_many(2, address, &Limits::default(), &AllowedOrigins::default());
        assert_eq!(
            used.expect_err("the port is taken").kind(),
            io::ErrorKind::AddrInUse
        );
        // Stops one loop; the others follow.
        drop(stop);
        assert_eq!(running.join().expect("no panic").expect("a clean end"), 0);
        assert_eq!(counters.total().requests, requests);
        assert_eq!(counters.all().len(), LOOPS);
    });
}

#[test]
fn a_loop_that_fails_stops_the_others() {
    let any = ([127, 0, 0, 1], 0).into();
    let servers = Server::bind_many(2, any, &Limits::default(), &AllowedOrigins::default());
    let result = loops::run(servers.expect("a free port"), |number, server| {
        if number == 1 {
            return Err(io::Error::other("loop 1 has failed"));
        }
        server.run(&mut Numbered {
            number,
            counters: LoopCounters::new(2),
            clients: None,
        })
    });
    assert_eq!(result.expect_err("an error").to_string(), "loop 1 has failed");
}

/// At the limit of sockets a silent connection makes room. If none is silent, the new client is
/// refused.
#[test]
fn a_loop_takes_clients_from_another_thread() {
    let limits = Limits {
        sockets: 1,
        ..Limits::default()
    };
    let server = Server::without_listener(limits, AllowedOrigins::default()).expect("a poll");
    assert_eq!(
        server.local_addr().expect_err("no listener").kind(),
        io::ErrorKind::NotConnected
    );
    let (stop, waker) = (server.stopper(), server.waker());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, clients) = mpsc::channel();
    let give = || {
        let stream = connect(address);
        let (accepted, _) = listener.accept().expect("a client");
        accepted.set_nonblocking(true).expect("non-blocking");
        sender.send(TcpStream::from_std(accepted)).expect("a loop");
        waker.wake().expect("awake");
        stream
    };
    thread::scope(|scope| {
        let _stop = StopOnDrop(stop);
        scope.spawn(|| {
            server.run(&mut Numbered {
                number: 7,
                counters: LoopCounters::new(8),
                clients: Some(clients),
            })
        });
        let mut first = give();
        first
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        first
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let mut answer = [0; 12];
        std::io::Read::read_exact(&mut first, &mut answer).expect("an answer");
        let mut second = give();
        assert!(
            read_all(&mut first).ends_with("7\n"),
            "closed, since it is silent"
        );
        second.write_all(REQUEST).expect("sent");
        assert_eq!(number(&read_all(&mut second)), 7);
    });
}

/// Begins an answer and never ends it, and gives the client of a channel to the loop when it stops.
struct AdoptsLate {
    late: Option<TcpStream>,
}

impl App for AdoptsLate {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        net.begin_answer(id, request.number, Response::new(200));
        net.send_part(id, request.number, "part".into());
    }

    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        net.probe(id);
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, _net: &mut Net) {}

    fn stopping(&mut self, net: &mut Net) {
        self.late.take().into_iter().for_each(|late| net.adopt(late));
    }
}

/// It is not kept waiting until the grace is over.
#[test]
fn a_loop_that_stops_takes_no_clients() {
    let limits = Limits {
        grace: Duration::from_secs(3600),
        ..Limits::default()
    };
    let any = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(any, limits, AllowedOrigins::default()).expect("a free port");
    let (address, stop) = (server.local_addr().expect("bound"), server.stopper());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut late = connect(listener.local_addr().expect("bound"));
    let (accepted, _) = listener.accept().expect("a client");
    accepted.set_nonblocking(true).expect("non-blocking");
    let mut app = AdoptsLate {
        late: Some(TcpStream::from_std(accepted)),
    };
    thread::scope(|scope| {
        let running = scope.spawn(move || server.run(&mut app));
        let mut first = connect(address);
        first
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        std::io::Read::read_exact(&mut first, &mut [0; 12]).expect("an answer");
        stop.stop();
        let end = std::io::Read::read_to_end(&mut late, &mut Vec::new());
        // Its connection holds the grace open.
        drop(first);
        assert_eq!(end.expect("an end"), 0);
        running.join().expect("no panic").expect("a clean end");
    });
}

#[test]
fn a_port_has_at_least_one_loop() {
    let any = ([127, 0, 0, 1], 0).into();
    let none = Server::bind_many(0, any, &Limits::default(), &AllowedOrigins::default());
    assert_eq!(none.expect_err("no loops").kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn all_loops_listen_on_one_port_of_ipv6() {
    let any = (std::net::Ipv6Addr::LOCALHOST, 0).into();
    // A machine may have no IPv6.
    if std::net::TcpListener::bind(any).is_err() {
        return;
    }
    let servers = Server::bind_many(3, any, &Limits::default(), &AllowedOrigins::default());
    let servers = servers.expect("a free port");
    let address = servers[0].local_addr().expect("bound");
    let stop = StopOnDrop(servers[0].stopper());
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            loops::run(servers, |number, server| {
                server.run(&mut Numbered {
                    number,
                    counters: LoopCounters::new(3),
                    clients: None,
                })
            })
        });
        assert!(number(&exchange(address, REQUEST)) < 3);
        drop(stop);
        assert_eq!(running.join().expect("no panic").expect("a clean end"), 0);
    });
}

/// A loop that still sends what it has accepted must not keep the others open for new clients.
#[test]
fn all_loops_stop_at_once() {
    let limits = Limits {
        grace: Duration::from_secs(3600),
        ..Limits::default()
    };
    let any = ([127, 0, 0, 1], 0).into();
    let servers = Server::bind_many(2, any, &limits, &AllowedOrigins::default());
    let servers = servers.expect("a free port");
    let address = servers[0].local_addr().expect("bound");
    let stops: Vec<_> = servers.iter().map(Server::stopper).collect();
    let (ready, readies) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            loops::run(servers, |number, server| {
                let result = server.run(&mut Holds {
                    number,
                    ready: ready.clone(),
                });
                let _ = ended.send(number);
                result
            })
        });
        let mut first = connect(address);
        first
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        let busy: usize = readies.recv().expect("a request");
        // The loop with the client is told to stop, and the other one ends.
        stops[busy].stop();
        let first_end = ends.recv_timeout(Duration::from_secs(30));
        drop(first);
        stops.iter().for_each(examples::server::Stopper::stop);
        running.join().expect("no panic").expect("a clean end");
        assert_eq!(first_end, Ok(1 - busy));
    });
}

/// Never answers, and tells the number of the loop that has got the request.
struct Holds {
    number: usize,
    ready: mpsc::Sender<usize>,
}

impl App for Holds {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, _net: &mut Net, _id: ConnId, _request: Request) {
        let _ = self.ready.send(self.number);
    }

    fn half_closed(&mut self, net: &mut Net, id: ConnId) {
        net.probe(id);
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, _net: &mut Net) {}
}

/// Never answers, and asks for room in each turn.
struct WantsRoom {
    turns: usize,
    requests: mpsc::Sender<()>,
}

impl App for WantsRoom {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, _net: &mut Net, _id: ConnId, _request: Request) {
        let _ = self.requests.send(());
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, net: &mut Net) {
        self.turns += 1;
        net.make_room();
    }

    fn stopping(&mut self, net: &mut Net) {
        self.turns = 0;
        net.make_room();
    }
}

#[test]
fn a_loop_that_stops_does_not_spin_when_it_should_make_room() {
    let limits = Limits {
        grace: Duration::from_millis(200),
        ..Limits::default()
    };
    let any = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(any, limits, AllowedOrigins::default()).expect("a free port");
    let (address, stop) = (server.local_addr().expect("bound"), server.stopper());
    let (requests, received) = mpsc::channel();
    let mut app = WantsRoom { turns: 0, requests };
    thread::scope(|scope| {
        let running = scope.spawn(|| server.run(&mut app));
        let stop = StopOnDrop(stop);
        let mut client = connect(address);
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        received.recv().expect("a request");
        drop(stop);
        let cut = running.join().expect("no panic").expect("a clean end");
        assert_eq!(cut, 1, "the client without an answer");
    });
    assert!(app.turns < 50, "{} turns in the grace", app.turns);
}
