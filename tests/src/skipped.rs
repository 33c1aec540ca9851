//! What the kernel kept from the agent in an emulated machine, and the agent says so.
//!
//! In: truth and records of a load, the agent's page. Out: both without the requests of which a part is missing. The
//! kernel skips a program while the same program is interrupted on that processor. From Linux 7 on it may be; where a
//! program takes as long as a call elsewhere, that happens once in some thousand calls. On a real processor nothing is
//! set aside.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::machine;
use crate::oracle::{AgentRecord, http_get};
use crate::socket::Endpoint;
use crate::transcript::Exchange;

/// What the agent counts is on its page within this.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// Runs that the kernel skipped, on the agent's page.
const SKIPPED: &str = "inferscope_events_lost_total{stage=\"program\",reason=\"recursion\"}";

/// Sets aside requests without a whole record. None where there are more than the agent counts as skipped, or more
/// than a few: then something else is wrong.
pub(crate) fn set_aside(
    agent: SocketAddr,
    exchanges: &mut Vec<Exchange>,
    records: &mut Vec<AgentRecord>,
) -> Result<()> {
    let partly = partly_seen(exchanges, records);
    if partly.is_empty() || partly.len() > machine::skipped_max(exchanges.len()) {
        return Ok(());
    }
    std::thread::sleep(COUNTED_WITHIN);
    let page = String::from_utf8(http_get(&Endpoint::Tcp(agent), "/metrics")?).context("read the page")?;
    let counted = page.lines().find_map(|line| line.strip_prefix(SKIPPED)).unwrap_or("0").trim();
    let counted: f64 = counted.parse().with_context(|| format!("skipped runs: {counted:?}"))?;
    println!("the kernel skipped {counted} runs of programs; without a whole record: {partly:?}");
    if counted >= partly.len() as f64 {
        let whole = |id: &Option<String>| !id.as_ref().is_some_and(|id| partly.contains(id));
        exchanges.retain(|exchange| whole(&exchange.request_id));
        records.retain(|record| whole(&record.request_id));
    }
    Ok(())
}

/// Requests that have no record, or one that says of itself that it is incomplete.
fn partly_seen(exchanges: &[Exchange], records: &[AgentRecord]) -> HashSet<String> {
    let known: HashSet<_> = records.iter().filter_map(|record| record.request_id.as_ref()).collect();
    let missing = exchanges.iter().filter(|exchange| exchange.is_inference());
    let missing =
        missing.filter_map(|exchange| exchange.request_id.as_ref()).filter(|id| !known.contains(id));
    let incomplete = records.iter().filter(|record| record.incomplete.is_some());
    missing.chain(incomplete.filter_map(|record| record.request_id.as_ref())).cloned().collect()
}
