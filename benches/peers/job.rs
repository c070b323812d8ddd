//! The work. Every contender runs these same values with the same `run`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A value that a worker runs once and that then comes back to the loop.
pub(crate) trait Job: Send + Sync + 'static {
    fn run(&mut self);
    /// The connection it belongs to (the peers have no use for it).
    fn connection(&self) -> u64;
}

/// How many clients a burst comes from; smaller windows have one client per task in flight.
const CLIENTS: u32 = 65_536;

static BUFFER: [u8; 65_536] = [0x5a; 65_536];

pub(crate) fn crc_of(bytes: u32) -> u32 {
    if bytes == 0 {
        0
    } else {
        crc32fast::hash(&BUFFER[..bytes as usize])
    }
}

/// One task of `told-*`, `work-*` and `latency`: the crc32 of so many bytes, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// The place in the window.
    pub(crate) slot: u32,
    /// Which task of that place this is.
    pub(crate) turn: u32,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
}

impl Job for Item {
    fn run(&mut self) {
        // Also a no-op must happen: the loop checks `turn`, so a lost or repeated run shows.
        self.turn = black_box(self.turn) + 1;
        self.crc = crc_of(self.bytes);
    }

    fn connection(&self) -> u64 {
        u64::from(self.slot % CLIENTS)
    }
}

/// A stream of 64-byte chunks; each run makes the next chunk.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) slot: u32,
    /// Chunks still to make.
    pub(crate) left: u32,
    pub(crate) chunk: [u8; 64],
}

impl Stream {
    pub(crate) fn new(slot: u32, chunks: u32) -> Self {
        Self {
            slot,
            left: chunks,
            chunk: [0; 64],
        }
    }

    pub(crate) fn fill(&mut self) {
        self.left -= 1;
        self.chunk.fill(self.left as u8);
        self.chunk[..4].copy_from_slice(&self.slot.to_le_bytes());
        self.chunk[4..8].copy_from_slice(&self.left.to_le_bytes());
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Job for Stream {
    fn run(&mut self) {
        self.fill();
    }

    fn connection(&self) -> u64 {
        u64::from(self.slot)
    }
}

/// A task of `cancel`: either keeps its worker until the gate opens, or waits in line and
/// is cancelled there.
pub(crate) enum Cancelled {
    Blocker(Arc<Gate>),
    /// `flags[slot]` is how a peer cancels: the cheapest way there is, no search, no lock.
    Waiting {
        slot: u32,
        flags: Arc<[AtomicBool]>,
        ran: bool,
    },
}

impl Job for Cancelled {
    fn run(&mut self) {
        match self {
            Self::Blocker(gate) => gate.wait(),
            Self::Waiting { slot, flags, ran } => {
                *ran = !flags[*slot as usize].load(Ordering::Relaxed);
            }
        }
    }

    fn connection(&self) -> u64 {
        match self {
            Self::Blocker(_) => u64::MAX,
            Self::Waiting { slot, .. } => u64::from(*slot),
        }
    }
}

/// Keeps workers busy until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) {
            // Sleeps, so that on a small machine the measured loop has a core to itself.
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn wait_until_taken(&self, workers: usize) {
        while self.waiting.load(Ordering::SeqCst) < workers {
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

/// A step of this time or more sleeps instead of computing. The pool charges the time that a step
/// takes, whether it computes or sleeps; but a step that sleeps leaves its core to the loop and to
/// other programs, so that the figures depend less on the load of the machine.
const SLEEPS_FROM: Duration = Duration::from_micros(100);

/// Occupies the worker for this time.
pub(crate) fn occupy(time: Duration) {
    if time >= SLEEPS_FROM {
        thread::sleep(time);
    } else {
        spin(time, Instant::now());
    }
}

fn spin(time: Duration, start: Instant) {
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A task of `fair`: notes how long it waited, then computes for `spin`.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) connection: u64,
    pub(crate) enqueued: Instant,
    pub(crate) waited: Duration,
    pub(crate) spin: Duration,
}

impl Job for Timed {
    fn run(&mut self) {
        let start = Instant::now();
        self.waited = start.duration_since(self.enqueued);
        spin(self.spin, start);
    }

    fn connection(&self) -> u64 {
        self.connection
    }
}
