//! Fuzz targets: every reader of foreign bytes in the agent, each with what must hold whatever the bytes are.
//!
//! In: any bytes. Out: a panic where something does not hold. The same functions run under the fuzzing engine
//! (`cargo xtask fuzz`) and, over the files of `corpus/`, as ordinary tests. A target says more than that nothing
//! panics: the same bytes cut elsewhere mean the same, a slow oracle agrees, and what is held stays small.
//!
//! What the targets share: [`input`] takes an input apart, [`talk`] makes a connection's events of one, [`memory`]
//! measures what is held,
//! [`oracle`] reads JSON slowly.

pub mod input;
pub mod memory;
pub mod oracle;
pub mod talk;
pub mod target;

#[cfg(test)]
mod corpora;
#[cfg(test)]
mod seeds;

pub use target::{TARGETS, Target};
