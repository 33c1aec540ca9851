//! The stack: everything that is measured, the agent, Prometheus and Alertmanager, and what goes wrong with them.

pub mod remedy;
pub mod rules;
pub mod scene;
pub mod services;
