//! More than a node can take: a server and clients that move as many small pieces as they can, and know how many.
//!
//! In: requests of a given number of streamed events. Out: every system call of the server counted by kind, so
//! that an observer's numbers can be compared with what happened. Blocking, a thread a connection: nothing but
//! those calls passes through the kernel.

mod client;
mod server;

use std::time::Duration;

pub use client::{Ask, Client, Load, Made};
pub use server::{Counted, SERVED_MODEL, serve};

/// Header by which a request says how many events its stream shall have; without it the answer is whole.
const EVENTS_HEADER: &str = "x-events";
/// What ends a stream.
const STREAM_END: &[u8] = b"0\r\n\r\n";
/// Header by which it says how many microseconds pass before each of them; without it, none.
const GAP_HEADER: &str = "x-gap-us";
/// Events of one stream, and a gap, at most.
const EVENTS_MAX: u32 = 100_000;
const GAP_MAX: Duration = Duration::from_secs(10);
