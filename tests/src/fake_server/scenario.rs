//! Named scripts, with what is random in them drawn from a seed.

use fastrand::Rng;

use crate::socket::Calls;

use super::{Ending, Framing, FrontEnd, Script};

/// A script drawn from a seed.
type Make = fn(&mut Rng) -> Script;

/// All named scripts.
pub const SCENARIOS: &[(&str, Make)] = &[
    ("python", python),
    ("rust", rust),
    ("burst", |rng| Script { content: 64, events_per_write: 16, ..rust(rng) }),
    ("burst-python", |rng| Script { content: 24, events_per_write: 6, ..python(rng) }),
    ("cut", |rng| Script { content: 4, writes_per_group: 3, ..python(rng) }),
    ("slow-token", |rng| Script { content: 5, gaps_us: vec![5_000, 400_000], ..python(rng) }),
    ("slow-first", |rng| Script { first_after_us: 700_000, content: 3, ..python(rng) }),
    ("crawling", |rng| Script {
        first_after_us: 2_600_000,
        content: 3,
        gaps_us: vec![400_000],
        ..python(rng)
    }),
    (STANDS_STILL, |rng| Script { first_after_us: 25_000_000, ..python(rng) }),
    ("no-role", |rng| Script { role_first: false, ..python(rng) }),
    ("reasoning", |rng| Script { reasoning: 6, content: 4, ..python(rng) }),
    ("tool-calls", |rng| Script {
        content: 0,
        tool_calls: 5,
        finish: "tool_calls".to_owned(),
        ..python(rng)
    }),
    ("merged-tokens", |rng| Script { content: 3, tokens_per_event: 9, ..python(rng) }),
    ("comments", |rng| Script { comment_every: 2, ..python(rng) }),
    ("large-events", |rng| Script { content: 4, text_bytes: 100_000, ..python(rng) }),
    ("length", |rng| Script { finish: "length".to_owned(), ..python(rng) }),
    ("empty", |rng| Script { content: 0, ..python(rng) }),
    ("error-event", |rng| Script { content: 3, ending: Ending::ErrorEvent, ..python(rng) }),
    ("bad-request", |rng| Script { status: 400, ..python(rng) }),
    ("not-found", |rng| Script { status: 404, ..rust(rng) }),
    ("rejected", |rng| Script { status: 429, ..python(rng) }),
    ("server-error", |rng| Script { status: 500, ..python(rng) }),
    ("unavailable", |rng| Script { status: 503, ..rust(rng) }),
    ("server-closes", |rng| Script { ending: Ending::CloseAfter(5), ..python(rng) }),
    ("server-resets", |rng| Script { ending: Ending::ResetAfter(5), ..python(rng) }),
    ("closes-before-head", |rng| Script { ending: Ending::CloseAfter(0), ..python(rng) }),
    ("chunked-body", |rng| Script {
        framing: Framing::Chunked,
        body_bytes: 40_000,
        body_writes: 5,
        ..python(rng)
    }),
    ("body-until-close", |rng| Script { framing: Framing::Close, body_bytes: 3_000, ..python(rng) }),
    ("large-body", |rng| Script { body_bytes: 3_000_000, ..python(rng) }),
    ("closes-after", |rng| Script { close: true, ..python(rng) }),
    ("reads-late", |rng| Script { next_read_after_us: 60_000, ..python(rng) }),
    ("small-send-buffer", |rng| Script {
        send_buffer_bytes: Some(4_096),
        content: 8,
        text_bytes: 60_000,
        ..python(rng)
    }),
    ("answers-half-closed", |rng| Script { answers_half_closed: true, ..python(rng) }),
    ("recv-send", |rng| Script { calls: Calls::RecvSend, ..python(rng) }),
    ("message-calls", |rng| Script { calls: Calls::Message, ..rust(rng) }),
    ("vector-calls", |rng| Script { calls: Calls::Vector, ..python(rng) }),
];

/// The script that waits for so long that alerts are raised.
const STANDS_STILL: &str = "stuck";

/// The names of all scripts that answer within seconds: what a load of every kind goes through.
#[must_use]
pub fn every_kind() -> Vec<String> {
    let names = SCENARIOS.iter().map(|(name, _)| *name);
    names.filter(|name| *name != STANDS_STILL).map(str::to_owned).collect()
}

/// The named script; `None` where there is none of that name.
#[must_use]
pub fn scenario(name: &str, seed: u64) -> Option<Script> {
    let (_, make) = SCENARIOS.iter().find(|(known, _)| *known == name)?;
    Some(make(&mut Rng::with_seed(seed)))
}

/// Any script that ends well, for requests that name none.
#[must_use]
pub fn ordinary(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed);
    if rng.bool() { python(&mut rng) } else { rust(&mut rng) }
}

fn python(rng: &mut Rng) -> Script {
    Script {
        head_after_us: rng.u64(500..4_000),
        first_after_us: rng.u64(5_000..60_000),
        gaps_us: (0..8).map(|_| rng.u64(3_000..25_000)).collect(),
        content: rng.u32(4..24),
        ..Script::default()
    }
}

fn rust(rng: &mut Rng) -> Script {
    Script { front_end: FrontEnd::Rust, calls: Calls::RecvSend, ..python(rng) }
}
