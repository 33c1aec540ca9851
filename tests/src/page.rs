//! A strict reader of exposition pages, independent of the library that writes them.
//!
//! In: a page as Prometheus text 0.0.4 or OpenMetrics 1.0.0. Out: its families, or the first line that
//! breaks a rule: a family in two places, a series twice, a histogram whose buckets fall, an exemplar above
//! its bucket's bound. Does not read timestamps of samples: the agent writes none.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// Labels of one series, by name.
pub type Labels = BTreeMap<String, String>;

/// OpenMetrics: names and values of an exemplar's labels together, in characters.
const EXEMPLAR_CHARACTERS_MAX: usize = 128;

/// Which rules a page follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

/// One line of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
    pub exemplar: Option<(Labels, f64)>,
}

/// Lines of one name.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// Reads a whole page.
///
/// # Errors
/// The first line that breaks a rule, with the rule.
pub fn read(page: &str, format: Format) -> Result<BTreeMap<String, Family>> {
    let mut lines: Vec<&str> = page.lines().collect();
    ensure!(page.ends_with('\n'), "the last line does not end");
    if format == Format::OpenMetrics {
        ensure!(lines.pop() == Some("# EOF"), "the page does not end with # EOF");
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = None;
    for line in lines {
        read_line(line, format, &mut families, &mut current).with_context(|| format!("line {line}"))?;
    }
    let mut seen = BTreeSet::new();
    for (name, family) in &families {
        check_family(name, family, format, &mut seen).with_context(|| format!("family {name}"))?;
    }
    Ok(families)
}

fn read_line(
    line: &str,
    format: Format,
    families: &mut BTreeMap<String, Family>,
    current: &mut Option<String>,
) -> Result<()> {
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, help) = rest.split_once(' ').context("no help")?;
        let family = Family { help: help.to_owned(), ..Family::default() };
        ensure!(families.insert(name.to_owned(), family).is_none(), "a family in two places");
        *current = Some(name.to_owned());
        return Ok(());
    }
    let name = current.as_deref().context("before any family")?;
    let family = families.get_mut(name).context("unknown family")?;
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        ensure!(family.kind.is_empty() && family.samples.is_empty(), "a second or late type");
        family.kind = rest.strip_prefix(name).context("type of another family")?.trim().to_owned();
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("# UNIT ") {
        let unit = rest.strip_prefix(name).context("unit of another family")?.trim();
        ensure!(
            format == Format::OpenMetrics && name.ends_with(&format!("_{unit}")),
            "a unit not in the name"
        );
        return Ok(());
    }
    let sample = read_sample(line)?;
    ensure!(sample.exemplar.is_none() || format == Format::OpenMetrics, "an exemplar in text 0.0.4");
    let suffix = sample.name.strip_prefix(name).context("a sample of another family")?;
    ensure!(suffixes(&family.kind, format).contains(&suffix), "suffix {suffix:?} of a {}", family.kind);
    family.samples.push(sample);
    Ok(())
}

fn suffixes(kind: &str, format: Format) -> &'static [&'static str] {
    match (kind, format) {
        ("counter", Format::OpenMetrics) => &["_total"],
        ("info", Format::OpenMetrics) => &["_info"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("counter" | "gauge", _) => &[""],
        _ => &[],
    }
}

/// `name{labels} value`, and for OpenMetrics ` # {labels} value timestamp` behind it.
fn read_sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = read_labels(rest)?;
    let (value, exemplar) = match rest.split_once(" # ") {
        Some((value, exemplar)) => (value, Some(read_exemplar(exemplar)?)),
        None => (rest, None),
    };
    let value = value.trim().parse().context("a value that is no number")?;
    Ok(Sample { name: name.to_owned(), labels, value, exemplar })
}

fn read_exemplar(text: &str) -> Result<(Labels, f64)> {
    let (labels, rest) = read_labels(text)?;
    let characters: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    ensure!(characters <= EXEMPLAR_CHARACTERS_MAX, "{characters} characters of labels");
    let value = rest.split_whitespace().next().context("an exemplar without value")?;
    Ok((labels, value.parse()?))
}

/// Labels in braces, where there are any, and what follows them.
fn read_labels(text: &str) -> Result<(Labels, &str)> {
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else { return Ok((labels, text)) };
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"").context("a label without value")?;
        let (value, after) = read_quoted(quoted)?;
        ensure!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

fn read_quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().context("an escape without character")?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => bail!("escape of {other}"),
            },
            _ => value.push(character),
        }
    }
    bail!("a label value that does not end")
}

fn check_family(
    name: &str,
    family: &Family,
    format: Format,
    seen: &mut BTreeSet<(String, Labels)>,
) -> Result<()> {
    ensure!(!family.kind.is_empty(), "no type");
    ensure!(family.help.ends_with('.'), "help without full stop");
    ensure!(family.kind != "counter" || format == Format::OpenMetrics || name.ends_with("_total"), "counter");
    for sample in &family.samples {
        ensure!(seen.insert((sample.name.clone(), sample.labels.clone())), "{sample:?} twice");
    }
    if family.kind == "histogram" { check_histogram(name, family) } else { Ok(()) }
}

fn check_histogram(name: &str, family: &Family) -> Result<()> {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let bound: f64 = labels.remove("le").context("a bucket without bound")?.parse()?;
        if let Some((_, value)) = &sample.exemplar {
            ensure!(*value <= bound, "exemplar {value} above {bound}");
        }
        series.entry(labels).or_default().push((bound, sample.value));
    }
    let value = |suffix: &str, labels: &Labels| {
        let mut samples = family.samples.iter();
        let sample = samples.find(|s| s.name == format!("{name}{suffix}") && s.labels == *labels);
        sample.map(|sample| sample.value).with_context(|| format!("no {suffix} of {labels:?}"))
    };
    for (labels, buckets) in series {
        ensure!(buckets.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 <= p[1].1), "buckets of {labels:?}");
        let last = buckets.last().context("no bucket")?;
        ensure!(last.0.is_infinite() && last.1 == value("_count", &labels)?, "last bucket of {labels:?}");
        value("_sum", &labels)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, format: Format, error: Option<&str>) {
        let result = read(page, format).map_err(|error| format!("{error:#}"));
        match (error, result) {
            (None, result) => assert!(result.is_ok(), "{page}: {result:?}"),
            (Some(part), Err(error)) => assert!(error.contains(part), "{page}: {error}"),
            (Some(part), Ok(_)) => panic!("{page}: read, expected {part}"),
        }
    }

    #[test]
    fn broken_pages_are_refused() {
        use Format::{OpenMetrics, Text};
        let head = "# HELP a_total A.\n# TYPE a_total counter\n";
        check(&format!("{head}a_total{{x=\"\\\"\\\\\\n\"}} 1\n"), Text, None);
        check(&format!("{head}a_total 1\na_total 2\n"), Text, Some("twice"));
        check(&format!("{head}b_total 1\n"), Text, Some("another family"));
        check(&format!("{head}{head}"), Text, Some("two places"));
        check(&format!("{head}a_total one\n"), Text, Some("no number"));
        check(&format!("{head}a_total{{x=\"1}} 1\n"), Text, Some("does not end"));
        check(&format!("{head}a_total 1 # {{}} 1\n"), Text, Some("exemplar in text"));
        check(head, OpenMetrics, Some("# EOF"));
        check("a 1\n", Text, Some("before any family"));
        let head = "# HELP h H.\n# TYPE h histogram\n";
        let tail = "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n";
        check(&format!("{head}h_bucket{{le=\"1\"}} 1\n{tail}"), Text, None);
        check(&format!("{head}h_bucket{{le=\"1\"}} 3\n{tail}"), Text, Some("buckets of"));
        check(&format!("{head}h_bucket{{le=\"1\"}} 1\n"), Text, Some("last bucket"));
        let exemplar = format!("{head}h_bucket{{le=\"1\"}} 1 # {{}} 1.5 0\n{tail}# EOF\n");
        check(&exemplar, OpenMetrics, Some("exemplar 1.5 above 1"));
    }
}
