//! `stream-*`: so many streams of 64-byte chunks, the next chunk of a stream only after the
//! loop has consumed its last. `memory-*`: what such a stream costs while it is parked.

use std::fs;
use std::time::Instant;

use crate::figure::Figure;
use crate::job::Stream;
use crate::ledger::StreamLedger;
use crate::pool::Streams;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) streams: usize,
    /// Of all streams together.
    pub(crate) chunks: usize,
}

/// The time includes opening the streams: a client that asks for one waits for that too.
pub(crate) async fn stream<S: Streams>(mut streams: S, plan: Plan) -> Figure {
    let chunks_each = (plan.chunks / plan.streams) as u32;
    let total = chunks_each as usize * plan.streams;
    let mut ledger = StreamLedger::new(plan.streams, chunks_each);

    let start = Instant::now();
    for slot in 0..plan.streams {
        streams.open(Stream::new(slot as u32, chunks_each));
    }
    while ledger.consumed() < total {
        while streams.serve_one(&mut ledger) {}
        if ledger.consumed() < total {
            streams.sleep().await;
        }
    }
    Figure::new("", "ns/chunk", start.elapsed().as_nanos() as f64 / total as f64)
}

/// Every stream has made one chunk, the loop has seen it and answers none.
pub(crate) async fn memory<S: Streams>(mut streams: S, count: usize) -> Vec<Figure> {
    let mut ledger = StreamLedger::new(count, 2);
    let before = resident_bytes();
    for slot in 0..count {
        streams.open(Stream::new(slot as u32, 2));
    }
    while ledger.consumed() < count {
        while streams.hold_one(&mut ledger) {}
        if ledger.consumed() < count {
            streams.sleep().await;
        }
    }
    let each = (resident_bytes() - before) / count as f64;
    vec![
        Figure::new("", "bytes/stream", each),
        Figure::new("-net", "bytes/stream", each - size_of::<Stream>() as f64),
    ]
}

fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Rss:")).expect("Rss");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("a number") * 1024.0
}
