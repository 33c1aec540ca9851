//! A client that makes load, seeded and bounded in count, rate and time, on loopback only.
//!
//! In: [`Options`]. Out: a [`Report`] with one [`Exchange`] per request, stamped where the client's
//! own socket calls returned. For TCP those stamps are a second opinion, since a busy machine wakes
//! the client late; over a Unix socket nothing better exists.

mod connection;
mod plan;
mod prompt;
mod run;

pub use plan::{Kind, Leave, Manner, Mix, Planned, planned};
pub use run::{Options, Progress, Report, run};

pub use crate::transcript::Exchange;
