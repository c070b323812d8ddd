//! Mailboxes: messages from any thread to the connections of a loop.

mod util;

use bytes::Bytes;
use moored::{
    BoxTask, ConnId, LoopFn, Mailbox, Recipient, SendError, Sender, Service, Shutdown, TaskReturn,
    ThreadPool, task_fn,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use util::{Alive, Log, Loop, PLENTY, Token, Wakes, Work, eventually, panic_silently, pool, within_patience};

/// A loop with a mailbox, on this thread.
struct Own<M> {
    service: Service<Work>,
    wakes: Arc<Wakes>,
    sender: Sender<M>,
    mailbox: Mailbox<M>,
}

fn own<M: Send + 'static>(pool: &ThreadPool, capacity: usize) -> Own<M> {
    let Loop { service, wakes } = Loop::new(pool);
    let (sender, mailbox) = service.mailbox(capacity);
    Own {
        service,
        wakes,
        sender,
        mailbox,
    }
}

impl<M> Own<M> {
    fn messages(&mut self) -> Vec<M> {
        self.mailbox.drain().map(|(_, message)| message).collect()
    }

    /// Ends an iteration of the loop, as if it had slept and was notified: the next message
    /// notifies it again, and its mailbox is empty.
    fn wake_up(&mut self, message: M) {
        assert_eq!(self.messages().len(), 0);
        let before = self.wakes.total();
        self.sender
            .send(1, message)
            .unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(self.wakes.total(), before + 1);
    }

    fn is_asleep(&mut self) -> bool {
        self.service.poll_timeout().is_none()
    }
}

fn conn(id: u64) -> Recipient {
    Recipient::Connection(ConnId(id))
}

#[test]
fn messages_arrive_in_order_with_their_recipients() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    own.sender.send(7, "to one").unwrap();
    own.sender.send(ConnId(8), "to another").unwrap();
    own.sender.broadcast("to all").unwrap();
    own.sender.send(Recipient::Loop, "to the loop").unwrap();
    let messages: Vec<_> = own.mailbox.drain().collect();
    let expected = [
        (conn(7), "to one"),
        (conn(8), "to another"),
        (Recipient::All, "to all"),
        (Recipient::Loop, "to the loop"),
    ];
    assert_eq!(messages, expected);
    assert!(own.mailbox.is_empty());
}

/// S20: a full mailbox returns the message in an error.
#[test]
fn a_full_mailbox_returns_the_message() {
    let pool = pool(0);
    let mut own = own(&pool, 2);
    own.sender.send(1, 1).unwrap();
    own.sender.broadcast(2).unwrap();
    for refused in [own.sender.send(1, 3), own.sender.broadcast(3)] {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused, refused.is_full(), refused.into_inner()),
            (SendError::Full(3), true, 3)
        );
    }
    assert_eq!(
        (own.mailbox.len(), own.mailbox.capacity(), own.sender.capacity()),
        (2, 2, 2)
    );
    assert_eq!(own.messages(), [1, 2]);
    own.sender.send(1, 4).unwrap();
    assert_eq!(own.messages(), [4]);
}

/// S20: a large message costs no more than a small one, since it moves, and arrives complete.
#[test]
fn a_message_of_a_mebibyte_arrives_whole_and_is_not_copied() {
    let pool = pool(0);
    let mut own = own(&pool, 2);
    let message: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    let (copy, address) = (message.clone(), message.as_ptr().addr());
    own.sender.send(1, message).unwrap();
    let arrived = own.messages().remove(0);
    assert_eq!(arrived.as_ptr().addr(), address);
    assert!(arrived == copy);
}

/// Messages that a drain has left still count for the capacity.
#[test]
fn a_mailbox_never_holds_more_than_its_capacity() {
    const CAPACITY: usize = 100;
    let pool = pool(0);
    let mut own = own(&pool, CAPACITY);
    let fill = |sender: &Sender<usize>| (0..=CAPACITY).take_while(|&n| sender.send(1, n).is_ok()).count();
    assert_eq!(fill(&own.sender), CAPACITY);
    for taken in [1, 31, 32, 33, 99] {
        let mut drain = own.mailbox.drain();
        assert_eq!(drain.by_ref().take(taken).count(), taken);
        let early = fill(&own.sender);
        drop(drain);
        assert_eq!(early, taken / 32 * 32, "room is made after every 32 messages");
        assert_eq!(early + fill(&own.sender), taken, "and at the end of the drain");
        assert_eq!(own.mailbox.len(), CAPACITY);
    }
    assert_eq!(own.messages().len(), CAPACITY);
}

#[test]
fn a_drain_takes_the_messages_that_were_there_when_it_began() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    own.sender.send(1, 0).unwrap();
    let mut seen = 0;
    for (_, n) in own.mailbox.drain() {
        own.sender.send(1, n + 1).unwrap(); // from the loop itself
        seen += 1;
    }
    assert_eq!((seen, own.messages()), (1, vec![1]));
}

/// Four senders send a million messages through a small mailbox: the messages of each sender arrive
/// in order and once.
#[test]
fn the_messages_of_each_sender_arrive_in_order() {
    const EACH: u64 = 250_000;
    within_patience("a million messages", || {
        let pool = pool(1);
        let mut own = own::<u64>(&pool, 1000);
        drop(own.mailbox.drain()); // this is the loop's thread
        let send = |from| {
            let sender = own.sender.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    // Half of the senders wait for room, and the other half try again.
                    let waits = from % 2 == 0;
                    while let Err(refused) = if waits {
                        sender.send_blocking(from, number)
                    } else {
                        sender.send(from, number)
                    } {
                        assert!(!waits && refused.is_full(), "{refused:?}");
                        std::thread::yield_now();
                    }
                }
            })
        };
        let senders: Vec<_> = (0..4).map(send).collect();
        let mut next = [0; 4];
        while next != [EACH; 4] {
            if own.is_asleep() {
                own.wakes.wait();
            }
            let _ = own.service.take_ready().count();
            for (recipient, number) in own.mailbox.drain() {
                let Recipient::Connection(ConnId(from)) = recipient else {
                    panic!("{recipient:?}");
                };
                assert_eq!(number, next[from as usize], "of sender {from}");
                next[from as usize] += 1;
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(own.mailbox.is_empty());
    });
}

/// S4: the messages of all senders and the ends of tasks share one notification until the loop
/// looks.
#[test]
fn there_is_one_notification_until_the_loop_looks() {
    let pool = pool(0);
    let mut own = own(&pool, 10_000);
    let (other_sender, mut other) = own.service.mailbox(8);
    for n in 0..1000 {
        own.sender.clone().send(n, n).unwrap();
        other_sender.send(n, ()).unwrap_or(());
    }
    own.service.enqueue(1, Work::done()).unwrap();
    own.service.run_pending(PLENTY);
    assert_eq!(own.wakes.total(), 1);
    assert_eq!(own.service.take_ready().count(), 1);
    own.sender.send(1, 1).unwrap();
    assert_eq!(own.wakes.total(), 2, "`take_ready` has re-armed");
    assert_eq!((own.messages().len(), other.drain().count()), (1001, 8));
    assert_eq!(own.wakes.total(), 2, "a complete drain does not notify");
    own.sender.send(1, 1).unwrap();
    own.sender.send(1, 1).unwrap();
    assert_eq!(own.wakes.total(), 3, "the drain has re-armed");
}

/// S3: a message that is sent between a look and the sleep is not lost, for each order of the
/// looks.
#[test]
fn a_message_after_any_look_wakes_the_loop() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    for looks in [&[0][..], &[1], &[0, 1], &[1, 0]] {
        for at in 0..=looks.len() {
            own.wake_up(0);
            let woken = own.wakes.total();
            for (position, look) in looks.iter().enumerate() {
                if position == at {
                    own.sender.send(1, 1).unwrap();
                }
                let _ = match look {
                    0 => own.service.take_ready().count(),
                    _ => own.mailbox.drain().count(),
                };
            }
            if at == looks.len() {
                own.sender.send(1, 1).unwrap();
            }
            let (is_left, is_notified) = (!own.mailbox.is_empty(), own.wakes.total() > woken);
            let case = format!("{looks:?}, sent before look {at}");
            assert_eq!(own.is_asleep(), !is_left, "{case}");
            if looks.contains(&1) {
                assert!(!is_left || is_notified, "{case}");
            }
            own.mailbox.drain().for_each(drop);
        }
    }
}

/// The loop must not sleep while a mailbox holds messages, since their notification may have been
/// used.
#[test]
fn the_timeout_is_zero_while_a_mailbox_holds_messages() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    assert_eq!(own.service.poll_timeout(), None);
    own.sender.send(1, 1).unwrap();
    own.sender.send(1, 2).unwrap();
    let _ = own.service.take_ready().count();
    assert_eq!(own.service.poll_timeout(), Some(Duration::ZERO));
    own.mailbox.drain().next();
    assert_eq!(own.service.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(own.messages(), [2]);
    assert_eq!(own.service.poll_timeout(), None);
    own.sender.send(1, 3).unwrap();
    drop(own.mailbox);
    assert_eq!(own.service.poll_timeout(), None, "the mailbox was dropped");
}

#[test]
fn a_drain_that_ends_early_leaves_the_rest_and_notifies_the_loop() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    for n in 0..3 {
        own.sender.send(1, n).unwrap();
    }
    assert_eq!(own.mailbox.drain().next(), Some((conn(1), 0)));
    assert_eq!(own.wakes.total(), 2, "the loop must drain again");
    own.sender.send(1, 3).unwrap();
    assert_eq!(own.wakes.total(), 2, "one notification is enough");
    assert_eq!(own.mailbox.len(), 3);
    let mut drain = own.mailbox.drain();
    assert_eq!(drain.size_hint(), (0, Some(3)));
    assert_eq!(
        (drain.next(), drain.next()),
        (Some((conn(1), 1)), Some((conn(1), 2)))
    );
    drop(drain);
    assert_eq!(own.messages(), [3]);
    assert_eq!(own.wakes.total(), 3);
}

/// S14: no message reaches a connection that has closed.
#[test]
fn messages_for_a_closed_connection_are_dropped_and_counted() {
    let pool = pool(0);
    let alive = Alive::new();
    let mut own = own(&pool, 8);
    let send = |sender: &Sender<(u8, Token)>, to: Recipient, n| sender.send(to, (n, alive.token())).unwrap();
    for n in 0..4 {
        send(&own.sender, conn(u64::from(n % 2)), n);
    }
    own.service.connection_closed(0);
    send(&own.sender, conn(0), 4); // the sender does not know of the close
    send(&own.sender, Recipient::All, 5);
    send(&own.sender, Recipient::Loop, 6);
    let mut seen = Vec::new();
    for (recipient, (n, _)) in own.mailbox.drain() {
        if n == 1 {
            own.service.connection_closed(1);
        }
        seen.push((recipient, n));
    }
    assert_eq!(seen, [(conn(1), 1), (Recipient::All, 5), (Recipient::Loop, 6)]);
    assert_eq!((own.mailbox.dropped(), alive.count()), (4, 0));
    assert!(own.is_asleep());
}

/// The closed connections of one service do not affect another.
#[test]
fn a_connection_that_closed_in_another_loop_is_not_closed() {
    let pool = pool(0);
    let (mut own, mut other) = (own(&pool, 8), own::<u8>(&pool, 8));
    other.service.connection_closed(1);
    own.sender.send(1, "still open").unwrap();
    assert_eq!(own.messages(), ["still open"]);
    assert_eq!(own.mailbox.dropped(), 0);
}

/// S17: the mailbox keeps no memory of many closed connections, and remembers the last ones.
#[test]
fn many_closed_connections_do_not_increase_the_memory() {
    const MANY: u64 = 100_000;
    let pool = pool(0);
    let alive = Alive::new();
    let mut own = own(&pool, 1000);
    for id in 0..MANY {
        own.sender.send(id, alive.token()).unwrap();
        own.service.connection_closed(id);
        if id % 1000 == 999 {
            assert_eq!(own.messages().len(), 0);
        }
    }
    assert_eq!(
        (own.mailbox.dropped(), alive.count(), own.mailbox.len()),
        (MANY, 0, 0)
    );
}

/// The loop clones a broadcast for each of its connections. The mailbox never clones it.
#[test]
fn a_broadcast_is_one_entry_and_is_copied_only_by_the_loop() {
    #[derive(Default)]
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }
    let pool = pool(0);
    let (copies, mut own) = (Arc::new(AtomicUsize::new(0)), own(&pool, 1));
    own.sender.broadcast(Counted(Arc::clone(&copies))).unwrap();
    assert_eq!(own.mailbox.len(), 1);
    let mut clients: BTreeMap<u64, Vec<Counted>> = (0..1000).map(|id| (id, Vec::new())).collect();
    for (recipient, message) in own.mailbox.drain() {
        assert_eq!((recipient, copies.load(SeqCst)), (Recipient::All, 0));
        for sent in clients.values_mut() {
            sent.push(message.clone());
        }
    }
    assert_eq!(copies.load(SeqCst), 1000);
}

#[test]
fn a_broadcast_of_bytes_shares_one_buffer() {
    let pool = pool(0);
    let mut own = own(&pool, 1);
    let message = Bytes::from(vec![7; 1 << 20]);
    let address = message.as_ptr();
    own.sender.broadcast(message).unwrap();
    let message = own.messages().remove(0);
    let sent: Vec<_> = (0..1000).map(|_| message.clone()).collect();
    assert!(sent.iter().all(|sent| sent.as_ptr() == address));
}

#[test]
fn a_closed_mailbox_returns_messages() {
    let pool = pool(0);
    let (first, second) = (own(&pool, 8), own(&pool, 8));
    let keep = (first.service, second.mailbox);
    drop((first.mailbox, second.service));
    for sender in [first.sender, second.sender] {
        assert!(sender.is_closed());
        for refused in [sender.send(1, 5), sender.broadcast(5), sender.send_blocking(1, 5)] {
            let refused = refused.unwrap_err();
            assert_eq!(
                (refused, refused.is_closed(), refused.into_inner()),
                (SendError::Closed(5), true, 5)
            );
        }
    }
    drop(keep);
}

#[test]
fn a_mailbox_can_be_drained_after_its_service_was_dropped() {
    let pool = pool(0);
    let mut own = own(&pool, 8);
    own.sender.send(1, 1).unwrap();
    own.sender.send(1, 2).unwrap();
    drop(own.service);
    assert_eq!(own.mailbox.drain().next(), Some((conn(1), 1)));
    drop(pool);
    let rest: Vec<_> = own.mailbox.drain().collect();
    assert_eq!(rest, [(conn(1), 2)]);
}

/// A loop may send a last message to its clients after the end of its pool.
#[test]
fn a_mailbox_works_without_threads_and_after_the_shutdown_of_the_pool() {
    for threads in [0, 1] {
        let pool = pool(threads);
        let mut own = own(&pool, 8);
        pool.shutdown(Shutdown::Cancel);
        own.wakes.wait();
        let _ = own.service.take_ready().count();
        own.sender.send(1, "finished").unwrap();
        own.wakes.wait();
        assert_eq!(own.messages(), ["finished"]);
        drop(pool);
        own.sender.send(1, "dropped").unwrap();
        own.wakes.wait();
        assert_eq!(own.messages(), ["dropped"]);
    }
}

/// The loop gets both the message of a step and the end of its task.
#[test]
fn a_step_sends_to_its_own_loop() {
    let pool = pool(1);
    let mut own = own(&pool, 8);
    let sender = own.sender.clone();
    let work = Work::new(move |_, _| {
        sender.send(1, "from a step").unwrap();
        TaskReturn::TaskDone
    });
    own.service.enqueue(1, work).unwrap();
    let (mut ended, mut messages) = (0, Vec::new());
    while ended < 1 || messages.is_empty() {
        own.wakes.wait();
        messages.extend(own.messages());
        for id in own.service.take_ready().map(|ready| ready.id) {
            util::reap(&mut own.service, id).finished();
            ended += 1;
        }
    }
    assert_eq!(messages, ["from a step"]);
}

/// S26: the loop's own thread makes room, so it must not wait for room. A worker must not wait,
/// either.
#[test]
fn a_blocking_send_refuses_where_it_would_deadlock() {
    within_patience("a blocking send", || {
        let pool = pool(1);
        let mut own = own(&pool, 1);
        own.sender.send_blocking(1, 1).unwrap();
        assert_eq!(
            own.sender.send_blocking(1, 2),
            Err(SendError::WouldDeadlock(2)),
            "full"
        );
        assert_eq!(own.messages(), [1]);
        assert_eq!(
            own.sender.send_blocking(1, 3),
            Err(SendError::WouldDeadlock(3)),
            "it drains"
        );

        let (sender, results) = (own.sender.clone(), Log::new());
        let log = results.clone();
        let sends = Work::new(move |_, _| {
            log.add(sender.send_blocking(1, 4));
            TaskReturn::TaskDone
        });
        own.service.enqueue(1, sends).unwrap();
        while own.service.take_ready().count() == 0 {
            own.wakes.wait();
        }
        assert_eq!(results.notes(), [Err(SendError::WouldDeadlock(4))], "on a worker");
    });
}

/// S26: a thread that runs the pool's tasks in another loop counts as a worker.
#[test]
fn a_blocking_send_refuses_inside_run_pending() {
    within_patience("a blocking send", || {
        let pool = pool(0);
        let own = own(&pool, 1);
        let (sender, results) = (own.sender.clone(), Log::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut other = Loop::new(&pool);
                let log = results.clone();
                let sends = Work::new(move |_, _| {
                    log.add(sender.send_blocking(1, 1));
                    TaskReturn::TaskDone
                });
                other.enqueue(1, sends).unwrap();
                other.run_pending(PLENTY);
            });
        });
        assert_eq!(results.notes(), [Err(SendError::WouldDeadlock(1))]);
    });
}

/// A mailbox can be made on one thread and drained on another.
#[test]
fn a_blocking_send_waits_on_the_thread_that_made_the_mailbox_once_another_drains() {
    within_patience("a blocking send", || {
        let pool = pool(0);
        let Own {
            service,
            wakes,
            sender,
            mut mailbox,
        } = own::<u32>(&pool, 1);
        let (has_drained, hear) = std::sync::mpsc::channel();
        let draining = std::thread::spawn(move || {
            let _service = service;
            assert_eq!(mailbox.drain().count(), 0);
            has_drained.send(()).unwrap();
            let mut seen = Vec::new();
            while seen.len() < 100 {
                wakes.wait();
                seen.extend(mailbox.drain().map(|(_, n)| n));
            }
            seen
        });
        hear.recv().unwrap();
        (0..100).for_each(|n| sender.send_blocking(1, n).unwrap());
        assert_eq!(draining.join().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

/// S24: threads that wait for room return, with their messages.
#[test]
fn a_blocking_send_returns_when_the_mailbox_closes() {
    for drops_the_service in [false, true] {
        within_patience("a blocking send", move || {
            let pool = pool(0);
            let own = own(&pool, 1);
            own.sender.send(1, 0).unwrap();
            let waiting = [1, 2, 3].map(|n| {
                let sender = own.sender.clone();
                std::thread::spawn(move || sender.send_blocking(1, n))
            });
            let waits = || pool.dump().mailboxes[0].waiting_senders == waiting.len();
            eventually("all wait", waits);
            let keep = if drops_the_service {
                drop(own.service);
                (None, Some(own.mailbox))
            } else {
                drop(own.mailbox);
                (Some(own.service), None)
            };
            for (n, waiting) in (1..).zip(waiting) {
                assert_eq!(waiting.join().unwrap(), Err(SendError::Closed(n)));
            }
            drop(keep);
        });
    }
}

/// A message whose `Drop` uses the mailbox, the pool and the service.
struct CleanUp {
    sender: Sender<Option<CleanUp>>,
    pool: Arc<ThreadPool>,
    log: Log<String>,
    _token: Token,
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        let sent = match self.sender.send(2, None) {
            Ok(()) => "sent",
            Err(SendError::Closed(_)) => "closed",
            Err(_) => "full",
        };
        let mailboxes = self.pool.dump().mailboxes.len();
        let _ = format!("{:?}", self.sender);
        let service = self.pool.service::<BoxTask>(|| {});
        drop(service.mailbox::<u8>(1));
        self.log.add(format!("{sent} {mailboxes}"));
    }
}

/// L10, S27: the `Drop` of a message may send, dump the pool, and make mailboxes, on any thread.
#[test]
fn the_drop_of_a_message_may_use_its_mailbox_and_its_pool() {
    let seen = within_patience("the drop of a message", || {
        let pool = Arc::new(pool(1));
        let (log, alive) = (Log::new(), Alive::new());
        for (at, capacity) in [("a drain", 9), ("a full mailbox", 1), ("the end", 9)] {
            let mut own = own(&pool, capacity);
            let clean_up = || CleanUp {
                sender: own.sender.clone(),
                pool: Arc::clone(&pool),
                log: log.clone(),
                _token: alive.token(),
            };
            own.sender.send(1, Some(clean_up())).unwrap();
            match at {
                "a drain" => {
                    own.service.connection_closed(1);
                    assert_eq!(own.messages().len(), 0);
                    assert_eq!(
                        own.messages().len(),
                        1,
                        "the drop of the first message has sent it"
                    );
                }
                "a full mailbox" => drop(own.sender.send(1, Some(clean_up()))),
                _ => {}
            }
            drop(own.mailbox);
            drop(own.service);
        }
        assert_eq!(alive.count(), 0);
        log.notes()
    });
    assert_eq!(seen, ["sent 1", "full 1", "closed 0", "closed 0"]);
}

/// S21: a panic in the `Drop` of a message does not affect other messages, and does not reach the
/// caller.
#[test]
fn a_panic_in_the_drop_of_a_message_is_contained() {
    struct Bomb(#[expect(dead_code, reason = "it counts")] Token);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_silently();
        }
    }
    let (pool, alive) = (pool(0), Alive::new());
    let mut own = own(&pool, 8);
    for id in [1, 1, 2, 2, 2] {
        own.sender.send(id, Bomb(alive.token())).unwrap();
    }
    own.service.connection_closed(1);
    let first = own.mailbox.drain().next();
    assert_eq!((alive.count(), own.mailbox.dropped()), (3, 2));
    drop(own.mailbox);
    assert_eq!(alive.count(), 1, "only the message that the loop has taken");
    let drop_it = std::panic::AssertUnwindSafe(|| drop(first));
    assert!(
        std::panic::catch_unwind(drop_it).is_err(),
        "the drop of a taken message is the loop's"
    );
}

/// S21: if the wake panics, the message is still in the mailbox.
#[test]
fn a_panic_in_the_wake_is_contained() {
    let pool = pool(0);
    let service = pool.service::<Work>(|| panic_silently());
    let (sender, mut mailbox) = service.mailbox(8);
    sender.send(1, 1).unwrap();
    sender.send(1, 2).unwrap();
    assert_eq!(mailbox.drain().count(), 2);
    let waiting = std::thread::spawn(move || sender.send_blocking(1, 3));
    waiting.join().unwrap().unwrap();
    assert_eq!(mailbox.drain().count(), 1);
}

/// S24: the parts are dropped in every order, on this thread or each on its own thread, with
/// messages inside. The wake-up is dropped with the service.
#[test]
fn pool_service_mailbox_and_sender_may_be_dropped_in_any_order() {
    within_patience("drops in any order", || {
        for order in orders() {
            for on_threads in [false, true] {
                let alive = Alive::new();
                let pool = pool(1);
                let token = alive.token();
                let service = pool.service::<Work>(move || _ = &token);
                let (sender, mut mailbox) = service.mailbox(8);
                for _ in 0..3 {
                    sender.send(1, alive.token()).unwrap();
                }
                drop(mailbox.drain().next());
                let parts: [Box<dyn Send>; 4] = [
                    Box::new(pool),
                    Box::new(service),
                    Box::new(mailbox),
                    Box::new(sender),
                ];
                let mut parts = parts.map(Some);
                let mut gone = [false; 4];
                for part in order {
                    let dropped = parts[part].take();
                    gone[part] = true;
                    if on_threads {
                        std::thread::spawn(move || drop(dropped)).join().unwrap();
                    } else {
                        drop(dropped);
                    }
                    let expected = usize::from(!gone[1]) + 2 * usize::from(!gone[2]);
                    assert_eq!(alive.count(), expected, "{order:?} up to {part}");
                }
            }
        }
    });
}

fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for code in 0..4_usize.pow(4) {
        let order = [code / 64, code / 16 % 4, code / 4 % 4, code % 4];
        if (0..4).all(|part| order.contains(&part)) {
            orders.push(order);
        }
    }
    assert_eq!(orders.len(), 24);
    orders
}

/// S24: a mailbox in a thread-local is dropped when its thread ends.
#[test]
fn a_mailbox_may_live_in_a_thread_local() {
    thread_local! {
        static OWN: RefCell<Option<Own<Token>>> = const { RefCell::new(None) };
        static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
    }
    let alive = Alive::new();
    let token = alive.token();
    within_patience("the end of a thread", move || {
        let pool = pool(1);
        let own = own(&pool, 8);
        own.sender.send(1, token).unwrap();
        OWN.set(Some(own));
        POOL.set(Some(pool));
    });
    assert_eq!(alive.count(), 0);
}

/// The counterparts of Drogon's `queueInLoop` and `runInLoop`.
#[test]
fn closures_run_in_their_order_and_at_once_on_the_loops_own_thread() {
    let pool = pool(0);
    let mut own = own::<LoopFn>(&pool, 8);
    let log = Log::new();
    let this = std::thread::current().id();
    let note = |what: &'static str| {
        let log = log.clone();
        move || {
            assert_eq!(std::thread::current().id(), this);
            log.add(what);
        }
    };
    own.sender.run_in_loop(note("before the first drain")).unwrap();
    assert_eq!(log.len(), 0, "the loop's thread is not known yet");
    let (sender, first, second) = (own.sender.clone(), note("first"), note("second"));
    let other = std::thread::spawn(move || {
        sender.run_in_loop(first)?;
        sender.run_in_loop(second)
    });
    other.join().unwrap().unwrap();
    let nested = own.sender.clone();
    let inner = note("at once, inside another");
    let outer = move || nested.run_in_loop(inner).unwrap();
    own.sender.send(Recipient::Loop, Box::new(outer)).unwrap();
    own.messages().into_iter().for_each(|run| run());
    own.sender.send(Recipient::Loop, Box::new(note("sent"))).unwrap();
    own.sender.run_in_loop(note("at once")).unwrap();
    own.messages().into_iter().for_each(|run| run());
    let expected = [
        "before the first drain",
        "first",
        "second",
        "at once, inside another",
        "at once",
        "sent",
    ];
    assert_eq!(log.notes(), expected);
    drop(own.mailbox);
    let refused = own.sender.run_in_loop(note("closed"));
    assert!(refused.unwrap_err().is_closed());
    assert_eq!(log.len(), expected.len(), "a closed mailbox runs nothing");
}

/// The loop's thread is the thread of the last drain.
#[test]
fn a_mailbox_that_has_moved_runs_closures_on_the_thread_that_drains() {
    let pool = pool(0);
    let mut own = own::<LoopFn>(&pool, 8);
    drop(own.mailbox.drain());
    let mut mailbox = own.mailbox;
    let draining = std::thread::spawn(move || (mailbox.drain().count(), mailbox));
    let (_, mut mailbox) = draining.join().unwrap();
    let log = Log::new();
    let note = log.clone();
    own.sender.run_in_loop(move || note.add(())).unwrap();
    assert_eq!((log.len(), mailbox.drain().count()), (0, 1));
}

#[test]
fn the_dump_shows_mailboxes() {
    let pool = pool(0);
    let (mut own, _empty) = (own(&pool, 64), own::<()>(&pool, 1));
    for id in [1, 1, 1, 2, 2] {
        own.sender.send(id, String::new()).unwrap();
    }
    own.service.connection_closed(1);
    assert_eq!(own.messages().len(), 2);
    own.sender.send(2, String::new()).unwrap();
    let dump = pool.dump();
    let [first, second] = &dump.mailboxes[..] else {
        panic!("{dump:?}");
    };
    assert_eq!((first.length, first.capacity, first.high_water_mark), (1, 64, 5));
    assert_eq!((first.dropped, first.notifications), (3, 2));
    assert_eq!(
        (second.length, second.capacity, second.high_water_mark),
        (0, 1, 0)
    );
    assert_ne!(first.service, second.service);
    let text = dump.to_string();
    let line = format!(
        "\nmailbox   service {}  messages 1 of 64  high-water mark 5  waiting senders 0  dropped 3  notifications 2  type {}\n",
        first.service, "alloc::string::String"
    );
    assert!(text.contains(&line), "{text}");
    let json = serde_json::to_value(&dump).unwrap();
    let expected = serde_json::json!({
        "service": first.service,
        "message_type": "alloc::string::String",
        "length": 1,
        "capacity": 64,
        "high_water_mark": 5,
        "waiting_senders": 0,
        "dropped": 3,
        "notifications": 2,
    });
    assert_eq!(json["mailboxes"][0], expected);
    drop(own.mailbox);
    assert_eq!(pool.dump().mailboxes.len(), 1, "a dropped mailbox is not shown");
}

#[test]
fn mailboxes_can_be_printed_and_errors_say_what_to_do() {
    struct Silent; // implements neither `Debug` nor `Clone`
    let pool = ThreadPool::builder().name("named").threads(0).build().unwrap();
    let service = pool.service::<Work>(|| {});
    let (sender, mut mailbox) = service.mailbox::<Silent>(2);
    sender.send(1, Silent).unwrap();
    let inside = "{ pool: \"named\", len: 1, is_closed: false, capacity: 2, .. }";
    assert_eq!(format!("{sender:?}"), format!("Sender {inside}"));
    assert_eq!(format!("{mailbox:?}"), format!("Mailbox {inside}"));
    assert_eq!(format!("{:?}", mailbox.drain()), "Drain { len: 1, .. }");
    sender.send(1, Silent).unwrap();
    let full: Box<dyn std::error::Error + Send + Sync> = sender.send(1, Silent).unwrap_err().into();
    assert_eq!(format!("{full:?}"), "Full(..)");
    assert!(full.to_string().contains("send_blocking"), "{full}");
    let deadlock = sender.send_blocking(1, Silent).unwrap_err();
    assert!(deadlock.to_string().ends_with("use `send`"), "{deadlock}");
    drop(service);
    let closed = sender.send(1, Silent).unwrap_err();
    assert!(closed.to_string().contains("dropped"), "{closed}");
}

#[test]
#[should_panic(expected = "the capacity of a mailbox is 0")]
fn a_mailbox_of_capacity_0_panics() {
    let pool = pool(0);
    let service = pool.service::<BoxTask>(|| {});
    let _ = service.mailbox::<u8>(0);
}

/// S27: dumps, sends, drains and tasks run at the same time.
#[test]
fn a_dump_disturbs_neither_senders_nor_the_loop() {
    within_patience("dumps and messages", || {
        const EACH: usize = 20_000;
        let pool = Arc::new(pool(1));
        let Loop { mut service, wakes } = Loop::<BoxTask>::new(&pool);
        let (sender, mut mailbox) = service.mailbox(100);
        drop(mailbox.drain());
        let dumping = std::thread::spawn({
            let pool = Arc::clone(&pool);
            move || {
                let mut notified = 0;
                while let Some(mailbox) = pool.dump().mailboxes.first() {
                    assert!(mailbox.length <= mailbox.capacity && mailbox.high_water_mark <= 100);
                    assert!(mailbox.notifications >= notified);
                    notified = mailbox.notifications;
                }
            }
        });
        let sending = std::thread::spawn(move || {
            (0..EACH).for_each(|n| sender.send_blocking(1, n).unwrap());
        });
        let mut seen = 0;
        while seen < EACH {
            let _ = service.enqueue(1, task_fn(|_| TaskReturn::TaskDone));
            wakes.wait();
            for id in service.take_ready().map(|ready| ready.id) {
                drop(service.task_status(id));
            }
            seen += mailbox.drain().count();
        }
        sending.join().unwrap();
        drop(mailbox);
        dumping.join().unwrap();
    });
}
