//! The rooms of the agent; the binary `inferscope` is a thin door to them. ARCHITECTURE.md is the map.

pub mod blame;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod cost;
pub mod digest;
pub mod engine;
pub mod export;
pub mod gpu;
pub mod health;
pub mod http_client;
pub mod lifecycle;
pub mod pipeline;
pub mod probe;
pub mod quality;
pub mod registry;
pub mod request;
pub mod rules;
pub mod serving;
pub mod signal;
pub mod slo;
pub mod workload;
