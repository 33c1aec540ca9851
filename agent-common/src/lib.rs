//! What the kernel programs and the agent agree on: the bytes that cross the border, and the pure
//! logic both sides need. `no_std`, no allocation, tested on the host.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

pub mod counter;
pub mod decode;
pub mod process;
pub mod socket;
pub mod stall;
pub mod watch;
