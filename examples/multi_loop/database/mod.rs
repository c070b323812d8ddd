//! The database: how it is made, how a worker opens it, and how a result is read in parts.

pub mod connection;
pub mod create;
mod csv;
pub mod part;
