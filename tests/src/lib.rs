//! Test tools.

pub mod page;
