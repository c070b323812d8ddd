//! Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::fmt::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use crate::job::Next;

/// Proxies close connections on which nothing is sent for long, often after 30 or 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a browser asks again after the connection has ended.
const RETRY: Duration = Duration::from_secs(1);

/// Numbered events, one in each interval.
#[derive(Debug, Clone)]
pub struct Events {
    /// None after the last event.
    next: Option<u64>,
    last: u64,
    interval: Duration,
    /// When the next event is due. None before the first one.
    due: Option<Instant>,
}

impl Events {
    /// The events after number `seen`, which the client has got, up to `last`. None if there are no
    /// more.
    pub fn after(seen: u64, last: u64, interval: Duration) -> Option<Self> {
        (seen < last).then(|| Self {
            next: Some(seen + 1),
            last,
            interval,
            due: None,
        })
    }

    /// The next event, or a comment if it is not due.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(number) = self.next else {
            return Next::Done;
        };
        let mut text = String::new();
        match self.due {
            None => write_text(&mut text, format_args!("retry: {}\n\n", RETRY.as_millis())),
            Some(due) if now < due => {
                return Next::Write {
                    output: ": keep-alive\n\n".into(),
                    pause: KEEP_ALIVE.min(due - now),
                };
            }
            Some(_) => {}
        }
        let time = unix_ms();
        let data = format_args!("id: {number}\ndata: {{\"number\":{number},\"unix_ms\":{time}}}\n\n");
        write_text(&mut text, data);
        self.due = Some(now + self.interval);
        self.next = (number < self.last).then(|| number + 1);
        let pause = match self.next {
            Some(_) => KEEP_ALIVE.min(self.interval),
            None => Duration::ZERO,
        };
        Next::Write {
            output: text.into(),
            pause,
        }
    }
}

fn write_text(text: &mut String, part: fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes everything");
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u128 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_millis()
}
