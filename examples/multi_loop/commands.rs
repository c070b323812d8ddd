//! Functions that run in other loops, in order.
//!
//! Each loop has a mailbox of functions, and drains it once a turn. `Sender::send` is the
//! `queueInLoop` of Drogon: from any thread, never waits, and what one thread sends runs in the order
//! in which it was sent. A function gets the state of the loop and its connections, so it needs no
//! lock; it must not block, since it keeps the loop.
//!
//! `/move` and `/broadcast` go there and back: a function in the other loop looks around, and sends a
//! function with what it has seen to the loop of the request, which answers. Only the loop of a
//! connection ever touches the connection.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::thread;

use examples::http::Response;
use examples::net::Net;
use moored::{ConnId, Recipient, SendError, Sender};
use serde_json::{Value, json};

use crate::loop_state::{LoopState, answer};

/// A function that a loop runs.
pub type Function = Box<dyn FnOnce(&mut LoopState, &mut Net) + Send>;

/// A request, by its connection and its number there.
pub type Key = (ConnId, u64);

/// What a function sees of the loop in which it runs.
#[derive(Debug)]
pub struct Sight {
    number: usize,
    thread: String,
    /// Counts the functions that this loop has run.
    run: u64,
    /// Counts the functions that the other loop has sent for requests.
    sent: u64,
    connections: usize,
    requests: u64,
}

impl Sight {
    fn to_json(&self) -> Value {
        json!({
            "loop": self.number,
            "thread": self.thread,
            "sent": self.sent,
            "run": self.run,
            "connections": self.connections,
            "requests": self.requests,
        })
    }
}

/// Requests that wait for functions in loops, and what those have seen.
#[derive(Debug, Default)]
pub struct Journeys(BTreeMap<Key, Journey>);

#[derive(Debug)]
struct Journey {
    /// Functions that have not come back.
    away: usize,
    sights: Vec<Sight>,
}

impl Journeys {
    pub fn forget(&mut self, key: Key) {
        self.0.remove(&key);
    }

    pub fn forget_connection(&mut self, id: ConnId) {
        self.0.retain(|(other, _), _| *other != id);
    }
}

/// The way back to the loop of a request. If the function is dropped before it has run, the request
/// hears of that too.
struct WayBack {
    home: Sender<Function>,
    key: Key,
    is_used: bool,
}

impl WayBack {
    /// Sends what was seen. If the mailbox of that loop is full, this loop tries again later.
    fn report(mut self, sight: Sight, here: &mut LoopState) {
        self.is_used = true;
        here.send_or_keep(self.home.clone(), self.key.0, arrival(self.key, Some(sight)));
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if !self.is_used {
            // If this fails too, the loop is full or has gone, and its client gets 504.
            let _ = self.home.send(self.key.0, arrival(self.key, None));
        }
    }
}

/// The function that brings a sight home.
fn arrival(key: Key, sight: Option<Sight>) -> Function {
    Box::new(move |home, net| home.arrive(net, key, sight))
}

impl LoopState {
    /// Runs a function in each of these loops. The answer to the request follows when all have run.
    pub fn travel(&mut self, key: Key, loops: RangeInclusive<usize>) {
        let journey = Journey {
            away: loops.clone().count(),
            sights: Vec::new(),
        };
        self.journeys.0.insert(key, journey);
        for number in loops {
            self.sent += 1;
            let sent = self.sent;
            let way_back = WayBack {
                home: self.shared.functions[self.number].clone(),
                key,
                is_used: false,
            };
            let look: Function = Box::new(move |there, net| {
                let sight = there.look(net, sent);
                way_back.report(sight, there);
            });
            // A function that is refused is dropped, and so is its way back: the request hears of that.
            drop(self.shared.functions[number].send(Recipient::Loop, look));
        }
    }

    fn look(&self, net: &Net, sent: u64) -> Sight {
        let counters = net.counters();
        Sight {
            number: self.number,
            thread: thread::current().name().unwrap_or_default().to_owned(),
            run: self.run,
            sent,
            connections: counters.connections,
            requests: counters.requests,
        }
    }

    fn arrive(&mut self, net: &mut Net, key: Key, sight: Option<Sight>) {
        let Some(journey) = self.journeys.0.get_mut(&key) else {
            // The client has left, or has got an answer.
            return;
        };
        let Some(sight) = sight else {
            self.journeys.forget(key);
            let why = "a loop takes no more functions: it is behind, or is going down";
            answer(net, key, Response::come_back(1, why));
            return;
        };
        journey.sights.push(sight);
        journey.away -= 1;
        if journey.away == 0 {
            let mut journey = self.journeys.0.remove(&key).map_or_else(Vec::new, |it| it.sights);
            journey.sort_unstable_by_key(|sight| sight.number);
            let body = json!({
                "loop": self.number,
                "thread": thread::current().name(),
                "seen": journey.iter().map(Sight::to_json).collect::<Vec<_>>(),
            });
            let seen = Response::new(200).body("application/json", format!("{body}\n"));
            answer(net, key, seen.header("Cache-Control", "no-store"));
        }
    }

    /// Waits for this loop, from this loop, which can never end: the library refuses it.
    pub fn wait_for_itself(&self) -> Response {
        let nothing: Function = Box::new(|_, _| {});
        match self.shared.functions[self.number].send_blocking(Recipient::Loop, nothing) {
            Err(refused @ SendError::WouldDeadlock(_)) => {
                self.shared.note_refused_wait();
                let number = self.number;
                let why = format!(
                    "loop {number} would wait for room in its own mailbox, which only loop {number} makes. The \
                     library has refused that instead of waiting for ever: {refused}"
                );
                Response::text(409, &why)
            }
            Err(refused) => Response::come_back(1, &refused.to_string()),
            Ok(()) => Response::text(500, "a loop has waited for itself"),
        }
    }

    /// Sends a function to the loop of a connection. If the mailbox is full, the function is kept
    /// for the next turn.
    fn send_or_keep(&mut self, to: Sender<Function>, id: ConnId, function: Function) {
        if let Err(SendError::Full(function)) = to.send(id, function) {
            self.kept.push((to, id, function));
        }
    }

    /// Sends what was kept.
    pub fn send_kept(&mut self) {
        for (to, id, function) in std::mem::take(&mut self.kept) {
            self.send_or_keep(to, id, function);
        }
    }
}
