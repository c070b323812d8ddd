//! The sockets of the examples: one mio loop, HTTP/1.1 and WebSocket on one port.
//!
//! An example includes this folder with `#[path = "../common/mod.rs"] mod common;`,
//! implements [`server::App`] and hands it to [`server::Server::run`]. What an app may do with
//! its connections is [`server::Net`]. Nothing in here knows what the example is about.
//!
//! From the bottom up: `wire` (bytes), `http` (requests and answers), `websocket` (messages),
//! `connection` (one client, whichever of the two it speaks), `server` (all of them).

#![allow(dead_code, reason = "each example uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "a program exports nothing: `pub` is for its other files"
)]

pub mod connection;
pub mod http;
pub mod limits;
pub mod listener;
pub mod query;
pub mod server;
pub mod upgrade;
pub mod websocket;
pub mod wire;
