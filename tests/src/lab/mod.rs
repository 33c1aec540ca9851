//! The laboratory: a server made like a real one, of an API process and an engine's, and a real vLLM, to which faults are
//! done.
//!
//! In: a fault. Out: what the agent says of the requests that it hit, and of those that it did not.

pub mod blamed;
pub mod engine;
mod fault;
pub mod group;
mod mapping;
mod matrix;
mod run;
pub mod server;
mod traffic;
mod vllm;

pub use fault::{Fault, Victim, inject};
pub use matrix::{Matrix, Row};
pub use run::{Lab, RATE};
pub use vllm::RealLab;
