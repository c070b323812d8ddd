//! Messages of one WebSocket that wait for the socket, and what is done if they are too many.

use std::collections::VecDeque;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::Data;

/// What is done for a client that does not read as fast as messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowPolicy {
    /// Drop its oldest messages until there is room for the new one.
    DropOldest,
    /// Drop all its messages but the new one.
    Latest,
    /// Drop its messages and close it with code 1013 (try again later).
    Disconnect,
}

/// How much may wait for one client.
///
/// A message that is sent in part is never dropped, because the client could not read what follows.
/// So the rest of it and one message can wait whatever the limit is.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimit {
    pub bytes: usize,
    /// What is done when a new message does not fit.
    pub policy: SlowPolicy,
}

/// What waits for one client: it has not been given to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Number of messages. Those of which the last frame is with the socket do not count.
    pub messages: usize,
    pub bytes: usize,
}

/// Messages whose frames are not with the socket yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct MessageQueue {
    messages: VecDeque<Outgoing>,
    /// Bytes of these messages.
    bytes: usize,
}

/// A message, or what is left of it.
#[derive(Debug)]
struct Outgoing {
    /// [`Data::Continue`] if a frame of the message was taken out.
    data: Data,
    rest: Bytes,
}

/// A part of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) data: Data,
    pub(crate) payload: Bytes,
    pub(crate) is_final: bool,
}

impl MessageQueue {
    /// Adds a message. If a part of it has been sent, `data` is [`Data::Continue`].
    pub(crate) fn push(&mut self, data: Data, rest: Bytes) {
        self.bytes += rest.len();
        self.messages.push_back(Outgoing { data, rest });
    }

    /// Takes out the next frame, of at most so many bytes.
    pub(crate) fn take_frame(&mut self, bytes_max: usize) -> Option<Frame> {
        let message = self.messages.front_mut()?;
        let payload = message.rest.split_to(message.rest.len().min(bytes_max));
        let data = std::mem::replace(&mut message.data, Data::Continue);
        let is_final = message.rest.is_empty();
        self.bytes -= payload.len();
        if is_final {
            self.messages.pop_front();
        }
        Some(Frame {
            data,
            payload,
            is_final,
        })
    }

    /// Drops the oldest message of which nothing has been sent. False if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let dropped = self.messages.remove(self.begun());
        self.bytes -= dropped.as_ref().map_or(0, |message| message.rest.len());
        dropped.is_some()
    }

    /// Drops all messages of which nothing has been sent. Returns their number.
    pub(crate) fn drop_waiting(&mut self) -> usize {
        let begun = self.begun();
        let dropped = self.messages.len() - begun;
        self.messages.truncate(begun);
        self.bytes = self.messages.front().map_or(0, |message| message.rest.len());
        dropped
    }

    /// The number of messages that are sent in part: 0 or 1.
    fn begun(&self) -> usize {
        let front = self.messages.front();
        usize::from(front.is_some_and(|message| message.data == Data::Continue))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of the messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the messages, and of their places in the queue.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.messages.len() * size_of::<Outgoing>()
    }

    /// Gives memory back that is not used now.
    pub(crate) fn shrink(&mut self) {
        if self.messages.is_empty() && self.messages.capacity() > 0 {
            self.messages = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: &[&'static str]) -> MessageQueue {
        let mut queue = MessageQueue::default();
        for message in messages {
            queue.push(Data::Text, Bytes::from_static(message.as_bytes()));
        }
        queue
    }

    fn rest(mut queue: MessageQueue) -> Vec<(Data, Bytes)> {
        let frames = std::iter::from_fn(|| queue.take_frame(100));
        frames.map(|frame| (frame.data, frame.payload)).collect()
    }

    #[test]
    fn a_long_message_leaves_in_frames() {
        let mut queue = queue(&["abcde", ""]);
        let mut next = || queue.take_frame(2).map(|f| (f.data, f.payload, f.is_final));
        assert_eq!(next(), Some((Data::Text, "ab".into(), false)));
        assert_eq!(next(), Some((Data::Continue, "cd".into(), false)));
        assert_eq!(next(), Some((Data::Continue, "e".into(), true)));
        assert_eq!(next(), Some((Data::Text, "".into(), true)));
        assert_eq!(next(), None);
        assert_eq!((queue.len(), queue.bytes(), queue.memory()), (0, 0, 0));
    }

    #[test]
    fn the_oldest_message_that_is_not_begun_is_dropped() {
        let mut queue = queue(&["one", "two", "three"]);
        assert!(queue.drop_oldest());
        assert_eq!((queue.len(), queue.bytes()), (2, 8));
        queue.take_frame(1);
        assert!(queue.drop_oldest());
        assert!(!queue.drop_oldest(), "the rest of the message must follow");
        assert_eq!(queue.bytes(), 2);
        assert_eq!(rest(queue), [(Data::Continue, "wo".into())]);
    }

    #[test]
    fn all_messages_but_the_begun_one_are_dropped() {
        let mut queue = queue(&["one", "two", "three"]);
        queue.take_frame(1);
        assert_eq!(queue.drop_waiting(), 2);
        assert_eq!((queue.len(), queue.bytes()), (1, 2));
        queue.take_frame(100);
        queue.push(Data::Text, "four".into());
        assert_eq!((queue.drop_waiting(), queue.bytes()), (1, 0));
        assert!(queue.is_empty() && !queue.drop_oldest());
    }
}
