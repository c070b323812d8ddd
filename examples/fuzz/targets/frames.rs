//! The frames of a WebSocket client: the messages are those of a plain decoder, violations end the
//! conversation, and neither depends on how the bytes are split.
#![no_main]

use std::cell::RefCell;

use fuzz::reference::{End, converse};
use fuzz::websocket_run::{MESSAGE_BYTES, receive};
use fuzz::wire::Wire;
use fuzz::{split_off_seed, ways_to_split};

thread_local! {
    static WIRE: RefCell<Wire> = RefCell::new(Wire::new().expect("a connection"));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = split_off_seed(data) else {
        return;
    };
    WIRE.with_borrow_mut(|wire| {
        let whole = receive(wire, bytes, &[bytes.len()]);
        let expected = converse(bytes, MESSAGE_BYTES);
        assert_eq!(whole.messages, expected.messages);
        match expected.end {
            End::Idle => assert!(!whole.has_ended, "nothing is wrong"),
            End::Closed | End::Violated => assert!(whole.has_ended, "{:?} goes unnoticed", expected.end),
            // What has arrived of the frame may be wrong already.
            End::Unfinished => {}
        }
        for ends in ways_to_split(seed, bytes.len()) {
            assert_eq!(whole, receive(wire, bytes, &ends), "pieces end at {ends:?}");
        }
    });
});
