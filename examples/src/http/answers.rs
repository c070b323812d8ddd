//! The answers that a connection still has to give, in the order of their requests.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::CONTINUE;
use super::request::Version;
use super::response::{Form, Response};
use crate::socket::Socket;

/// Places of the queue that an idle connection keeps.
const KEPT_PLACES: usize = 8;

const LINE_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Requests whose answers have not been given to the socket to their ends, oldest first.
    unanswered: VecDeque<Unanswered>,
    /// Calls of [`App::sent`](crate::server::App::sent) that are due later, in their order.
    reports: VecDeque<Report>,
    /// The next answer is cut off: the connection ends within it.
    is_cut: bool,
    /// The end of the connection is the end of the last answer.
    ends_with_connection: bool,
}

#[derive(Debug)]
struct Unanswered {
    number: u64,
    form: Form,
    since: Instant,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Pending,
    Whole(Response),
    Parts(Parts),
}

/// An answer that the app gives in parts.
#[derive(Debug)]
struct Parts {
    /// None after the socket has got it.
    head: Option<Response>,
    /// Parts that wait for the answers before this one.
    waiting: Vec<Bytes>,
    is_ended: bool,
    /// The zero of a probe was sent, and no size that it belongs to.
    is_probed: bool,
}

/// The app is told about request `number` when the kernel has all bytes up to `position`.
#[derive(Debug)]
struct Report {
    number: u64,
    position: u64,
}

impl Answers {
    pub(super) fn push(&mut self, number: u64, form: Form, now: Instant) {
        self.unanswered.push_back(Unanswered {
            number,
            form,
            since: now,
            answer: Answer::Pending,
        });
    }

    /// Whether all answers are with the socket, and no report is due later.
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered.is_empty() && self.reports.is_empty()
    }

    /// Whether answers have to be given, to their ends.
    pub(super) fn is_owing(&self) -> bool {
        !self.unanswered.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.unanswered.len()
    }

    /// Whether nothing of the answer to request `number` was given.
    pub(super) fn is_pending(&self, number: u64) -> bool {
        let is_it =
            |request: &Unanswered| request.number == number && matches!(request.answer, Answer::Pending);
        self.unanswered.iter().any(is_it)
    }

    /// Whether the answer to request `number` is the next one that leaves.
    pub(super) fn is_next(&self, number: u64) -> bool {
        self.unanswered
            .front()
            .is_some_and(|request| request.number == number)
    }

    /// Whether the connection ends within an answer.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// From now on the answer to request `number` is awaited.
    pub(super) fn await_answer(&mut self, number: u64, now: Instant) {
        if let Some(request) = self.find(number) {
            request.since = now;
        }
    }

    /// From now on the next answer is awaited.
    pub(super) fn await_next(&mut self, now: Instant) {
        if let Some(request) = self.unanswered.front_mut() {
            request.since = now;
        }
    }

    /// The connection closes after the answer to request `number`, or to the newest one.
    pub(super) fn end_after(&mut self, number: Option<u64>) {
        let last = match number {
            Some(number) => self.find(number),
            None => self.unanswered.back_mut(),
        };
        if let Some(request) = last {
            request.form.is_last = true;
        }
    }

    /// The next answer, if it is pending: its request, and since when it is.
    pub(super) fn next_pending(&self) -> Option<(u64, Instant)> {
        let request = self.unanswered.front()?;
        matches!(request.answer, Answer::Pending).then_some((request.number, request.since))
    }

    /// Answers request `number`. If parts of another answer have left, that one is cut off.
    pub(super) fn answer(&mut self, number: u64, response: Response) {
        let Some(request) = self.find(number) else {
            return;
        };
        match &request.answer {
            Answer::Parts(parts) if parts.head.is_none() => self.is_cut = true,
            _ => request.answer = Answer::Whole(response),
        }
    }

    /// Begins an answer in parts, and returns its form. None if request `number` has an answer. If
    /// the client does not know chunks, the answer ends with the connection.
    pub(super) fn begin(&mut self, number: u64, head: Response) -> Option<Form> {
        let request = self.find(number)?;
        if !matches!(request.answer, Answer::Pending) {
            return None;
        }
        request.form.is_last |= !request.form.is_chunked();
        request.form.has_no_body |= head.has_no_body();
        request.answer = Answer::Parts(Parts {
            head: Some(head),
            waiting: Vec::new(),
            is_ended: false,
            is_probed: false,
        });
        Some(request.form)
    }

    /// Adds a part. False if request `number` has no answer in parts.
    pub(super) fn add_part(&mut self, number: u64, part: Bytes) -> bool {
        let Some(parts) = self.parts(number) else {
            return false;
        };
        parts.waiting.push(part);
        true
    }

    /// Ends an answer in parts.
    pub(super) fn end_parts(&mut self, number: u64) {
        if let Some(parts) = self.parts(number) {
            parts.is_ended = true;
        }
    }

    /// Gives all answers whose turn has come to the socket.
    pub(super) fn advance(&mut self, socket: &mut Socket, date: &str) {
        while !self.is_cut
            && let Some(request) = self.unanswered.front_mut()
        {
            let (number, form) = (request.number, request.form);
            match &mut request.answer {
                Answer::Pending => return,
                Answer::Whole(_) => {}
                Answer::Parts(parts) => {
                    let has_news = parts.advance(socket, form, date);
                    if !parts.is_ended {
                        if has_news {
                            self.report(number, socket);
                        }
                        return;
                    }
                    // Nothing can follow an answer that ends with its connection.
                    if !form.is_chunked() {
                        self.unanswered.truncate(1);
                        self.ends_with_connection = !form.has_no_body;
                    }
                }
            }
            let has_report = match self.unanswered.pop_front().map(|request| request.answer) {
                Some(Answer::Whole(response)) => {
                    let has_report = response.has_report();
                    response.push_to(socket, form, date);
                    has_report
                }
                _ => true,
            };
            if has_report {
                self.report(number, socket);
            }
        }
    }

    fn report(&mut self, number: u64, socket: &Socket) {
        let position = socket.pushed();
        match self.reports.back_mut().filter(|report| report.number == number) {
            Some(report) => report.position = position,
            None => self.reports.push_back(Report { number, position }),
        }
    }

    /// The number of reports that are due later.
    pub(super) fn reports(&self) -> usize {
        self.reports.len()
    }

    /// The next request of whose answer the kernel has everything that was given so far.
    pub(super) fn take_report(&mut self, socket: &Socket) -> Option<u64> {
        let report = self.reports.front()?;
        if report.position > socket.sent() {
            return None;
        }
        self.reports.pop_front().map(|report| report.number)
    }

    /// Whether only a reset shows the client that it does not get all, if the connection ends now.
    pub(super) fn needs_reset(&self, socket: &Socket) -> bool {
        match self.unanswered.front() {
            Some(request) => match &request.answer {
                Answer::Parts(parts) => parts.head.is_none() && parts.needs_reset(request.form),
                Answer::Pending | Answer::Whole(_) => false,
            },
            None => self.ends_with_connection && socket.unsent() > 0,
        }
    }

    /// Sends bytes that mean nothing, if the place allows it. A client that has closed its socket
    /// answers them with a reset; one that only sends no more goes on waiting. False if there are
    /// no such bytes: HTTP/1.0 has neither interim answers nor chunks, and an answer may have no
    /// body.
    pub(super) fn probe(&mut self, socket: &mut Socket) -> bool {
        let Some(request) = self.unanswered.front_mut() else {
            return true;
        };
        match &mut request.answer {
            Answer::Pending if request.form.version == Version::Http11 => {
                socket.push(Bytes::from_static(CONTINUE));
            }
            // A leading zero of the next chunk's size.
            Answer::Parts(parts)
                if parts.head.is_none() && request.form.is_chunked() && !request.form.has_no_body =>
            {
                socket.push(Bytes::from_static(b"0"));
                parts.is_probed = true;
            }
            _ => return false,
        }
        true
    }

    /// Gives memory back that is not used now.
    pub(super) fn shrink(&mut self) {
        if self.unanswered.is_empty() && self.unanswered.capacity() > KEPT_PLACES {
            self.unanswered = VecDeque::new();
        }
        if self.reports.is_empty() && self.reports.capacity() > KEPT_PLACES {
            self.reports = VecDeque::new();
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut Unanswered> {
        self.unanswered
            .iter_mut()
            .find(|request| request.number == number)
    }

    fn parts(&mut self, number: u64) -> Option<&mut Parts> {
        match &mut self.find(number)?.answer {
            Answer::Parts(parts) if !parts.is_ended => Some(parts),
            _ => None,
        }
    }
}

impl Parts {
    /// Whether the end of the connection would look like the end of this answer: it has no chunks,
    /// or a client may take the zero of a probe for the last chunk.
    fn needs_reset(&self, form: Form) -> bool {
        !form.has_no_body && (self.is_probed || !form.is_chunked())
    }

    /// Gives what waits to the socket. False if nothing was new.
    fn advance(&mut self, socket: &mut Socket, form: Form, date: &str) -> bool {
        let mut has_news = false;
        if let Some(head) = self.head.take() {
            head.push_head_to(socket, form, date);
        }
        for part in self.waiting.drain(..) {
            has_news = true;
            // An empty chunk would be the last one.
            if form.has_no_body || part.is_empty() {
                continue;
            }
            if form.is_chunked() {
                self.is_probed = false;
                socket.push(format!("{:x}\r\n", part.len()).into());
                socket.push(part);
                socket.push(Bytes::from_static(LINE_END));
            } else {
                socket.push(part);
            }
        }
        if self.is_ended && form.is_chunked() && !form.has_no_body {
            socket.push(Bytes::from_static(LAST_CHUNK));
        }
        has_news
    }
}
