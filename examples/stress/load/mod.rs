//! Random load on a pool, and the books that show whether every promise was kept. Shared by the `stress` example and
//! the `simulation` test.
//!
//! A [`ServiceLoop`](service_loop::ServiceLoop) does at random whatever a loop can do; its tasks are
//! [`Errand`](errand::Errand)s; its [`Books`](books::Books) know what must be true of what it is told;
//! [`round`] puts several of them on threads around one pool.

pub(crate) mod audit;
mod bell;
mod books;
mod errand;
mod messages;
pub(crate) mod round;
pub(crate) mod service_loop;
pub(crate) mod yard;
