//! Is drift found where there is some, and nowhere else? The reference data, and streams of chance.
//!
//! In: the vectors in `drift-vectors`, a number of seeds. Out: tables, and whether everything required holds. Takes a minute
//! or two of two processors in release; the same with a few seeds are the unit tests of `quality/change`.

mod chance;
mod runs;
mod streams;
mod vectors;

pub use runs::{Detection, FalseAlarms, detections, false_alarms};
pub use vectors::{Agreement, agreements};
