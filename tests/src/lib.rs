//! Test tools: a server that follows a script, a client that makes load, and a comparison of what
//! passed on the wire with what the agent measured.
//!
//! In: scripts, seeds, packet captures, the agent's API. Out: logs of what happened, a table of
//! errors; and a bench of what the agent costs. Uses the agent only for its clock, its binary, the
//! kernel's statistics of programs and, in [`drift_check`], the scores that are judged there; never for its parsing: a
//! judge may not share the mistakes of the judged.

pub mod alertmanager;
pub mod bench;
pub mod books;
pub mod client;
pub mod drift_check;
pub mod expression;
pub mod fake_server;
pub mod flood;
pub mod harness;
pub mod lab;
pub mod machine;
pub mod oracle;
pub mod page;
pub mod prometheus;
pub mod recorded;
pub mod reference;
pub mod rights;
pub(crate) mod skipped;
pub mod soak;
pub mod socket;
pub mod stack;
pub mod stage;
pub mod transcript;
pub mod wire;

mod skip;

pub use skip::skip;
