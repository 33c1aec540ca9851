//! The targets: one file for each reader, and the list of them.

pub mod answer;
pub mod btf;
pub mod command;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod document;
pub mod framing;
pub mod http;
pub mod json;
pub mod negotiate;
pub mod node;
pub mod npy;
pub mod questions;
pub mod results;
pub mod ring;
pub mod sse;
pub mod state;

/// One reader under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// That of its file, of its folder in `corpus/` and on the command line.
    pub name: &'static str,
    /// Reads the bytes; panics where something does not hold.
    pub run: fn(&[u8]),
}

/// Every target, in alphabetical order.
pub const TARGETS: [Target; 18] = [
    Target { name: "answer", run: answer::run },
    Target { name: "btf", run: btf::run },
    Target { name: "command", run: command::run },
    Target { name: "config", run: config::run },
    Target { name: "connection", run: connection::run },
    Target { name: "credentials", run: credentials::run },
    Target { name: "document", run: document::run },
    Target { name: "framing", run: framing::run },
    Target { name: "http", run: http::run },
    Target { name: "json", run: json::run },
    Target { name: "negotiate", run: negotiate::run },
    Target { name: "node", run: node::run },
    Target { name: "npy", run: npy::run },
    Target { name: "questions", run: questions::run },
    Target { name: "results", run: results::run },
    Target { name: "ring", run: ring::run },
    Target { name: "sse", run: sse::run },
    Target { name: "state", run: state::run },
];
