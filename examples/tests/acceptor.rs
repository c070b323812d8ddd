//! A thread that accepts clients and gives them to loops.

#[path = "util/in_process.rs"]
mod in_process;

use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use examples::acceptor::{Acceptor, Dealer};
use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::loops;
use examples::net::Net;
use examples::origin::AllowedOrigins;
use examples::server::{App, Server};
use in_process::{StopOnDrop, connect, exchange, read_all};
use mio::Waker;
use mio::net::TcpStream;
use moored::ConnId;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Call of a dealer.
#[derive(Debug)]
enum Call {
    Deal(TcpStream),
    Refuse,
    MakeRoom,
}

/// Reports its calls to the test, which sets how the dealer behaves.
struct Reporter {
    calls: mpsc::Sender<Call>,
    has_room: Arc<AtomicBool>,
    takes_clients: Arc<AtomicBool>,
}

impl Reporter {
    fn report(&self, call: Call) {
        self.calls.send(call).expect("the test waits for the acceptor");
    }
}

impl Dealer for Reporter {
    fn has_room(&mut self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    fn deal(&mut self, client: TcpStream) -> Result<(), TcpStream> {
        if self.takes_clients.load(Ordering::Relaxed) {
            self.report(Call::Deal(client));
            return Ok(());
        }
        self.report(Call::Refuse);
        Err(client)
    }

    fn make_room(&mut self) {
        self.report(Call::MakeRoom);
    }
}

/// A running acceptor, as a test sees it.
struct Running {
    address: SocketAddr,
    waker: Arc<Waker>,
    calls: mpsc::Receiver<Call>,
    has_room: Arc<AtomicBool>,
    takes_clients: Arc<AtomicBool>,
}

impl Running {
    fn next(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// The next client, after any number of other calls.
    fn next_client(&self) -> TcpStream {
        loop {
            if let Call::Deal(client) = self.next() {
                return client;
            }
        }
    }
}

/// Runs an acceptor while `test` runs. Returns the result of `test`.
fn run<R>(test: impl FnOnce(&Running) -> R) -> R {
    let acceptor = Acceptor::bind(([127, 0, 0, 1], 0).into(), 16).expect("a free port");
    let stop = acceptor.stopper();
    let (sender, calls) = mpsc::channel();
    let flag = || Arc::new(AtomicBool::new(true));
    let running = Running {
        address: acceptor.local_addr().expect("bound"),
        waker: acceptor.waker(),
        calls,
        has_room: flag(),
        takes_clients: flag(),
    };
    let mut dealer = Reporter {
        calls: sender,
        has_room: Arc::clone(&running.has_room),
        takes_clients: Arc::clone(&running.takes_clients),
    };
    thread::scope(|scope| {
        let thread = scope.spawn(move || acceptor.run(&mut dealer));
        // Stops the acceptor also if `test` panics.
        let stop = StopOnDrop(stop);
        let result = test(&running);
        drop(stop);
        thread.join().expect("no panic").expect("a clean end");
        result
    })
}

fn assert_same(client: &net::TcpStream, accepted: &TcpStream) {
    assert_eq!(
        accepted.peer_addr().expect("connected"),
        client.local_addr().expect("connected")
    );
}

#[test]
fn each_client_is_given_to_the_dealer_once() {
    run(|acceptor| {
        let clients: Vec<_> = (0..20).map(|_| connect(acceptor.address)).collect();
        for client in &clients {
            assert_same(client, &acceptor.next_client());
        }
        assert!(acceptor.calls.try_recv().is_err());
    });
}

#[test]
fn a_client_that_no_loop_takes_is_held_and_given_again() {
    run(|acceptor| {
        acceptor.takes_clients.store(false, Ordering::Relaxed);
        let (first, second) = (connect(acceptor.address), connect(acceptor.address));
        for _ in 0..2 {
            assert!(matches!(acceptor.next(), Call::Refuse));
        }
        acceptor.takes_clients.store(true, Ordering::Relaxed);
        assert_same(&first, &acceptor.next_client());
        assert_same(&second, &acceptor.next_client());
    });
}

#[test]
fn without_room_the_client_waits_until_there_is_room() {
    run(|acceptor| {
        acceptor.has_room.store(false, Ordering::Relaxed);
        let client = connect(acceptor.address);
        // The acceptor asks again while a client waits.
        for _ in 0..2 {
            assert!(matches!(acceptor.next(), Call::MakeRoom));
        }
        acceptor.has_room.store(true, Ordering::Relaxed);
        acceptor.waker.wake().expect("the acceptor runs");
        assert_same(&client, &acceptor.next_client());
    });
}

#[test]
fn without_room_a_held_client_waits_too() {
    run(|acceptor| {
        acceptor.takes_clients.store(false, Ordering::Relaxed);
        let client = connect(acceptor.address);
        assert!(matches!(acceptor.next(), Call::Refuse));
        acceptor.has_room.store(false, Ordering::Relaxed);
        while !matches!(acceptor.next(), Call::MakeRoom) {}
        acceptor.takes_clients.store(true, Ordering::Relaxed);
        acceptor.has_room.store(true, Ordering::Relaxed);
        assert_same(&client, &acceptor.next_client());
    });
}

#[test]
fn a_stop_closes_the_port_and_the_held_client() {
    let (address, mut held) = run(|acceptor| {
        let used = Acceptor::bind(acceptor.address, 16);
        assert_eq!(used.expect_err("the port is taken").kind(), ErrorKind::AddrInUse);
        acceptor.takes_clients.store(false, Ordering::Relaxed);
        let held = connect(acceptor.address);
        assert!(matches!(acceptor.next(), Call::Refuse));
        (acceptor.address, held)
    });
    assert_eq!(read_all(&mut held), "");
    let refused = net::TcpStream::connect(address).expect_err("the port is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Answers with the name of its thread.
struct Named(mpsc::Receiver<TcpStream>);

impl App for Named {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let thread = thread::current();
        let name = thread.name().unwrap_or("none");
        net.answer(id, request.number, Response::text(200, name));
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, net: &mut Net) {
        self.0.try_iter().for_each(|client| net.adopt(client));
    }
}

/// Gives the clients to the loops in turn.
struct InTurn {
    loops: Vec<(mpsc::Sender<TcpStream>, Arc<Waker>)>,
    next: usize,
}

impl Dealer for InTurn {
    fn has_room(&mut self) -> bool {
        true
    }

    fn deal(&mut self, client: TcpStream) -> Result<(), TcpStream> {
        let (clients, waker) = &self.loops[self.next];
        self.next = (self.next + 1) % self.loops.len();
        clients.send(client).map_err(|refused| refused.0)?;
        waker.wake().expect("the loop runs");
        Ok(())
    }

    fn make_room(&mut self) {}
}

#[test]
fn loops_serve_the_clients_of_an_acceptor_and_stop_with_it() {
    const LOOPS: usize = 3;
    let acceptor = Acceptor::bind(([127, 0, 0, 1], 0).into(), 16).expect("a free port");
    let (address, stop) = (acceptor.local_addr().expect("bound"), acceptor.stopper());
    let server = |_| Server::without_listener(Limits::default(), AllowedOrigins::default()).expect("a poll");
    let servers: Vec<_> = (0..LOOPS).map(server).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = servers.iter().map(|_| mpsc::channel()).unzip();
    let wakers = servers.iter().map(Server::waker);
    let mut dealer = InTurn {
        loops: senders.into_iter().zip(wakers).collect(),
        next: 0,
    };
    let receivers = std::sync::Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>());
    let serve = |number: usize, server: Server| {
        let clients = receivers.lock().expect("no panic")[number].take();
        server.run(&mut Named(clients.expect("each loop once")))
    };
    thread::scope(|scope| {
        let running = scope.spawn(|| loops::run_with_acceptor(servers, serve, acceptor, &mut dealer));
        let stop = StopOnDrop(stop);
        for number in (0..LOOPS).chain(0..LOOPS) {
            let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(answer.ends_with(&format!("loop-{number}\n")), "{answer}");
        }
        drop(stop);
        assert_eq!(running.join().expect("no panic").expect("a clean end"), 0);
    });
}

#[test]
fn a_loop_that_fails_stops_the_acceptor() {
    let acceptor = Acceptor::bind(([127, 0, 0, 1], 0).into(), 16).expect("a free port");
    let server = Server::without_listener(Limits::default(), AllowedOrigins::default()).expect("a poll");
    let mut dealer = InTurn {
        loops: Vec::new(),
        next: 0,
    };
    let serve = |_, _| Err(io::Error::other("the loop has failed"));
    let result = loops::run_with_acceptor(vec![server], serve, acceptor, &mut dealer);
    assert_eq!(result.expect_err("an error").to_string(), "the loop has failed");
}
