//! Workers that receive from a flume channel.

use std::thread;
use std::time::Duration;

use flume::Sender;

use crate::inbox::Inbox;
use crate::job::Job;
use crate::pool::{Family, PlainThread, Pool};

pub(crate) struct Flume;

impl Family for Flume {
    type Pool<J: Job> = Workers<J>;
}

pub(crate) struct Workers<J> {
    jobs: Sender<J>,
    inbox: Inbox<J>,
}

impl<J: Job> Pool<J> for Workers<J> {
    type Host = PlainThread;

    fn start(threads: usize) -> (Self, PlainThread) {
        let inbox = Inbox::new(threads);
        let (jobs, receiver) = flume::unbounded::<J>();
        for _ in 0..threads {
            let receiver = receiver.clone();
            let done = inbox.done();
            thread::spawn(move || {
                done.work(|| receiver.recv().ok(), || receiver.try_recv().ok());
            });
        }
        (Self { jobs, inbox }, PlainThread)
    }

    fn submit(&mut self, job: J) {
        self.jobs.send(job).expect("workers");
    }

    fn next(&mut self) -> Option<J> {
        self.inbox.next()
    }

    async fn sleep(&mut self, timeout: Option<Duration>) {
        self.inbox.sleep(timeout);
    }
}
