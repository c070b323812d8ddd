//! The HTTP/1.1 side of a connection: requests out of bytes, answers back in their order.
//!
//! A client may send requests without waiting for answers (pipelining). Each is handed out as
//! soon as it is whole, and may be answered at any time; an answer leaves once those before it
//! have left.

pub mod body;
mod request;
mod response;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

use self::body::{Body, Framing};
pub use self::request::Request;
pub use self::response::Response;
use super::limits::Limits;
use super::wire::Wire;

/// Read from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// Why a request is not served: a status and a sentence for its sender.
#[derive(Debug)]
pub struct Refusal(pub u16, pub &'static str);

#[derive(Debug, Default)]
pub struct Http {
    /// What has arrived and is not parsed.
    inbox: Vec<u8>,
    /// The request whose body has not all arrived.
    incoming: Option<(Request, Body)>,
    /// Requests handed out and not answered, oldest first.
    owed: VecDeque<Owed>,
    handed_out: u64,
    /// No request is read any more: it was the last one, or was not to be understood.
    ended: bool,
    /// The change to another protocol has been asked for: first it has to be answered.
    upgrading: bool,
}

#[derive(Debug)]
struct Owed {
    number: u64,
    head_only: bool,
    last: bool,
    answer: Option<Response>,
}

impl Http {
    /// The next whole request.
    pub fn next(&mut self, wire: &mut Wire, limits: &Limits) -> io::Result<Option<Request>> {
        while self.may_read(wire, limits) {
            match self.parse(wire, limits) {
                Ok(Some(request)) => return Ok(Some(request)),
                Ok(None) => match self.fill(wire) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                    Err(error) => return Err(error),
                },
                Err(Refusal(status, why)) => self.refuse(status, why, wire),
            }
        }
        Ok(None)
    }

    fn may_read(&self, wire: &Wire, limits: &Limits) -> bool {
        !self.ended
            && !self.upgrading
            && self.owed.len() < limits.pipeline_depth
            && wire.unsent() < limits.unsent_bytes
    }

    /// Whether part of a request is here.
    pub fn is_receiving(&self) -> bool {
        self.incoming.is_some() || !self.inbox.is_empty()
    }

    /// Whether it is the server's turn.
    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether all that could be asked has been answered.
    pub fn is_over(&self) -> bool {
        self.ended && self.owed.is_empty()
    }

    /// What the client has sent after its upgrade request.
    pub fn into_rest(self) -> Vec<u8> {
        self.inbox
    }

    /// Answers request `number`, and sends all answers whose turn has come.
    pub fn answer(&mut self, number: u64, response: Response, wire: &mut Wire) {
        if let Some(owed) = self.owed.iter_mut().find(|owed| owed.number == number) {
            owed.answer = Some(response);
        }
        while let Some(Owed {
            answer: Some(answer),
            head_only,
            last,
            ..
        }) = self.owed.front()
        {
            answer.write(wire, *last, *head_only);
            self.owed.pop_front();
        }
        self.upgrading &= self.is_owing();
    }

    /// Answers what cannot be understood; nothing after it can be, either.
    pub fn refuse(&mut self, status: u16, why: &str, wire: &mut Wire) {
        let number = self.owe(false, true);
        self.ended = true;
        self.inbox.clear();
        self.incoming = None;
        self.answer(number, Response::text(status, why), wire);
    }

    fn owe(&mut self, head_only: bool, last: bool) -> u64 {
        self.handed_out += 1;
        self.owed.push_back(Owed {
            number: self.handed_out,
            head_only,
            last,
            answer: None,
        });
        self.handed_out
    }

    fn fill(&mut self, wire: &mut Wire) -> io::Result<()> {
        let length = self.inbox.len();
        self.inbox.resize(length + READ_BYTES, 0);
        let read = wire.read(&mut self.inbox[length..]);
        self.inbox.truncate(length + *read.as_ref().unwrap_or(&0));
        self.ended |= read? == 0;
        Ok(())
    }

    fn parse(&mut self, wire: &mut Wire, limits: &Limits) -> Result<Option<Request>, Refusal> {
        if self.incoming.is_none() {
            let Some((request, head_bytes)) = Request::parse(&self.inbox, limits.head_bytes)? else {
                return Ok(None);
            };
            // A change of protocol is the last request, so it has to wait for the others.
            if request.is_upgrade() && self.is_owing() {
                self.upgrading = true;
                return Ok(None);
            }
            let body = Body::new(Framing::of(&request)?, limits.body_bytes)?;
            if request.expects_continue() && !body.is_whole() && !self.is_owing() {
                wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
                    .map_err(|_| Refusal(400, ""))?;
            }
            self.inbox.drain(..head_bytes);
            self.incoming = Some((request, body));
        }
        if let Some((_, body)) = &mut self.incoming {
            let used = body.take_from(&self.inbox)?;
            self.inbox.drain(..used);
        }
        let Some((mut request, body)) = self.incoming.take_if(|(_, body)| body.is_whole()) else {
            return Ok(None);
        };
        request.body = body.into_bytes();
        self.upgrading = request.is_upgrade();
        let last = !self.upgrading && !request.keeps_alive();
        self.ended |= last;
        request.number = self.owe(request.method == "HEAD", last);
        Ok(Some(request))
    }
}
