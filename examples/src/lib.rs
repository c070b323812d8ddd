//! The sockets of the examples: mio loops, HTTP/1.1 and WebSocket on one port.
//!
//! An example implements [`server::App`] and hands it to [`server::Server::run`]. What an app may
//! do with its connections is [`net::Net`].
//!
//! | module | what it is about |
//! |---|---|
//! | [`server`] | the loop, and the trait that an example implements |
//! | [`loops`], [`acceptor`] | several loops, each on a thread; a loop that accepts clients for them |
//! | [`net`] | all connections |
//! | [`connection`] | one client, whichever protocol it speaks |
//! | [`http`], [`websocket`], [`upgrade`] | the protocols |
//! | [`message_queue`], [`payload`] | messages that wait for a client, and what shares their bytes |
//! | [`socket`], [`listener`], [`ready`], [`send_queues`] | bytes and clients |
//! | [`turn`] | what a connection has to know in a turn of the loop |
//! | [`limits`], [`origin`] | what a client may do |
//! | [`mod@page`], [`assets`] | the page of an example: its files, and those that all pages share |
//! | [`query`], [`failure`] | the numbers in a query, answers for tasks that fail |
//! | [`monitor`] | `/dump`, `/dump.json` and `/metrics` |
//! | [`probes`] | checks whether clients that closed their sending side have left |
//! | [`signals`] | Ctrl-C |
//! | [`options`], [`program`] | the command line, and the exit codes; what every `main` does |

#![allow(
    clippy::missing_errors_doc,
    clippy::return_self_not_must_use,
    reason = "this library is read with its source; it is not published"
)]

pub mod acceptor;
pub mod assets;
pub mod connection;
pub mod failure;
pub mod http;
pub mod limits;
pub mod listener;
pub mod loops;
pub mod message_queue;
pub mod monitor;
pub mod net;
pub mod options;
pub mod origin;
pub mod page;
pub mod payload;
pub mod probes;
pub mod program;
pub mod query;
pub mod ready;
pub mod send_queues;
pub mod server;
pub mod signals;
pub mod socket;
pub mod turn;
pub mod upgrade;
pub mod websocket;
