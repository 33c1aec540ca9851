//! What the server did, and when: its side of the truth.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::transcript::Outcome;

/// Requests that are kept at most; the rest are counted.
const SERVED_MAX: usize = 1_000_000;

/// One write of a response. Times are `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Just before the first system call.
    pub began_ns: u64,
    /// Just after the system call that took the last byte.
    pub ended_ns: u64,
    pub bytes: u64,
    pub pieces: u32,
    /// System calls: more than one where the client was slow.
    pub calls: u32,
    /// Events with a delta that it completed.
    pub deltas: u32,
}

impl Write {
    /// When its last byte passed, as near as the server can tell: a writer often loses the processor to
    /// its reader inside the call, so the beginning of a single call is nearer than its end.
    #[must_use]
    pub fn passed_ns(&self) -> u64 {
        if self.calls == 1 { self.began_ns } else { self.ended_ns }
    }
}

/// One request that was served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    pub request_id: Option<String>,
    /// Number of the connection, and of the request on it.
    pub connection: u64,
    pub nth: u32,
    pub path: String,
    pub model: String,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub streamed: bool,
    /// The read that brought its first byte began, and that of its last.
    pub first_read_ns: u64,
    pub whole_ns: u64,
    pub ended_ns: u64,
    pub writes: Vec<Write>,
    /// Waits for a client that did not read.
    pub send_wait_ns: u64,
}

impl Served {
    /// Events with a delta.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.writes.iter().map(|write| u64::from(write.deltas)).sum()
    }

    /// Writes that completed such an event.
    #[must_use]
    pub fn delta_writes(&self) -> usize {
        self.writes.iter().filter(|write| write.deltas > 0).count()
    }
}

/// All requests that were served, in the order of their ends.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    served: Vec<Served>,
    left_out: u64,
}

impl Log {
    pub(super) fn push(&self, served: Served) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.served.len() < SERVED_MAX {
            inner.served.push(served);
        } else {
            inner.left_out += 1;
        }
    }

    /// Everything so far.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).served.clone()
    }

    /// Requests that were served but did not fit.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).left_out
    }

    /// One JSON object a line.
    #[must_use]
    pub fn to_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for served in &self.inner.lock().unwrap_or_else(PoisonError::into_inner).served {
            serde_json::to_writer(&mut lines, served).expect("a log line is plain data");
            lines.push(b'\n');
        }
        lines
    }

    /// Writes the lines to a file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn save(&self, path: &std::path::Path) -> Result<()> {
        let mut file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
        file.write_all(&self.to_lines()).with_context(|| format!("write {}", path.display()))
    }
}
