//! Conversations of whole connections: what the real front ends write, and what goes wrong.

mod any_split;
mod front_ends;
mod loss;
mod protocol;
mod trace;
