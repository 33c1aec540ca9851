//! The stack: everything that is measured, the agent, Prometheus, Alertmanager and Event-Driven Ansible, and what goes wrong.
//!
//! In: a node without another agent, and the programs. Out: of every alert by which fault it was raised, when it fired and when
//! it reached a receiver; whether any fired before; and what became of two servers that were killed. Windows of the rules
//! are seconds ([`rules`]), so that a scene of minutes has what takes days; thresholds are those that ship.

pub mod faults;
mod play;
mod predictions;
pub mod remedy;
mod report;
pub mod rules;
pub mod scene;
pub mod services;

pub use play::run;
pub use report::{Loop, Report, Row};
