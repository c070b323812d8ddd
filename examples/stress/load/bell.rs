//! How a loop sleeps, and is woken: on a mio poll, or by parking its thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use moored::Wake;

pub(crate) enum Bell {
    Mio {
        poll: Poll,
        events: Events,
        waker: Arc<Waker>,
    },
    Parking,
}

impl Bell {
    /// Every other loop has a poll.
    pub(crate) fn of_loop(index: usize) -> io::Result<Self> {
        if index % 2 == 1 {
            return Ok(Self::Parking);
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(0))?);
        let events = Events::with_capacity(8);
        Ok(Self::Mio { poll, events, waker })
    }

    /// What rings it; to be called on the loop's own thread.
    pub(crate) fn wake(&self) -> Arc<dyn Wake> {
        match self {
            Self::Mio { waker, .. } => Arc::clone(waker) as Arc<dyn Wake>,
            Self::Parking => {
                let thread = std::thread::current();
                Arc::new(move || thread.unpark())
            }
        }
    }

    /// Sleeps until it rings, at most so long.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Mio { poll, events, .. } => match poll.poll(events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                polled => polled,
            },
            Self::Parking => {
                std::thread::park_timeout(timeout);
                Ok(())
            }
        }
    }
}
