//! A server of the OpenAI wire format that follows a script: what it writes, in how many pieces and
//! system calls, and when.
//!
//! In: requests, each with a [`Script`] of its own (header `x-script`), one by name (`x-scenario`),
//! or one drawn from the seed. Out: responses, and a [`Log`] of what really happened and when.
//! Speaks HTTP/1.1 on the socket itself: a server library would decide where writes begin and end,
//! and those borders are what is tested. No model, no TLS, no HTTP/2.

mod connection;
mod event;
mod log;
mod plan;
mod route;
mod scenario;
mod script;
mod serve;
mod typed;

pub use event::COMPLETION_CANARY;
pub use log::{Log, Served, Write};
pub use plan::{Plan, Step, plan};
pub use route::{Ask, Route};
pub use scenario::{SCENARIOS, every_kind, scenario};
pub use script::{Ending, Framing, FrontEnd, Script, Usage};
pub use serve::{Options, Server};
