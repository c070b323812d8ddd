//! `mailbox-*`: messages from threads that are no workers to the loop, which knows from whom each
//! came and checks their order.

use std::future::Future;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::figure::Figure;
use crate::pool::Host;

/// Messages that may wait for the loop. A sender waits when they are so many.
pub(crate) const CAPACITY: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) senders: usize,
    /// Of all senders together.
    pub(crate) messages: usize,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) sender: u32,
    pub(crate) number: u32,
}

/// The end of a thread that sends.
pub(crate) trait Post: Clone + Send + 'static {
    /// Sends a message for a connection, and wakes the loop if it sleeps. Waits while the mailbox
    /// is full.
    fn send(&self, connection: u64, mail: Mail);
}

/// The loop's end.
pub(crate) trait Mailbox: Send + Sized + 'static {
    type Post: Post;
    type Host: Host;

    fn start(threads: usize) -> (Self, Self::Post, Self::Host);

    /// Hands over what is there, without waiting.
    fn take_each(&mut self, take: impl FnMut(u64, Mail));

    /// Sleeps until there is something.
    fn sleep(&mut self) -> impl Future<Output = ()> + Send;
}

pub(crate) async fn mailbox<M: Mailbox>(mut mailbox: M, post: M::Post, plan: Plan) -> Figure {
    let each = plan.messages / plan.senders;
    let warm_up = each / 10;
    // The clock starts when the warm-up is over for all.
    let start_line = Arc::new(Barrier::new(plan.senders + 1));
    for sender in 0..plan.senders {
        let (post, start_line) = (post.clone(), start_line.clone());
        thread::spawn(move || {
            let sender = sender as u32;
            let send = |number| post.send(u64::from(sender), Mail { sender, number });
            (0..warm_up as u32).for_each(send);
            start_line.wait();
            (warm_up as u32..(warm_up + each) as u32).for_each(send);
        });
    }
    let mut next = vec![0; plan.senders];
    receive(&mut mailbox, &mut next, warm_up * plan.senders).await;
    start_line.wait();
    let start = Instant::now();
    receive(&mut mailbox, &mut next, each * plan.senders).await;
    let elapsed = start.elapsed();
    assert!(next.iter().all(|&number| number as usize == warm_up + each));
    Figure::new(
        "",
        "ns/message",
        elapsed.as_nanos() as f64 / (each * plan.senders) as f64,
    )
}

async fn receive(mailbox: &mut impl Mailbox, next: &mut [u32], messages: usize) {
    let mut received = 0;
    while received < messages {
        let before = received;
        mailbox.take_each(|connection, mail| {
            assert_eq!(
                connection,
                u64::from(mail.sender),
                "a message for another connection"
            );
            let next = &mut next[mail.sender as usize];
            assert_eq!(
                *next, mail.number,
                "a message was lost, or came twice or out of order"
            );
            *next += 1;
            received += 1;
        });
        if received == before {
            mailbox.sleep().await;
        }
    }
}
