//! Which exposition format a scraper gets, by its `Accept` header.
//!
//! In: the header, and whether protobuf is offered. Out: one of the three formats and its exact
//! `Content-Type`. Nothing is refused: a header that names none of them gets text, as Prometheus expects.

use prometheus_client::encoding::prometheus_text;

/// Media ranges of one header that are looked at.
const RANGES_MAX: usize = 32;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
    /// Delimited protobuf, with native histograms.
    Protobuf,
}

impl Format {
    /// The `Content-Type` of an answer: a missing or wrong one takes the target down.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }
}

/// The format of the highest quality that `accept` names; of equals, the one named first.
#[must_use]
pub fn negotiate(accept: &str, protobuf: bool) -> Format {
    let mut best = (0, Format::Text);
    for range in accept.split(',').take(RANGES_MAX) {
        let Some((format, quality)) = offer(range) else { continue };
        if quality > best.0 && (protobuf || format != Format::Protobuf) {
            best = (quality, format);
        }
    }
    best.1
}

/// The format that one media range names, and its quality in thousandths.
fn offer(range: &str) -> Option<(Format, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<(String, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
        .collect();
    let is = |name: &str, expected: &str| {
        parameters.iter().all(|(n, value)| n != name || value.eq_ignore_ascii_case(expected))
    };
    let has = |name: &str| parameters.iter().any(|(n, _)| n == name);
    let format = match media.as_str() {
        "application/openmetrics-text" if is("version", "1.0.0") => Format::OpenMetrics,
        "text/plain" if is("version", "0.0.4") => Format::Text,
        "text/*" | "*/*" => Format::Text,
        "application/vnd.google.protobuf"
            if has("proto")
                && is("proto", "io.prometheus.client.MetricFamily")
                && has("encoding")
                && is("encoding", "delimited") =>
        {
            Format::Protobuf
        }
        _ => return None,
    };
    let quality = parameters.iter().find(|(name, _)| name == "q").map(|(_, value)| *value);
    Some((format, quality.map_or(Some(1000), thousandths)?))
}

/// `0.75` is 750; `None` for what is no quality.
fn thousandths(quality: &str) -> Option<u16> {
    let value: f32 = quality.parse().ok()?;
    (0.0..=1.0).contains(&value).then(|| (value * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    fn check(accept: &str, protobuf: bool, expected: Format) {
        assert_eq!(negotiate(accept, protobuf), expected, "{accept:?}, protobuf {protobuf}");
    }

    #[test]
    fn the_best_format_of_the_header_is_served() {
        use Format::{OpenMetrics, Protobuf, Text};
        check("", false, Text);
        check("*/*", true, Text);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true, Text);
        check("application/openmetrics-text", false, OpenMetrics);
        check("Application/OpenMetrics-Text; Version=\"1.0.0\"", false, OpenMetrics);
        check("application/openmetrics-text;version=0.0.1", false, Text);
        check("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", false, Text);
        // Prometheus 2.42, and 3.5 with its escaping parameter.
        let v2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                  text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(v2, false, OpenMetrics);
        let v3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                  application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                  escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        check(v3, true, OpenMetrics);
        let native = format!("{PROTOBUF},{v2}");
        check(&native, true, Protobuf);
        check(&native, false, OpenMetrics);
        check("application/vnd.google.protobuf", true, Text);
        check(&PROTOBUF.replace("delimited", "text"), true, Text);
        // Quality beats order, order settles a tie, and 0 means never.
        check("text/plain;q=0.5,application/openmetrics-text;q=0.6", false, OpenMetrics);
        check("text/plain,application/openmetrics-text", false, Text);
        check("application/openmetrics-text;q=0,text/plain;q=0.1", false, Text);
        check("application/openmetrics-text;q=0", false, Text);
        check("application/openmetrics-text;q=high", false, Text);
        check("application/openmetrics-text;q=7,;;=,q", false, Text);
    }

    #[test]
    fn ranges_beyond_the_limit_are_not_read() {
        let accept = format!("{}application/openmetrics-text", "a/b,".repeat(RANGES_MAX));
        check(&accept, false, Format::Text);
    }
}
