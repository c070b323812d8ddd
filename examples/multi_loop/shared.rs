//! What the loops share, and how each of them gets its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use examples::loops::LoopCounters;
use examples::page;
use examples::page::Page;
use examples::server::Server;
use mio::Waker;
use mio::net::TcpStream;
use moored::{Mailbox, Sender, Service, ThreadPool};

use crate::commands::Function;
use crate::figures::{Counters, Figures};
use crate::job::{Job, Means};
use crate::options::Options;

/// Functions, or clients, that may wait for a loop.
const MAILBOX_CAPACITY: usize = 4096;

/// Shared by all loops and by the thread that accepts clients.
#[derive(Debug)]
pub struct Shared {
    pub is_fast: bool,
    pub part_bytes: usize,
    pub grace: Duration,
    pub page: Page,
    pub means: Arc<Means>,
    pub figures: Arc<[Figures]>,
    pub nets: LoopCounters,
    /// The ways into the loops, by their numbers.
    pub functions: Vec<Sender<Function>>,
    pub clients: Vec<Sender<TcpStream>>,
    acceptor: Arc<Waker>,
    wants_room: AtomicBool,
}

/// What one loop takes to its thread.
pub struct Seat {
    pub number: usize,
    pub pool: Arc<ThreadPool>,
    pub service: Service<Job>,
    pub functions: Mailbox<Function>,
    pub clients: Mailbox<TcpStream>,
}

impl Shared {
    /// Makes a seat for each server. There is one pool, or one for each.
    pub fn new(
        servers: &[Server],
        pools: &[Arc<ThreadPool>],
        acceptor: Arc<Waker>,
        options: &Options,
    ) -> (Arc<Self>, Vec<Seat>) {
        let figures: Arc<[Figures]> = servers.iter().map(|_| Figures::default()).collect();
        let (mut functions, mut clients, mut seats) = (Vec::new(), Vec::new(), Vec::new());
        for (number, server) in servers.iter().enumerate() {
            let pool = Arc::clone(&pools[number % pools.len()]);
            let service = pool.service(counted(server.waker(), &figures, number));
            let (function_sender, function_mailbox) = service.mailbox(MAILBOX_CAPACITY);
            let (client_sender, client_mailbox) = service.mailbox(MAILBOX_CAPACITY);
            functions.push(function_sender);
            clients.push(client_sender);
            seats.push(Seat {
                number,
                pool,
                service,
                functions: function_mailbox,
                clients: client_mailbox,
            });
        }
        let shared = Self {
            is_fast: options.fast,
            part_bytes: options.part_bytes,
            grace: options.listen.grace,
            page: page!["page.css", "page.html", "page.js", "loops.js"],
            means: Arc::new(Means {
                database: options.database.as_path().into(),
                step_time: options.query_timeout,
                counters: Counters::default(),
            }),
            nets: LoopCounters::new(servers.len()),
            figures,
            functions,
            clients,
            acceptor,
            wants_room: AtomicBool::new(false),
        };
        (Arc::new(shared), seats)
    }

    pub fn loops(&self) -> usize {
        self.functions.len()
    }

    /// The accepting thread waits until a connection has closed.
    pub fn want_room(&self) {
        self.wants_room.store(true, Ordering::Relaxed);
    }

    /// A connection has closed.
    pub fn note_room(&self) {
        if self.wants_room.swap(false, Ordering::Relaxed) {
            // It looks again by itself, a moment later.
            let _ = self.acceptor.wake();
        }
    }

    pub fn note_refused_wait(&self) {
        self.means.counters.refused_waits.fetch_add(1, Ordering::Relaxed);
    }
}

/// Wakes the loop, and counts that.
fn counted(waker: Arc<Waker>, figures: &Arc<[Figures]>, number: usize) -> impl Fn() + Send + Sync + 'static {
    let figures = Arc::clone(figures);
    move || {
        figures[number].notifications.fetch_add(1, Ordering::Relaxed);
        // Only a poll that is gone has a waker that fails, and with it the loop.
        let _ = waker.wake();
    }
}
