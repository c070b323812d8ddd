//! The table of measures: what each does and how much of it.

use std::time::Duration;

use crate::rows::{fair, mailbox, newcomer, shares, stream, told::Told};

/// What a child process does for a measure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Told(Told),
    Latency { samples: usize },
    Stream(stream::Plan),
    Memory { streams: usize },
    Cancel { tasks: usize },
    Fair(fair::Plan),
    Shares(shares::Plan),
    Weight { weight: u16, step: Duration },
    Newcomer(newcomer::Plan),
    Returning(newcomer::Plan),
    Door { requests: usize },
    Codel { time: Duration },
    EstimatedWait { probes: usize },
    Mailbox(mailbox::Plan),
    CloseOne { repeats: usize },
    Growth { repeats: usize },
    Dump { tasks: usize, told: Told },
    Services(Told),
    Idle { tasks: usize, seconds: u64 },
}

pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) work: Work,
}

/// Whom a measure's best figure is looked for among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rivals {
    Peers,
    /// The goal names them.
    Tokio,
    /// What is measured exists only here; the figure is held against a goal or against
    /// itself.
    Nobody,
}

impl Measure {
    pub(crate) fn rivals(&self) -> Rivals {
        match self.work {
            Work::Memory { .. } => Rivals::Tokio,
            Work::Shares(_)
            | Work::Weight { .. }
            | Work::Newcomer(_)
            | Work::Returning(_)
            | Work::Door { .. }
            | Work::Codel { .. }
            | Work::EstimatedWait { .. }
            | Work::CloseOne { .. }
            | Work::Growth { .. }
            | Work::Dump { .. }
            | Work::Services(_)
            | Work::Idle { .. } => Rivals::Nobody,
            _ => Rivals::Peers,
        }
    }

    pub(crate) fn is_run_by(&self, contender: &str) -> bool {
        match self.work {
            // More threads than that are no longer a way to serve streams.
            Work::Stream(plan) => contender != "threads" || plan.streams <= 4096,
            _ if contender == "threads" => false,
            // The others are no ways to send something to a loop.
            Work::Mailbox(_) => {
                ["moored", "limit", "crossbeam", "std", "flume", "tokio"].contains(&contender)
            }
            // The one's loop sits on a worker, and here every worker is blocked; the other
            // has no cancel.
            Work::Cancel { .. } if contender == "tokio-task" || contender == "limit" => false,
            _ if self.rivals() == Rivals::Nobody => contender == "moored",
            _ => true,
        }
    }
}

/// `quick`: about a tenth of the work; more noise, the same picture.
pub(crate) fn measures(quick: bool) -> Vec<Measure> {
    let size = |full: usize, small: usize| if quick { small } else { full };
    let tasks = size(1_000_000, 100_000);
    let told = |window, bytes, tasks| Work::Told(Told { window, tasks, bytes });
    let stream = |streams, full, small| {
        Work::Stream(stream::Plan {
            streams,
            chunks: size(full, small),
        })
    };
    let repeats = size(5_000, 1_000);
    let told_1024 = Told {
        window: 1024,
        tasks,
        bytes: 0,
    };
    let table = [
        ("told-1024", "no-op tasks, 1,024 in flight", told(1024, 0, tasks)),
        ("told-16", "no-op tasks, 16 in flight", told(16, 0, tasks)),
        ("told-burst", "no-op tasks, all at once", told(tasks, 0, tasks)),
        (
            "work-1k",
            "crc32 of 1 KiB, 1,024 in flight",
            told(1024, 1024, tasks),
        ),
        (
            "work-64k",
            "crc32 of 64 KiB, 1,024 in flight",
            told(1024, 65_536, size(200_000, 20_000)),
        ),
        (
            "latency",
            "one task at a time, enqueue to seen by the loop that sleeps",
            Work::Latency {
                samples: size(100_000, 10_000),
            },
        ),
        (
            "stream-1",
            "one stream of 64-byte chunks",
            stream(1, 100_000, 10_000),
        ),
        ("stream-16", "16 streams", stream(16, 400_000, 50_000)),
        ("stream-256", "256 streams", stream(256, 1_000_000, 100_000)),
        ("stream-4096", "4,096 streams", stream(4096, 1_000_000, 131_072)),
        (
            "stream-65536",
            "65,536 streams",
            stream(65_536, 1_048_576, 262_144),
        ),
        (
            "memory-65536",
            "RSS of a parked stream",
            Work::Memory { streams: 65_536 },
        ),
        (
            "cancel",
            "100,000 queued tasks of as many connections, all close",
            Work::Cancel { tasks: 100_000 },
        ),
        (
            "close-one",
            "close a connection with one task, others wait",
            Work::CloseOne { repeats },
        ),
        (
            "growth",
            "calls among 10 to 100,000 other tasks",
            Work::Growth { repeats },
        ),
    ];
    let table = table
        .into_iter()
        .chain(fairness(size(400, 100), size(1_000, 200)))
        .chain(full_queue(size(10_000, 1_000), size(10, 4) as u64, size(100, 25)))
        .chain(idle(told_1024, size(10, 2) as u64))
        .chain(mailboxes(size(2_000_000, 200_000)));
    table
        .map(|(name, about, work)| Measure { name, about, work })
        .collect()
}

/// The rows about idle pools, services and connections.
fn idle(told: Told, seconds: u64) -> [(&'static str, &'static str, Work); 3] {
    [
        (
            "dump",
            "a dump of 100,000 tasks; told-1024 while dumping 10 times a second",
            Work::Dump { tasks: 100_000, told },
        ),
        (
            "services",
            "told-1024 beside 10 and 10,000 idle services",
            Work::Services(told),
        ),
        (
            "idle",
            "wake-ups of an idle pool with 10,000 parked tasks",
            Work::Idle {
                tasks: 10_000,
                seconds,
            },
        ),
    ]
}

/// The window of `shares` and `weight` is always one second, because the goals are for that time.
fn fairness(guests: usize, newcomers: usize) -> [(&'static str, &'static str, Work); 10] {
    let flood = fair::Plan {
        flood: 10_000,
        guests,
    };
    let streams = |long, short| {
        let plan = [long, short].map(|(streams, micros)| (streams, Duration::from_micros(micros)));
        Work::Shares(shares::Plan(plan))
    };
    let newcomer = |streams| Work::Newcomer(newcomer::Plan { streams, newcomers });
    [
        (
            "fair",
            "wait of a single task while another connection floods",
            Work::Fair(flood),
        ),
        (
            "shares-10-1",
            "distance from equal shares, steps of 10 ms and 1 ms",
            streams((8, 10_000), (8, 1_000)),
        ),
        (
            "shares-20-0.2",
            "steps of 20 ms and 0.2 ms",
            streams((8, 20_000), (8, 200)),
        ),
        (
            "shares-5-0.01",
            "steps of 5 ms and 0.01 ms",
            streams((8, 5_000), (8, 10)),
        ),
        (
            "shares-10-1-single",
            "8 streams with steps of 10 ms, one with steps of 1 ms",
            streams((8, 10_000), (1, 1_000)),
        ),
        (
            "weight-3-1",
            "error of the ratio between shares, weights 3 and 1",
            Work::Weight {
                weight: 3,
                step: Duration::from_millis(1),
            },
        ),
        (
            "newcomer-100",
            "wait of a new connection beside 100 streams with steps of 100 us",
            newcomer(100),
        ),
        ("newcomer-1000", "beside 1,000 streams", newcomer(1_000)),
        ("newcomer-4000", "beside 4,000 streams", newcomer(4_000)),
        (
            "newcomer-returning",
            "wait of a client that uses 40 % of its share, beside 4,000 streams",
            Work::Returning(newcomer::Plan {
                streams: 4_000,
                newcomers,
            }),
        ),
    ]
}

/// The rows about full queues.
fn full_queue(requests: usize, seconds: u64, probes: usize) -> [(&'static str, &'static str, Work); 3] {
    [
        (
            "door",
            "of 1,000 requests of nine clients, not served beside a client that fills the queue",
            Work::Door { requests },
        ),
        (
            "codel",
            "wait of served tasks while clients come twice as fast as they can be served",
            Work::Codel {
                time: Duration::from_secs(seconds),
            },
        ),
        (
            "estimated-wait",
            "factor between the estimate of a wait and the wait",
            Work::EstimatedWait { probes },
        ),
    ]
}

fn mailboxes(messages: usize) -> [(&'static str, &'static str, Work); 2] {
    let mailbox = |senders| Work::Mailbox(mailbox::Plan { senders, messages });
    [
        (
            "mailbox-1",
            "messages of a thread to the loop, 1,024 may wait",
            mailbox(1),
        ),
        (
            "mailbox-4",
            "messages of four threads to the loop, 1,024 may wait",
            mailbox(4),
        ),
    ]
}
