//! The sockets of the examples: one mio loop, HTTP/1.1 and WebSocket on one port.
//!
//! An example implements [`server::App`] and hands it to [`server::Server::run`]. What an app may
//! do with its connections is [`server::Net`].
//!
//! From the bottom up: `wire` (bytes), `http` (requests and answers), `websocket` (messages),
//! `connection` (one client, whichever of the two it speaks), `server` (all of them).

#![allow(
    clippy::missing_errors_doc,
    clippy::return_self_not_must_use,
    reason = "this library is read with its source; it is not published"
)]

pub mod connection;
pub mod http;
pub mod limits;
pub mod listener;
pub mod options;
pub mod query;
pub mod server;
pub mod upgrade;
pub mod websocket;
pub mod wire;
