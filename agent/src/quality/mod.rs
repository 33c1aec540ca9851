//! Is the model still as good? Predictions in files, scored against a baseline and the truth.
//!
//! What is here is computed from values alone, or reads files in a thread that nothing waits for.
//! `signal/drift` exports what comes out.

pub mod files;
pub mod mmlu;
pub mod npy;
pub mod score;
pub mod settings;
