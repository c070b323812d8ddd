//! A body that the app takes in pieces.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::body::Body;
use super::{Late, Refusal};
use crate::turn::Turn;

/// A part of a request's body.
#[derive(Debug)]
pub struct Piece {
    pub bytes: Bytes,
    /// The body ends here.
    pub is_last: bool,
}

/// A body whose request the app has got. At most one piece of it is kept here.
#[derive(Debug)]
pub(super) struct Upload {
    /// The number of its request.
    pub(super) number: u64,
    body: Body,
    /// The app has asked for the next piece.
    is_wanted: bool,
    /// The client sends the body only after a 100.
    client_waits: bool,
    awaits: Side,
    /// Since when that side is awaited.
    since: Instant,
    /// What had been received by then.
    received_before: usize,
}

/// Who has to do something before the body goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The client: to send.
    Client,
    /// The app: to take a piece.
    App,
}

impl Upload {
    pub(super) fn new(number: u64, body: Body, client_waits: bool, now: Instant) -> Self {
        let mut upload = Self {
            number,
            body,
            is_wanted: false,
            client_waits,
            awaits: Side::Client,
            since: now,
            received_before: 0,
        };
        upload.note_side(now);
        upload
    }

    /// The app asks for the next piece.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Takes what belongs to the body out of `inbox`.
    pub(super) fn take_from(&mut self, inbox: &mut BytesMut, now: Instant) -> Result<(), Refusal> {
        let used = self.body.take_from(inbox)?;
        inbox.advance(used);
        // A client that does not wait for the 100 needs none.
        self.client_waits &= self.body.received() == 0;
        self.note_side(now);
        Ok(())
    }

    /// Takes what is certain to be data from the front of `input`. Returns how much that was.
    pub(super) fn take_data(&mut self, input: &[u8]) -> usize {
        self.body.take_data(input)
    }

    pub(super) fn read_max(&self) -> Option<usize> {
        self.body.read_max()
    }

    /// The piece that the app has asked for, if all of it has arrived.
    pub(super) fn take_piece(&mut self, now: Instant) -> Option<Piece> {
        let is_last = self.body.is_whole();
        if !self.is_wanted || !(is_last || self.body.is_full()) {
            return None;
        }
        self.is_wanted = false;
        let bytes = self.body.take_piece();
        self.note_side(now);
        Some(Piece { bytes, is_last })
    }

    /// Whether the client has to be told that the body may come. True once.
    pub(super) fn take_continue(&mut self, now: Instant) -> bool {
        let is_due = self.client_waits && self.is_wanted;
        self.client_waits &= !is_due;
        self.note_side(now);
        is_due
    }

    /// Whether more of the body may be read.
    pub(super) fn has_room(&self) -> bool {
        !self.is_whole() && !self.body.is_full()
    }

    /// Whether the end of the body has arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.body.is_whole()
    }

    /// From now on the app is awaited, if it is the app that has to do something.
    pub(super) fn await_app(&mut self, now: Instant) {
        if self.awaits == Side::App {
            self.since = now;
        }
    }

    fn note_side(&mut self, now: Instant) {
        let awaits = if self.client_waits || !self.has_room() {
            Side::App
        } else {
            Side::Client
        };
        if self.awaits != awaits {
            self.awaits = awaits;
            self.since = now;
            self.received_before = self.body.received();
        }
    }

    /// Whether the side that is awaited is late. Time in which the app takes no piece does not
    /// count against the client, and the other way round.
    pub(super) fn late(&self, turn: &Turn<'_>) -> Late {
        let awaited_for = turn.now.duration_since(self.since);
        match self.awaits {
            Side::App if awaited_for >= turn.limits.answer_time => Late::Answer(self.number),
            Side::Client if awaited_for >= turn.limits.request_time + self.earned_time(turn) => {
                Late::Body(self.number)
            }
            _ => Late::Nothing,
        }
    }

    /// Time that the piece which is being received has earned by its length.
    fn earned_time(&self, turn: &Turn<'_>) -> Duration {
        let received = self.body.received() - self.received_before;
        Duration::from_secs(received as u64 / turn.limits.body_rate.max(1))
    }
}
