//! The byte readers of this room one by one, for the fuzz targets and for nobody else: the agent itself uses
//! [`super::Connections`], which is all of them together. No promise that any of it stays as it is.

pub use super::answer::{Answer, Meaning};
pub use super::assembly::Piece;
pub use super::document::{Document, Ended};
pub use super::framing::{Body, Framing, Step};
pub use super::http::{
    HEAD_BYTES_MAX, HeadBuffer, Media, Parsed, RequestHead, ResponseHead, request, request_line, response,
};
pub use super::json::{PATH_MAX, Scanner, Text, Token};
pub use super::key::Key;
pub use super::sse::{Events, Tally};
