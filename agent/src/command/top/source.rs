//! Where the pages come from: an agent that is asked over HTTP.
//!
//! In: an agent's address, and as whom it is asked. Out: pages, or one clean sentence why there are none. Blocks the thread that asks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::IgnoredAny;
use tokio::runtime::{Builder, Runtime};

use super::agent::{ask, not_understood};
use super::pages::{Misread, PATHS, Pages};
use super::text::{clean, escape_json};
use crate::http_client::{Limits, Server};

/// What one look may take: the pages of a busy node are some 500 KB.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 4 << 20 };
/// Longest reason that is shown, in characters.
const REASON_MAX: usize = 500;

/// An agent.
#[derive(Debug)]
pub struct Source {
    server: Server,
    limits: Limits,
    /// Taken when it ends.
    runtime: Option<Runtime>,
}

impl Source {
    /// The agent `server`, which is not asked yet.
    ///
    /// # Errors
    /// This process may start no clock of its own.
    pub fn new(server: Server) -> Result<Self> {
        Self::with_limits(server, LIMITS)
    }

    pub(super) fn with_limits(server: Server, limits: Limits) -> Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("start the clock of the client")?;
        Ok(Self { server, limits, runtime: Some(runtime) })
    }

    /// Its address, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.to_string()
    }

    /// What the agent says now.
    ///
    /// # Errors
    /// One sentence that a terminal may show: what failed, why, and what to do.
    pub fn look(&self) -> Result<Pages, String> {
        Pages::read(&self.answers()?).map_err(|misread| self.misread(&misread))
    }

    /// One JSON object with a key for each page, which is as the agent gave it.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn json(&self) -> Result<String, String> {
        let mut parts = Vec::new();
        for (answer, (key, path)) in self.answers()?.into_iter().zip(PATHS) {
            let read = serde_json::from_slice::<IgnoredAny>(&answer).map_err(|error| error.to_string());
            let page = read.and_then(|_| String::from_utf8(answer).map_err(|error| error.to_string()));
            let why = |error| format!("its answer is not JSON: {error}");
            let page = page.map_err(|error| self.misread(&Misread { path, why: why(error) }))?;
            parts.push(format!("\"{key}\":{}", escape_json(page.trim())));
        }
        Ok(format!("{{{}}}\n", parts.join(",")))
    }

    fn answers(&self) -> Result<Vec<Vec<u8>>, String> {
        let Some(runtime) = &self.runtime else { return Err("the client has ended".to_owned()) };
        let paths = PATHS.map(|(_, path)| path);
        let answers = runtime.block_on(ask(&self.server, &paths, self.limits));
        answers.map_err(|told| clean(&told, REASON_MAX))
    }

    fn misread(&self, misread: &Misread) -> String {
        clean(&not_understood(&self.server, misread.path, &misread.why), REASON_MAX)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // A name that is being looked up keeps its thread; nobody waits for that.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
