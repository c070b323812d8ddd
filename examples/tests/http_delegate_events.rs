//! The events of `http_delegate`, at times that the test chooses.

#![allow(dead_code, unreachable_pub, reason = "the program uses all of it")]

#[path = "../http_delegate/events.rs"]
mod events;
#[path = "../http_delegate/job.rs"]
mod job;
#[path = "../http_delegate/lines.rs"]
mod lines;
#[path = "../http_delegate/work.rs"]
mod work;

use std::time::{Duration, Instant};

use events::Events;
use job::Next;

const MINUTE: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The text that is sent at this time, and the pause after it.
fn sent(events: &mut Events, now: Instant) -> (String, Duration) {
    match events.next(now) {
        Next::Write { output, pause } => (String::from_utf8(output.to_vec()).expect("text"), pause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn comments_keep_the_connection_alive_between_two_events() {
    let mut now = Instant::now();
    let mut events = Events::after(0, 2, MINUTE).expect("two events");
    let (text, mut pause) = sent(&mut events, now);
    assert!(
        text.starts_with("retry: 1000\n\nid: 1\ndata: {\"number\":1,"),
        "{text}"
    );
    for _ in 0..3 {
        assert_eq!(pause, KEEP_ALIVE);
        now += pause;
        let comment = sent(&mut events, now);
        assert_eq!(comment.0, ": keep-alive\n\n");
        pause = comment.1;
    }
    now += pause;
    let (text, pause) = sent(&mut events, now);
    assert!(text.starts_with("id: 2\ndata: {\"number\":2,"), "{text}");
    assert_eq!(pause, Duration::ZERO, "nothing comes after it");
    assert_eq!(events.next(now), Next::Done);
}

#[test]
fn short_intervals_need_no_comments() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut events = Events::after(7, u64::MAX, second).expect("events");
    for number in 8..20 {
        let (text, pause) = sent(&mut events, now + second * (number - 8));
        assert!(text.contains(&format!("id: {number}\n")), "{text}");
        assert_eq!(pause, second);
    }
}

#[test]
fn the_largest_number_is_the_last_one() {
    let mut events = Events::after(u64::MAX - 1, u64::MAX, MINUTE).expect("one event");
    let (text, _) = sent(&mut events, Instant::now());
    assert!(text.contains("id: 18446744073709551615\n"), "{text}");
    assert_eq!(events.next(Instant::now()), Next::Done);
    assert!(Events::after(u64::MAX, u64::MAX, MINUTE).is_none());
}
