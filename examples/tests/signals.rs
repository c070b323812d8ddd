//! Signals stop a loop. One test: a signal is for the whole process.

#![cfg(unix)]

use std::thread;

use examples::http::{Request, Response, Route};
use examples::limits::Limits;
use examples::net::Net;
use examples::origin::AllowedOrigins;
use examples::server::{App, Server};
use moored::ConnId;
use signal_hook::consts::SIGHUP;
use signal_hook::low_level::raise;

struct Answers;

impl App for Answers {
    fn route(&self, _path: &str) -> Option<Route> {
        Some(Route::get())
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        net.answer(id, request.number, Response::text(200, "here"));
    }

    fn closed(&mut self, _net: &mut Net, _id: ConnId) {}

    fn turn(&mut self, _net: &mut Net) {}
}

/// The second call must not take the first signal for a second one, which ends the process.
#[test]
fn a_loop_may_be_told_twice_to_stop_on_signals() {
    let any = ([127, 0, 0, 1], 0).into();
    let mut server = Server::bind(any, Limits::default(), AllowedOrigins::default()).expect("a free port");
    server.stop_on_signals().expect("signals");
    server.stop_on_signals().expect("signals");
    let running = thread::spawn(|| server.run(&mut Answers));
    raise(SIGHUP).expect("sent");
    assert_eq!(running.join().expect("no panic").expect("a clean end"), 0);
}
