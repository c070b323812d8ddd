//! Workers that share a std channel: the classic `Mutex<Receiver>`.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::inbox::Inbox;
use crate::job::Job;
use crate::pool::{Family, PlainThread, Pool};

pub(crate) struct StdMpsc;

impl Family for StdMpsc {
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
        let (jobs, receiver) = mpsc::channel::<J>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let receiver = receiver.clone();
            let done = inbox.done();
            thread::spawn(move || {
                let receive = || receiver.lock().recv().ok();
                // Who waits for a job holds the lock: then there is none for us either.
                let try_receive = || receiver.try_lock()?.try_recv().ok();
                done.work(receive, try_receive);
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
