//! What passed on a connection, read after the fact: whole byte streams with a time for every byte,
//! and the requests found in them.
//!
//! In: [`Track`]s, one per direction, from the packet capture or from the client's own socket.
//! Out: [`Exchange`]s. Plain and slow on purpose, and nothing of the agent's in it: everything of a
//! connection lies in memory before it is read.

mod body;
mod exchange;
mod head;
mod meaning;
mod track;

pub use body::{Body, BodyReader};
pub use exchange::{Exchange, Outcome, exchanges};
pub use head::{Framing, RequestHead, ResponseHead, request_head, response_head};
pub use meaning::{Meaning, event_meaning, is_inference, whole_meaning};
pub use track::{Closed, Track};
