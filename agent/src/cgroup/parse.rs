//! The texts of control group files -> numbers.
//!
//! In: a file's text. Out: what it says, or an error that names the line. Reads nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Cpu;

/// From here on v1 means "no limit": the largest number of whole pages.
pub(super) const V1_UNLIMITED: u64 = i64::MAX as u64 / 65_536 * 65_536;

/// Time that tasks waited for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// In which some task waited.
    pub some: Duration,
    /// In which none ran for want of it; `None` where the kernel does not say (processors before 5.13).
    pub full: Option<Duration>,
}

/// `name number` in each line. Lines of another form are left out: files grow new ones.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, u64>> {
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

pub(super) fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{:?} is no number", text.trim()))
}

/// `None`: no limit.
pub(super) fn limit(text: &str) -> Result<Option<u64>> {
    if text.trim() == "max" { Ok(None) } else { number(text).map(Some) }
}

/// `None` where the group's processors are not limited, and so not counted.
pub(super) fn cpu_v2(text: &str) -> Result<Option<Cpu>> {
    cpu(text, "throttled_usec", Duration::from_micros)
}

/// Of v1, in nanoseconds.
pub(super) fn cpu_v1(text: &str) -> Result<Option<Cpu>> {
    cpu(text, "throttled_time", Duration::from_nanos)
}

fn cpu(text: &str, throttled: &str, time: fn(u64) -> Duration) -> Result<Option<Cpu>> {
    let pairs = pairs(text)?;
    let Some(&periods) = pairs.get("nr_periods") else { return Ok(None) };
    let member = |name: &str| pairs.get(name).copied().with_context(|| format!("there is no line {name}"));
    Ok(Some(Cpu { periods, throttled_periods: member("nr_throttled")?, throttled: time(member(throttled)?) }))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`, and the same of `full`.
pub(super) fn pressure(text: &str) -> Result<Pressure> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        Some(line.split(' ').find_map(|word| word.strip_prefix("total=")).unwrap_or_default())
    };
    let micros =
        |text: &str| text.parse().map(Duration::from_micros).with_context(|| format!("total={text:?}"));
    let some = total("some");
    ensure!(some.is_some(), "there is no line `some`");
    Ok(Pressure {
        some: some.map(micros).transpose()?.unwrap_or_default(),
        full: total("full").map(micros).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn pressure_is_the_total_of_both_lines() {
        let text = "some avg10=1.00 avg60=0.30 avg300=0.00 total=5800123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let found = pressure(text).unwrap();
        assert_eq!(found, Pressure { some: micros(5_800_123), full: Some(micros(7)) });
        let old = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!(old, Pressure { some: micros(1), full: None });
        for wrong in ["", "full total=1", "some avg10=0.00", "some total=x", "somewhat total=1"] {
            assert!(pressure(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn quotas_are_counted_in_the_units_of_their_version() {
        let v2 = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 20\nnr_throttled 16\nthrottled_usec 1610000\n";
        let expected = Cpu { periods: 20, throttled_periods: 16, throttled: micros(1_610_000) };
        assert_eq!(cpu_v2(v2).unwrap(), Some(expected));
        let v1 = "nr_periods 20\nnr_throttled 16\nthrottled_time 1610000000\n";
        assert_eq!(cpu_v1(v1).unwrap(), Some(expected));
        assert_eq!(cpu_v2("usage_usec 9\nuser_usec 5\nsystem_usec 4\n").unwrap(), None, "the root group");
        assert!(cpu_v2("nr_periods 20\nnr_throttled 16\n").is_err());
    }

    #[test]
    fn limits_are_numbers_or_none() {
        assert_eq!(limit("max\n").unwrap(), None);
        assert_eq!(limit("1073741824\n").unwrap(), Some(1 << 30));
        assert!(limit("\n").is_err() && limit("-1").is_err());
        assert_eq!(V1_UNLIMITED, 9_223_372_036_854_710_272);
    }

    #[test]
    fn lines_that_are_no_pairs_are_left_out() {
        let found = pairs("a 1\nb\nc x\n\nd 18446744073709551616\ne 2\n").unwrap();
        assert_eq!(found, BTreeMap::from([("a".to_owned(), 1), ("e".to_owned(), 2)]));
    }
}
