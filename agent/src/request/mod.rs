//! Which request was that? One state machine per connection turns socket events into records.
//!
//! In: socket events with head and tail of their payload, in the order of their socket.
//! Out: [`record::Observation`]s. Prompt and completion bytes end here: nothing of them is in a record.

pub mod record;
