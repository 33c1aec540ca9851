//! The newest of something, shared by the pipeline that makes it once a second and whoever reads.
//!
//! The lock is held for the time of a pointer's copy, so neither waits for the other.

use std::sync::{Arc, Mutex, PoisonError};

/// See the head of this file.
#[derive(Debug)]
pub struct Latest<T>(Arc<Mutex<Arc<T>>>);

impl<T> Latest<T> {
    /// The newest.
    #[must_use]
    pub fn latest(&self) -> Arc<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this.
    pub fn publish(&self, newest: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(newest);
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Latest<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
