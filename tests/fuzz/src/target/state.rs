//! What was learnt: any bytes as the content of the state file.
//!
//! Input: the content. What is read is gone on with, or begun anew; either way a stream stands where streams stand, and what is
//! kept of it is read again.

use std::time::Duration;

use inferscope::quality::change::cusum::FULL;
use inferscope::quality::change::pair::{Of, Pair, Shown};
use inferscope::quality::change::{Settings, State};
use inferscope::quality::keeper::Content;

/// Values that are added to what was kept, and between them.
const VALUES: u64 = 40;
const STEP_NS: u64 = 500_000_000;
const NOW_NS: u64 = 1_800_000_000_000_000_000;

pub fn run(bytes: &[u8]) {
    let Ok(content) = Content::read(bytes, "") else { return };
    let settings =
        Settings { between_false_alarms: Duration::from_secs(86_400), reference: Duration::from_secs(3600) };
    for kept in content.pairs {
        let mut pair = Pair::resume(settings, kept.streams);
        check(&pair, NOW_NS);
        for value in 0..VALUES {
            pair.add(NOW_NS + value * STEP_NS, &shown(value));
        }
        check(&pair, NOW_NS + VALUES * STEP_NS);
        let text = serde_json::to_vec(&pair.kept()).expect("what is kept can be written");
        serde_json::from_slice::<inferscope::quality::change::pair::Kept>(&text).expect("and read again");
    }
}

fn shown(value: u64) -> Shown {
    Shown {
        size: 100 << (value % 5),
        ttft: Some(Duration::from_millis(50 + value * 7 % 30)),
        time_per_output_token: Some(Duration::from_millis(5 + value % 3)),
        output_tokens: Some(20 + value),
        prompt_tokens: Some(100 + value),
        confidence: Some(0.5),
        failed: Some(value.is_multiple_of(7)),
        cut_at_limit: Some(false),
        throttled: false,
        stalled: Duration::ZERO,
        took: Duration::from_millis(300),
    }
}

fn check(pair: &Pair, now_ns: u64) {
    for of in Of::ALL {
        match pair.state(of, now_ns) {
            State::Learning(part) => assert!((0.0..=1.0).contains(&part), "{of:?}: {part}"),
            State::Watching(statistic) => {
                assert!((0.0..=FULL).contains(&statistic.value), "{of:?}: {statistic:?}");
                if let Some(alarm) = statistic.alarm {
                    assert!(alarm.effect.is_finite(), "{of:?}: {statistic:?}");
                    let _bounded = pair.coincidences(&alarm);
                }
            }
        }
    }
}
