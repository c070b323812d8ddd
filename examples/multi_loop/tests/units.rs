//! Runs the unit tests in the files of the example. With `test = true` for the example, `cargo
//! test` would not build the program that `multi_loop.rs` starts.

#![allow(dead_code, unreachable_pub, reason = "only the tests of these files are used")]

#[path = "../cancel.rs"]
mod cancel;
#[path = "../database/mod.rs"]
mod database;
#[path = "../figures.rs"]
mod figures;
#[path = "../request.rs"]
mod request;
