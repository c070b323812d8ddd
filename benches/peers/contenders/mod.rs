//! The contenders, one in each file.

pub(crate) mod closures;
pub(crate) mod crossbeam;
pub(crate) mod deques;
pub(crate) mod flume;
pub(crate) mod limit;
pub(crate) mod mailboxes;
pub(crate) mod moored;
pub(crate) mod std_mpsc;
pub(crate) mod threads;
pub(crate) mod tokio;
pub(crate) mod tokio_streams;

/// How a contender takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Ours,
    Peer,
    /// Shown, but it does less than the others: no candidate for "best peer".
    Shown,
}

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) part: Part,
}

/// All of them; the order is that of the first round.
pub(crate) fn contenders() -> Vec<Contender> {
    use Part::{Ours, Peer, Shown};
    [
        ("moored", "this crate", Ours),
        ("limit", "the bare minimum by hand", Shown),
        ("crossbeam", "workers on a crossbeam channel", Peer),
        ("deques", "work stealing by hand, with crossbeam-deque", Peer),
        ("std", "workers on a Mutex<mpsc::Receiver>", Peer),
        ("flume", "workers on a flume channel", Peer),
        ("threadpool", "the crate threadpool", Peer),
        ("rayon", "rayon::ThreadPool::spawn", Peer),
        (
            "tokio",
            "a task per job or stream, the loop on its own thread",
            Peer,
        ),
        (
            "tokio-task",
            "the same, the loop a task on a worker's thread",
            Shown,
        ),
        ("spawn-blocking", "tokio's spawn_blocking", Peer),
        ("blocking", "the crate blocking (smol::unblock)", Peer),
        ("smol", "a task per job on a smol executor", Peer),
        ("threads", "a thread per stream", Peer),
    ]
    .map(|(name, about, part)| Contender { name, about, part })
    .into()
}
