//! What the loop keeps to prove that everything arrived, once and in order.

use std::hint::black_box;

use crate::job::{Item, crc_of};

/// Of `told-*` and `work-*`: how often each place of the window has been told.
pub(crate) struct Ledger {
    turns: Vec<u32>,
    bytes: u32,
    crc: u32,
}

impl Ledger {
    pub(crate) fn new(slots: usize, bytes: u32) -> Self {
        Self {
            turns: vec![0; slots],
            bytes,
            crc: crc_of(bytes),
        }
    }

    /// The next task of this place.
    pub(crate) fn item(&self, slot: usize) -> Item {
        Item {
            slot: slot as u32,
            turn: self.turns[slot],
            bytes: self.bytes,
            crc: 0,
        }
    }

    pub(crate) fn tick_off(&mut self, item: &Item) {
        let turn = &mut self.turns[item.slot as usize];
        *turn += 1;
        assert_eq!(*turn, item.turn, "a task was lost or told twice");
        assert_eq!(self.crc, item.crc, "a task did not do its work");
    }

    pub(crate) fn total(&self) -> usize {
        self.turns.iter().map(|&turns| turns as usize).sum()
    }
}

/// Of `stream-*`: how many chunks of each stream are still to come.
pub(crate) struct StreamLedger {
    left: Vec<u32>,
    consumed: usize,
    socket: [u8; 64],
}

impl StreamLedger {
    pub(crate) fn new(streams: usize, chunks: u32) -> Self {
        Self {
            left: vec![chunks; streams],
            consumed: 0,
            socket: [0; 64],
        }
    }

    pub(crate) fn consume(&mut self, slot: u32, chunk: &[u8; 64]) {
        let left = &mut self.left[slot as usize];
        *left = left.checked_sub(1).expect("a chunk too many");
        assert_eq!(chunk[..4], slot.to_le_bytes(), "a chunk of another stream");
        assert_eq!(chunk[4..8], left.to_le_bytes(), "a chunk was lost or came twice");
        // What a socket would do: the kernel copies it away.
        self.socket = *chunk;
        black_box(&self.socket);
        self.consumed += 1;
    }

    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }
}
