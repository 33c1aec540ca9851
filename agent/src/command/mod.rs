//! What else can the binary do? One file or folder per command that is not the agent itself.
//!
//! In: the command line and a place to write. Out: text or JSON, and an exit status. They never touch the
//! pipeline.

pub mod check;
pub mod doctor;
pub mod drift;
pub mod top;
