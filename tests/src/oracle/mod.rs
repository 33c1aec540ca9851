//! Compares what really passed with what the agent measured.
//!
//! In: a [`Truth`] (the wire's, or the client's where there is no wire) and the agent's
//! [`AgentRecord`]s. Out: a [`Comparison`], with a table and a verdict. Matching is by
//! `x-request-id` only.

mod compare;
mod models;
mod record;
mod table;
mod truth;

pub use compare::{Bounds, Comparison, CountRow, Mismatch, QuantityRow, compare, compare_labelled};
pub use models::Labelled;
pub use record::{AgentRecord, Gaps, fetch_records, http_get, http_get_as, newest_record};
pub use truth::{Line, Source, Truth};
