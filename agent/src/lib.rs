//! The rooms of the agent; the binary `inferscope` is a thin door to them. ARCHITECTURE.md is the map.

pub mod clock;
pub mod config;
pub mod request;
pub mod signal;
pub mod workload;
