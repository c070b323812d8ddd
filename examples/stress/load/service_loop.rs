//! One service loop: random calls of everything that a loop can ask, and a look at whatever it is
//! told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use moored::{EnqueueError, Resume, Service, Status, TaskId, TaskOptions, TaskStatus, ThreadPool, Wake};

use super::books::{Books, End, Entry};
use super::errand::{Errand, KINDS};
use super::messages::{Messages, Producer};
use super::yard::Yard;

/// How much it has open at most.
const CONNS: usize = 50;
const TASKS: usize = 2000;

pub(crate) struct ServiceLoop {
    pub(crate) service: Service<Errand>,
    pub(crate) messages: Messages,
    /// Sends to the loop from its own thread.
    producer: Producer,
    rng: Rng,
    yard: Arc<Yard>,
    books: Books,
    conns: Vec<u64>,
    /// Some of its tasks, ended ones included: whom to dequeue, to look at, to move.
    known: Vec<TaskId>,
    /// Parked, and not answered at once.
    parked: Vec<TaskId>,
    next_conn: u64,
    next_number: u64,
    /// What was done and told, if somebody wants to compare.
    pub(crate) trace: Option<Vec<String>>,
}

impl ServiceLoop {
    /// `in_order`: the pool runs one task of a connection at a time.
    pub(crate) fn new(
        pool: &ThreadPool,
        wake: impl Wake,
        seed: u64,
        in_order: bool,
        yard: &Arc<Yard>,
    ) -> Self {
        let service = pool.service(wake);
        let messages = Messages::new(&service);
        Self {
            producer: Producer::new(0, seed, &messages.sender, yard),
            service,
            messages,
            rng: Rng::with_seed(seed),
            yard: Arc::clone(yard),
            books: Books::new(in_order),
            conns: Vec::new(),
            known: Vec::new(),
            parked: Vec::new(),
            next_conn: 0,
            next_number: 0,
            trace: None,
        }
    }

    /// Tasks that are not reaped.
    pub(crate) fn len(&self) -> usize {
        self.books.len()
    }

    /// Does one random thing.
    pub(crate) fn act(&mut self) {
        match self.rng.u32(..1000) {
            0..20 => self.open(),
            20..400 => self.enqueue_somewhere(1),
            400..403 => self.enqueue_somewhere(100),
            403..410 => self.close_one(),
            410..430 => self.dequeue_one(),
            430..500 => self.move_one(),
            500..590 => self.look_at_one(),
            590..600 => _ = self.producer.send(),
            _ => self.answer_one(),
        }
    }

    fn open(&mut self) {
        if self.conns.len() < CONNS {
            self.next_conn += 1;
            self.conns.push(self.next_conn);
        }
    }

    fn enqueue_somewhere(&mut self, tasks: usize) {
        let Some(&conn) = self.rng.choice(&self.conns) else {
            return;
        };
        for _ in 0..tasks {
            if self.books.len() >= TASKS || !self.enqueue(conn) {
                return;
            }
        }
    }

    /// False if it was refused.
    fn enqueue(&mut self, conn: u64) -> bool {
        self.next_number += 1;
        let number = self.next_number;
        let rng = &mut self.rng;
        let (kind, length) = (KINDS[rng.usize(..KINDS.len())], rng.u64(1..12));
        let options = random_options(rng);
        let outlives = rng.u32(..8) == 0;
        let errand = Errand::new(number, kind, length, outlives, &self.yard);
        let entry = Entry::new(&errand, conn, options.is_some());
        let enqueued = match (options, outlives) {
            (None, false) => self.service.enqueue(conn, errand),
            (options, false) => self
                .service
                .enqueue_with(conn, errand, options.unwrap_or_default()),
            (options, true) => {
                let options = options.unwrap_or_default().outlive_connection();
                self.service.enqueue_with(conn, errand, options)
            }
        };
        let accepted = enqueued.is_ok();
        let fits = match enqueued {
            Ok(id) => {
                self.remember(id);
                self.books.accept(id, entry)
            }
            Err(EnqueueError::ShuttingDown(_)) if !self.is_finishing() => {
                Err("refused as finished".to_owned())
            }
            Err(refused) => match refused.into_task().number {
                back if back == number => Ok(()),
                back => Err(format!("{number} was refused, {back} came back")),
            },
        };
        self.yard.check(fits);
        self.note(|| format!("enqueue {number} {kind:?} for {conn}: {accepted}"));
        accepted
    }

    fn remember(&mut self, id: TaskId) {
        if self.known.len() < TASKS {
            self.known.push(id);
        } else {
            let place = self.rng.usize(..TASKS);
            self.known[place] = id;
        }
    }

    fn close_one(&mut self) {
        if self.conns.is_empty() {
            return;
        }
        let conn = self.conns.swap_remove(self.rng.usize(..self.conns.len()));
        self.close(conn);
    }

    fn close(&mut self, conn: u64) {
        let told = self.service.connection_closed(conn);
        let fits = self.books.close(conn, told);
        self.yard.check(fits);
        self.note(|| format!("close {conn}: {told}"));
    }

    fn dequeue_one(&mut self) {
        if let Some(&id) = self.rng.choice(&self.known) {
            let answer = self.service.dequeue(id);
            let fits = self.books.dequeue(id, answer);
            self.yard.check(fits);
            self.note(|| format!("dequeue: {answer:?}"));
        }
    }

    fn move_one(&mut self) {
        if let (Some(&id), Some(&conn)) = (self.rng.choice(&self.known), self.rng.choice(&self.conns)) {
            let moved = self.service.reattach(id, conn);
            let fits = self.books.reattach(id, conn, moved);
            self.yard.check(fits);
            self.note(|| format!("reattach to {conn}: {moved}"));
        }
    }

    fn look_at_one(&mut self) {
        if let Some(&id) = self.rng.choice(&self.known) {
            let conn = self.service.connection_of(id);
            let fits = self
                .books
                .look(id, self.service.peek(id), conn.map(|conn| conn.0));
            self.yard.check(fits);
            let is_listed = conn.is_none_or(|conn| self.service.tasks_of(conn).contains(&id));
            self.yard.check(if is_listed {
                Ok(())
            } else {
                Err(format!("{id}: not among its connection's tasks"))
            });
        }
    }

    /// Answers a task that was left parked.
    fn answer_one(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        let id = self.parked.swap_remove(self.rng.usize(..self.parked.len()));
        if self.rng.bool() {
            // The chunk has not been answered: look again, answer in person.
            self.serve(id, Announced::Before);
        } else {
            let stopped = self.service.task_sync(id, Resume::Stop);
            if stopped {
                self.books.asked_to_stop(id);
            }
            self.note(|| format!("stop a parked one: {stopped}"));
        }
    }

    /// Answers every task that was left parked.
    pub(crate) fn answer_all(&mut self) {
        for id in std::mem::take(&mut self.parked) {
            self.serve(id, Announced::Before);
        }
    }

    /// Takes messages. Now and then it leaves some behind, as a loop with a budget does.
    pub(crate) fn drain_messages(&mut self) {
        let most = if self.rng.u32(..4) == 0 { 5 } else { usize::MAX };
        let (conns, next_conn) = (&self.conns, self.next_conn);
        let is_closed = |conn| conn <= next_conn && !conns.contains(&conn);
        let fits = self.messages.drain(most, is_closed);
        self.yard.check(fits);
    }

    /// The messages of its own thread that were accepted.
    pub(crate) fn messages_sent(&self) -> u64 {
        self.producer.accepted
    }

    /// Takes what is ready and looks at each; how many.
    pub(crate) fn drain(&mut self) -> usize {
        self.drain_messages();
        let ready = self.service.take_ready();
        let count = ready.len();
        for task in ready {
            self.serve(task.id, Announced::Now);
        }
        count
    }

    fn serve(&mut self, id: TaskId, announced: Announced) {
        let ended = match self.service.task_status(id) {
            Some(TaskStatus::Syncing(mut point)) => {
                let fits = match announced {
                    Announced::Now => self.books.parked(id, &point),
                    Announced::Before => self.books.still_parked(id, &point),
                };
                let (number, chunk) = (point.number, point.chunks);
                // By the task, not by the order in which tasks are ready: that is for the threads
                // to say.
                match (number + chunk) % 8 {
                    0 if announced == Announced::Now => self.parked.push(id),
                    1 => {
                        self.books.asked_to_stop(id);
                        point.stop();
                    }
                    _ => {
                        point.answered = chunk;
                        point.resume();
                    }
                }
                self.yard.check(fits);
                self.note(|| format!("{number} parked with {chunk}"));
                return;
            }
            Some(TaskStatus::Finished(errand)) => End::of(Status::Finished, None, errand),
            Some(TaskStatus::Stopped(why, errand)) => End::of(Status::Stopped, Some(why), errand),
            Some(TaskStatus::Panicked(panic)) => End::of_panic(panic.into_payload().downcast_ref().copied()),
            Some(TaskStatus::Stopping) => return,
            Some(TaskStatus::Queued | TaskStatus::Running) | None if announced == Announced::Before => return,
            other => {
                let fault = format!("{id}: announced, and {:?}", other.map(|_| ()));
                return self.yard.fault(fault);
            }
        };
        self.books.finishing = self.is_finishing();
        let fits = self.books.ended(id, &ended);
        self.yard.check(fits);
        self.note(|| format!("{} ended: {} {:?}", ended.number, ended.status, ended.why));
    }

    /// All clients leave: every task is asked to stop.
    pub(crate) fn close_all(&mut self) {
        for conn in std::mem::take(&mut self.conns) {
            self.close(conn);
        }
        for id in self.books.ids() {
            let answer = self.service.dequeue(id);
            let fits = self.books.dequeue(id, answer);
            self.yard.check(fits);
        }
    }

    fn is_finishing(&self) -> bool {
        self.yard.finishing.load(Ordering::Acquire)
    }

    fn note(&mut self, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(event());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    Now,
    Before,
}

/// `None`: no name, no timeouts. Timeouts are short: many are to strike.
fn random_options(rng: &mut Rng) -> Option<TaskOptions> {
    let timeout = Duration::from_micros(rng.u64(..20_000));
    let options = TaskOptions::new().name("errand");
    match rng.u32(..10) {
        0 => Some(options.queue_timeout(timeout)),
        1 => Some(options.sync_timeout(timeout)),
        2 => Some(options.deadline(timeout)),
        3 => Some(
            options
                .queue_timeout(timeout)
                .sync_timeout(timeout)
                .deadline(3 * timeout),
        ),
        _ => None,
    }
}
