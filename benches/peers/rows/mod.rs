//! The measures, a group of them in each file.

pub(crate) mod cancel;
pub(crate) mod dump;
pub(crate) mod fair;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod mailbox;
pub(crate) mod services;
pub(crate) mod stream;
pub(crate) mod told;
