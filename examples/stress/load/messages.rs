//! Messages to a loop, from its own thread and from others: each producer numbers what it sends,
//! and the loop checks that nothing comes twice, out of order, or for a connection that has closed;
//! at the end, that nothing is missing.

use std::collections::HashMap;
use std::sync::Arc;

use fastrand::Rng;
use moored::{Mailbox, Recipient, SendError, Sender, Service};

use super::errand::Errand;
use super::yard::Yard;

/// Small, so that it is often full.
const CAPACITY: usize = 64;
/// Connections that messages are for: some are open, some have closed, some are still to come.
const CONNS: u64 = 200;

#[derive(Clone)]
pub(crate) struct Message {
    from: u64,
    number: u64,
    _counted: Arc<Counted>,
}

/// Counts a message until it is dropped, by the mailbox or by the loop.
struct Counted(Arc<Yard>);

impl Counted {
    fn new(yard: &Arc<Yard>) -> Arc<Self> {
        yard.message_made();
        Arc::new(Self(Arc::clone(yard)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.message_dropped();
    }
}

/// Sends messages with numbers that grow.
pub(crate) struct Producer {
    from: u64,
    sender: Sender<Message>,
    yard: Arc<Yard>,
    rng: Rng,
    made: u64,
    pub(crate) accepted: u64,
}

impl Producer {
    pub(crate) fn new(from: u64, seed: u64, sender: &Sender<Message>, yard: &Arc<Yard>) -> Self {
        Self {
            from,
            sender: sender.clone(),
            yard: Arc::clone(yard),
            rng: Rng::with_seed(seed),
            made: 0,
            accepted: 0,
        }
    }

    /// Sends a message if there is room. False: the mailbox is closed.
    pub(crate) fn send(&mut self) -> bool {
        let (to, message) = self.message();
        let sent = match to {
            Recipient::All => self.sender.broadcast(message),
            to => self.sender.send(to, message),
        };
        self.note(sent)
    }

    /// The same, and waits for room.
    pub(crate) fn send_blocking(&mut self) -> bool {
        let (to, message) = self.message();
        let sent = self.sender.send_blocking(to, message);
        self.note(sent)
    }

    fn message(&mut self) -> (Recipient, Message) {
        self.made += 1;
        let to = match self.rng.u32(..10) {
            0 => Recipient::All,
            1 => Recipient::Loop,
            _ => Recipient::from(self.rng.u64(1..=CONNS)),
        };
        let message = Message {
            from: self.from,
            number: self.made,
            _counted: Counted::new(&self.yard),
        };
        (to, message)
    }

    fn note(&mut self, sent: Result<(), SendError<Message>>) -> bool {
        let Err(refused) = sent else {
            self.accepted += 1;
            return true;
        };
        let (closed, unexpected) = match &refused {
            SendError::Full(_) => (false, false),
            SendError::Closed(_) => (true, false),
            _ => (false, true),
        };
        let message = refused.into_inner();
        if unexpected || message.number != self.made || message.from != self.from {
            let number = message.number;
            self.yard.fault(format!("{}: {number} was refused", self.made));
        }
        !closed
    }
}

/// The loop's end.
pub(crate) struct Messages {
    pub(crate) sender: Sender<Message>,
    mailbox: Mailbox<Message>,
    /// The last number that came from each producer.
    last: HashMap<u64, u64>,
    taken: u64,
}

impl Messages {
    pub(crate) fn new(service: &Service<Errand>) -> Self {
        let (sender, mailbox) = service.mailbox(CAPACITY);
        Self {
            sender,
            mailbox,
            last: HashMap::new(),
            taken: 0,
        }
    }

    /// Takes messages, at most so many. Gives what was wrong.
    pub(crate) fn drain(&mut self, most: usize, is_closed: impl Fn(u64) -> bool) -> Result<(), String> {
        for (recipient, Message { from, number, .. }) in self.mailbox.drain().take(most) {
            self.taken += 1;
            let last = self.last.insert(from, number).unwrap_or(0);
            if number <= last {
                return Err(format!("message {number} of producer {from} after {last}"));
            }
            if let Recipient::Connection(conn) = recipient
                && is_closed(conn.0)
            {
                return Err(format!("message {number} of {from} for {conn}, which has closed"));
            }
        }
        Ok(())
    }

    pub(crate) fn are_drained(&self) -> bool {
        self.mailbox.is_empty()
    }

    /// All producers have ended, and everything was drained.
    pub(crate) fn check_sum(&self, accepted: u64) -> Result<(), String> {
        let (taken, dropped) = (self.taken, self.mailbox.dropped());
        if taken + dropped == accepted && self.mailbox.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{accepted} messages accepted, {taken} taken, {dropped} dropped, {} left",
            self.mailbox.len()
        ))
    }
}
