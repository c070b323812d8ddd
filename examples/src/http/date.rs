//! The value of the `Date` header, formatted once a second.

use std::time::{Duration, Instant, SystemTime};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Date {
    text: String,
    /// From then on the text is out of date.
    until: Instant,
}

impl Date {
    pub fn new(now: Instant) -> Self {
        let mut date = Self {
            text: String::new(),
            until: now,
        };
        date.update(now);
        date
    }

    /// Formats the time anew if a second has passed.
    pub fn update(&mut self, now: Instant) {
        if now >= self.until {
            let time = SystemTime::now();
            let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let into_second = Duration::from_nanos(since_epoch.subsec_nanos().into());
            self.text = httpdate::fmt_http_date(time);
            self.until = now + SECOND.saturating_sub(into_second);
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}
