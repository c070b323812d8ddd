//! Requests, bodies and pipelining: what a client gets does not depend on how its bytes are split,
//! nor on the order in which the app answers.
#![no_main]

use std::cell::RefCell;

use fuzz::http_run::{Answering, serve};
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
        let whole = serve(wire, bytes, &[bytes.len()], Answering::AtOnce);
        let ways = ways_to_split(seed, bytes.len());
        for ends in &ways {
            for answering in [Answering::AtOnce, Answering::Late] {
                let split = serve(wire, bytes, ends, answering);
                assert_eq!(whole, split, "pieces end at {ends:?}, answers {answering:?}");
            }
        }
        // An answer to a request whose body has not arrived ends the connection, so what follows
        // depends on the time at which it arrives: this only must not panic.
        for ends in &ways {
            serve(wire, bytes, ends, Answering::Early);
        }
    });
});
