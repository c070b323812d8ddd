//! `/stream`: numbered messages, so that a client can tell whether one is missing or doubled.

use examples::query::Query;

pub const SIZE_MAX: usize = 4 << 20;
/// The number at the front of each message.
const SIZE_MIN: usize = 8;

#[derive(Debug)]
pub struct Stream {
    size: usize,
    sent: u64,
    /// None: endless.
    left: Option<u64>,
}

impl Stream {
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut query = Query::new(query);
        let chunks = query.take_number("chunks", 100, 0..=u64::MAX)?;
        let size = query.take_number("size", 1024, SIZE_MIN..=SIZE_MAX)?;
        query.finish()?;
        Ok(Self {
            size,
            sent: 0,
            left: (chunks > 0).then_some(chunks),
        })
    }

    /// What clients of the libwebsockets example expect.
    pub fn endless() -> Self {
        Self {
            size: 1024,
            sent: 0,
            left: None,
        }
    }

    /// Makes the next message. False if the last one has been made.
    pub fn write_next(&mut self, message: &mut Vec<u8>) -> bool {
        match &mut self.left {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        self.sent += 1;
        message.resize(self.size, b'.');
        message[..SIZE_MIN].copy_from_slice(&self.sent.to_le_bytes());
        true
    }
}
