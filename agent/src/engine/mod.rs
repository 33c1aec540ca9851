//! What does a server say of itself? Reads its metrics page, where the operator allows it.

pub mod page;
