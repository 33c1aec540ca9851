//! What kind of machine the tests run on: `cargo xtask kernel` runs them in an emulated one, 10 to 50 times slower.
//!
//! In: `XTASK_BOUNDS` (`emulated`), `XTASK_REQUESTS` (at most so many of each load), `XTASK_SOCKETS` (the kinds to try),
//! `XTASK_SOCKET_HOOK` (the family of hooks that the agent is to use). Out: how far a time may be off, how long to wait,
//! and what to ask of the agent. Without these variables nothing changes.

use std::env;
use std::time::Duration;

use crate::oracle::{Bounds, Source};

/// How much longer than on a real processor things may take.
const EMULATED_PATIENCE: u32 = 10;
/// How far a time may be off in an emulated machine, as a multiple of what holds on a real one: 20 ms or 5 % where there
/// are packets. A processor that the host takes away for a moment is in every time that passes in that moment.
const EMULATED_ABSOLUTE: u32 = 20;
const EMULATED_RELATIVE: f64 = 5.0;
/// Requests that this happens to: with a few tens of them one is beyond the 99th percentile already.
const EMULATED_STRAYS: f64 = 0.1;
/// Requests under way at most: more than an emulated processor can serve would wait for it inside their system calls.
const EMULATED_CONCURRENCY: usize = 3;
/// Loads at most where only times are off: the host's doing rarely comes twice, the agent's does.
const EMULATED_LOADS_MAX: usize = 3;

/// Requests that have a 99th percentile, by which times are judged, even of what only some of them have: of fewer it is
/// the worst one, which a processor that the host took away for a moment may be.
const PERCENTILE_REQUESTS: usize = 200;

fn is_emulated() -> bool {
    env::var("XTASK_BOUNDS").is_ok_and(|value| value == "emulated")
}

/// A limit that is right for a real processor, as it is right here.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    if is_emulated() { limit * EMULATED_PATIENCE } else { limit }
}

/// The bounds that hold here against this source.
#[must_use]
pub fn bounds(source: Source) -> Bounds {
    let bounds = Bounds::of(source);
    if is_emulated() {
        Bounds {
            absolute: bounds.absolute * EMULATED_ABSOLUTE,
            relative: bounds.relative * EMULATED_RELATIVE,
            strays: EMULATED_STRAYS,
            ..bounds
        }
    } else {
        bounds
    }
}

/// Of so many requests, those at most of which a part may be missing where the agent has counted that.
pub(crate) fn skipped_max(requests: usize) -> usize {
    if is_emulated() { (requests as f64 * EMULATED_STRAYS).ceil() as usize } else { 0 }
}

/// As many requests under way as a load should have, or fewer here.
#[must_use]
pub fn concurrency(wanted: usize) -> usize {
    if is_emulated() { wanted.min(EMULATED_CONCURRENCY) } else { wanted }
}

/// How many requests the next load has where after so many loads, the last of so many requests, only times are off; none
/// where these are the agent's. Everything else has to be exact each time.
pub(crate) fn next_load(loads: usize, requests: usize) -> Option<usize> {
    if is_emulated() {
        (loads < EMULATED_LOADS_MAX).then_some(requests)
    } else {
        (requests < PERCENTILE_REQUESTS).then_some(PERCENTILE_REQUESTS)
    }
}

/// Whether to try this kind of socket (`ipv4`, `ipv6`, `unix`): all, or those that `XTASK_SOCKETS` names.
#[must_use]
pub fn sockets(kind: &str) -> bool {
    env::var("XTASK_SOCKETS").map_or(true, |named| named.split(',').any(|named| named == kind))
}

/// As many requests as a load should make, or fewer where the machine is slow.
///
/// # Panics
///
/// Where `XTASK_REQUESTS` is no number.
#[must_use]
pub fn requests(wanted: usize) -> usize {
    env::var("XTASK_REQUESTS")
        .map_or(wanted, |most| wanted.min(most.parse().expect("XTASK_REQUESTS is a number")))
}

/// Settings of the agent, and the hooks that it is asked to use here. They stand last: a table goes on to the end.
pub(crate) fn agent_settings(settings: &str) -> String {
    match env::var("XTASK_SOCKET_HOOK") {
        Ok(family) => format!("{settings}\n[kernel]\nsocket_hook = \"{family}\"\n"),
        Err(_) => settings.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_load_without_a_percentile_is_made_again_and_once() {
        let next = next_load(1, 60);
        assert_eq!(next, Some(PERCENTILE_REQUESTS));
        assert_eq!(next.and_then(|requests| next_load(2, requests)), None);
        assert_eq!(next_load(1, 400), None);
    }
}
