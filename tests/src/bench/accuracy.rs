//! How right the agent is: every scenario of the demonstration server against the packets on the wire.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::client::Options;
use crate::fake_server::every_kind;
use crate::harness::load_and_compare;
use crate::oracle::Comparison;

use super::scene::{Scene, start_demo_server};

const REQUESTS: usize = 400;
const CONCURRENCY: usize = 8;

pub(super) fn compare(scene: &Scene, demo_server: &Path, folder: &Path) -> Result<Comparison> {
    let server = scene.with_server(|| start_demo_server(demo_server, None))?;
    let options = Options {
        requests: REQUESTS,
        concurrency: CONCURRENCY,
        mix: "all".parse()?,
        scenarios: every_kind(),
        models: vec!["small".to_owned(), "large/model-7b".to_owned()],
        ..Options::new(server.endpoint.clone())
    };
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    let comparison = runtime.block_on(load_and_compare(scene.agent.listen, &options, folder))?;
    server.stop()?;
    Ok(comparison)
}
