//! Is the model still as good? Predictions in files, what requests show over time, results of evaluations,
//! and questions that are asked of the server itself.
//!
//! What is here is computed from values alone, or reads files and asks in threads that nothing waits for.
//! `signal/drift` exports what comes out.

pub mod canary;
pub mod change;
pub mod files;
pub mod mmlu;
pub mod npy;
pub mod score;
pub mod settings;
