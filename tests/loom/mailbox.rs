//! Other threads send messages to a loop: no message is lost, each arrives once, and there is at
//! most one notification between two looks of the loop, for each order in which it looks at tasks
//! and mailboxes.

use crate::util::{Event, First, Probe, end_race, explore, pool_of};
use moored::{Mailbox, Recipient, SendError, Sender, Service, TaskStatus, ThreadPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// The actions of a loop in each iteration.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Drain,
    TakeReadyThenDrain,
    DrainThenTakeReady,
    /// Takes the first message and leaves the rest.
    DrainOne,
}

/// A loop that sleeps until it is notified, and never calls `poll_timeout`.
struct Loop {
    event: Arc<Event>,
    service: Service<Probe>,
    mailbox: Mailbox<u8>,
    looks: usize,
    messages: Vec<u8>,
    ended: usize,
}

impl Loop {
    fn new(pool: &ThreadPool, capacity: usize) -> (Self, Sender<u8>) {
        let event = Event::new();
        let service = pool.service(Arc::clone(&event));
        let (sender, mailbox) = service.mailbox(capacity);
        let own = Self {
            event,
            service,
            mailbox,
            looks: 0,
            messages: Vec::new(),
            ended: 0,
        };
        (own, sender)
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Drain => self.drain(usize::MAX),
            Turn::DrainOne => self.drain(1),
            Turn::TakeReadyThenDrain => {
                self.take_ready();
                self.drain(usize::MAX);
            }
            Turn::DrainThenTakeReady => {
                self.drain(usize::MAX);
                self.take_ready();
            }
        }
    }

    fn drain(&mut self, most: usize) {
        self.looks += 1;
        let drain = self.mailbox.drain().take(most);
        self.messages.extend(drain.map(|(_, message)| message));
    }

    fn take_ready(&mut self) {
        self.looks += 1;
        for id in self.service.take_ready().map(|ready| ready.id) {
            match self.service.task_status(id) {
                Some(TaskStatus::Finished(_)) => self.ended += 1,
                other => panic!("announced, but it is {other:?}"),
            }
        }
    }

    /// Looks once before it sleeps, and then after each notification, until it has this many
    /// messages and ends.
    fn run_until(&mut self, turn: Turn, messages: usize, ended: usize) {
        self.turn(turn);
        while self.messages.len() < messages || self.ended < ended {
            self.event.wait();
            self.turn(turn);
        }
        end_race();
        let (notified, looks) = (self.event.total(), self.looks);
        assert!(
            notified <= looks + 1,
            "{notified} notifications for {looks} looks"
        );
    }
}

/// Sends on its own thread.
fn sending(sender: Sender<u8>, messages: &'static [u8]) -> loom::thread::JoinHandle<()> {
    loom::thread::spawn(move || {
        for &message in messages {
            sender.send(1, message).unwrap();
        }
    })
}

/// S3: a message is sent between any two steps of the loop's iteration.
#[test]
fn a_drain_races_two_senders() {
    for turn in [
        Turn::Drain,
        Turn::TakeReadyThenDrain,
        Turn::DrainThenTakeReady,
        Turn::DrainOne,
    ] {
        explore(format!("two senders against {turn:?}"), move || {
            let pool = pool_of(0).build().unwrap();
            let (mut own, sender) = Loop::new(&pool, 8);
            let senders = [sending(sender.clone(), &[1, 2]), sending(sender, &[11])];
            own.run_until(turn, 3, 0);
            for sender in senders {
                sender.join().unwrap();
            }
            let of_first: Vec<_> = own.messages.iter().filter(|&&message| message < 10).collect();
            assert_eq!(of_first, [&1, &2], "in the order of the sender");
        });
    }
}

/// S3: a task ends and a message is sent, and both share one notifier.
#[test]
fn a_worker_and_a_sender_race_the_looks_of_a_loop() {
    for turn in [Turn::TakeReadyThenDrain, Turn::DrainThenTakeReady] {
        explore(format!("a worker and a sender against {turn:?}"), move || {
            let pool = pool_of(1).build().unwrap();
            let (mut own, sender) = Loop::new(&pool, 8);
            let sender = sending(sender, &[1]);
            own.service.enqueue(1, Probe::new(First::TaskDone).0).unwrap();
            own.run_until(turn, 1, 1);
            sender.join().unwrap();
        });
    }
}

/// S3: the re-arm of `take_ready` uses the notification of a message, and the loop does not drain.
/// It must not sleep.
#[test]
fn a_loop_that_drains_only_when_it_may_not_sleep_loses_nothing() {
    explore("drains when poll_timeout is zero", || {
        let pool = pool_of(1).build().unwrap();
        let (mut own, sender) = Loop::new(&pool, 8);
        let sender = sending(sender, &[1, 2]);
        own.service.enqueue(1, Probe::new(First::TaskDone).0).unwrap();
        while own.messages.len() < 2 || own.ended < 1 {
            own.take_ready();
            match own.service.poll_timeout() {
                Some(Duration::ZERO) => own.drain(usize::MAX),
                Some(_) => loom::thread::yield_now(),
                None if own.messages.len() < 2 || own.ended < 1 => own.event.wait(),
                None => {}
            }
        }
        end_race();
        sender.join().unwrap();
    });
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// S24: a message is sent while the mailbox, or its service, is dropped. It is accepted or
/// returned, and it is dropped once.
#[test]
fn send_races_close() {
    for drops_the_service in [false, true] {
        let accepted = explore(
            format!("send and close, service {drops_the_service}"),
            move || {
                let pool = pool_of(0).build().unwrap();
                let event = Event::new();
                let service = pool.service::<Probe>(Arc::clone(&event));
                let (sender, mailbox) = service.mailbox(8);
                let drops = Arc::new(AtomicUsize::new(0));
                let message = Counted(Arc::clone(&drops));
                let sending = loom::thread::spawn(move || match sender.send(1, message) {
                    Ok(()) => true,
                    Err(SendError::Closed(_)) => false,
                    Err(other) => panic!("{other:?}"),
                });
                if drops_the_service {
                    drop(service);
                    let accepted = sending.join().unwrap();
                    assert_eq!(
                        drops.load(SeqCst),
                        usize::from(!accepted),
                        "it can still be drained"
                    );
                    drop(mailbox);
                    assert_eq!(drops.load(SeqCst), 1);
                    return accepted;
                }
                drop(mailbox);
                let accepted = sending.join().unwrap();
                assert_eq!(drops.load(SeqCst), 1);
                accepted
            },
        );
        assert_eq!(accepted.len(), 2);
    }
}

/// S2: a thread that waits for room gets it after a drain, even if another thread takes the first
/// place.
#[test]
fn blocking_senders_race_drains() {
    explore("two blocking senders", || {
        let pool = pool_of(0).build().unwrap();
        let (mut own, sender) = Loop::new(&pool, 1);
        let senders = [1, 2].map(|message| {
            let sender = sender.clone();
            loom::thread::spawn(move || sender.send_blocking(Recipient::Loop, message).unwrap())
        });
        own.run_until(Turn::Drain, 2, 0);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// S24: a thread waits for room, or begins to wait, while the mailbox or its service is dropped.
#[test]
fn a_blocking_sender_races_close() {
    for drops_the_service in [false, true] {
        explore(
            format!("blocking send and close, service {drops_the_service}"),
            move || {
                let pool = pool_of(0).build().unwrap();
                let (own, sender) = Loop::new(&pool, 1);
                sender.send(1, 1).unwrap();
                let waiting = loom::thread::spawn(move || sender.send_blocking(1, 2));
                let Loop { service, mailbox, .. } = own;
                if drops_the_service {
                    drop(service);
                    assert_eq!(waiting.join().unwrap(), Err(SendError::Closed(2)));
                    drop(mailbox);
                } else {
                    drop(mailbox);
                    assert_eq!(waiting.join().unwrap(), Err(SendError::Closed(2)));
                }
            },
        );
    }
}
