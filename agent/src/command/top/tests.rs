//! Tests of the views as a whole: pages and keys in, cells out.

mod keys;
mod serving;
mod views;

use std::sync::Arc;

use super::pages::{Pages, SlowRequest};

/// The pages in `tests/pages`: two servers with three models, one that is silent and one that is down;
/// a hot GPU, one that is split, and one that hangs; a model that has got worse.
const ANSWERS: [&str; 7] = [
    include_str!("tests/pages/latency.json"),
    include_str!("tests/pages/stalls.json"),
    include_str!("tests/pages/slow.json"),
    include_str!("tests/pages/agent.json"),
    include_str!("tests/pages/workloads.json"),
    include_str!("tests/pages/gpus.json"),
    include_str!("tests/pages/quality.json"),
];

fn answers() -> Vec<Vec<u8>> {
    ANSWERS.map(|answer| answer.as_bytes().to_vec()).to_vec()
}

fn pages() -> Pages {
    Pages::read(&answers()).unwrap()
}

/// The same of a node without GPUs, where nothing says how good its models are.
fn without_gpus() -> Pages {
    let mut answers = answers();
    answers[5] = br#"{"driver":null,"reason":"no library","gpus":[]}"#.to_vec();
    answers[6] = br#"{"predictions":[],"evaluations":[]}"#.to_vec();
    Pages::read(&answers).unwrap()
}

/// The slow request with this number.
fn slow(seq: u64) -> Arc<SlowRequest> {
    pages().slow.requests.into_iter().find(|request| request.seq == seq).unwrap()
}
