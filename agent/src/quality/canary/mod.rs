//! Questions that are asked of the server itself.
