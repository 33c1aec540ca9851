//! A client that makes load, seeded and bounded in count, rate and time, on loopback only.
//!
//! In: [`Options`]. Out: a [`Report`] with one [`Exchange`](crate::transcript::Exchange) per request, stamped where the client's
//! own socket calls returned. For TCP those stamps are a second opinion, since a busy machine wakes
//! the client late; over a Unix socket nothing better exists.

mod connection;
mod plan;
mod prompt;
mod run;

pub use plan::{Kind, Leave, Manner, Mix, Planned, SLOW_SUFFIX, Source, planned};
pub use prompt::{HEADER_CANARY, PROMPT_CANARY, Prompt};
pub use run::{Options, Progress, Report, run};
