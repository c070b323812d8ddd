//! State that all loops share, and the parts that each loop owns.

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
use crate::job::{Job, JobContext};
use crate::options::Options;

/// Capacity of each mailbox: functions or clients that wait for a loop.
const MAILBOX_CAPACITY: usize = 4096;

/// State that is shared by all loops and by the accepting thread.
#[derive(Debug)]
pub struct Shared {
    pub is_fast: bool,
    pub part_bytes: usize,
    pub grace: Duration,
    pub page: Page,
    pub context: Arc<JobContext>,
    pub figures: Arc<[Figures]>,
    pub net_counters: LoopCounters,
    /// Senders to the mailboxes of the loops, in the order of their numbers.
    pub functions: Vec<Sender<Function>>,
    pub clients: Vec<Sender<TcpStream>>,
    acceptor: Arc<Waker>,
    wants_room: AtomicBool,
}

/// The parts of one loop. They move to the loop's thread.
pub struct LoopParts {
    pub number: usize,
    pub pool: Arc<ThreadPool>,
    pub service: Service<Job>,
    pub functions: Mailbox<Function>,
    pub clients: Mailbox<TcpStream>,
}

impl Shared {
    /// Makes the shared state, and the parts of the loop of each server. There is one pool for all
    /// loops, or one pool for each loop.
    pub fn new(
        servers: &[Server],
        pools: &[Arc<ThreadPool>],
        acceptor: Arc<Waker>,
        options: &Options,
    ) -> (Arc<Self>, Vec<LoopParts>) {
        let figures: Arc<[Figures]> = servers.iter().map(|_| Figures::default()).collect();
        let (mut functions, mut clients, mut loop_parts) = (Vec::new(), Vec::new(), Vec::new());
        for (number, server) in servers.iter().enumerate() {
            let pool = Arc::clone(&pools[number % pools.len()]);
            let service = pool.service(counting_waker(server.waker(), &figures, number));
            let (function_sender, function_mailbox) = service.mailbox(MAILBOX_CAPACITY);
            let (client_sender, client_mailbox) = service.mailbox(MAILBOX_CAPACITY);
            functions.push(function_sender);
            clients.push(client_sender);
            loop_parts.push(LoopParts {
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
            context: Arc::new(JobContext {
                database: options.database.as_path().into(),
                step_time: options.query_timeout,
                counters: Counters::default(),
            }),
            net_counters: LoopCounters::new(servers.len()),
            figures,
            functions,
            clients,
            acceptor,
            wants_room: AtomicBool::new(false),
        };
        (Arc::new(shared), loop_parts)
    }

    pub fn loops(&self) -> usize {
        self.functions.len()
    }

    /// Called when the accepting thread waits until a connection closes.
    pub fn want_room(&self) {
        self.wants_room.store(true, Ordering::Relaxed);
    }

    /// Called when a connection has closed. Wakes the accepting thread if it waits for that.
    pub fn note_room(&self) {
        if self.wants_room.swap(false, Ordering::Relaxed) {
            // If this fails, the accepting thread still tries again after a short pause.
            let _ = self.acceptor.wake();
        }
    }

    pub fn note_refused_wait(&self) {
        self.context
            .counters
            .refused_waits
            .fetch_add(1, Ordering::Relaxed);
    }
}

/// A waker of the loop that counts its calls.
fn counting_waker(
    waker: Arc<Waker>,
    figures: &Arc<[Figures]>,
    number: usize,
) -> impl Fn() + Send + Sync + 'static {
    let figures = Arc::clone(figures);
    move || {
        figures[number].notifications.fetch_add(1, Ordering::Relaxed);
        // This fails only after the loop has ended.
        let _ = waker.wake();
    }
}
