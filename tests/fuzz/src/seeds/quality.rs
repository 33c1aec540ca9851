//! Seeds of the readers of quality: genuine results of evaluations, small questions, answers and states.

use std::fs;
use std::path::Path;
use std::time::Duration;

use inferscope::quality::change::Settings;
use inferscope::quality::change::pair::{Pair, Shown};
use serde_json::json;

use super::named;

/// Longest file of results in a seed.
const RESULTS_BYTES_MAX: usize = 8 << 10;

/// Of `lm-evaluation-harness` (0), of `ilab` (1). Whole files of the former are long: what is looked at is taken out of them.
pub(super) fn results() -> Vec<(String, Vec<u8>)> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mmlu-examples");
    let mut seeds = Vec::new();
    for name in ["mmlu.txt", "mmlu_branch.txt"] {
        let bytes = fs::read(examples.join("ilab").join(name)).unwrap();
        seeds.push((name.trim_end_matches(".txt").to_owned(), [&[1][..], &bytes].concat()));
    }
    for folder in ["no-group", "two-runs", "limit-1"] {
        for (number, path) in files(&examples.join(folder)).into_iter().enumerate() {
            let mut file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let whole = file.as_object_mut().unwrap();
            for key in ["configs", "pretty_env_info", "higher_is_better", "task_hashes", "chat_template"] {
                whole.remove(key);
            }
            let mut bytes = serde_json::to_vec(&file).unwrap();
            bytes.truncate(RESULTS_BYTES_MAX);
            seeds.push((format!("{folder}-{number}"), [&[0][..], &bytes].concat()));
        }
    }
    seeds
}

/// Files of results in the folders below one.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = below.filter(|path| path.is_dir()).flat_map(|path| fs::read_dir(path).unwrap());
    let mut found: Vec<_> = all.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "json"));
    found.sort();
    found
}

pub(super) fn questions() -> Vec<(String, Vec<u8>)> {
    named(&[
        ("csv", b"\0\"What is 1 + 1,\nexactly?\",1,2,3,4,B\r\nIs it \"\"so\"\"?,yes,no,A\n"),
        ("csv-wrong", b"\0q,1,2,E\n"),
        ("lines", b"\x01{\"question\":\"q\",\"choices\":[\"1\",\"2\"],\"answer\":\"B\"}\n\n{\"question\":\"r\",\"choices\":[\"\\u00e9\",\"2\",\"3\"],\"answer\":0}"),
        ("lines-wrong", b"\x01{\"question\":\"q\",\"choices\":[],\"answer\":-1}"),
    ])
}

pub(super) fn answer() -> Vec<(String, Vec<u8>)> {
    let whole = [
        ("text", json!({ "choices": [{ "text": " B" }], "usage": { "total_tokens": 9 } })),
        (
            "completion",
            json!({ "choices": [{ "text": " A", "logprobs": { "tokens": [" A"], "token_logprobs": [-0.5],
                "top_logprobs": [{ " A": -0.5, "B": -1.5, "\u{2581}B": -2.0, "\u{120}C": -3.0, "(D": -9e99 }] } }] }),
        ),
        (
            "chat",
            json!({ "choices": [{ "message": { "content": "C" }, "logprobs": { "content": [
                { "token": "C", "logprob": -0.1, "top_logprobs": [{ "token": "C", "logprob": -0.1 }] }] } }] }),
        ),
    ];
    whole
        .into_iter()
        .map(|(name, body)| (name.to_owned(), [&[2][..], body.to_string().as_bytes()].concat()))
        .collect()
}

/// One that has learnt, and one that has just begun.
pub(super) fn state() -> Vec<(String, Vec<u8>)> {
    let settings =
        Settings { between_false_alarms: Duration::from_secs(86_400), reference: Duration::from_secs(600) };
    let content = |values: u64| {
        let mut pair = Pair::new(settings);
        for value in 0..values {
            let shown = Shown {
                size: 100 + value % 3,
                ttft: Some(Duration::from_millis(40 + value * 37 % 41)),
                output_tokens: Some(10 + value % 7),
                failed: Some(false),
                took: Duration::from_millis(300),
                ..Shown::default()
            };
            pair.add(1_700_000_000_000_000_000 + value * 500_000_000, &shown);
        }
        let pairs = [json!({ "model": "m", "workload": "w", "streams": pair.kept() })];
        let canary = json!({ "identity": 7, "answers": [[1, 0], [2, 3]] });
        json!({ "version": 1, "epoch": "", "pairs": pairs, "canary": canary }).to_string().into_bytes()
    };
    [("begun", 20), ("learnt", 2500)].map(|(name, values)| (name.to_owned(), content(values))).to_vec()
}
