//! A server's own metrics page, reduced to what a request's waiting is explained by. Pure.
//!
//! In: text in Prometheus' format. Out: [`Reading`]. Names are those of vLLM, SGLang and llama.cpp's server; where a
//! server has several engines or models, their series are summed.

/// What a server said of itself at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Requests that its engines work on.
    pub running: Option<f64>,
    /// Requests that wait for an engine.
    pub waiting: Option<f64>,
    /// Part of the cache of keys and values in use, 0 to 1; of several engines the fullest.
    pub cache_usage: Option<f64>,
    /// Requests whose work was given up to make room for others, since its start.
    pub preemptions: Option<f64>,
    /// Seconds to the first token as it measures them, sum and count since its start.
    pub ttft_sum: Option<f64>,
    pub ttft_count: Option<f64>,
}

/// How the series of several engines are one value.
#[derive(Clone, Copy)]
enum Join {
    Sum,
    Largest,
}

type Slot = fn(&mut Reading) -> &mut Option<f64>;

/// Names of what is read.
const SERIES: [(&str, Join, Slot); 16] = [
    ("vllm:num_requests_running", Join::Sum, |reading| &mut reading.running),
    ("vllm:num_requests_waiting", Join::Sum, |reading| &mut reading.waiting),
    ("vllm:kv_cache_usage_perc", Join::Largest, |reading| &mut reading.cache_usage),
    ("vllm:gpu_cache_usage_perc", Join::Largest, |reading| &mut reading.cache_usage),
    ("vllm:num_preemptions_total", Join::Sum, |reading| &mut reading.preemptions),
    ("vllm:time_to_first_token_seconds_sum", Join::Sum, |reading| &mut reading.ttft_sum),
    ("vllm:time_to_first_token_seconds_count", Join::Sum, |reading| &mut reading.ttft_count),
    ("sglang:num_running_reqs", Join::Sum, |reading| &mut reading.running),
    ("sglang:num_queue_reqs", Join::Sum, |reading| &mut reading.waiting),
    ("sglang:token_usage", Join::Largest, |reading| &mut reading.cache_usage),
    ("sglang:num_retracted_reqs_total", Join::Sum, |reading| &mut reading.preemptions),
    ("sglang:time_to_first_token_seconds_sum", Join::Sum, |reading| &mut reading.ttft_sum),
    ("sglang:time_to_first_token_seconds_count", Join::Sum, |reading| &mut reading.ttft_count),
    ("llamacpp:requests_processing", Join::Sum, |reading| &mut reading.running),
    ("llamacpp:requests_deferred", Join::Sum, |reading| &mut reading.waiting),
    ("llamacpp:kv_cache_usage_ratio", Join::Largest, |reading| &mut reading.cache_usage),
];

/// What the page says; lines that are not understood are passed over. `None` where it says nothing of this.
#[must_use]
pub fn read(page: &str) -> Option<Reading> {
    let mut reading = Reading::default();
    for line in page.lines() {
        let Some((name, value)) = sample(line) else { continue };
        let Some((_, join, slot)) = SERIES.iter().find(|(known, ..)| *known == name) else { continue };
        let slot = slot(&mut reading);
        *slot = Some(match (*slot, join) {
            (None, _) => value,
            (Some(before), Join::Sum) => before + value,
            (Some(before), Join::Largest) => before.max(value),
        });
    }
    (reading != Reading::default()).then_some(reading)
}

/// Name and value of one line; labels and the time that may follow are left out.
fn sample(line: &str) -> Option<(&str, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let values = if rest.starts_with('{') { &rest[labels_end(rest)?..] } else { rest };
    let value = values.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, value)).filter(|(_, value): &(_, f64)| value.is_finite())
}

/// Where the labels end: a brace within a quoted value does not end them.
fn labels_end(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VLLM: &str = r#"# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="a } b \" c"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:num_preemptions_total{engine="0",model_name="m"} 7.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="m"} 9.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 1.5
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 9.0
vllm:time_to_first_token_seconds_sum{engine="1",model_name="other"} 0.25
vllm:time_to_first_token_seconds_count{engine="1",model_name="other"} 2.0
"#;

    #[test]
    fn the_page_of_vllm_is_read_over_all_engines_and_models() {
        let expected = Reading {
            running: Some(5.0),
            waiting: Some(4.0),
            cache_usage: Some(0.75),
            preemptions: Some(7.0),
            ttft_sum: Some(1.75),
            ttft_count: Some(11.0),
        };
        assert_eq!(read(VLLM), Some(expected));
    }

    #[test]
    fn other_servers_have_other_names() {
        let page = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 2 1700000000000\n";
        let expected = Reading { running: Some(1.0), waiting: Some(2.0), ..Reading::default() };
        assert_eq!(read(page), Some(expected));
        assert_eq!(read("process_cpu_seconds_total 5\n"), None);
        assert_eq!(read("vllm:num_requests_waiting{a=\"b\n vllm:num_requests_waiting NaN\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_reading_or_none(text in ".{0,200}", cut in 0..VLLM.len()) {
            let _ = read(&text);
            let _ = read(&VLLM[..cut]);
        }
    }
}
