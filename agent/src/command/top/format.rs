//! Numbers in little room, as an operator reads them at a glance.
//!
//! In: seconds, rates, counts, bytes. Out: text of at most five characters, but for MiB. Whatever the wire says, no
//! number is longer.

use ratatui::text::Span;

use super::text::CUT;

/// Shown where there is no value.
pub const NONE: &str = "-";

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

/// A time: `850us`, `9.9ms`, `176ms`, `4.81s`, `12.3s`, `15m`, `2.1h`, `9d`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_000_5 || s.is_nan() => "0".to_owned(),
        s if s < 0.000_999_5 => format!("{:.0}us", s * 1e6),
        s if s < 0.009_95 => format!("{:.1}ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0}ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2}s"),
        s if s < 99.95 => format!("{s:.1}s"),
        s if s < 599.5 => format!("{s:.0}s"),
        s if s < 10.0 * HOUR => format!("{:.0}m", s / MINUTE),
        s if s < 99.95 * HOUR => format!("{:.1}h", s / HOUR),
        s if s < 9999.5 * DAY => format!("{:.0}d", s / DAY),
        _ => ">9999".to_owned(),
    }
}

/// A time that may not be known.
#[must_use]
pub fn seconds_or_none(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), seconds)
}

/// How long ago, or for how long: `0s`, `59s`, `12m`, `5h`, `9d`.
#[must_use]
pub fn age(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 || s.is_nan() => "0s".to_owned(),
        s if s < MINUTE => format!("{:.0}s", s.floor()),
        s if s < HOUR => format!("{:.0}m", (s / MINUTE).floor()),
        s if s < DAY => format!("{:.0}h", (s / HOUR).floor()),
        s if s < 9999.0 * DAY => format!("{:.0}d", (s / DAY).floor()),
        _ => ">9999".to_owned(),
    }
}

/// A rate or a number: `0`, `0.25`, `4.70`, `12.3`, `1234`, `12.3k`, `4.5M`.
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        v if v <= 0.0 || v.is_nan() => "0".to_owned(),
        v if v < 0.01 => "<0.01".to_owned(),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 9999.5 => format!("{v:.0}"),
        v if v < 99_950.0 => format!("{:.1}k", v / 1e3),
        v if v < 999_500.0 => format!("{:.0}k", v / 1e3),
        v if v < 99_950_000.0 => format!("{:.1}M", v / 1e6),
        v if v < 9_999_500_000.0 => format!("{:.0}M", v / 1e6),
        _ => ">9999".to_owned(),
    }
}

/// A count: whole up to 9999, then as [`rate`].
#[must_use]
pub fn count(value: u64) -> String {
    if value < 10_000 { value.to_string() } else { rate(value as f64) }
}

/// A share in percent: `0.03%`, `1.3%`, `120%`.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 || p.is_nan() => "0%".to_owned(),
        p if p < 0.01 => "<0.01%".to_owned(),
        p if p < 0.995 => format!("{p:.2}%"),
        p if p < 9.95 => format!("{p:.1}%"),
        p if p < 99_999.0 => format!("{p:.0}%"),
        _ => ">99999%".to_owned(),
    }
}

/// Bytes in MiB: `21.4 MiB`.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// Bytes in powers of 1024: `0`, `512K`, `9.5G`, `141G`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Cells that `text` takes.
#[must_use]
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in at most `room` cells; a mark stands for what is cut off.
#[must_use]
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let more = width(letter.encode_utf8(&mut [0; 4]));
        if taken + more + 1 > room {
            break;
        }
        kept.push(letter);
        taken += more;
    }
    if room > 0 {
        kept.push(CUT);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::text::clean;
    use super::*;

    #[test]
    fn times_are_short_and_right() {
        for (value, expected) in [
            (0.0, "0"),
            (-3.0, "0"),
            (f64::NAN, "0"),
            (0.000_85, "850us"),
            (0.000_999_6, "1.0ms"),
            (0.009_94, "9.9ms"),
            (0.009_96, "10ms"),
            (0.176_4, "176ms"),
            (0.999_6, "1.00s"),
            (4.812, "4.81s"),
            (9.996, "10.0s"),
            (599.0, "599s"),
            (900.0, "15m"),
            (7.0 * HOUR, "420m"),
            (12.34 * HOUR, "12.3h"),
            (9.0 * DAY, "9d"),
            (f64::INFINITY, ">9999"),
        ] {
            assert_eq!(seconds(value), expected, "{value}");
        }
        assert_eq!(seconds_or_none(None), "-");
    }

    #[test]
    fn ages_rates_and_shares_are_short_and_right() {
        for (value, expected) in
            [(0.4, "0s"), (59.9, "59s"), (60.0, "1m"), (3599.0, "59m"), (7300.0, "2h"), (9.9 * DAY, "9d")]
        {
            assert_eq!(age(value), expected, "{value}");
        }
        for (value, expected) in [
            (0.0, "0"),
            (0.004, "<0.01"),
            (4.7, "4.70"),
            (99.96, "100"),
            (1234.4, "1234"),
            (12_345.0, "12.3k"),
            (4.56e6, "4.6M"),
            (1e300, ">9999"),
        ] {
            assert_eq!(rate(value), expected, "{value}");
        }
        assert_eq!((count(9999), count(10_000)), ("9999".to_owned(), "10.0k".to_owned()));
        for (value, expected) in [(0.0, "0%"), (0.0134, "1.3%"), (0.000_31, "0.03%"), (1.204, "120%")] {
            assert_eq!(percent(value), expected, "{value}");
        }
        assert_eq!(mebibytes(22_439_526), "21.4 MiB");
        for (value, expected) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1 << 29, "512M"),
            (9 << 30, "9.0G"),
            (141 << 30, "141G"),
            (1020 << 30, "1.0T"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(bytes(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_number_takes_more_than_its_room(value in any::<f64>()) {
            for text in [seconds(value), age(value), rate(value)] {
                prop_assert!(text.len() <= 5, "{text} of {value}");
            }
            prop_assert!(percent(value).len() <= 7);
            prop_assert!(bytes(value.to_bits()).len() <= 5);
        }

        #[test]
        fn cut_text_fits(text in any::<String>(), room in 0_usize..12) {
            prop_assert!(width(&cut(&clean(&text, 20), room)) <= room);
        }
    }

    #[test]
    fn text_is_cut_by_the_cells_it_takes() {
        for (text, room, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "ab~"), ("模型模型", 4, "模~"), ("abc", 1, "~"), ("abc", 0, "")]
        {
            assert_eq!(cut(text, room), expected);
        }
    }
}
