//! What a connection has to know in a turn of the loop.

use std::time::Instant;

use crate::http::Route;
use crate::limits::Limits;
use crate::origin::AllowedOrigins;

#[allow(missing_debug_implementations, reason = "it borrows a closure")]
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Counts the turns of the loop.
    pub number: u64,
    pub limits: &'a Limits,
    pub origins: &'a AllowedOrigins,
    /// What a path offers. None for 404.
    pub routes: &'a dyn Fn(&str) -> Option<Route>,
    /// The text of 404 answers.
    pub not_found: &'static str,
    /// The time of this turn.
    pub now: Instant,
    /// The value of `Date`.
    pub date: &'a str,
}
